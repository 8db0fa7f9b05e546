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
    written_as(r"^\S+$", "is not a valid image; write it without spaces, such as vllm/vllm-openai:v0.32.0"),
]
Argument = Annotated[str, Field(min_length=3, max_length=2048)]
Resources = Annotated[dict[LabelKey, Quantity], Field(max_length=16)]


class EnvVar(ApiModel):
    """An environment variable of the model server."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=128),
        Matches("^[A-Za-z_][A-Za-z0-9_]*$", "is not a valid environment variable name; use letters, digits and _"),
    ] = Field(description="Name. It must be on the documented allow-list or be allowed by the administrator.")
    value: Annotated[str, Field(max_length=4096)] = Field(description="Value. `$(NAME)` is not expanded.")


class ResourceRequirements(ApiModel):
    """Resources of each pod's model server."""

    limits: Resources | None = Field(None, description="Upper limits, e.g. nvidia.com/gpu: 1.")
    requests: Resources | None = Field(None, description="Guaranteed amounts. Kubernetes' default: the limits.")


class PodMetadata(ApiModel):
    """Labels and annotations for the pods. Keys under modelsync.dev, kubernetes.io and k8s.io are reserved."""

    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = Field(None, description="Labels.")
    annotations: Annotated[dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)] | None = Field(
        None, description="Annotations."
    )


class LocalReference(ApiModel):
    """An object of this namespace."""

    name: Name = Field(description="Name of the object.")


class Storage(ApiModel):
    """Where a pod keeps the model's files."""

    type: Literal["EmptyDir", "PersistentVolumeClaim"] = Field(
        description="EmptyDir: on the node's disk, deleted with the pod. PersistentVolumeClaim: kept on a claim, "
        "downloaded once for all pods and not again when a pod restarts."
    )
    size: Quantity | None = Field(
        None, description="With EmptyDir: maximum size of the files. Without it, the node's disk is the limit."
    )
    claim_name: Name | None = Field(
        None,
        description="With PersistentVolumeClaim: name of a claim in this namespace. Pods on several nodes need a claim "
        "that is ReadWriteMany. Any number of ModelDeployments may share it.",
    )
    compile_cache: bool = Field(
        False,
        description="With PersistentVolumeClaim: also keep vLLM's compiled code on the claim, so that later pods start "
        "faster. Later pods run this code: use it only for claims that only these pods can write to.",
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
    "type: PersistentVolumeClaim and claimName belong together; set both, or use type: EmptyDir without claimName"
)
CLAIM_SIZE_MESSAGE = "size is for type: EmptyDir; remove it, since the PersistentVolumeClaim sets its own size"
COMPILE_CACHE_MESSAGE = (
    "compileCache needs type: PersistentVolumeClaim; remove it, since an EmptyDir is deleted with its pod"
)


class Serving(ApiModel):
    """How vLLM runs. A change here makes a new revision, which is rolled out like a new version."""

    image: Image | None = Field(
        None,
        description="Image of vLLM. Default: set by the operator. When the operator's default changes, only new "
        "revisions use it.",
    )
    args: Annotated[list[Argument], Field(max_length=64), ordered()] = Field(
        default_factory=list,
        description="Arguments for `vllm serve`, one `--flag=value` per item, spelled exactly. Flags that the "
        "operator sets are not allowed, nor flags that load code or open administrative endpoints.",
    )
    env: Annotated[list[EnvVar], Field(max_length=64), Unique(("name",))] = Field(
        default_factory=list, description="Environment variables of vLLM. Only names on the allow-list."
    )
    resources: ResourceRequirements = Field(
        default_factory=lambda: ResourceRequirements(), description="Resources of each pod's model server."
    )
    served_model_name: ServedName | None = Field(
        None,
        description="The model name that clients request. Default: the ModelDeployment's name. Responses show "
        "`<name>@<revision>`, which clients can request too.",
    )
    adapters: Annotated[list[Adapter], Field(max_length=16), Unique(("name",))] = Field(
        default_factory=list,
        description="LoRA adapters on top of the model, each served under its own name. A new version of an adapter is "
        "rolled out like a new version of the model. The model itself is then the base, and clients cannot request it "
        "unless exposeBase is true. vLLM's LoRA flags are set from the adapters.",
    )
    base_model_ref: ReferenceText | None = Field(
        None,
        description="If modelRef is a LoRA adapter: the W&B artifact of the model that it was trained on. vLLM loads "
        "this model, and servedModelName is the name of the adapter.",
    )
    expose_base: bool = Field(
        False,
        description="Whether clients may request the base model of the adapters, under the name servedModelName or, "
        "with baseModelRef, `<servedModelName>-base`.",
    )
    artifacts: Annotated[list[SideArtifact], Field(max_length=8), Unique(("name",))] = Field(
        default_factory=list,
        description="Artifacts used with the model, such as chat templates. They are resolved, held, pinned, rolled "
        "out and rolled back with it. Use a file in args, for example --chat-template=/artifacts/<name>/<file>.",
    )
    shutdown_timeout: Annotated[timedelta, Between("1s", "1h", whole_seconds=True)] = Field(
        timedelta(seconds=60), description="How long requests in progress may take to finish when a pod stops."
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
        description="Size of /dev/shm, which tensor parallelism needs. The used part counts as memory of the pod.",
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
    def _names_are_distinct(self) -> Self:
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
        """What is resolved in addition to the model: key of the part (`api.parts`) → reference."""
        return {
            **({BASE: self.base_model_ref} if self.base_model_ref is not None else {}),
            **{adapter(each.name): each.model_ref for each in self.adapters},
            **{side_artifact(each.name): each.model_ref for each in self.artifacts},
        }


BASE_SUFFIX = "-base"
"""With baseModelRef: suffix of the name under which clients request an exposed base."""

SERVED_TWICE_MESSAGE = (
    "the name of an adapter must not be servedModelName, with or without -base appended, since each name must select "
    "one model; give the adapter another name"
)
NO_BASE_MESSAGE = "exposeBase needs adapters; remove it, or set adapters or baseModelRef"

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
