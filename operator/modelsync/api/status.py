"""The status of a ModelDeployment.

*Intent* (`target`, `canary`, `promoted`, `failed`, `holds`, `previous`, `handled`) is written before anything acts on
it and is sufficient to continue after a crash; everything else is *observation*. Unknown fields, which a newer operator
may have written, must be ignored and never rejected: a status that cannot be read would disable a hold.
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
    """Summary of the whole status, for users and `kubectl wait`. The conditions have the details."""

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
    """The parts of the administrator's default registry that the spec's author needs to know."""

    base_url: Annotated[Short, Field(alias="baseURL", description="URL of the W&B server.")]
    secret_name: Annotated[Short, Field(description="The Secret in this namespace that must contain the W&B API key.")]
    secret_key: Annotated[Short, Field(description="The key in that Secret.")]


class PartStatus(StatusModel):
    """What a reference other than modelRef named when the registry last answered."""

    part: Annotated[
        Short, Field(description="Which part: base, adapter/<name> or artifact/<name>, as in spec.serving.")
    ]
    alias: Annotated[Short, Field(description="The alias that was resolved.")]
    collection: Annotated[Short, Field(description="entity/project/collection that the alias belongs to.")]
    version: Annotated[Short, Field(description="The version that the alias names.")]
    artifact_id: Annotated[Short, Field(alias="artifactID", description="The registry's id of the version.")]
    digest: Annotated[Short, Field(description="Digest of the artifact's manifest.")]
    size: Annotated[int | None, Field(ge=0, description="Bytes of all files.")] = None


class ResolvedStatus(StatusModel):
    """What the alias named when the registry last answered. Changes only when the answer changes."""

    alias: Annotated[Short, Field(description="The alias that was resolved.")]
    collection: Annotated[Short, Field(description="entity/project/collection that the alias belongs to.")]
    version: Annotated[Short, Field(description="The version that the alias names, such as v7.")]
    source_version: Annotated[
        Short | None,
        Field(description="For a registry version: the version it is linked to, entity/project/collection:version."),
    ] = None
    artifact_id: Annotated[Short, Field(alias="artifactID", description="The registry's id of the version.")]
    digest: Annotated[Short, Field(description="Digest of the artifact's manifest.")]
    size: Annotated[int | None, Field(ge=0, description="Bytes of all files.")] = None
    tags: Annotated[tuple[Short, ...], Field(max_length=64, description="Tags on the version."), ordered()] = ()
    first_seen: Annotated[datetime, Field(description="When the alias was first observed to name this version.")]
    revision: Annotated[RevisionName, Field(description="The revision made from this version and the current spec.")]
    content: Annotated[Short, Field(description="Hash of what was resolved, without the spec.")]
    parts: Annotated[
        tuple[PartStatus, ...],
        Field(max_length=64, description="The other artifacts that are served with the model, as last resolved."),
        Unique(("part",)),
    ] = ()


class TargetStatus(StatusModel):
    """A switch without steps: the first version, a rollback, a fallback after a hold, or a recovery."""

    revision: Annotated[RevisionName, Field(description="The revision that is to get the traffic.")]
    reason: Annotated[Literal["First", "Rollback", "Fallback", "Recovery"], Field(description="Why it has no steps.")]
    started_at: Annotated[datetime, Field(description="When the switch started.")]


class PauseDurationStatus(StatusModel):
    """How long a pause lasts. Without a duration, until a user promotes."""

    duration: Annotated[Short | None, Field(description="Duration, such as 10m.")] = None


class HeaderMatchStatus(StatusModel):
    """A request header and the value that it must have."""

    name: Annotated[Short, Field(description="Name of the header.")]
    value: Annotated[Message, Field(description="Its value.")]
    regex: Annotated[bool, Field(description="Whether the value is a regular expression.")] = False


Match = Annotated[tuple[HeaderMatchStatus, ...], Field(max_length=64), ordered()]


class StepStatus(StatusModel):
    """One step of the copied steps. Exactly one field is set."""

    match: Annotated[Match | None, Field(description="Requests with any of these headers.")] = None
    set_weight: Annotated[Share | None, Field(description="Share of the traffic, in percent.")] = None
    pause: Annotated[PauseDurationStatus | None, Field(description="A pause.")] = None


class CanaryStatus(StatusModel):
    """A rollout with steps."""

    revision: Annotated[RevisionName, Field(description="The revision that is being rolled out.")]
    step: Annotated[int, Field(ge=0, description="Index of the current step; the number of steps when all are done.")]
    weight: Annotated[Share, Field(description="Share of the traffic that the route should give it now, in percent.")]
    match: Annotated[Match, Field(description="Requests with any of these headers go to it, whatever its weight.")] = ()
    steps: Annotated[
        tuple[StepStatus, ...],
        Field(max_length=64, description="The steps, copied from the spec when the rollout started."),
        ordered(),
    ] = ()
    started_at: Annotated[datetime, Field(description="When the rollout started.")]
    step_started_at: Annotated[
        datetime | None, Field(description="When the gateway had applied the weight. A pause starts at this time.")
    ] = None
    look_after: Annotated[
        datetime | None,
        Field(description="The weight is raised only after a registry poll that started later than this."),
    ] = None
    flapped: Annotated[
        bool,
        Field(
            description="It lost all ready pods while it had traffic, and waits until it has been ready for a while."
        ),
    ] = False
    promoted_by: Annotated[Short | None, Field(description="Who skipped the remaining steps.")] = None


class FailureStatus(StatusModel):
    """A revision that is not tried again until its alias has moved away from it or a user requests a retry."""

    revision: Annotated[RevisionName, Field(description="The revision that failed.")]
    reason: Annotated[Short, Field(description="Why, as one CamelCase word.")]
    message: Annotated[Message, Field(description="Why, in a sentence.")] = ""
    at: Annotated[datetime, Field(description="When the failure was observed.")]


class HoldStatus(StatusModel):
    """A hold mark. It stays until the registry positively shows that the mark was removed."""

    digest: Annotated[Short, Field(description="Digest of the content that must not serve, in whatever revision.")]
    collection: Annotated[Short, Field(description="entity/project/collection that has the mark.")]
    version: Annotated[Short, Field(description="The version that is marked.")]
    via: Annotated[HoldSource, Field(description="Kind of the mark.")]
    name: Annotated[Short, Field(description="Name of the tag or alias.")]
    since: Annotated[datetime, Field(description="When the poll that first found the mark was sent.")]
    server: Annotated[
        Short | None,
        Field(description="URL of the W&B server that has the mark. Only this server can show that it was removed."),
    ] = None


class SilencedStatus(StatusModel):
    """What the pods of a held revision acknowledged: since when they have sent no data."""

    revision: Annotated[RevisionName, Field(description="The revision that was silenced.")]
    held_since: Annotated[datetime, Field(description="When the poll that first found the hold was sent.")]
    at: Annotated[datetime, Field(description="When its pods were first ordered to stop answering.")]
    last_byte: Annotated[
        datetime | None,
        Field(
            description="When it sent the last byte of a response, by the operator's clock. Empty if it had sent none."
        ),
    ] = None
    within: Annotated[
        Short | None, Field(description="Time from heldSince to lastByte, such as 210ms. 0s if it had stopped before.")
    ] = None
    pods: Annotated[int, Field(ge=0, description="Number of pods that were ordered to stop answering.")]
    acknowledged: Annotated[int, Field(ge=0, description="Number of pods in which every server process acknowledged.")]


class PreviousStatus(StatusModel):
    """The previous stable revision, kept warm for a fast rollback."""

    revision: Annotated[RevisionName, Field(description="The revision that is kept warm.")]
    until: Annotated[datetime, Field(description="When its pods are removed.")]


class ExamStatus(StatusModel):
    """State of a version's own exam (`modelsync/golden.jsonl` in its artifact)."""

    revision: Annotated[RevisionName, Field(description="The revision whose pods took the exam.")]
    outcome: Annotated[
        Literal["Running", "Passed", "Failed", "Invalid"],
        Field(description="Failed: some answers are not as expected. Invalid: the file cannot be read."),
    ]
    passed: Annotated[int, Field(ge=0, description="Number of answers that are as expected.")] = 0
    total: Annotated[int, Field(ge=0, description="Number of questions.")] = 0
    duration: Annotated[Short | None, Field(description="How long it took, such as 1s500ms.")] = None
    message: Annotated[Message | None, Field(description="Expected and actual answer of the first wrong line.")] = None


