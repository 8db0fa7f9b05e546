"""How a new version takes over: `spec.rollout`."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from modelsync.api.base import ApiModel, cel, ordered, written_as
from modelsync.api.duration import Between

HeaderName = Annotated[
    str,
    Field(min_length=1, max_length=256),
    written_as(
        "^[A-Za-z0-9!#$%&*+.^_|~-]+$", "is no name of a request header; use letters, digits and -, such as x-user-group"
    ),
]
HeaderText = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    # Traefik puts it between backticks in a rule of its own language: one in the text would end it there.
    written_as(
        "^[!-_a-~]([ -_a-~]*[!-_a-~])?$",
        "cannot be compared with a header; use printable ASCII without backticks and without spaces at its ends",
    ),
]
HeaderPattern = Annotated[
    str,
    Field(min_length=3, max_length=1024),
    written_as(
        r"^\^[ -_a-~]*[$]$",
        "must begin with ^ and end with $, in printable ASCII without backticks; some gateways search for an "
        "expression anywhere in the value, and some match all of it",
    ),
]


class Pause(ApiModel):
    """A wait."""

    duration: Annotated[timedelta, Between("0s", "720h")] | None = Field(
        None, description="How long; without it until a person promotes."
    )


class HeaderValue(ApiModel):
    """What a header has to say."""

    exact: HeaderText | None = Field(None, description="Exactly this.")
    regex: HeaderPattern | None = Field(
        None,
        description="What this regular expression (RE2) matches, from `^` to `$`. Not every gateway can: see "
        "docs/reference/gateways.md.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.exact is None) == (self.regex is None):
            raise ValueError(HEADER_VALUE_MESSAGE)
        return self


HEADER_VALUE_MESSAGE = "a header's value is exactly one of exact and regex"


class StepMatch(ApiModel):
    """A header by which requests are told apart."""

    header_name: HeaderName = Field(description="Name of the request header; upper and lower case are the same.")
    header_value: Annotated[HeaderValue, cel(("has(self.exact) != has(self.regex)", HEADER_VALUE_MESSAGE))] = Field(
        description="What the header has to say."
    )


class Step(ApiModel):
    """One step of a rollout: a segment or a share for the canary, or a wait."""

    match: Annotated[list[StepMatch], Field(min_length=1, max_length=8), ordered()] | None = Field(
        None,
        description="Requests with any one of these headers go to the canary, whatever its share, until the next "
        "`match` or until it has all. As long as a segment is in force, the canary has the pods for the setWeight that "
        "comes next (for all, when none comes), since nobody knows how big a segment is.",
    )
    set_weight: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="Share of the requests that the canary gets, in per cent."
    )
    pause: Pause | None = Field(None, description="Wait here. `pause: {}` waits until a person promotes.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(part is not None for part in (self.match, self.set_weight, self.pause)) != 1:
            raise ValueError(STEP_MESSAGE)
        return self


STEP_MESSAGE = "a step is exactly one of match, setWeight and pause; write each as an item of its own"
_ONE_KIND = "[has(self.match), has(self.setWeight), has(self.pause)].exists_one(kind, kind)"
STEPS_MESSAGE = (
    "steps need traffic.gateway; set spec.traffic.gateway, or leave spec.rollout.steps out for a switch at once"
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
    """How the version before is kept ready to come back."""

    replicas: Annotated[int, Field(ge=0, le=100)] = Field(1, description="Pods that stay warm; 0 keeps none.")
    duration: Annotated[timedelta, Between("0s", "8760h")] = Field(
        timedelta(hours=1), description="For how long after the promotion."
    )


class Rollout(ApiModel):
    """How a new version takes over."""

    steps: Steps | None = Field(
        None,
        description="Steps of the canary, before it is promoted. Default with traffic.gateway: 5 % for 10 min, 50 % "
        "for 10 min; without: none, the Service switches when all pods are ready.",
    )
    progress_deadline: Annotated[timedelta, Between("10s", "24h")] = Field(
        timedelta(minutes=30),
        description="Longest wait for pods without any progress. Pauses and the pulling of bytes do not count.",
    )
    keep_previous: KeepPrevious = Field(
        default_factory=KeepPrevious, description="How the version before is kept ready to come back."
    )
