"""How vLLM runs: `spec.serving`. A change here makes a new revision."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelsync.api.base import (
    ApiModel,
    LabelKey,
    LabelValue,
    Matches,
    Name,
    Unique,
    cel,
    ordered,
    written_as,
)
from modelsync.api.duration import Between
from modelsync.api.parts import (
    BASE,
    Adapter,
    ReferenceText,
    ServedName,
    SideArtifact,
    adapter,
    side_artifact,
)
from modelsync.api.quantity import Quantity
from modelsync.api.scheduling import Scheduling

Image = Annotated[
    str,
    Field(min_length=1, max_length=512),
    written_as(r"^\S+$", "is no image; write it without spaces, such as vllm/vllm-openai:v0.32.0"),
]
Argument = Annotated[str, Field(min_length=3, max_length=2048)]
Resources = Annotated[dict[LabelKey, Quantity], Field(max_length=16)]


class EnvVar(ApiModel):
    """An environment variable of the model server."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=128),
        Matches("^[A-Za-z_][A-Za-z0-9_]*$", "is no name of an environment variable; use letters, digits and _"),
    ] = Field(description="Name; one that the documented allow-list or the administrator allows.")
    value: Annotated[str, Field(max_length=4096)] = Field(description="Value, taken literally.")


class ResourceRequirements(ApiModel):
    """What a pod's model server needs and may use."""

    limits: Resources | None = Field(None, description="Most that it may use, e.g. nvidia.com/gpu: 1.")
    requests: Resources | None = Field(None, description="What it needs. Kubernetes' default: the limits.")


class PodMetadata(ApiModel):
    """Labels and annotations for the pods. Those of modelsync.dev, kubernetes.io and k8s.io are not yours to set."""

    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = Field(None, description="Labels.")
    annotations: Annotated[dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)] | None = Field(
        None, description="Annotations."
    )


class LocalReference(ApiModel):
    """An object of this namespace."""

    name: Name = Field(description="Its name.")


