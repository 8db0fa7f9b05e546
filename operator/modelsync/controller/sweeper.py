"""Lists all objects periodically, to find changes and deletions that the watches missed.

kopf reports no deletion that happened while a watch was down, and a missed event would otherwise be lost permanently.
The first sweep fills the cache before any key is worked on. It decides nothing: it only queues keys, with low priority
unless an object has changed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelsync.api import names
from modelsync.api.kinds import HTTP_ROUTE, MODEL_DEPLOYMENT, Key, Kind, name_of, namespace_of, uid_of
from modelsync.cluster.cache import CHILD_KINDS, Cache
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import KindMissingError
from modelsync.controller.workqueue import Priority


@dataclass(frozen=True, slots=True)
class Sweep:
    """Result of a sweep: the number of objects, of changes (`missed`) and deletions (`ghosts`) that the watches had not
    reported, and the kinds that the API server does not know."""

    objects: int
    missed: int
    ghosts: int
    missing_kinds: frozenset[Kind]


class Sweeper:
    """Lists the watched kinds in `namespaces` (empty: all), and queues every ModelDeployment with `add`."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        add: Callable[[Key, Priority], None],
        *,
        namespaces: Sequence[str] = (),
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._add = add
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._swept = False

    async def sweep(self) -> Sweep:
        """List and compare once. Raises ClusterErrors; KindMissingError when the ModelDeployment CRD is missing."""
        objects = missed = ghosts = 0
        affected: set[Key] = set()
        missing: set[Kind] = set()
        for kind in (MODEL_DEPLOYMENT, HTTP_ROUTE, *CHILD_KINDS):
            for namespace in self._namespaces:
                before = self._cache.known(kind, namespace)
                live: set[tuple[Key, str]] = set()
                try:
                    async for page in self._cluster.pages(kind, namespace, labels=_selector(kind)):
                        for obj in page:
                            live.add((Key(namespace_of(obj), name_of(obj)), uid_of(obj)))
                            changed = self._cache.put(kind, obj)
                            missed += bool(changed)
                            affected |= changed
                except KindMissingError:
                    if kind == MODEL_DEPLOYMENT:
                        raise
                    missing.add(kind)
                gone = before - live
                objects += len(live)
                ghosts += len(gone)
                affected |= self._cache.prune(kind, gone)
        if self._swept:
            for key in affected:
                self._add(key, Priority.HIGH)
        self._swept = True
        for key in self._cache.all_keys():
            self._add(key, Priority.LOW)
        return Sweep(objects, missed, ghosts, frozenset(missing))


def _selector(kind: Kind) -> str | None:
    """Select objects with our label, but all ModelDeployments and all HTTPRoutes, which may claim our host names."""
    return None if kind in (MODEL_DEPLOYMENT, HTTP_ROUTE) else names.NAME_LABEL
