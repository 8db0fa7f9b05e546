"""What a user asks for: `spec` of a ModelDeployment.

The types, their bounds and every default; the parts are in `registry`, `serving`, `steps` and `traffic`. Defaults live
there and nowhere else: the CRD carries none (but `replicas`, which the scale sub-resource needs), so that what GitOps
tools compare is what the user wrote. A field is here only when it works. What a schema and CEL cannot say is in
`validation`.
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
    """What is to be served, and how a new version takes over."""

    model_ref: ReferenceText = Field(
        description="The W&B artifact to serve, entity/project/collection:alias. Names may hold spaces. The alias is "
        "what deploys: moving it in the registry rolls out the version it moves to. `:v12` pins a version."
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        1,
        description="Pods that serve. Leave it out when an autoscaler owns it; the operator never writes it. 0 is "
        "idle: no pod runs, clients get 503, nothing moves; from 0 the stable starts first, without steps.",
    )
    registry: Registry | None = Field(
        None,
        description="The W&B server and the credential for it, taken whole. Without it, the administrator's default "
        "registry, if there is one; its Secret is looked up in this namespace.",
    )
    hold: Hold = Field(
        default_factory=Hold,
        description="Marks in the registry that forbid a version to serve, beside the administrator's.",
    )
    serving: Annotated[Serving, cel(*SERVING_RULES)] = Field(default_factory=Serving, description="How vLLM runs.")
    rollout: Rollout = Field(default_factory=Rollout, description="How a new version takes over.")
    traffic: Annotated[
        Traffic,
        cel(
            ("!has(self.testHeader) || has(self.gateway)", TEST_HEADER_MESSAGE),
            ("!has(self.sessionAffinity) || has(self.gateway)", SESSIONS_MESSAGE),
        ),
    ] = Field(default_factory=Traffic, description="How requests reach the versions.")
    suspend: bool = Field(False, description="No forward move while true. Holds, and going back, still act.")
    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = Field(
        10, description="Promoted revisions that are remembered, to go back to."
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
        """Everything that is resolved for a revision: key of the part (`api.references`) → reference."""
        return {MODEL: self.model_ref, **self.serving.references}

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in force: the given ones, else the default with a gateway and none without."""
        if self.rollout.steps is not None:
            return tuple(self.rollout.steps)
        return DEFAULT_STEPS if self.traffic.gateway is not None else ()
