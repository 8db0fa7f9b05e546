"""Conditions in the form of `metav1.Condition`, their types, and how a new set is merged into the old one.

kstatus reads `Ready`, `Reconciling` and `Stalled`. The abnormal-true conditions (`ABNORMAL`) are absent when all is
well, because several health checks treat any condition that is False as unhealthy.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelsync.api.base import ApiModel


class ConditionType(StrEnum):
    """The types of conditions, in their order in `status.conditions`."""

    READY = "Ready"
    AVAILABLE = "Available"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    ON_HOLD = "OnHold"
    HOLDS_KNOWN = "HoldsKnown"
    ROLLED_BACK = "RolledBack"
    MODEL_RESOLVED = "ModelResolved"
    MODEL_VERIFIED = "ModelVerified"
    EXAM_PASSED = "ExamPassed"
    ROUTE_READY = "RouteReady"
    SPEC_APPLIED = "SpecApplied"


MEANING: Mapping[ConditionType, str] = {
    ConditionType.READY: "The version that the alias names serves as the spec asks. Unknown during a rollout.",
    ConditionType.AVAILABLE: "Clients get answers, from any version.",
    ConditionType.RECONCILING: "A change is in progress and needs no user.",
    ConditionType.STALLED: "Nothing proceeds until a user acts; the message says what to do.",
    ConditionType.ON_HOLD: "The version that the alias names is on hold, or a hold made an earlier version serve.",
    ConditionType.HOLDS_KNOWN: "Within `hold.maxStaleness` the registry has reported the hold marks of what serves "
    "and of what is rolled out. False: a hold that is set now is not seen; the message says what to do.",
    ConditionType.ROLLED_BACK: "The version that the alias names failed and was rolled back; the alias still names it.",
    ConditionType.MODEL_RESOLVED: "The registry resolved the alias. Unknown while it does not answer.",
    ConditionType.MODEL_VERIFIED: "The files of the revision being rolled out, else of the stable, match the "
    "registry's digests.",
    ConditionType.EXAM_PASSED: "The version passed its own exam, if it has one.",
    ConditionType.ROUTE_READY: "Every gateway accepted the route. Always True without a gateway.",
    ConditionType.SPEC_APPLIED: "The current spec has been applied, whatever the alias names: GitOps tools wait for "
    "this.",
}
"""The meaning of each condition when it is True."""

ABNORMAL = frozenset(
    {ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.ON_HOLD, ConditionType.ROLLED_BACK}
)
"""Conditions that are True or absent, never False."""

Truth = Literal["True", "False", "Unknown"]

MAX_MESSAGE = 1024
"""Maximum length of a message in characters. The API server allows 32768; pagers and `kubectl get -o wide` do not."""


class Condition(ApiModel):
    """One observation about the whole resource, as `metav1.Condition`."""

    model_config = ConfigDict(extra="ignore")

    type: Annotated[str, Field(max_length=64, description="Type of the condition.")]
    status: Annotated[Truth, Field(description="True, False, or Unknown.")]
    reason: Annotated[str, Field(max_length=128, description="Why, as one CamelCase word that alerts can match.")]
    message: Annotated[str, Field(max_length=MAX_MESSAGE, description="Why, in a sentence.")] = ""
    last_transition_time: Annotated[datetime, Field(description="When `status` last changed.")]
    observed_generation: Annotated[
        int | None, Field(ge=0, description="The `metadata.generation` that the condition is based on.")
    ] = None


def merged(previous: Sequence[Condition], current: Iterable[Condition]) -> tuple[Condition, ...]:
    """`current` in the order of `ConditionType`. A condition whose status is the same as in `previous` keeps its
    transition time, so that the status does not change when nothing else does."""
    before = {condition.type: condition for condition in previous}
    order = {kind: place for place, kind in enumerate(ConditionType)}
    kept = []
    for condition in sorted(current, key=lambda item: order[ConditionType(item.type)]):
        old = before.get(condition.type)
        if old is not None and old.status == condition.status:
            condition = condition.model_copy(update={"last_transition_time": old.last_transition_time})
        kept.append(condition)
    return tuple(kept)


def find(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """The condition of that type, or None."""
    return next((condition for condition in conditions if condition.type == kind), None)