class Storage(ApiModel):
    """Where a pod keeps the model's files."""

    type: Literal["EmptyDir", "PersistentVolumeClaim"] = Field(
        description="EmptyDir: the node's own disk, gone with the pod. PersistentVolumeClaim: kept on a claim, one "
        "transfer for all pods, and none when a pod starts again."
    )
    size: Quantity | None = Field(
        None, description="With EmptyDir: most that the files may take; without it what the node has."
    )
    claim_name: Name | None = Field(
        None,
        description="With PersistentVolumeClaim: a claim of this namespace. Pods on several nodes need one that is "
        "ReadWriteMany. Any number of ModelDeployments may share it.",
    )
    compile_cache: bool = Field(
        False,
        description="With PersistentVolumeClaim: keep on the claim what vLLM compiles too, so that later pods start "
        "faster. It is code that later pods run: only for claims that nobody but these pods writes to.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        claim = self.type == "PersistentVolumeClaim"
        if claim != (self.claim_name is not None):
            raise ValueError(CLAIM_MESSAGE)
        if claim and self.size is not None:
            raise ValueError(CLAIM_SIZE_MESSAGE)
        if not claim and self.compile_cache:
            raise ValueError(COMPILE_CACHE_MESSAGE)
        return self


CLAIM_MESSAGE = (
    "type: PersistentVolumeClaim and claimName belong together; set both, or type: EmptyDir without claimName"
)
CLAIM_SIZE_MESSAGE = "size is for type: EmptyDir; take it out, the PersistentVolumeClaim itself says its size"
COMPILE_CACHE_MESSAGE = "compileCache needs type: PersistentVolumeClaim; take it out, an EmptyDir keeps nothing"


class Serving(ApiModel):
    """How vLLM runs. A change here makes a new revision, which is rolled out like a new version."""

    image: Image | None = Field(
        None,
        description="Image of vLLM. Default: the operator's; a new default of the operator is used for new revisions "
        "only.",
    )
    args: Annotated[list[Argument], Field(max_length=64), ordered()] = Field(
        default_factory=list,
        description="Arguments for `vllm serve`, one `--flag=value` per item, spelt exactly. Flags that the operator "
        "sets, and those that load code or open administrative doors, are refused.",
    )
    env: Annotated[list[EnvVar], Field(max_length=64), Unique(("name",))] = Field(
        default_factory=list, description="Environment of vLLM; only names that are on the allow-list."
    )
    resources: ResourceRequirements = Field(
        default_factory=lambda: ResourceRequirements(), description="What each pod's model server needs and may use."
    )
    served_model_name: ServedName | None = Field(
        None,
        description="The model name that clients ask for. Default: the ModelDeployment's name. Answers say "
        "`<name>@<revision>`, which can be asked for too.",
    )
    adapters: Annotated[list[Adapter], Field(max_length=16), Unique(("name",))] = Field(
        default_factory=list,
        description="LoRA adapters on top of the model, each served under its own name; a new version of one is rolled "
        "out as a new version of the model is. The model itself is then the base, and clients cannot ask for it unless "
        "exposeBase is true. Flags of vLLM for LoRA are set from the adapters.",
    )
    base_model_ref: ReferenceText | None = Field(
        None,
        description="The W&B artifact of the model that modelRef, a LoRA adapter then, was trained on: vLLM loads it, "
        "and servedModelName names the adapter.",
    )
    expose_base: bool = Field(
        False,
        description="Whether clients may ask for the model below the adapters: under servedModelName, or with "
        "baseModelRef under `<servedModelName>-base`.",
    )
    artifacts: Annotated[list[SideArtifact], Field(max_length=8), Unique(("name",))] = Field(
        default_factory=list,
        description="Artifacts beside the model, such as prompt or chat templates: resolved, held, pinned, rolled out "
        "and back with it. Use one as --chat-template=/artifacts/<name>/<file> in args.",
    )
    shutdown_timeout: Annotated[timedelta, Between("1s", "1h", whole_seconds=True)] = Field(
        timedelta(seconds=60), description="How long answers that are under way may still take when a pod ends."
    )
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where the pods may run.")
    pod_metadata: PodMetadata = Field(
        default_factory=lambda: PodMetadata(), description="Labels and annotations for the pods."
    )
    service_account_name: Name | None = Field(
        None, description="ServiceAccount of the pods; its token is not mounted. Kubernetes' default: default."
    )
    image_pull_secrets: Annotated[list[LocalReference], Field(max_length=8), Unique(("name",))] = Field(
        default_factory=list, description="Secrets of this namespace for pulling images."
    )
    shared_memory: Quantity = Field(
        "2Gi",
        description="Size of /dev/shm, which tensor parallelism needs. It counts as memory of the pod as far as used.",
    )
    storage: Annotated[
        Storage,
        cel(
            ("(self.type == 'PersistentVolumeClaim') == has(self.claimName)", CLAIM_MESSAGE),
            ("self.type != 'PersistentVolumeClaim' || !has(self.size)", CLAIM_SIZE_MESSAGE),
            (
                "self.type == 'PersistentVolumeClaim' || !has(self.compileCache) || !self.compileCache",
                COMPILE_CACHE_MESSAGE,
            ),
        ),
    ] = Field(
        default_factory=lambda: Storage(type="EmptyDir"),
        description="Where a pod keeps the model's files. Default: EmptyDir.",
    )

    @model_validator(mode="after")
    def _names_are_told_apart(self) -> Self:
        served = self.served_model_name
        if served is not None and {served, served + BASE_SUFFIX} & {each.name for each in self.adapters}:
            raise ValueError(SERVED_TWICE_MESSAGE)
        if self.expose_base and not self.lora:
            raise ValueError(NO_BASE_MESSAGE)
        return self

    @property
    def lora(self) -> bool:
        """Whether there are LoRA adapters."""
        return bool(self.adapters) or self.base_model_ref is not None

    @property
    def references(self) -> dict[str, str]:
        """What is resolved beside the model: key of the part (`api.references`) → reference."""
        return {
            **({BASE: self.base_model_ref} if self.base_model_ref is not None else {}),
            **{adapter(each.name): each.model_ref for each in self.adapters},
            **{side_artifact(each.name): each.model_ref for each in self.artifacts},
        }


BASE_SUFFIX = "-base"
"""With baseModelRef: what makes the name under which an exposed base is asked for."""

SERVED_TWICE_MESSAGE = (
    "the name of an adapter must not be servedModelName, nor that with -base behind it; clients could not tell which "
    "they get: give the adapter another name"
)
NO_BASE_MESSAGE = "exposeBase says something about adapters only; take it out, or set adapters or baseModelRef"

SERVING_RULES = (
    (
        "!has(self.servedModelName) || !has(self.adapters) || self.adapters.all(a, a.name != self.servedModelName && "
        f"a.name != self.servedModelName + '{BASE_SUFFIX}')",
        SERVED_TWICE_MESSAGE,
    ),
    (
        "!has(self.exposeBase) || !self.exposeBase || has(self.baseModelRef) || "
        "(has(self.adapters) && self.adapters.size() > 0)",
        NO_BASE_MESSAGE,
    ),
)
