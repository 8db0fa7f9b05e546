"""What the operator says of a ModelDeployment: `.status`.

*Intent* (`target`, `canary`, `promoted`, `failed`, `holds`, `previous`, `handled`) is written before anything acts on
it and is enough to go on after a crash; all else is *observation*. A status from a newer operator may hold more
fields: they are ignored, never refused, because a status that cannot be read would stop a hold.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from modelsync.api.base import Short, StatusModel, Unique, ordered
from modelsync.api.conditions import Condition
from modelsync.api.hold import HoldSource
from modelsync.api.requests import HandledStatus

Message = Annotated[str, Field(max_length=1024)]
RevisionName = Annotated[str, Field(max_length=64)]
Share = Annotated[int, Field(ge=0, le=100)]


class Phase(StrEnum):
    """Derived from everything else, for people and `kubectl wait`; conditions say more."""

    PENDING = "Pending"
    RESOLVING = "Resolving"
    PULLING = "Pulling"
    STARTING = "Starting"
    CANARY = "Canary"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    HEALTHY = "Healthy"
    IDLE = "Idle"
    ROLLING_BACK = "RollingBack"
    ON_HOLD = "OnHold"
    BLOCKED = "Blocked"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"
    STALLED = "Stalled"


class RegistryStatus(StatusModel):
    """The administrator's default registry, as far as the spec's author has to do with it."""

    base_url: Annotated[Short, Field(alias="baseURL", description="URL of the W&B server.")]
    secret_name: Annotated[Short, Field(description="The Secret of this namespace that has to hold the W&B API key.")]
    secret_key: Annotated[Short, Field(description="The key in that Secret.")]


class PartStatus(StatusModel):
    """What a reference beside the model's named when the registry last answered."""

    part: Annotated[Short, Field(description="Which: base, adapter/<name> or artifact/<name>, as in spec.serving.")]
    alias: Annotated[Short, Field(description="The alias that was asked for.")]
    collection: Annotated[Short, Field(description="entity/project/collection that the alias belongs to.")]
    version: Annotated[Short, Field(description="The version that the alias names.")]
    artifact_id: Annotated[Short, Field(alias="artifactID", description="The registry's id of the version.")]
    digest: Annotated[Short, Field(description="Digest of the artifact's manifest.")]
    size: Annotated[int | None, Field(ge=0, description="Bytes of all files.")] = None


class ResolvedStatus(StatusModel):
    """What the alias named when the registry last answered. Changes only when the answer does."""

    alias: Annotated[Short, Field(description="The alias that was asked for.")]
    collection: Annotated[Short, Field(description="entity/project/collection that the alias belongs to.")]
    version: Annotated[Short, Field(description="The version that the alias names, such as v7.")]
    source_version: Annotated[
        Short | None, Field(description="Where a registry version was linked from, entity/project/collection:version.")
    ] = None
    artifact_id: Annotated[Short, Field(alias="artifactID", description="The registry's id of the version.")]
    digest: Annotated[Short, Field(description="Digest of the artifact's manifest.")]
    size: Annotated[int | None, Field(ge=0, description="Bytes of all files.")] = None
    tags: Annotated[tuple[Short, ...], Field(max_length=64, description="Tags on the version."), ordered()] = ()
    first_seen: Annotated[datetime, Field(description="When the alias was first seen to name this version.")]
    revision: Annotated[RevisionName, Field(description="The revision that this version makes with today's spec.")]
    content: Annotated[Short, Field(description="Identifies what was resolved, apart from the spec.")]
    parts: Annotated[
        tuple[PartStatus, ...],
        Field(max_length=64, description="What is served with the model, as the registry last named it."),
        Unique(("part",)),
    ] = ()


class TargetStatus(StatusModel):
    """A move without steps: the first version, a way back, a fallback from a hold, or a recovery."""

    revision: Annotated[RevisionName, Field(description="Where the traffic is to go.")]
    reason: Annotated[
        Literal["First", "Rollback", "Fallback", "Recovery"], Field(description="Why it goes without steps.")
    ]
    started_at: Annotated[datetime, Field(description="When the move began.")]


