"""What the commands know of a ModelDeployment: its status as types, and what follows from it for people.

Read only. A newer operator may say more than this reads; what it does not know is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from modelsync.api import names
from modelsync.api.conditions import Condition, ConditionType, find
from modelsync.api.parts import MODEL, part_label
from modelsync.api.problems import explain
from modelsync.api.status import FailureStatus, HoldStatus, ModelDeploymentStatus, PodStatus
from modelsync.kubectl.cluster.lookup import one
from modelsync.kubectl.cluster.objects import Cluster, Object, Path
from modelsync.kubectl.cluster.permissions import asking_for
from modelsync.kubectl.errors import ForbiddenError, PluginError

if TYPE_CHECKING:
    from modelsync.resources.record import Record

Revision = str


@dataclass(frozen=True)
class View:
    """One ModelDeployment. `records` are what the user may read of its revisions' records."""

    raw: Object
    status: ModelDeploymentStatus
    records: Mapping[Revision, "Record"] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.raw["metadata"]["namespace"])

    @property
    def created(self) -> datetime:
        return datetime.fromisoformat(str(self.raw["metadata"]["creationTimestamp"]).replace("Z", "+00:00"))

    @property
    def deleted(self) -> bool:
        """Somebody has deleted it, and it is on its way out."""
        return bool(self.raw["metadata"].get("deletionTimestamp"))

    @property
    def spec(self) -> Mapping[str, Any]:
        """As it is stored, without defaults."""
        found: Mapping[str, Any] = self.raw.get("spec") or {}
        return found

    @property
    def resource(self) -> str:
        """As kubectl names it: `modeldeployment.modelsync.dev/chat`."""
        return f"{names.SINGULAR}.{names.GROUP}/{self.name}"

    @property
    def seen(self) -> bool:
        """The operator has looked at this spec."""
        return (self.status.observed_generation or 0) >= int(self.raw["metadata"].get("generation") or 0)

    @property
    def suspended(self) -> bool:
        return bool(self.spec.get("suspend"))

    @property
    def stable(self) -> Revision | None:
        """The one that was promoted last."""
        return self.status.promoted[-1] if self.status.promoted else None

    @property
    def moving(self) -> Revision | None:
        """What is being rolled out, gone back to or started."""
        move = self.status.canary or self.status.target
        return move.revision if move is not None else None

    @property
    def named(self) -> Revision | None:
        """What the alias makes with today's spec."""
        return self.status.resolved.revision if self.status.resolved is not None else None

    def condition(self, kind: ConditionType) -> Condition | None:
        """One condition, if it is there."""
        return find(self.status.conditions, kind)

    def says(self, kind: ConditionType) -> str:
        """Its status; empty when it is absent."""
        found = self.condition(kind)
        return found.status if found is not None else ""

    @property
    def failure(self) -> FailureStatus | None:
        """Why what the alias names is not tried again."""
        return self.failed(self.named) if self.named else None

    def failed(self, revision: Revision) -> FailureStatus | None:
        """Why this one is not tried again; the last time counts."""
        return next((each for each in reversed(self.status.failed) if each.revision == revision), None)

    def weight(self, revision: Revision) -> int:
        """Per cent of the traffic in the live route."""
        return sum(each.weight for each in self.status.traffic if each.revision == revision)

    def pods(self, revision: Revision) -> tuple[PodStatus, ...]:
        return tuple(pod for pod in self.status.pods if pod.revision == revision)

    def holds(self, revision: Revision) -> tuple[HoldStatus, ...]:
        """The holds in force on anything in this revision. Without its record, on its model as far as it is told."""
        digests = self._digests.get(revision, frozenset())
        return tuple(hold for hold in self.status.holds if hold.digest in digests)

    @cached_property
    def _digests(self) -> dict[Revision, frozenset[str]]:
        found = {each.revision: frozenset({each.digest}) for each in self.status.history if each.digest}
        if (resolved := self.status.resolved) is not None:
            parts = (part.digest for part in resolved.parts)
            found[resolved.revision] = frozenset({resolved.digest, *parts})
        return found | {revision: frozenset(record.digests) for revision, record in self.records.items()}

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """All that a person wants to see: what moves, is barred, serves, is warm, has traffic or pods."""
        status = self.status
        barred = [self.named] if self.named and (self.failed(self.named) or self.holds(self.named)) else []
        previous = [status.previous.revision] if status.previous is not None else []
        exposed = [each.revision for each in status.traffic if each.revision != names.BLOCKED]
        running = [pod.revision for pod in status.pods]
        candidates = [self.moving, *barred, self.stable, *previous, *exposed, *running]
        return tuple(dict.fromkeys(revision for revision in candidates if revision))

    def version(self, revision: Revision) -> str:
        """`v7`, or `v7 with adapter legal v2` where that is known."""
        record = self.records.get(revision)
        others = record.others if record is not None else {}
        version = record.version if record is not None else revision.partition("-")[0]
        parts = [f"{part_label(key)} {part.version}" for key, part in others.items() if key != MODEL]
        return f"{version} with {', '.join(parts)}" if parts else version


def view(raw: Object, records: "Mapping[Revision, Record] | None" = None) -> View:
    """Read an object. Raises PluginError when its status is not one that this version knows."""
    try:
        status = ModelDeploymentStatus.model_validate(raw.get("status") or {})
    except ValidationError as error:
        meta = raw["metadata"]
        why = "; ".join(map(str, explain(error, root="status")[:3]))
        raise PluginError(
            f"{meta['namespace']}/{meta['name']}: its status cannot be read ({why}); "
            "a newer modelsync wrote it: upgrade this plugin"
        ) from None
    return View(raw, status, records or {})


def read(cluster: Cluster, name: str, *, with_records: bool = False) -> View:
    """One ModelDeployment of the namespace. Raises PluginErrors."""
    try:
        raw = one(cluster, name)
    except ForbiddenError as error:
        raise asking_for(error, "get", cluster.namespace) from None
    return view(raw, records(cluster, cluster.namespace, name) if with_records else None)


def records(cluster: Cluster, namespace: str, name: str) -> "dict[Revision, Record]":
    """The records of its revisions that can be read; none where the user may not."""
    # Here, since a list of ModelDeployments, a wait and a request do without them, and quicker so.
    from modelsync.resources.record import Record, RecordError

    path = Path("apps/v1", "controllerrevisions", namespace)
    try:
        items = cluster.list(path, labels=f"{names.NAME_LABEL}={name}")["items"]
    except ForbiddenError:
        return {}
    found = {}
    for item in items:
        try:
            record = Record.parse(item)
        except RecordError:
            continue  # an unknown layout, or somebody else's with our label
        if record.owner.name == name:
            found[record.revision] = record
    return found
