"""Conditions as `metav1.Condition` has them, their types, and how a new set is merged into the old one.

kstatus reads `Ready`, `Reconciling` and `Stalled`. The abnormal-true ones (`ABNORMAL`) are absent when all is well,
because several health checks count any condition that is False as bad.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelsync.api.base import ApiModel


class ConditionType(StrEnum):
    """What a condition speaks of. The order is the order in `status.conditions`."""

    READY = "Ready"
    AVAILABLE = "Available"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    ON_HOLD = "OnHold"
    ROLLED_BACK = "RolledBack"
    MODEL_RESOLVED = "ModelResolved"
    MODEL_VERIFIED = "ModelVerified"
    EXAM_PASSED = "ExamPassed"
    ROUTE_READY = "RouteReady"
    SPEC_APPLIED = "SpecApplied"


MEANING: Mapping[ConditionType, str] = {
    ConditionType.READY: "What the alias names serves fully, as the spec asks. Unknown while it is on its way.",
    ConditionType.AVAILABLE: "Clients get answers, of whatever version.",
    ConditionType.RECONCILING: "Something is on its way, by itself.",
    ConditionType.STALLED: "Nothing goes on without a person; the message says what to do.",
    ConditionType.ON_HOLD: "A hold is on what the alias names, or has made an earlier version serve.",
    ConditionType.ROLLED_BACK: "What the alias names has failed and was taken back; the alias still names it.",
    ConditionType.MODEL_RESOLVED: "The registry says what the alias names. Unknown when it does not answer.",
    ConditionType.MODEL_VERIFIED: "The bytes of what moves, else of the stable, are what the registry's digests say.",
    ConditionType.EXAM_PASSED: "The version's own exam, where it brings one.",
    ConditionType.ROUTE_READY: "Every gateway accepted the route; without a gateway, True.",
    ConditionType.SPEC_APPLIED: "The spec, as opposed to the alias, has been acted on: what GitOps tools wait for.",
}
"""What each says when it is True."""

ABNORMAL = frozenset(
    {ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.ON_HOLD, ConditionType.ROLLED_BACK}
)
"""True or absent, never False."""

Truth = Literal["True", "False", "Unknown"]

MAX_MESSAGE = 1024
"""Characters of a message; the apiserver would take 32768, a pager and a wide column do not."""


class Condition(ApiModel):
    """One observation about the whole resource, as `metav1.Condition`."""

    model_config = ConfigDict(extra="ignore")

    type: Annotated[str, Field(max_length=64, description="What it speaks of.")]
    status: Annotated[Truth, Field(description="True, False, or Unknown.")]
    reason: Annotated[str, Field(max_length=128, description="Why, as one word that alerts can match.")]
    message: Annotated[str, Field(max_length=MAX_MESSAGE, description="Why, for a person.")] = ""
    last_transition_time: Annotated[datetime, Field(description="When `status` last became another.")]
    observed_generation: Annotated[
        int | None, Field(ge=0, description="The `metadata.generation` that this was said of.")
    ] = None


def merged(previous: Sequence[Condition], current: Iterable[Condition]) -> tuple[Condition, ...]:
    """`current` in the order of `ConditionType`; where type and status are as in `previous`, the old transition time
    stays, so that a quiet world gives an equal status."""
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
    """The condition of that type, if it is there."""
    return next((condition for condition in conditions if condition.type == kind), None)
