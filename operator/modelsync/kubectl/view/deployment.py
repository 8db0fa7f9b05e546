"""A ModelDeployment as the commands see it: its status as types, and what they derive from it.

Read only. Unknown fields, which a newer operator may write, are ignored.
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
    """One ModelDeployment. `records` holds the revision records that the user may read."""

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
        """Whether it is being deleted."""
        return bool(self.raw["metadata"].get("deletionTimestamp"))

    @property
    def spec(self) -> Mapping[str, Any]:
        """As it is stored, without defaults."""
        found: Mapping[str, Any] = self.raw.get("spec") or {}
        return found

    @property
    def resource(self) -> str:
        """The name in kubectl's form: `modeldeployment.modelsync.dev/chat`."""
        return f"{names.SINGULAR}.{names.GROUP}/{self.name}"

    @property
    def seen(self) -> bool:
        """Whether the operator has acted on the current spec."""
        return (self.status.observed_generation or 0) >= int(self.raw["metadata"].get("generation") or 0)

    @property
    def suspended(self) -> bool:
        return bool(self.spec.get("suspend"))

    @property
    def stable(self) -> Revision | None:
        """The revision that was promoted last."""
        return self.status.promoted[-1] if self.status.promoted else None

    @property
    def moving(self) -> Revision | None:
        """The revision that is being rolled out, rolled back to or started."""
        move = self.status.canary or self.status.target
        return move.revision if move is not None else None

    @property
    def named(self) -> Revision | None:
        """The revision that results from the alias and the current spec."""
        return self.status.resolved.revision if self.status.resolved is not None else None

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of this type, if present."""
        return find(self.status.conditions, kind)

    def condition_status(self, kind: ConditionType) -> str:
        """The status of the condition of this type; empty when it is absent."""
        found = self.condition(kind)
        return found.status if found is not None else ""

    @property
    def failure(self) -> FailureStatus | None:
        """Why the revision that the alias names is not tried again."""
        return self.failed(self.named) if self.named else None

    def failed(self, revision: Revision) -> FailureStatus | None:
        """Why `revision` is not tried again; the latest failure if there are several."""
        return next((each for each in reversed(self.status.failed) if each.revision == revision), None)

    def weight(self, revision: Revision) -> int:
        """Percentage of the traffic in the live route."""
        return sum(each.weight for each in self.status.traffic if each.revision == revision)

    def pods(self, revision: Revision) -> tuple[PodStatus, ...]:
        return tuple(pod for pod in self.status.pods if pod.revision == revision)

    def holds(self, revision: Revision) -> tuple[HoldStatus, ...]:
        """The holds in force on any artifact of this revision; without its record, on the artifacts in the status."""
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
        """The revisions to show: moving, barred, stable, warm, and any with traffic or pods."""
        status = self.status
        barred = [self.named] if self.named and (self.failed(self.named) or self.holds(self.named)) else []
        previous = [status.previous.revision] if status.previous is not None else []
        exposed = [each.revision for each in status.traffic if each.revision != names.BLOCKED]
        running = [pod.revision for pod in status.pods]
        candidates = [self.moving, *barred, self.stable, *previous, *exposed, *running]
        return tuple(dict.fromkeys(revision for revision in candidates if revision))

    def version(self, revision: Revision) -> str:
        """`v7`, or `v7 with adapter legal v2` if the record is known."""
        record = self.records.get(revision)
        others = record.others if record is not None else {}
        version = record.version if record is not None else revision.partition("-")[0]
        parts = [f"{part_label(key)} {part.version}" for key, part in others.items() if key != MODEL]
        return f"{version} with {', '.join(parts)}" if parts else version


def view(raw: Object, records: "Mapping[Revision, Record] | None" = None) -> View:
    """Parse an object. Raises PluginError when this version cannot read its status."""
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
    """The readable records of its revisions; empty if the user may not list them."""
    # Imported here to keep the commands that need no records fast to start.
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
            continue  # an unknown layout, or another program's object with our label
        if record.owner.name == name:
            found[record.revision] = record
    return found
