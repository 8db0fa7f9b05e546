"""Watch events reach the cache, and the sweeper finds what the watches have missed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from integration.controller.conftest import World, until
from modelsync.api import kinds, names
from modelsync.api.kinds import Key, Kind
from modelsync.cluster.cache import Cache
from modelsync.cluster.connection import connect
from modelsync.controller.kopf_shell import Shell
from modelsync.controller.sweeper import Sweeper
from modelsync.controller.workqueue import Priority


@asynccontextmanager
async def watching(world: World) -> AsyncIterator[tuple[Cache, list[tuple[str, str, bool]]]]:
    """Yield the cache that the watches fill, and the events that arrived."""
    cache, events = Cache(), []

    def on_event(kind: Kind, obj: dict[str, Any], deleted: bool) -> None:
        events.append((kind.kind, kinds.name_of(obj), deleted))
        cache.put(kind, obj, deleted=deleted)

    shell = Shell(await connect(), on_event, namespaces=(world.namespace,))
    shell.start()
    try:
        yield cache, events
    finally:
        await shell.stop()
        async with asyncio.timeout(10):
            await asyncio.wrap_future(shell.ended)


def service(world: World, name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": world.namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


async def test_creation_change_and_deletion_reach_the_cache(world: World) -> None:
    key = Key(world.namespace, "chat")
    async with watching(world) as (cache, _):
        await world.deploy()
        await until("the new one", lambda: look(lambda: cache.owner(key)))
        await world.cluster.merge(kinds.MODEL_DEPLOYMENT, world.namespace, "chat", {"spec": {"replicas": 7}})
        await until("the change", lambda: look(lambda: (cache.owner(key) or {})["spec"]["replicas"] == 7))
        await world.cluster.delete(kinds.MODEL_DEPLOYMENT, world.namespace, "chat")
        await until("the deletion", lambda: look(lambda: cache.owner(key) is None))


async def test_of_foreign_objects_only_routes_are_watched(world: World) -> None:
    async with watching(world) as (cache, events):
        await world.cluster.create(kinds.SERVICE, world.namespace, service(world, "theirs"))
        await world.cluster.create(kinds.SERVICE, world.namespace, service(world, "ours", **{names.NAME_LABEL: "chat"}))
        route = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "theirs", "namespace": world.namespace},
            "spec": {"hostnames": ["x.example.com"]},
        }
        await world.cluster.create(kinds.HTTP_ROUTE, world.namespace, route)
        await until("our Service", lambda: look(lambda: ("Service", "ours", False) in events))
        await until("their route", lambda: look(lambda: cache.route(Key(world.namespace, "theirs"))))
        assert ("Service", "theirs", False) not in events


async def test_a_deletion_while_no_watch_was_open_is_found_by_the_sweep(world: World) -> None:
    key = Key(world.namespace, "chat")
    cache, added = Cache(), []
    sweeper = Sweeper(
        world.cluster, cache, lambda found, priority: added.append((found, priority)), namespaces=(world.namespace,)
    )
    await world.deploy()
    first = await sweeper.sweep()
    assert added == [(key, Priority.LOW)], "the first sweep reports no changes"
    assert first.missing_kinds == frozenset()

    await world.cluster.delete(kinds.MODEL_DEPLOYMENT, world.namespace, "chat")
    added.clear()
    sweep = await sweeper.sweep()
    assert sweep.ghosts == 1
    assert added == [(key, Priority.HIGH)]
    assert cache.owner(key) is None


async def test_a_sweep_without_changes_queues_everything_with_low_priority(world: World) -> None:
    cache, added = Cache(), []
    sweeper = Sweeper(
        world.cluster, cache, lambda found, priority: added.append((found, priority)), namespaces=(world.namespace,)
    )
    await world.deploy()
    await sweeper.sweep()
    added.clear()
    sweep = await sweeper.sweep()
    assert (sweep.missed, sweep.ghosts) == (0, 0)
    assert added == [(Key(world.namespace, "chat"), Priority.LOW)]


async def look(check: Any) -> Any:
    try:
        return check()
    except KeyError:
        return None
