"""What a user asks for: `spec` of a ModelDeployment.

The types, their bounds and every default. Defaults live here and nowhere else: the CRD carries none (but `replicas`,
which the scale sub-resource needs), so that what GitOps tools compare is what the user wrote. A field is here only when
it works. What a schema and CEL cannot say is in `validation`.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelsync.api.duration import Between
from modelsync.api.model import (
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
from modelsync.api.quantity import Quantity
from modelsync.api.references import (
    BASE,
    MODEL,
    Adapter,
    ModelRef,
    ServedName,
    SideArtifact,
    adapter,
    side_artifact,
)
from modelsync.api.scheduling import Scheduling

_HOSTNAME = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_BASE_URL = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$"

Image = Annotated[
    str,
    Field(min_length=1, max_length=512),
    written_as(r"^\S+$", "is no image; write it without spaces, such as vllm/vllm-openai:v0.32.0"),
]
Key = Annotated[
    str,
    Field(min_length=1, max_length=253),
    written_as(r"^[-._a-zA-Z0-9]+$", "is no key of a Secret or ConfigMap; use letters, digits, -, _ and ."),
]
Namespace = Annotated[
    str,
    Field(min_length=1, max_length=63),
    written_as(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "is no name of a namespace; use small letters, digits and -"),
]
Tag = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Matches("^[-A-Za-z0-9_]+( +[-A-Za-z0-9_]+)*$", "is no W&B tag; tags hold letters, digits, -, _ and single spaces"),
]
AliasPattern = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Matches(r"^[^/:\[\]]+$", "is no W&B alias; leave out / and :, and of patterns use * and ? only"),
]
Hostname = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Matches(_HOSTNAME, "must be a host name in lower case without port, such as chat.example.com or *.example.com"),
]
Path = Annotated[
    str,
    Field(min_length=2, max_length=128),
    Matches(
        r"^(/[A-Za-z0-9._~-]+)+$",
        "is no path that can be published; write the start of a path of vLLM's API, such as /v1, without a slash at "
        "the end",
    ),
]
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
Argument = Annotated[str, Field(min_length=3, max_length=2048)]
Resources = Annotated[dict[LabelKey, Quantity], Field(max_length=16)]


# --- registry ------------------------------------------------------------------------------------------------------


class SecretKeyRef(ApiModel):
    """A key of a Secret in this namespace."""

    name: Name = Field(description="Name of the Secret.")
    key: Key = Field(description="Key in the Secret.")


class ConfigMapKeyRef(ApiModel):
    """A key of a ConfigMap in this namespace."""

    name: Name = Field(description="Name of the ConfigMap.")
    key: Key = Field(description="Key in the ConfigMap.")


class Auth(ApiModel):
    """Where the W&B API key is."""

    secret_key_ref: SecretKeyRef = Field(
        description="The Secret that holds the W&B API key. It must carry the label "
        "modelsync.dev/wandb-credential: 'true'."
    )


class CABundle(ApiModel):
    """Where the certificates of a private authority are."""

    config_map_key_ref: ConfigMapKeyRef = Field(description="The ConfigMap that holds them, in PEM.")


class Registry(ApiModel):
    """The W&B server and the credential for it."""

    base_url: Annotated[
        str,
        Field(min_length=1, max_length=253),
        Matches(
            _BASE_URL, "must be the URL of a W&B server without user, query or fragment, such as https://api.wandb.ai"
        ),
    ] = Field(
        alias="baseURL",
        description="URL of the W&B server, such as https://api.wandb.ai. The administrator says which are allowed.",
    )
    auth: Auth = Field(description="Credential for the server.")
    ca_bundle: CABundle | None = Field(
        None, description="Certificates to trust beside the public ones, for a server with a private authority."
    )
    poll_interval: Annotated[timedelta, Between("1s", "1h")] = Field(
        timedelta(seconds=30), description="How often the registry is asked when no webhook has told of a change."
    )


# --- hold ----------------------------------------------------------------------------------------------------------


class HoldAction(StrEnum):
    """What a hold on the version that serves does."""

    FALLBACK = "Fallback"
    BLOCK = "Block"


class Hold(ApiModel):
    """Marks in the registry that forbid a version to serve. They add to the administrator's and never weaken them."""

    tags: Annotated[list[Tag], Field(max_length=16), Unique()] = Field(
        default_factory=list,
        description="Tags that hold: on a version; on a collection, all of it; on a collection as `<tag> v7`, that "
        "version.",
    )
    aliases: Annotated[list[AliasPattern], Field(max_length=16), Unique()] = Field(
        default_factory=list,
        description="Aliases that hold the version they are on. `*` and `?` stand for any characters, since an alias "
        "can be on one version of a collection only.",
    )
    action: HoldAction = Field(
        HoldAction.FALLBACK,
        description="When the version that serves is held: Fallback serves the newest promoted version that is not "
        "held, and nothing if there is none; Block serves nothing. The administrator may demand Block.",
    )


