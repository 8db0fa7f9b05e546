"""Reads everything again now and then: what no watch told is noticed, and what is no more is dropped.

kopf reports no deletion that happened while a watch was down, and a lost event would otherwise be lost for good. The
first sweep fills the cache before any key is worked on. It decides nothing: it only puts keys in the queue, behind
all others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelsync.api import names
from modelsync.api.kinds import HTTP_ROUTE, MODEL_DEPLOYMENT, Key, Kind, name_of, uid_of
from modelsync.cluster.cache import CHILD_KINDS, Cache
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import KindMissingError
from modelsync.controller.workqueue import Priority


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found: objects by kind, what the watches had missed, and kinds that the API server lacks."""

    objects: int
    missed: int
    ghosts: int
    missing_kinds: frozenset[Kind]


class Sweeper:
    """Lists our kinds in `namespaces` (empty: everywhere), and adds every ModelDeployment with `add`."""

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
        """List and compare once. Raises ClusterErrors: KindMissingError when the CRD of ModelDeployment is missing."""
        objects = missed = ghosts = 0
        touched: set[Key] = set()
        missing: set[Kind] = set()
        for kind in (MODEL_DEPLOYMENT, HTTP_ROUTE, *CHILD_KINDS):
            for namespace in self._namespaces:
                before = self._cache.known(kind, namespace)
                live: set[tuple[Key, str]] = set()
                try:
                    async for page in self._cluster.pages(kind, namespace, labels=_selector(kind)):
                        for obj in page:
                            live.add((Key(obj["metadata"]["namespace"], name_of(obj)), uid_of(obj)))
                            news = self._cache.put(kind, obj)
                            missed += bool(news)
                            touched |= news
                except KindMissingError:
                    if kind == MODEL_DEPLOYMENT:
                        raise
                    missing.add(kind)
                gone = before - live
                objects += len(live)
                ghosts += len(gone)
                touched |= self._cache.prune(kind, gone)
        if self._swept:
            for key in touched:
                self._add(key, Priority.HIGH)
        self._swept = True
        for key in self._cache.owners():
            self._add(key, Priority.LOW)
        return Sweep(objects, missed, ghosts, frozenset(missing))


def _selector(kind: Kind) -> str | None:
    """Only what carries our label; but every ModelDeployment, and every HTTPRoute that may claim our hosts."""
    return None if kind in (MODEL_DEPLOYMENT, HTTP_ROUTE) else names.NAME_LABEL
