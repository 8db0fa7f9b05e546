"""A host name is free only if no older claim on it is left in the API server, whatever the cache says."""

from typing import Any

from modelsync.api.kinds import HTTP_ROUTE, MODEL_DEPLOYMENT, Key, Kind, Object
from modelsync.cluster.cache import Cache
from modelsync.cluster.families import CachedFamilies, LiveFamilies
from unit.observe.builders import live, model_deployment

CHAT = Key("prod", "chat")


def route(name: str, *, namespace: str = "shop", host: str = "*.example.com", **metadata: Any) -> Object:
    body = {
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "parentRefs": [{"name": "models", "namespace": "gateways"}],
            "hostnames": [host],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}]}],
        },
    }
    return live(body, **metadata)


class APIServer:
    """Answers reads by name from memory, and counts those of other namespaces."""

    def __init__(self, *objects: tuple[Kind, Object]) -> None:
        self.objects = {(kind, obj["metadata"]["namespace"], obj["metadata"]["name"]): obj for kind, obj in objects}
        self.reads: list[str] = []

    async def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        if namespace != CHAT.namespace:
            self.reads.append(f"{namespace}/{name}")
        return self.objects.get((kind, namespace, name))


async def rivals(cached: list[Object], api: APIServer) -> list[str]:
    cache = Cache()
    owner = model_deployment()
    cache.put(MODEL_DEPLOYMENT, owner)
    for obj in cached:
        cache.put(HTTP_ROUTE, obj)
    api.objects[(MODEL_DEPLOYMENT, *CHAT)] = owner
    families = CachedFamilies(cache)
    known = families.family(CHAT)
    assert known is not None
    cluster: Any = api
    found = await LiveFamilies(cluster, cache, families).family(known)
    assert found is not None
    return [each["metadata"]["name"] for each in found.rival_routes]


async def test_only_the_oldest_of_many_older_claims_is_read() -> None:
    routes = [route(f"r{number:02}", creationTimestamp=f"2026-01-{number + 1:02}T00:00:00Z") for number in range(20)]
    api = APIServer(*((HTTP_ROUTE, each) for each in routes))
    assert await rivals(routes, api) == ["r00"]
    assert api.reads == ["shop/r00"]


async def test_decoys_that_were_deleted_just_now_do_not_free_the_name() -> None:
    decoys = [route(f"decoy-{number}", creationTimestamp="2020-01-01T00:00:00Z") for number in range(10)]
    moved = route("moved", creationTimestamp="2021-01-01T00:00:00Z")
    victim = route("victim", creationTimestamp="2022-01-01T00:00:00Z")
    elsewhere = route("moved", creationTimestamp="2021-01-01T00:00:00Z", host="other.example.org")
    api = APIServer((HTTP_ROUTE, victim), (HTTP_ROUTE, elsewhere))
    assert await rivals([*decoys, moved, victim], api) == ["victim"]


async def test_a_name_whose_older_routes_are_all_gone_is_free() -> None:
    gone = [route(f"gone-{number}") for number in range(3)]
    assert await rivals(gone, APIServer()) == []
