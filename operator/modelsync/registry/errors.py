"""Why a W&B server gave no usable answer. Each message is one line for the user; none contains a key."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class GraphQLError:
    """One entry of a response's `errors`."""

    message: str
    path: tuple[str | int, ...] = ()
    """Response keys (aliases) and list indices from the root; empty when the error is about the whole request."""
    code: str = ""
    """`extensions.code`; empty if there is none."""


def in_short(errors: Sequence[GraphQLError]) -> str:
    """The first messages, for a message of ours; empty if there are none."""
    return "; ".join(error.message for error in errors[:3])


class RegistryError(Exception):
    """The server gave no usable answer. `str()` is for the user; code must not parse it."""


class DeniedError(RegistryError):
    """HTTP 401 or 403: the server does not accept this key, or the key has no access to what was requested."""

    def __init__(self, message: str, *, status: int, errors: tuple[GraphQLError, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.errors = errors


class NotFoundError(RegistryError):
    """HTTP 404 with a GraphQL body and no data. W&B returns it for missing objects and for objects without access."""

    def __init__(self, message: str, *, errors: tuple[GraphQLError, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class ThrottledError(RegistryError):
    """HTTP 429, or 503 with Retry-After: the server asks to send nothing with this credential before `until`.

    `resume`, in seconds of `graphql.clock`, is when holds are read again, which may be sooner.
    """

    def __init__(self, message: str, *, until: datetime, resume: float = 0.0) -> None:
        super().__init__(message)
        self.until = until
        self.resume = resume


class UnreachableError(RegistryError):
    """No answer: network, TLS, proxy, timeout, 5xx, or an interrupted response."""

    def __init__(self, message: str, *, status: int | None = None, too_large: bool = False) -> None:
        super().__init__(message)
        self.status = status
        """The 5xx status of the server, or of a proxy in front of it; None when nothing answered."""
        self.too_large = too_large
        """The response was longer than is read; one to a smaller query may be shorter."""


class RefusedError(RegistryError):
    """The server rejected the query (HTTP 400 or 422, or errors without any data)."""

    def __init__(self, message: str, *, status: int, messages: tuple[str, ...]) -> None:
        super().__init__(message)
        self.status = status
        self.messages = messages


class NotGraphQLError(RegistryError):
    """Something other than a W&B server answered: a login page, a redirect, a proxy's error page."""
