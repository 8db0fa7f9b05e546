"""A person's request on a ModelDeployment: how the value of the annotation is written and read.

`REVISION`, `REVISION/TOKEN` or `REVISION/TOKEN/PERSON`. The revision keeps an old request from acting on a new rollout;
the token is anything without a slash, and makes the same request another one; the person is who asks, with slashes if
the name has some. Whether the person is who they say is judged by the admission policy, never here.
"""

from dataclasses import dataclass

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