class TrafficStatus(StatusModel):
    """One backend of the live route. Without a gateway, the revision that the Service selects."""

    revision: Annotated[RevisionName, Field(description="The revision, or `blocked` if clients get 503.")]
    version: Annotated[Short | None, Field(description="Its version.")] = None
    weight: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Weight in percent, or as edited by someone else. The blocked Service has weight 1.",
        ),
    ]
    rules: Annotated[
        tuple[Message, ...],
        Field(max_length=16, description="Requests that go to it, whatever the weights."),
        ordered(),
    ] = ()


class FallbackStatus(StatusModel):
    """The revision that would serve if the stable were put on hold now."""

    revision: Annotated[
        RevisionName | None, Field(description="The revision. Without one, a hold blocks all traffic.")
    ] = None
    ready: Annotated[bool, Field(description="Whether one of its pods is ready, so that it can serve immediately.")]
    reason: Annotated[Message, Field(description="What a hold on the stable would do, and why.")]


class PodStatus(StatusModel):
    """Summary of one pod."""

    name: Annotated[Short, Field(description="Name of the pod.")]
    revision: Annotated[RevisionName, Field(description="The revision that it serves.")]
    node: Annotated[Short | None, Field(description="Node that it runs on.")] = None
    state: Annotated[Short, Field(description="Pending, Pulling, Starting, Ready, Failing or Terminating.")]
    reason: Annotated[Short | None, Field(description="Kubernetes' reason for the problem, if there is one.")] = None
    restarts: Annotated[int, Field(ge=0, description="Number of restarts of its containers.")] = 0
    image_id: Annotated[Short | None, Field(alias="imageID", description="ID of the model server's image.")] = None
    last_log: Annotated[Message | None, Field(description="The last log lines of a container that failed.")] = None