class PauseDurationStatus(StatusModel):
    """How long a pause lasts; without a duration, until a person promotes."""

    duration: Annotated[Short | None, Field(description="Such as 10m.")] = None


class HeaderMatchStatus(StatusModel):
    """A request header and what it has to say."""

    name: Annotated[Short, Field(description="Name of the header.")]
    value: Annotated[Message, Field(description="Its value.")]
    regex: Annotated[bool, Field(description="The value is a regular expression.")] = False


Match = Annotated[tuple[HeaderMatchStatus, ...], Field(max_length=64), ordered()]


class StepStatus(StatusModel):
    """One step of the snapshot: exactly one of its fields is set."""

    match: Annotated[Match | None, Field(description="Requests with any one of these headers.")] = None
    set_weight: Annotated[Share | None, Field(description="Per cent of the traffic.")] = None
    pause: Annotated[PauseDurationStatus | None, Field(description="A wait.")] = None


class CanaryStatus(StatusModel):
    """A move by steps."""

    revision: Annotated[RevisionName, Field(description="The revision that is being rolled out.")]
    step: Annotated[int, Field(ge=0, description="Index of the current step; the number of steps when all are done.")]
    weight: Annotated[Share, Field(description="Per cent of the traffic that the route is to give it now.")]
    match: Annotated[
        Match, Field(description="Requests with any one of these headers are to go to it, whatever its weight.")
    ] = ()
    steps: Annotated[
        tuple[StepStatus, ...],
        Field(max_length=64, description="The steps as the spec had them when it began."),
        ordered(),
    ] = ()
    started_at: Annotated[datetime, Field(description="When the rollout began.")]
    step_started_at: Annotated[
        datetime | None, Field(description="When the weight had settled: the clock of a pause runs from here.")
    ] = None
    look_after: Annotated[
        datetime | None,
        Field(description="More traffic needs an answer of the registry that was asked for later than this."),
    ] = None
    flapped: Annotated[
        bool, Field(description="It lost all pods while it had traffic, and waits until it has been ready for a while.")
    ] = False
    promoted_by: Annotated[Short | None, Field(description="Who skipped the steps that were left.")] = None


class FailureStatus(StatusModel):
    """A revision that is not tried again until its alias has left it, or a person says retry."""

    revision: Annotated[RevisionName, Field(description="The revision that failed.")]
    reason: Annotated[Short, Field(description="Why, as one word.")]
    message: Annotated[Message, Field(description="Why, for a person.")] = ""
    at: Annotated[datetime, Field(description="When it was seen to fail.")]


class HoldStatus(StatusModel):
    """A hold mark, latched until the registry positively shows it gone."""

    digest: Annotated[Short, Field(description="The content that must not serve, whatever revision holds it.")]
    collection: Annotated[Short, Field(description="entity/project/collection that carries the mark.")]
    version: Annotated[Short, Field(description="The version that is marked.")]
    via: Annotated[HoldSource, Field(description="What kind of mark forbids it.")]
    name: Annotated[Short, Field(description="The tag or alias.")]
    since: Annotated[datetime, Field(description="When the registry was asked that first showed it.")]
    server: Annotated[
        Short | None, Field(description="URL of the W&B server that showed it, and alone can show it gone.")
    ] = None


class SilencedStatus(StatusModel):
    """What the pods of a held revision acknowledged: from when on no byte of it has left."""

    revision: Annotated[RevisionName, Field(description="The revision that was silenced.")]
    held_since: Annotated[datetime, Field(description="When the registry was asked that first showed the hold.")]
    at: Annotated[datetime, Field(description="When its pods were first told.")]
    last_byte: Annotated[
        datetime | None,
        Field(description="When the last byte of its answers left, by the operator's clock; empty if none had."),
    ] = None
    within: Annotated[
        Short | None, Field(description="From heldSince to lastByte, such as 210ms; 0s when it was silent before.")
    ] = None
    pods: Annotated[int, Field(ge=0, description="Pods that were told.")]
    acknowledged: Annotated[int, Field(ge=0, description="Pods of which every server process acknowledged.")]


