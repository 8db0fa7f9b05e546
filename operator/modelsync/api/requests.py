"""A person's requests on a ModelDeployment: the annotations, who may write them, and how a value is written and read.

A new request is a `Verb` with a field in `Requests` and `HandledStatus`, a handler in `rollout.requests`, and a command
of the plugin. Rights, roles, admission policy and reference pages follow from `VERBS`.

`REVISION`, `REVISION/TOKEN` or `REVISION/TOKEN/PERSON`. The revision keeps an old request from acting on a new rollout;
the token is anything without a slash, and makes the same request another one; the person is who asks, with slashes if
the name has some. Whether the person is who they say is judged by the admission policy, never here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from modelsync.api import names
from modelsync.api.base import Short, StatusModel

MAX_LENGTH = 256
"""Characters of a request that count; `status.handled` echoes no more."""

A_PERSON = "a person"
"""Who asks in a request that names nobody."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a value says. `token` and `by` are empty where it does not."""

    revision: str
    token: str = ""
    by: str = ""

    @classmethod
    def parse(cls, value: str) -> "Request":
        """Read a value; every text is one, and the revision is judged by whoever knows which there are."""
        revision, _, rest = value.partition("/")
        token, _, by = rest.partition("/")
        return cls(revision, token, by)

    @property
    def who(self) -> str:
        """The person in words."""
        return self.by or A_PERSON

    def render(self) -> str:
        """The value to write. Raises ValueError if it could not be read back as this request."""
        value = self.revision
        if self.token or self.by:
            value += f"/{self.token}"
        if self.by:
            value += f"/{self.by}"
        if Request.parse(value) != self or len(value) > MAX_LENGTH:
            raise ValueError(f"cannot be written: {self}; no slash in revision and token, {MAX_LENGTH} in all")
        return value


@dataclass(frozen=True, slots=True)
class Verb:
    """One kind of request, and the right to it."""

    name: str
    """As RBAC knows it: `promote-full`."""
    does: str
    """Completes "may not …"."""
    effect: str
    """For the reference page."""
    key: str
    """The annotation without its domain."""
    roles: tuple[str, ...]
    """The chart's roles that hold it."""
    names_a_revision: bool = True

    @property
    def annotation(self) -> str:
        """The annotation's whole key."""
        return f"{names.GROUP}/{self.key}"

    @property
    def field(self) -> str:
        """Of `Requests` and `HandledStatus`."""
        return self.key.replace("-", "_")


PROMOTE = Verb("promote", "end the pause of a canary", "go on to the next step", "promote", ("approver",))
PROMOTE_FULL = Verb(
    "promote-full",
    "skip the steps that are left of a canary",
    "skip the steps that are left",
    "promote-full",
    ("approver",),
)
ABORT = Verb("abort", "take a canary back", "take the canary back", "abort", ("responder", "approver"))
RETRY = Verb("retry", "let a failed version be tried again", "try a failed revision again", "retry", ("approver",))
REFRESH = Verb(
    "refresh",
    "ask for a look at the registry",
    "look at the registry now",
    "requested-at",
    ("editor", "responder", "approver"),
    names_a_revision=False,
)
VERBS = (PROMOTE, PROMOTE_FULL, ABORT, RETRY, REFRESH)


@dataclass(frozen=True, slots=True)
class Requests:
    """The annotations as they stand now. Each names a revision, so that an old one cannot act on a new one; a token
    after a slash (`v7-3fa9c1d2/2`) makes it another request, for the second promote of one rollout. `requested_at` is
    any token, and asks for a look at the registry. Done ones are echoed in `status.handled`."""

    promote: str | None = None
    promote_full: str | None = None
    abort: str | None = None
    retry: str | None = None
    requested_at: str | None = None

    @classmethod
    def of(cls, annotations: Mapping[str, str]) -> "Requests":
        """Those among the annotations of a ModelDeployment."""
        return cls(**{verb.field: annotations.get(verb.annotation) for verb in VERBS})


class HandledStatus(StatusModel):
    """The requests (annotations) that have been acted on or refused, as they were written."""

    promote: Annotated[Short | None, Field(description="Value of modelsync.dev/promote.")] = None
    promote_full: Annotated[Short | None, Field(description="Value of modelsync.dev/promote-full.")] = None
    abort: Annotated[Short | None, Field(description="Value of modelsync.dev/abort.")] = None
    retry: Annotated[Short | None, Field(description="Value of modelsync.dev/retry.")] = None
    requested_at: Annotated[Short | None, Field(description="Value of modelsync.dev/requested-at.")] = None
