"""Refusals, with the messages and codes of W&B's own server."""

from dataclasses import dataclass
from typing import Any, Final

STATUS_BY_CODE: Final = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_ERROR": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "BAD_REQUEST": 400,
}


@dataclass
class RefusedError(Exception):
    """A refused request; becomes an entry of `errors` in a GraphQL answer.

    The HTTP status follows the code (W&B answers e.g. 403 with a GraphQL body, wandb/wandb#9712).
    """

    message: str
    code: str | None = "BAD_REQUEST"
    http_status: int | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def status(self) -> int:
        """HTTP status of the answer; 200 if there is neither a status nor a code."""
        return self.http_status or STATUS_BY_CODE.get(self.code or "", 200)

    def as_json(self) -> dict[str, Any]:
        """An entry of `errors`, without its path."""
        return {"message": self.message} | ({"extensions": {"code": self.code}} if self.code else {})


def not_logged_in() -> RefusedError:
    """No credentials, or an unknown key."""
    return RefusedError("user is not logged in", "UNAUTHENTICATED")


def permission_denied() -> RefusedError:
    """The caller may see the object but not do this."""
    return RefusedError("permission denied", "PERMISSION_ERROR")


def not_found(what: str) -> RefusedError:
    """The object does not exist, or the caller may not know that it does."""
    return RefusedError(f"{what} not found", "NOT_FOUND")
