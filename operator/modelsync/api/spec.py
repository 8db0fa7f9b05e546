"""The `spec` of a ModelDeployment: what a user asks for.

The types, their bounds and all defaults; the parts are in `hold`, `registry`, `rollout`, `serving` and `traffic`.
Defaults are defined there and nowhere else: the CRD has none (except `replicas`, which the scale subresource needs), so
that GitOps tools compare what the user wrote. Only fields that work are listed. Rules that a schema and CEL cannot
express are in `policy.validation`.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from modelsync.api.base import ApiModel, cel
from modelsync.api.hold import Hold
from modelsync.api.parts import MODEL, ReferenceText
from modelsync.api.registry import Registry
from modelsync.api.rollout import DEFAULT_STEPS, STEPS_MESSAGE, Rollout, Step
from modelsync.api.serving import SERVING_RULES, Serving
from modelsync.api.traffic import SESSIONS_MESSAGE, TEST_HEADER_MESSAGE, Traffic


class ModelDeploymentSpec(ApiModel):
    """The model to serve, and how a new version is rolled out."""

    model_ref: ReferenceText = Field(
        description="The W&B artifact to serve, entity/project/collection:alias. Names may contain spaces. Moving "
        "the alias in the registry rolls out the version that it then names. `:v12` pins a version."
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        1,
        description="Number of pods. Leave it out when an autoscaler manages it; the operator never writes it. With 0 "
        "the ModelDeployment is idle: no pod runs, clients get 503, nothing is rolled out. When it is raised from 0, "
        "the stable starts first, without steps.",
    )
    registry: Registry | None = Field(
        None,
        description="The W&B server and the credential for it. Default: the administrator's default registry as a "
        "whole, if there is one; its Secret is looked up in this namespace.",
    )
    hold: Hold = Field(
        default_factory=Hold,
        description="Marks in the registry that forbid a version to serve, in addition to the administrator's.",
    )
    serving: Annotated[Serving, cel(*SERVING_RULES)] = Field(default_factory=Serving, description="How vLLM runs.")
    rollout: Rollout = Field(default_factory=Rollout, description="How a new version is rolled out.")
    traffic: Annotated[
        Traffic,
        cel(
            ("!has(self.testHeader) || has(self.gateway)", TEST_HEADER_MESSAGE),
            ("!has(self.sessionAffinity) || has(self.gateway)", SESSIONS_MESSAGE),
        ),
    ] = Field(default_factory=Traffic, description="How requests reach the versions.")
    suspend: bool = Field(
        False, description="While true, nothing new is rolled out or promoted. Holds and rollbacks still take effect."
    )
    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = Field(
        10, description="Number of promoted revisions that are kept for rollbacks."
    )

    @model_validator(mode="after")
    def _only_with_a_gateway(self) -> Self:
        if self.traffic.gateway is None and self.traffic.test_header is not None:
            raise ValueError(TEST_HEADER_MESSAGE)
        if self.traffic.gateway is None and self.traffic.session_affinity is not None:
            raise ValueError(SESSIONS_MESSAGE)
        return self

    @model_validator(mode="after")
    def _steps_need_a_gateway(self) -> Self:
        if self.rollout.steps and self.traffic.gateway is None:
            raise ValueError(STEPS_MESSAGE)
        return self

    @property
    def references(self) -> dict[str, str]:
        """Everything that is resolved for a revision: key of the part (`api.parts`) → reference."""
        return {MODEL: self.model_ref, **self.serving.references}

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in effect: those of the spec, else the default with a gateway and none without."""
        if self.rollout.steps is not None:
            return tuple(self.rollout.steps)
        return DEFAULT_STEPS if self.traffic.gateway is not None else ()
