"""Watches what serves for holds, and silences what is held where no plan can do it.

The watches are fed by records and pods, never by what a spec asks for. A plan acts on a hold in the ordinary case; this
acts for what has no plan: children without an owner, those of a ModelDeployment that is being deleted, and when a spec
cannot be read or planning fails. It decides nothing: `observe.unplanned` does.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum

import structlog

from modelsync.api.hold import HoldMark
from modelsync.api.kinds import Key, Object
from modelsync.api.reasons import Reason
from modelsync.api.settings import OperatorSettings
from modelsync.cluster.credentials import RegistryConfigError, RegistryCredentials
from modelsync.cluster.event_recorder import Recorder
from modelsync.effects.silence_unplanned import UnplannedSilencer
from modelsync.observe.answers import hold_reads
from modelsync.observe.hold_watch import Marks, Place, Watch, unplanned_places, unplanned_watches
from modelsync.observe.question import server_of
from modelsync.observe.unplanned import Unplanned, held_revisions
from modelsync.registry.model import Answers
from modelsync.registry.poller import Poller
from modelsync.registry.store import Key as PollerKey
from modelsync.rollout.model import Event, Hold, Revision

SEPARATOR = "/"
"""Between a ModelDeployment's name, which cannot contain it, and the name of a watch, in the poller's keys."""

AGAIN = timedelta(seconds=1)
"""How soon to look again while pods of a held revision end."""


class Group(StrEnum):
    """Why a set of watches exists."""

    PLANNED = "planned"  # what a plan is made for
    UNPLANNED = "unplanned"  # the ModelDeployment is being deleted, or no plan could be made
    ORPHANS = "orphans"  # nobody owns it


log = structlog.get_logger(__name__)


def key_of(name: PollerKey) -> Key:
    """The ModelDeployment that a key of the poller belongs to."""
    return Key(name[0], name[1].partition(SEPARATOR)[0])


class HoldGuard:
    """Keeps the watches of each key. `requeue(key, delay)` has a key worked on again."""

    def __init__(
        self,
        *,
        poller: Poller,
        credentials: RegistryCredentials,
        silencer: UnplannedSilencer,
        recorder: Recorder,
        settings: OperatorSettings,
        requeue: Callable[[Key, timedelta], None],
    ) -> None:
        self._poller = poller
        self._credentials = credentials
        self._silencer = silencer
        self._recorder = recorder
        self._settings = settings
        self._requeue = requeue
        self._watches: dict[tuple[Key, Group], frozenset[PollerKey]] = {}
        self._announced: dict[tuple[Key, Group], frozenset[tuple[Revision, HoldMark | None]]] = {}

    async def watch(
        self, key: Key, wanted: Sequence[Watch], group: Group = Group.PLANNED
    ) -> Mapping[Watch, Answers | None]:
        """Have the poller query what each of `wanted` needs and no other watch of the group; return what is known."""
        names = {each: _name(key, f"{group} {each.name}") for each in wanted}
        for gone in self._watches.get((key, group), frozenset()) - frozenset(names.values()):
            self._poller.unsubscribe(gone)
        for each, name in names.items():
            try:
                subscription = await self._credentials.subscription(key, each.registry, each.question, own=each.own)
            except RegistryConfigError as error:
                log.warning("hold_watch.unavailable", server=each.registry.base_url, problem=str(error))
            else:
                self._poller.subscribe(name, subscription)
        if names:
            self._watches[key, group] = frozenset(names.values())
        else:
            self._watches.pop((key, group), None)
        return {each: self._poller.snapshot(name) for each, name in names.items()}

    def marks(
        self, key: Key, places: Collection[Place], latched: Sequence[Hold], group: Group = Group.PLANNED
    ) -> Marks:
        """What any credential sees on the digests in `places`; from now on `key` is worked on when that changes."""
        self._poller.watch_digests(_name(key, group), places)
        shown = tuple(
            Hold(mark, at, server)
            for server, digest in sorted(places)
            for mark, at in sorted(self._poller.marks(server, digest).items())
        )
        gone = frozenset(hold.mark for hold in latched if self._is_gone(hold, places))
        return Marks(shown, gone - {hold.mark for hold in shown})

    def _is_gone(self, hold: Hold, places: Collection[Place]) -> bool:
        servers = {server for server, digest in places if digest == hold.mark.digest}
        # A hold of an older operator does not say which server showed it: then all must show that it is gone.
        times = [self._poller.absence(server, hold.mark) for server in ({hold.server} if hold.server else servers)]
        return bool(times) and all(at is not None and at > hold.since for at in times)

    def look(self, key: Key) -> None:
        """Have all watches of `key` read again at once."""
        for group in Group:
            for name in self._watches.get((key, group), ()):
                self._poller.look(name)

    async def act(self, found: Unplanned, group: Group, *, about: Object | None) -> None:
        """Watch what serves without a plan, and silence what of it is held. Raises ClusterErrors.

        Events are written about `about`, or else about the Deployment of the held revision.
        """
        if not found.serves:
            self.release(found.key, group)
            return
        watched = await self.watch(found.key, unplanned_watches(found, self._settings), group)
        reads = [hold_reads(each.question, known, server_of(each.registry)) for each, known in watched.items()]
        marks = self.marks(found.key, unplanned_places(found), found.latched, group)
        held = held_revisions(found, reads, marks.shown)
        await self._announce(found, group, held, about)
        if not held:
            return
        if found.running:
            self._requeue(found.key, AGAIN)
        await self._silencer.silence(found, frozenset(held), uid=_uid(found.key, group))

    def release(self, key: Key, group: Group) -> None:
        """End the watches of a group: there is a plan again, or nothing serves."""
        for name in self._watches.pop((key, group), ()):
            self._poller.unsubscribe(name)
        self._poller.unwatch(_name(key, group))
        if self._announced.pop((key, group), None) is not None:
            self._silencer.forget(_uid(key, group))

    async def _announce(
        self, found: Unplanned, group: Group, held: Mapping[Revision, HoldMark | None], about: Object | None
    ) -> None:
        """Write an Event for each revision that was not held before."""
        before = self._announced.get((found.key, group), frozenset())
        self._announced[found.key, group] = now = frozenset(held.items())
        for revision, mark in sorted(now - before, key=lambda each: each[0]):
            log.warning("hold.unplanned", revision=revision, mark=str(mark), name=found.key.name)
            subject = about or found.deployment(revision)
            if subject is not None:
                await self._recorder.record(subject, _event(revision, mark))


def _event(revision: Revision, mark: HoldMark | None) -> Event:
    what = (
        mark.effect
        if mark is not None
        else f"{revision} must not serve: a hold is in force, and nothing shows what this revision contains"
    )
    return Event("Warning", Reason.REGULATORY_HOLD, "Hold", f"{what}; its traffic is blocked and its pods are deleted")


def _uid(key: Key, group: Group) -> str:
    return f"{key}/{group}"


def _name(key: Key, watch: str) -> PollerKey:
    return (key.namespace, f"{key.name}{SEPARATOR}{watch}")
