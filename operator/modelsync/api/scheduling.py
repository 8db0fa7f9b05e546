"""Where a revision's pods may run: the part of a pod's spec that a tenant may say.

Kubernetes' own field names and meanings, typed here so that a mistake is refused when the ModelDeployment is applied
and not when its first pod is created. References to other namespaces are left out on purpose.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelsync.api.base import ApiModel, LabelKey, LabelValue, Name, ordered

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]
Values = Annotated[list[LabelValue], Field(max_length=64), ordered()]


class Toleration(ApiModel):
    """A taint that the pods tolerate."""

    key: LabelKey | None = Field(
        None, description="Key of the taint; without it every key, and operator must be Exists."
    )
    operator: Literal["Exists", "Equal"] | None = Field(
        None, description="How key relates to value. Kubernetes' default: Equal."
    )
    value: LabelValue | None = Field(None, description="Value of the taint, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint; without it every effect."
    )
    toleration_seconds: int | None = Field(
        None, ge=0, le=86400 * 365, description="How many seconds a NoExecute taint is tolerated; without it for ever."
    )

    @model_validator(mode="after")
    def _as_kubernetes_takes_it(self) -> Self:
        if self.key is None and self.operator != "Exists":
            raise ValueError("a toleration without key tolerates every taint and needs operator: Exists")
        if self.operator == "Exists" and self.value:
            raise ValueError("a toleration with operator: Exists has no value; take value out or use Equal")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds needs effect: NoExecute")
        return self


class Requirement(ApiModel):
    """A rule on one label."""

    key: LabelKey = Field(description="The label's key.")
    operator: Operator = Field(description="How the label relates to values.")
    values: Values | None = Field(None, description="For In and NotIn one value or more, else none.")

    @model_validator(mode="after")
    def _fitting_values(self) -> Self:
        _check_values(self.operator, self.values or [])
        return self


class NodeRequirement(ApiModel):
    """A rule on one label of a node."""

    key: LabelKey = Field(description="The label's key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="How the label relates to values."
    )
    values: Values | None = Field(
        None, description="For In and NotIn one value or more, for Gt and Lt one whole number, else none."
    )

    @model_validator(mode="after")
    def _fitting_values(self) -> Self:
        _check_values(self.operator, self.values or [])
        return self


NodeRequirements = Annotated[list[NodeRequirement], Field(max_length=32), ordered()]


class NodeSelectorTerm(ApiModel):
    """Rules on a node that must all be met."""

    match_expressions: NodeRequirements | None = Field(None, description="Rules on the node's labels.")
    match_fields: NodeRequirements | None = Field(
        None, description="Rules on the node's fields, such as metadata.name."
    )


class NodeSelector(ApiModel):
    """Terms of which one must be met."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1, max_length=16), ordered()] = Field(
        description="Terms of which one must be met."
    )


class PreferredNode(ApiModel):
    """A wish about the node."""

    weight: int = Field(ge=1, le=100, description="How much the wish counts, 1 to 100.")
    preference: NodeSelectorTerm = Field(description="The wish.")


class NodeAffinity(ApiModel):
    """Which nodes the pods need or like."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        None, description="What a node must satisfy."
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNode], Field(max_length=16), ordered()] | None
    ) = Field(None, description="What a node should satisfy.")


class LabelSelector(ApiModel):
    """Which pods are meant, by their labels; all rules must be met."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = Field(
        None, description="Labels and the values that they must have."
    )
    match_expressions: Annotated[list[Requirement], Field(max_length=32), ordered()] | None = Field(
        None, description="Rules on labels."
    )


class PodTerm(ApiModel):
    """Pods of this namespace to be near to or far from."""

    label_selector: LabelSelector | None = Field(None, description="Which pods of this namespace.")
    topology_key: LabelKey = Field(
        description="Label of the node that says what near means, e.g. kubernetes.io/hostname."
    )


class PreferredPodTerm(ApiModel):
    """A wish about other pods."""

    weight: int = Field(ge=1, le=100, description="How much the wish counts, 1 to 100.")
    pod_affinity_term: PodTerm = Field(description="The wish.")


class PodAffinity(ApiModel):
    """Which pods the pods need or like to be near to, or far from."""

    required_during_scheduling_ignored_during_execution: (
        Annotated[list[PodTerm], Field(max_length=16), ordered()] | None
    ) = Field(None, description="What must be satisfied.")
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredPodTerm], Field(max_length=16), ordered()] | None
    ) = Field(None, description="What should be satisfied.")


class Affinity(ApiModel):
    """Kubernetes' pod affinity, within this namespace."""

    node_affinity: NodeAffinity | None = Field(None, description="Which nodes.")
    pod_affinity: PodAffinity | None = Field(None, description="Near to which pods.")
    pod_anti_affinity: PodAffinity | None = Field(None, description="Far from which pods.")


class TopologySpreadConstraint(ApiModel):
    """How evenly the pods are spread."""

    max_skew: int = Field(ge=1, le=1000, description="Largest difference in pods between two domains.")
    topology_key: LabelKey = Field(
        description="Label of the node that names the domain, e.g. topology.kubernetes.io/zone."
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(description="What if it cannot be met.")
    label_selector: LabelSelector | None = Field(
        None, description="Which pods count. Usual: the label modelsync.dev/name with this ModelDeployment's name."
    )
    min_domains: int | None = Field(None, ge=1, le=1000, description="Fewest domains, with DoNotSchedule.")


class Scheduling(ApiModel):
    """Where the pods may run."""

    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = Field(
        None, description="Labels that the node must have."
    )
    tolerations: Annotated[list[Toleration], Field(max_length=32), ordered()] | None = Field(
        None, description="Taints that the pods tolerate."
    )
    affinity: Affinity | None = Field(
        None, description="Affinity to nodes and to pods of this namespace, as in a pod's spec."
    )
    priority_class_name: Name | None = Field(None, description="PriorityClass of the pods.")
    runtime_class_name: Name | None = Field(None, description="RuntimeClass of the pods, e.g. nvidia.")
    topology_spread_constraints: Annotated[list[TopologySpreadConstraint], Field(max_length=8), ordered()] | None = (
        Field(None, description="How the pods are spread over zones or nodes, as in a pod's spec.")
    )


def _check_values(operator: str, values: list[str]) -> None:
    if operator in ("In", "NotIn") and not values:
        raise ValueError(f"operator: {operator} needs one value or more in values")
    if operator in ("Exists", "DoesNotExist") and values:
        raise ValueError(f"operator: {operator} takes no values; take them out")
    if operator in ("Gt", "Lt") and not (len(values) == 1 and values[0].isdigit()):
        raise ValueError(f"operator: {operator} needs exactly one whole number in values")
