"""Why a W&B server gave no usable answer. Each message is one line for a person; none holds a key."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class GraphQLError:
    """One entry of an answer's `errors`."""

    message: str
    path: tuple[str | int, ...] = ()
    """Response keys (aliases) and list indices from the root; empty when the error is about the whole request."""
    code: str = ""
    """`extensions.code`, if any."""


class RegistryError(Exception):
    """The server gave no usable answer. `str()` is what a person reads; nothing may be concluded from it."""


class DeniedError(RegistryError):
    """HTTP 401 or 403: the server knows neither this key nor this key's right to what was asked for."""

    def __init__(self, message: str, *, status: int, errors: tuple[GraphQLError, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.errors = errors


class NotFoundError(RegistryError):
    """HTTP 404 with a GraphQL body and no data. W&B answers so for what is not there and for what is not allowed."""

    def __init__(self, message: str, *, errors: tuple[GraphQLError, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class ThrottledError(RegistryError):
    """HTTP 429, or 503 with Retry-After: nothing may be sent with this credential before `until`."""

    def __init__(self, message: str, *, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class UnreachableError(RegistryError):
    """No answer: network, TLS, proxy, time-out, 5xx, or an answer that broke off."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The 5xx that the server, or a proxy before it, answered; None when nothing answered."""


class RefusedError(RegistryError):
    """The server read the query and would not run it (HTTP 400 or 422, or errors without any data)."""

    def __init__(self, message: str, *, status: int, messages: tuple[str, ...]) -> None:
        super().__init__(message)
        self.status = status
        self.messages = messages


class NotGraphQLError(RegistryError):
    """Something answered that is no W&B server: a login page, a redirect, a proxy's error page."""