class PreviousStatus(StatusModel):
    """The stable before, kept warm for a quick way back."""

    revision: Annotated[RevisionName, Field(description="The revision that is kept warm.")]
    until: Annotated[datetime, Field(description="When its pods go.")]


class ExamStatus(StatusModel):
    """How a version's own exam (`modelsync/golden.jsonl` in its artifact) stands."""

    revision: Annotated[RevisionName, Field(description="The revision whose pods took it.")]
    outcome: Annotated[
        Literal["Running", "Passed", "Failed", "Invalid"],
        Field(description="Failed: answers are not as expected. Invalid: the file cannot be read."),
    ]
    passed: Annotated[int, Field(ge=0, description="Answers that are as expected.")] = 0
    total: Annotated[int, Field(ge=0, description="Questions.")] = 0
    duration: Annotated[Short | None, Field(description="How long it took, such as 1s500ms.")] = None
    message: Annotated[Message | None, Field(description="What was wanted and what came, of the first wrong line.")] = (
        None
    )


class TrafficStatus(StatusModel):
    """One backend of the live route, as read back; without a gateway, what the plain Service selects."""

    revision: Annotated[RevisionName, Field(description="The revision, or `blocked`: nothing, clients get 503.")]
    version: Annotated[Short | None, Field(description="Its version.")] = None
    weight: Annotated[
        int,
        Field(ge=0, le=1_000_000, description="Per cent, or what somebody wrote; the blocked Service has weight 1."),
    ]
    rules: Annotated[
        tuple[Message, ...],
        Field(max_length=16, description="Requests that go to it whatever the weights."),
        ordered(),
    ] = ()


class FallbackStatus(StatusModel):
    """Where a hold on the stable would send the traffic now."""

    revision: Annotated[RevisionName | None, Field(description="The revision; without one a hold blocks.")] = None
    ready: Annotated[bool, Field(description="A pod of it is ready: the way is immediate.")]
    reason: Annotated[Message, Field(description="Why it is so.")]


class PodStatus(StatusModel):
    """One pod, in the few lines that a pager reader needs."""

    name: Annotated[Short, Field(description="Name of the pod.")]
    revision: Annotated[RevisionName, Field(description="What it serves.")]
    node: Annotated[Short | None, Field(description="Where it runs.")] = None
    state: Annotated[Short, Field(description="Pending, Pulling, Starting, Ready, Failing or Terminating.")]
    reason: Annotated[Short | None, Field(description="Kubernetes' word for what is wrong.")] = None
    restarts: Annotated[int, Field(ge=0, description="Restarts of its containers.")] = 0
    image_id: Annotated[Short | None, Field(alias="imageID", description="The image as it runs.")] = None
    last_log: Annotated[Message | None, Field(description="The last lines of a container that ended.")] = None


class WaitingStatus(StatusModel):
    """What has to happen before something moves."""

    reason: Annotated[Short, Field(description="For what, as one word.")]
    message: Annotated[Message, Field(description="For what, for a person.")]
    since: Annotated[datetime, Field(description="Since when it waits for this.")]
    until: Annotated[datetime | None, Field(description="When it ends by itself, where that is known.")] = None
    who: Annotated[
        Literal["modelsync", "Kubernetes", "registry", "gateway", "person"], Field(description="Who ends it.")
    ]
    command: Annotated[Message | None, Field(description="What a person can type to end it.")] = None


