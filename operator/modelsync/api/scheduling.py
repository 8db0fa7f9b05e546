"""Where a revision's pods may run: the scheduling fields of a pod's spec that a tenant may set.

Names and meanings are those of Kubernetes. They are typed here so that a mistake is rejected when the ModelDeployment
is applied, not when its first pod is created. References to other namespaces are left out on purpose.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelsync.api.base import ApiModel, LabelKey, LabelValue, Name, ordered

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]
Values = Annotated[list[LabelValue], Field(max_length=64), ordered()]


class Toleration(ApiModel):
    """A taint that the pods tolerate."""

    key: LabelKey | None = Field(
        None, description="Key of the taint. Without it, every key; operator must then be Exists."
    )
    operator: Literal["Exists", "Equal"] | None = Field(
        None, description="How key and value are compared. Kubernetes' default: Equal."
    )
    value: LabelValue | None = Field(None, description="Value of the taint, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. Without it, every effect."
    )
    toleration_seconds: int | None = Field(
        None, ge=0, le=86400 * 365, description="How many seconds a NoExecute taint is tolerated. Without it, forever."
    )

    @model_validator(mode="after")
    def _as_kubernetes_takes_it(self) -> Self:
        if self.key is None and self.operator != "Exists":
            raise ValueError("a toleration without key tolerates every taint and needs operator: Exists")
        if self.operator == "Exists" and self.value:
            raise ValueError("a toleration with operator: Exists must not have a value; remove value or use Equal")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds needs effect: NoExecute")
        return self


class Requirement(ApiModel):
    """A rule on one label."""

    key: LabelKey = Field(description="Key of the label.")
    operator: Operator = Field(description="How the label is compared with values.")
    values: Values | None = Field(None, description="At least one value for In and NotIn, otherwise none.")

    @model_validator(mode="after")
    def _fitting_values(self) -> Self:
        _check_values(self.operator, self.values or [])
        return self


class NodeRequirement(ApiModel):
    """A rule on one label of a node."""

    key: LabelKey = Field(description="Key of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="How the label is compared with values."
    )
    values: Values | None = Field(
        None, description="At least one value for In and NotIn, one whole number for Gt and Lt, otherwise none."
    )

    @model_validator(mode="after")
    def _fitting_values(self) -> Self:
        _check_values(self.operator, self.values or [])
        return self


NodeRequirements = Annotated[list[NodeRequirement], Field(max_length=32), ordered()]


class NodeSelectorTerm(ApiModel):
    """Rules that must all match a node."""

    match_expressions: NodeRequirements | None = Field(None, description="Rules on the node's labels.")
    match_fields: NodeRequirements | None = Field(
        None, description="Rules on the node's fields, such as metadata.name."
    )


class NodeSelector(ApiModel):
    """Terms of which a node must meet at least one."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1, max_length=16), ordered()] = Field(
        description="Terms of which a node must meet at least one."
    )


class PreferredNode(ApiModel):
    """A node preference."""

    weight: int = Field(ge=1, le=100, description="Weight of the preference, 1 to 100.")
    preference: NodeSelectorTerm = Field(description="The preferred nodes.")


class NodeAffinity(ApiModel):
    """Nodes that the pods require or prefer."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        None, description="Rules that a node must meet."
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNode], Field(max_length=16), ordered()] | None
    ) = Field(None, description="Rules that a node should meet.")


class LabelSelector(ApiModel):
    """Selects pods by their labels; a pod must meet all rules."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = Field(
        None, description="Labels with the values that they must have."
    )
    match_expressions: Annotated[list[Requirement], Field(max_length=32), ordered()] | None = Field(
        None, description="Rules on labels."
    )


class PodTerm(ApiModel):
    """Pods of this namespace to be placed near to or away from."""

    label_selector: LabelSelector | None = Field(None, description="Selects pods of this namespace.")
    topology_key: LabelKey = Field(
        description="Node label that defines what counts as near, e.g. kubernetes.io/hostname."
    )


class PreferredPodTerm(ApiModel):
    """A preference about other pods."""

    weight: int = Field(ge=1, le=100, description="Weight of the preference, 1 to 100.")
    pod_affinity_term: PodTerm = Field(description="The other pods.")


class PodAffinity(ApiModel):
    """Other pods that the pods must or should be placed near to, or away from."""

    required_during_scheduling_ignored_during_execution: (
        Annotated[list[PodTerm], Field(max_length=16), ordered()] | None
    ) = Field(None, description="Rules that must be met.")
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredPodTerm], Field(max_length=16), ordered()] | None
    ) = Field(None, description="Rules that should be met.")


class Affinity(ApiModel):
    """Affinity as in a pod's spec, limited to this namespace."""

    node_affinity: NodeAffinity | None = Field(None, description="Nodes that the pods require or prefer.")
    pod_affinity: PodAffinity | None = Field(None, description="Pods to be placed near to.")
    pod_anti_affinity: PodAffinity | None = Field(None, description="Pods to be placed away from.")


class TopologySpreadConstraint(ApiModel):
    """How evenly the pods are spread over domains such as zones."""

    max_skew: int = Field(
        ge=1, le=1000, description="Largest allowed difference in the number of pods between two domains."
    )
    topology_key: LabelKey = Field(description="Node label that names the domain, e.g. topology.kubernetes.io/zone.")
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="What to do if the constraint cannot be met."
    )
    label_selector: LabelSelector | None = Field(
        None, description="The pods that count. Usually the label modelsync.dev/name with this ModelDeployment's name."
    )
    min_domains: int | None = Field(None, ge=1, le=1000, description="Minimum number of domains, with DoNotSchedule.")


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
        raise ValueError(f"operator: {operator} needs at least one value in values")
    if operator in ("Exists", "DoesNotExist") and values:
        raise ValueError(f"operator: {operator} takes no values; remove them")
    if operator in ("Gt", "Lt") and not (len(values) == 1 and values[0].isdigit()):
        raise ValueError(f"operator: {operator} needs exactly one whole number in values")