# --- serving -------------------------------------------------------------------------------------------------------


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
    base_model_ref: ModelRef | None = Field(
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

_SERVING_RULES = (
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


# --- rollout -------------------------------------------------------------------------------------------------------


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


# --- traffic -------------------------------------------------------------------------------------------------------


DEFAULT_PATHS = ("/v1",)


class ParentRef(ApiModel):
    """A Gateway, or one of its listeners."""

    name: Name = Field(description="Name of the Gateway.")
    namespace: Namespace | None = Field(
        None, description="Namespace of the Gateway, whose allowedRoutes must consent. Default: this one."
    )
    section_name: Name | None = Field(None, description="Name of the listener. Default: all that allow it.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port of the listeners. Default: every port."
    )


class Gateway(ApiModel):
    """The Gateways that bring the requests."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8), ordered()] = Field(
        description="Gateways that carry the route."
    )
    hostnames: Annotated[list[Hostname], Field(max_length=16), Unique()] = Field(
        default_factory=list, description="Host names of the route. Default: those of the listener."
    )
    paths: Annotated[list[Path], Field(min_length=1, max_length=6), Unique()] = Field(
        default_factory=lambda: [*DEFAULT_PATHS],
        description="Paths that are published, each with all below it; nothing else of vLLM can be reached through the "
        "gateway. Default: /v1.",
    )
    request_timeout: Annotated[timedelta, Between("0s", "24h")] = Field(
        timedelta(0),
        description="Longest time for a request, its stream included. 0s: none, so that long streams live also on "
        "gateways that cut them by default (Envoy: after 15 s).",
    )


class SessionAffinity(ApiModel):
    """Clients stay with the version that answered them first."""

    max_age: Annotated[timedelta, Between("10s", "24h", whole_seconds=True)] = Field(
        timedelta(hours=1), description="How long a client stays, counted from that first answer."
    )


class Traffic(ApiModel):
    """How requests reach the versions."""

    gateway: Gateway | None = Field(
        None,
        description="Route by Gateway API, which steps need. Without it the Service that has the ModelDeployment's "
        "name selects one revision.",
    )
    settle: Annotated[timedelta, Between("0s", "60s")] = Field(
        timedelta(seconds=5),
        description="How long the gateway's data plane may lag behind the route that it has accepted.",
    )
    test_header: HeaderName | None = Field(
        None,
        description="Name of a request header that names a revision (`v7-3fa9c1d2`), or its version (`v7`; of several "
        "revisions of one version the stable's), and reaches it at any weight, as long as it is ready and not on hold: "
        "the stable, what is being rolled out, and what is kept warm. Other values are ignored; answers name their "
        "revision in X-Model-Revision. Default: none.",
    )
    session_affinity: SessionAffinity | None = Field(
        None,
        description="During a canary, clients that keep cookies stay with the version that answered them first, stable "
        "or canary. The weights then share out new clients only: the share of all requests follows later, and requests "
        "without cookies go by the weights as ever. Default: every request goes by the weights.",
    )


TEST_HEADER_MESSAGE = "testHeader needs traffic.gateway; set spec.traffic.gateway, or leave spec.traffic.testHeader out"
SESSIONS_MESSAGE = (
    "sessionAffinity needs traffic.gateway; set spec.traffic.gateway, or leave spec.traffic.sessionAffinity out"
)


# --- the whole -----------------------------------------------------------------------------------------------------


class ModelDeploymentSpec(ApiModel):
    """What is to be served, and how a new version takes over."""

    model_ref: ModelRef = Field(
        description="The W&B artifact to serve, entity/project/collection:alias. Names may hold spaces. The alias is "
        "what deploys: moving it in the registry rolls out the version it moves to. `:v12` pins a version."
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        1,
        description="Pods that serve. Leave it out when an autoscaler owns it; the operator never writes it. 0 is "
        "idle: no pod runs, clients get 503, nothing moves; from 0 the stable starts first, without steps.",
    )
    registry: Registry = Field(description="The W&B server and the credential for it.")
    hold: Hold = Field(
        default_factory=Hold,
        description="Marks in the registry that forbid a version to serve, beside the administrator's.",
    )
    serving: Annotated[Serving, cel(*_SERVING_RULES)] = Field(default_factory=Serving, description="How vLLM runs.")
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