class HistoryEntry(StatusModel):
    """One rollout, or one reign as the stable."""

    revision: Annotated[RevisionName, Field(description="The revision.")]
    version: Annotated[Short | None, Field(description="Its version.")] = None
    digest: Annotated[Short | None, Field(description="Digest of its model.")] = None
    changed: Annotated[
        Message | None, Field(description="What differs from the version that served before, if more than the model.")
    ] = None
    from_: Annotated[datetime, Field(alias="from", description="When it began.")]
    to: Annotated[datetime | None, Field(description="When it ended; empty for the stable.")] = None
    outcome: Annotated[
        Literal["Promoted", "TakenBack", "Superseded", "Failed", "Held"],
        Field(description="Promoted: it became the stable at `from`. Else how its rollout ended."),
    ]
    reason: Annotated[Short, Field(description="Why, as one word.")]
    trigger: Annotated[Literal["Alias", "Spec", "Hold", "Person", "Pods"], Field(description="What made it happen.")]


class ModelDeploymentStatus(StatusModel):
    """Observed state and persisted intent."""

    observed_generation: Annotated[int | None, Field(ge=0, description="The generation that this speaks of.")] = None
    phase: Annotated[Phase | None, Field(description="One word for people.")] = None
    registry: Annotated[
        RegistryStatus | None,
        Field(description="The administrator's default registry, where spec.registry is left out and it is asked."),
    ] = None
    resolved: Annotated[ResolvedStatus | None, Field(description="What the alias names.")] = None
    target: Annotated[TargetStatus | None, Field(description="Intent: a move without steps.")] = None
    canary: Annotated[CanaryStatus | None, Field(description="Intent: a move by steps.")] = None
    promoted: Annotated[
        tuple[RevisionName, ...],
        Field(max_length=128, description="Intent: revisions that were promoted, newest last; the last is the stable."),
        ordered(),
    ] = ()
    failed: Annotated[
        tuple[FailureStatus, ...], Field(max_length=64, description="Revisions that are not tried again."), ordered()
    ] = ()
    holds: Annotated[
        tuple[HoldStatus, ...],
        Field(max_length=256, description="Holds seen and not yet seen to be gone."),
        Unique(("digest", "collection", "version", "via", "name")),
    ] = ()
    silenced: Annotated[
        tuple[SilencedStatus, ...],
        Field(max_length=16, description="Held revisions, until they serve again: when their last byte left."),
        Unique(("revision",)),
    ] = ()
    previous: Annotated[PreviousStatus | None, Field(description="Intent: the stable before, kept warm.")] = None
    handled: Annotated[HandledStatus | None, Field(description="Requests of a person that were acted on.")] = None
    exams: Annotated[
        tuple[ExamStatus, ...],
        Field(max_length=8, description="The own exams of what serves, moves or failed, where they bring one."),
        Unique(("revision",)),
    ] = ()
    traffic: Annotated[
        tuple[TrafficStatus, ...], Field(max_length=16, description="As read back from the live route."), ordered()
    ] = ()
    fallback: Annotated[FallbackStatus | None, Field(description="Where a hold would send the traffic now.")] = None
    pods: Annotated[tuple[PodStatus, ...], Field(max_length=64, description="The pods, worst first."), ordered()] = ()
    waiting: Annotated[WaitingStatus | None, Field(description="Set whenever nothing moves.")] = None
    history: Annotated[
        tuple[HistoryEntry, ...], Field(max_length=64, description="What happened, newest last."), ordered()
    ] = ()
    replicas: Annotated[
        int | None,
        Field(ge=0, description="Pods wanted of what shares the load: the stable, and a canary that has traffic."),
    ] = None
    ready_replicas: Annotated[int | None, Field(ge=0, description="Ready ones of them.")] = None
    selector: Annotated[
        Short | None, Field(description="Label selector of the pods that `replicas` counts, for autoscalers.")
    ] = None
    url: Annotated[Short | None, Field(description="Where clients reach it.")] = None
    conditions: Annotated[
        tuple[Condition, ...], Field(max_length=32, description="Ready, Available and the rest."), Unique(("type",))
    ] = ()
