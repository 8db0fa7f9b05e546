"""Why a request to the Kubernetes API did not do what it should. Each message is one line for a person."""

from datetime import timedelta


class ClusterError(Exception):
    """A request failed; `str()` says what was asked and what the API server answered."""


class ConflictError(ClusterError):
    """409: the object is no longer what the write was decided on. Read again and decide again."""


class AlreadyExistsError(ClusterError):
    """409 on a create: the name is taken."""


class NotFoundError(ClusterError):
    """404: there is no such object or namespace; also 403 for a new object in a namespace that is being deleted."""


class KindMissingError(NotFoundError):
    """404: the API server does not know the kind at all, as when its CRD is not installed."""


class ForbiddenError(ClusterError):
    """401 or 403: the operator's account may not do this, or a quota or policy refuses the object."""


class InvalidError(ClusterError):
    """400 or 422: the object is refused as it is; sending it again is of no use. `reason` is what the server said."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnavailableError(ClusterError):
    """No usable answer: network, time-out, 429, 5xx. Whether a write was done is not known."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotLeadingError(ClusterError):
    """The lease ends too soon for another write: whoever leads next may already be deciding."""


class ConnectionConfigError(ClusterError):
    """There is no usable kubeconfig or in-cluster configuration; the message says what to do."""
