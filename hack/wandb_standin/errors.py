"""Why the server refuses something, in the words and codes that W&B's own server answers with."""

from dataclasses import dataclass
from typing import Final

STATUS_BY_CODE: Final = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_ERROR": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "BAD_REQUEST": 400,
}


@dataclass
class RefusedError(Exception):
    """A request that cannot be granted; becomes an entry of `errors` in a GraphQL answer.

    The HTTP status follows the code (W&B answers e.g. 403 with a GraphQL body, wandb/wandb#9712).
    """

    message: str
    code: str = "BAD_REQUEST"

    def __str__(self) -> str:
        return self.message

    @property
    def status(self) -> int:
        """HTTP status of an answer that has nothing but this refusal."""
        return STATUS_BY_CODE[self.code]


def not_logged_in() -> RefusedError:
    """Nobody, or a key that nobody has."""
    return RefusedError("user is not logged in", "UNAUTHENTICATED")


def permission_denied() -> RefusedError:
    """The caller may see it but not do that."""
    return RefusedError("permission denied", "PERMISSION_ERROR")


def not_found(what: str) -> RefusedError:
    """It does not exist, or the caller may not know that it does."""
    return RefusedError(f"{what} not found", "NOT_FOUND")