class WaitingStatus(StatusModel):
    """What must happen before the ModelDeployment can become Ready."""

    reason: Annotated[Short, Field(description="What it waits for, as one CamelCase word.")]
    message: Annotated[Message, Field(description="What it waits for, in a sentence.")]
    since: Annotated[datetime, Field(description="When the wait started.")]
    until: Annotated[datetime | None, Field(description="When the wait ends automatically, if known.")] = None
    who: Annotated[
        Literal["modelsync", "Kubernetes", "registry", "gateway", "person"], Field(description="Who can end the wait.")
    ]
    command: Annotated[Message | None, Field(description="A command that ends the wait.")] = None


class HistoryEntry(StatusModel):
    """One rollout, or one period as the stable."""

    revision: Annotated[RevisionName, Field(description="The revision.")]
    version: Annotated[Short | None, Field(description="Its version.")] = None
    digest: Annotated[Short | None, Field(description="Digest of its model.")] = None
    changed: Annotated[
        Message | None, Field(description="What differs from the revision that served before, if more than the model.")
    ] = None
    from_: Annotated[datetime, Field(alias="from", description="When it started.")]
    to: Annotated[datetime | None, Field(description="When it ended; empty for the stable.")] = None
    outcome: Annotated[
        Literal["Promoted", "TakenBack", "Superseded", "Failed", "Held"],
        Field(description="Promoted: it became the stable at `from`. Otherwise, how its rollout ended."),
    ]
    reason: Annotated[Short, Field(description="Why, as one CamelCase word.")]
    trigger: Annotated[Literal["Alias", "Spec", "Hold", "Person", "Pods"], Field(description="What caused it.")]


