"""Users' requests on a ModelDeployment: the annotations, who may write them, and the format of their values.

A new request needs a `Verb`, a field in `Requests` and `HandledStatus`, a handler in `rollout.requests`, and a command
of the plugin. Rights, roles, the admission policy and reference pages are generated from `VERBS`.

A value is `REVISION`, `REVISION/TOKEN` or `REVISION/TOKEN/PERSON`. The revision keeps an old request from acting on a
new rollout. The token is any text without a slash; a new token makes a new request of the same kind. The person is the
name of the requester and may contain slashes. The admission policy verifies that name; this module never does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from modelsync.api import names
from modelsync.api.base import Short, StatusModel

MAX_LENGTH = 256
"""Maximum length of a request in characters; `status.handled` keeps no more."""

A_PERSON = "a person"
"""The requester in messages when the request does not name one."""


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed value. `token` and `by` are empty when the value does not contain them."""

    revision: str
    token: str = ""
    by: str = ""

    @classmethod
    def parse(cls, value: str) -> "Request":
        """Read a value. Never fails; the caller must check that the revision exists."""
        revision, _, rest = value.partition("/")
        token, _, by = rest.partition("/")
        return cls(revision, token, by)

    @property
    def who(self) -> str:
        """The requester, for messages."""
        return self.by or A_PERSON

    def render(self) -> str:
        """The value to write. Raises ValueError if parsing it would not return this request."""
        value = self.revision
        if self.token or self.by:
            value += f"/{self.token}"
        if self.by:
            value += f"/{self.by}"
        if Request.parse(value) != self or len(value) > MAX_LENGTH:
            raise ValueError(
                f"{self} cannot be written: use no slash in revision and token, and at most {MAX_LENGTH} characters in "
                "all"
            )
        return value


@dataclass(frozen=True, slots=True)
class Verb:
    """One kind of request, and the right to make it."""

    name: str
    """The verb in RBAC: `promote-full`."""
    does: str
    """Completes "may not …"."""
    effect: str
    """What it does, for the reference page."""
    key: str
    """The annotation's key without its domain."""
    roles: tuple[str, ...]
    """The chart's roles that grant it."""
    names_a_revision: bool = True

    @property
    def annotation(self) -> str:
        """The annotation's full key."""
        return f"{names.GROUP}/{self.key}"

    @property
    def field(self) -> str:
        """The name of the field in `Requests` and `HandledStatus`."""
        return self.key.replace("-", "_")


PROMOTE = Verb("promote", "end the pause of a canary", "continue with the next step", "promote", ("approver",))
PROMOTE_FULL = Verb(
    "promote-full",
    "skip the remaining steps of a canary",
    "skip the remaining steps",
    "promote-full",
    ("approver",),
)
ABORT = Verb("abort", "roll a canary back", "roll the canary back", "abort", ("responder", "approver"))
RETRY = Verb("retry", "retry a failed version", "try a failed revision again", "retry", ("approver",))
REFRESH = Verb(
    "refresh",
    "request a poll of the registry",
    "poll the registry now",
    "requested-at",
    ("editor", "responder", "approver"),
    names_a_revision=False,
)
VERBS = (PROMOTE, PROMOTE_FULL, ABORT, RETRY, REFRESH)


@dataclass(frozen=True, slots=True)
class Requests:
    """The current values of the annotations. Each names a revision, so that an old request cannot act on a new rollout;
    a different token after a slash (`v7-3fa9c1d2/2`) makes a new request, for the second promote of one rollout.
    `requested_at` is any token and asks for a poll of the registry. Handled values are copied to `status.handled`."""

    promote: str | None = None
    promote_full: str | None = None
    abort: str | None = None
    retry: str | None = None
    requested_at: str | None = None

    @classmethod
    def of(cls, annotations: Mapping[str, str]) -> "Requests":
        """The requests in the annotations of a ModelDeployment."""
        return cls(**{verb.field: annotations.get(verb.annotation) for verb in VERBS})


class HandledStatus(StatusModel):
    """The values of the request annotations that were executed or refused."""

    promote: Annotated[Short | None, Field(description="Value of modelsync.dev/promote.")] = None
    promote_full: Annotated[Short | None, Field(description="Value of modelsync.dev/promote-full.")] = None
    abort: Annotated[Short | None, Field(description="Value of modelsync.dev/abort.")] = None
    retry: Annotated[Short | None, Field(description="Value of modelsync.dev/retry.")] = None
    requested_at: Annotated[Short | None, Field(description="Value of modelsync.dev/requested-at.")] = None
