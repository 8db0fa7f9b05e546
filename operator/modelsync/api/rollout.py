"""How a new version is rolled out: `spec.rollout`."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from modelsync.api.base import ApiModel, cel, ordered, written_as
from modelsync.api.duration import Between

HeaderName = Annotated[
    str,
    Field(min_length=1, max_length=256),
    written_as(
        "^[A-Za-z0-9!#$%&*+.^_|~-]+$", "is not a valid header name; use letters, digits and -, such as x-user-group"
    ),
]
HeaderText = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    # Traefik puts the value between backticks in its rule language: a backtick in the value would end it.
    written_as(
        "^[!-_a-~]([ -_a-~]*[!-_a-~])?$",
        "is not a valid header value; use printable ASCII without backticks and without leading or trailing spaces",
    ),
]
HeaderPattern = Annotated[
    str,
    Field(min_length=3, max_length=1024),
    written_as(
        r"^\^[ -_a-~]*[$]$",
        "must start with ^, end with $ and be printable ASCII without backticks; without ^ and $, some gateways match "
        "any part of the value and others only the whole value",
    ),
]


class Pause(ApiModel):
    """A pause."""

    duration: Annotated[timedelta, Between("0s", "720h")] | None = Field(
        None, description="How long to wait. Without it, until a user promotes."
    )


class HeaderValue(ApiModel):
    """The value that a header must have."""

    exact: HeaderText | None = Field(None, description="The exact value.")
    regex: HeaderPattern | None = Field(
        None,
        description="A regular expression (RE2) for the whole value, from `^` to `$`. Not every gateway supports it: "
        "see docs/reference/gateways.md.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.exact is None) == (self.regex is None):
            raise ValueError(HEADER_VALUE_MESSAGE)
        return self


HEADER_VALUE_MESSAGE = "a header value must have exactly one of exact and regex"


class StepMatch(ApiModel):
    """A request header that selects requests."""

    header_name: HeaderName = Field(description="Name of the request header, case-insensitive.")
    header_value: Annotated[HeaderValue, cel(("has(self.exact) != has(self.regex)", HEADER_VALUE_MESSAGE))] = Field(
        description="The value that the header must have."
    )


class Step(ApiModel):
    """One step of a rollout: a segment or a share of requests for the canary, or a pause."""

    match: Annotated[list[StepMatch], Field(min_length=1, max_length=8), ordered()] | None = Field(
        None,
        description="Requests with any of these headers go to the canary, whatever its weight, until the next `match` "
        "or until the canary gets all requests. During this time, the canary has enough pods for the next setWeight, "
        "or for all requests if there is none, since the size of the segment is not known.",
    )
    set_weight: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="Share of the requests that the canary gets, in percent."
    )
    pause: Pause | None = Field(None, description="Wait before the next step. `pause: {}` waits until a user promotes.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(part is not None for part in (self.match, self.set_weight, self.pause)) != 1:
            raise ValueError(STEP_MESSAGE)
        return self


STEP_MESSAGE = "a step must have exactly one of match, setWeight and pause; write each as a separate item"
_ONE_KIND = "[has(self.match), has(self.setWeight), has(self.pause)].exists_one(kind, kind)"
STEPS_MESSAGE = (
    "steps need traffic.gateway; set spec.traffic.gateway, or remove spec.rollout.steps to switch without steps"
)

Steps = Annotated[
    list[Annotated[Step, cel((_ONE_KIND, STEP_MESSAGE))],],
    Field(max_length=32),
    ordered(),
]

DEFAULT_STEPS = (
    Step(set_weight=5),
    Step(pause=Pause(duration=timedelta(minutes=10))),
    Step(set_weight=50),
    Step(pause=Pause(duration=timedelta(minutes=10))),
)


class KeepPrevious(ApiModel):
    """How the previous version is kept ready for a rollback."""

    replicas: Annotated[int, Field(ge=0, le=100)] = Field(
        1, description="Number of pods that keep running. 0 keeps none."
    )
    duration: Annotated[timedelta, Between("0s", "8760h")] = Field(
        timedelta(hours=1), description="How long they are kept after the promotion."
    )


class Rollout(ApiModel):
    """How a new version is rolled out."""

    steps: Steps | None = Field(
        None,
        description="Steps of the canary before it is promoted. Default with traffic.gateway: 5 % for 10 min, 50 % "
        "for 10 min. Without a gateway there are no steps: the Service switches when all pods are ready.",
    )
    progress_deadline: Annotated[timedelta, Between("10s", "24h")] = Field(
        timedelta(minutes=30),
        description="How long a new revision's pods may make no progress before it fails. Pauses and pulls do not "
        "count.",
    )
    keep_previous: KeepPrevious = Field(
        default_factory=KeepPrevious, description="How the previous version is kept ready for a rollback."
    )