class ModelDeploymentStatus(StatusModel):
    """Observed state and persisted intent."""

    observed_generation: Annotated[
        int | None, Field(ge=0, description="The generation that this status is based on.")
    ] = None
    phase: Annotated[Phase | None, Field(description="Summary in one word.")] = None
    registry: Annotated[
        RegistryStatus | None,
        Field(description="The administrator's default registry, if it is used because spec.registry is not set."),
    ] = None
    resolved: Annotated[ResolvedStatus | None, Field(description="What the alias names.")] = None
    target: Annotated[TargetStatus | None, Field(description="Intent: a switch without steps.")] = None
    canary: Annotated[CanaryStatus | None, Field(description="Intent: a rollout with steps.")] = None
    promoted: Annotated[
        tuple[RevisionName, ...],
        Field(max_length=128, description="Intent: promoted revisions, newest last. The last one is the stable."),
        ordered(),
    ] = ()
    failed: Annotated[
        tuple[FailureStatus, ...],
        Field(max_length=64, description="Intent: revisions that failed and are not tried again."),
        ordered(),
    ] = ()
    holds: Annotated[
        tuple[HoldStatus, ...],
        Field(max_length=256, description="Intent: holds that were found and not yet seen to be removed."),
        Unique(("digest", "collection", "version", "via", "name")),
    ] = ()
    holds_known_at: Annotated[
        datetime | None,
        Field(
            description="When the hold marks of what serves were last read, while that is uncertain: the registry does "
            "not answer, or the operator has just started. Empty while they are read regularly."
        ),
    ] = None
    silenced: Annotated[
        tuple[SilencedStatus, ...],
        Field(
            max_length=16,
            description="When held revisions sent their last byte. An entry stays until its revision serves again.",
        ),
        Unique(("revision",)),
    ] = ()
    previous: Annotated[PreviousStatus | None, Field(description="Intent: the previous stable, kept warm.")] = None
    handled: Annotated[
        HandledStatus | None, Field(description="Intent: users' requests that were executed or refused.")
    ] = None
    exams: Annotated[
        tuple[ExamStatus, ...],
        Field(
            max_length=8, description="Exams of the revisions that serve, are rolled out or failed, if they have one."
        ),
        Unique(("revision",)),
    ] = ()
    traffic: Annotated[
        tuple[TrafficStatus, ...], Field(max_length=16, description="Backends of the live route."), ordered()
    ] = ()
    fallback: Annotated[
        FallbackStatus | None, Field(description="What would serve if the stable were put on hold now.")
    ] = None
    pods: Annotated[tuple[PodStatus, ...], Field(max_length=64, description="The pods, worst first."), ordered()] = ()
    waiting: Annotated[WaitingStatus | None, Field(description="What it waits for, while it is not Ready.")] = None
    history: Annotated[
        tuple[HistoryEntry, ...], Field(max_length=64, description="What happened, newest last."), ordered()
    ] = ()
    replicas: Annotated[
        int | None,
        Field(
            ge=0, description="Wanted pods of the revisions that get traffic: the stable, and a canary with traffic."
        ),
    ] = None
    ready_replicas: Annotated[int | None, Field(ge=0, description="Ready pods of these revisions.")] = None
    selector: Annotated[
        Short | None, Field(description="Label selector of the pods that `replicas` counts, for autoscalers.")
    ] = None
    url: Annotated[Short | None, Field(description="URL for clients.")] = None
    conditions: Annotated[
        tuple[Condition, ...],
        Field(max_length=32, description="Conditions such as Ready and Available."),
        Unique(("type",)),
    ] = ()
