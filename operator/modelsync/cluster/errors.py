"""Errors of requests to the Kubernetes API. Each message is one line that a user can read."""

from datetime import timedelta


class ClusterError(Exception):
    """A request failed; the message contains the request and the API server's response."""


class ConflictError(ClusterError):
    """409: the object has changed since it was read. Read it again and decide again."""


class AlreadyExistsError(ClusterError):
    """409 on a create: the name is taken."""


class NotFoundError(ClusterError):
    """404: the object or namespace does not exist; also 403 for a create in a namespace that is being deleted."""


class KindMissingError(NotFoundError):
    """404: the API server does not know the kind, for example because its CRD is not installed."""


class ForbiddenError(ClusterError):
    """401 or 403: the operator's account may not do this, or a quota or policy rejects the object."""


class InvalidError(ClusterError):
    """400 or 422: the object is invalid; sending it again does not help. `reason` is the server's message."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnavailableError(ClusterError):
    """No usable response: network, timeout, 429, 5xx. A write may or may not have been done."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotLeadingError(ClusterError):
    """The lease ends too soon for another write: the next leader may already be deciding."""


class ConnectionConfigError(ClusterError):
    """No usable kubeconfig or in-cluster configuration; the message says what to do."""
