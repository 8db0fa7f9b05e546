"""The controller around an in-memory cluster and registry, to check that nothing stops a hold.

Reconciler, hold guard, applier, cache, mark index and planner are the production ones. What stands in is the API
server (a dictionary), the registry (which answers each credential that works) and time. Every operator is a new process
that has polled every registry once: it knows what it can read now, and what status and objects contain.

A state is the objects and the registry, so states are compared and copied as JSON. `search` tries every disturbance in
every order.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from modelsync.api import names
from modelsync.api.hold import HoldMark
from modelsync.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    POD,
    SERVICE,
    Key,
    Kind,
    Object,
    labels_of,
    name_of,
    uid_of,
)
from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.api.settings import OperatorSettings, OwnRegistry
from modelsync.cluster.cache import Cache
from modelsync.cluster.client import Cluster
from modelsync.cluster.credentials import RegistryCredentials
from modelsync.cluster.errors import AlreadyExistsError, ConflictError, NotFoundError
from modelsync.cluster.families import CachedFamilies, LiveFamilies
from modelsync.controller.hold_guard import HoldGuard
from modelsync.controller.instrumentation import Instrumentation
from modelsync.controller.reconciler import Reconciler
from modelsync.effects.apply import Applier
from modelsync.effects.cut_off import Cutter
from modelsync.effects.silence_unplanned import UnplannedSilencer
from modelsync.effects.silences import Silences
from modelsync.observe.question import administrator_names
from modelsync.registry.graphql import clock
from modelsync.registry.marks import MarkIndex
from modelsync.registry.model import (
    Answers,
    Artifact,
    CollectionRead,
    Denied,
    Link,
    Missing,
    Question,
    Reading,
    Resolved,
)
from modelsync.registry.poller import Subscription
from modelsync.registry.store import Key as PollerKey
from modelsync.registry.store import Store
from modelsync.telemetry.metrics import Metrics

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ASKED = NOW + timedelta(seconds=1)
"""Of every answer: newer than any wait, since a look is asked for in between."""
NAMESPACE, OWN_NAMESPACE = "prod", "modelsync-system"
SERVER, OTHER = "https://wandb.example.com", "https://other.example.com"
CHAT, TWIN = "chat", "twin"
"""Two ModelDeployments, each with its own collection; the same bytes were logged to both."""
HELD, SAFE = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
TAG = "regulatory-hold"
OPERATOR_KEY = "operator"
ROUNDS = 40


class Registries(NamedTuple):
    """What W&B knows: which Secrets hold a key that works, and which collection's version carries the mark."""

    alive: frozenset[str] = frozenset({CHAT, TWIN, OPERATOR_KEY})
    marked: frozenset[str] = frozenset()
    alias: str = HELD
    """What `chat:production` names."""


class World(NamedTuple):
    """Everything that survives the operator's process: objects as canonical JSON, and the registry."""

    objects: tuple[str, ...]
    registries: Registries

    def exposed(self) -> set[str]:
        """What clients can still get the held bytes from: routes, Services and pods."""
        found = set()
        for obj in map(json.loads, self.objects):
            kind, text = obj["kind"], json.dumps(obj.get("spec", {}))
            serves_held = any(f"{name}-v7-" in text or '"v7-' in text for name in (CHAT, TWIN))
            if kind == "Pod" and f"--digest={HELD}" in text:
                found.add(f"Pod/{name_of(obj)}")
            elif kind in ("Service", "HTTPRoute") and serves_held and "-v7-" not in name_of(obj):
                found.add(f"{kind}/{name_of(obj)}")
        return found


@dataclass(frozen=True)
class Setting:
    """Whether the operator has its own credential for the server, and whether the bytes were logged twice."""

    own_credential: bool = False
    twin: bool = False

    @property
    def settings(self) -> OperatorSettings:
        own = OwnRegistry.model_validate(_registry(SERVER, OPERATOR_KEY)) if self.own_credential else None
        return OperatorSettings(allowed_registries=(SERVER, OTHER), registries=(own,) if own is not None else ())


# --- the API server ---------------------------------------------------------------------------------------------------


class Api:
    """The methods of `Cluster` that the controller uses, over a dictionary. Garbage is collected at once."""

    def __init__(self, objects: Mapping[tuple[str, str], Object], cache: Cache) -> None:
        self.objects = dict(objects)
        self.cache = cache
        self.version = 1000
        self.writes = 0

    async def get(self, kind: Kind, _namespace: str | None, name: str) -> Object:
        if (found := self.objects.get((kind.kind, name))) is None:
            raise NotFoundError(f"{kind} {name}")
        return _copy(found)

    async def find(self, kind: Kind, _namespace: str | None, name: str) -> Object | None:
        found = self.objects.get((kind.kind, name))
        return _copy(found) if found is not None else None

    async def list_recent(self, kind: Kind, _namespace: str | None, *, labels: str) -> list[Object]:
        label, _, value = labels.partition("=")
        return [
            _copy(obj)
            for (each, _), obj in self.objects.items()
            if each == kind.kind and labels_of(obj).get(label) == value
        ]

    async def create(self, kind: Kind, _namespace: str | None, body: Object) -> Object:
        if (kind.kind, name_of(body)) in self.objects:
            raise AlreadyExistsError(f"{kind} {name_of(body)}")
        return self.put(kind, body)

    async def apply(self, kind: Kind, _namespace: str | None, body: Object, *, read: Object | None = None) -> Object:
        live = self.objects.get((kind.kind, name_of(body)))
        if read is not None and (live is None or uid_of(live) != uid_of(read)):
            raise ConflictError(f"{kind} {name_of(body)}")
        kept = {"status": live["status"]} if live is not None and "status" in live else {}
        uid = {"uid": uid_of(live)} if live is not None else {}
        return self.put(kind, {**kept, **body, "metadata": {**body["metadata"], **uid}})

    async def merge(self, kind: Kind, _namespace: str | None, name: str, patch: Object) -> Object:
        if (live := self.objects.get((kind.kind, name))) is None:
            raise NotFoundError(f"{kind} {name}")
        clean = _copy(patch)
        clean.get("metadata", {}).pop("resourceVersion", None)
        return self.put(kind, _merged(live, clean))

    async def replace_status(self, kind: Kind, read: Object, status: Mapping[str, Any]) -> Object:
        if (live := self.objects.get((kind.kind, name_of(read)))) is None:
            raise NotFoundError(f"{kind} {name_of(read)}")
        return self.put(kind, {**live, "status": dict(status)})

    async def delete(self, kind: Kind, _namespace: str | None, name: str, **_: Any) -> bool:
        return self.remove(kind.kind, name)

    def put(self, kind: Kind, body: Object) -> Object:
        self.version += 1
        self.writes += 1
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, **_copy(body)}
        given = {"uid": f"uid-{kind.kind}-{name_of(obj)}", "generation": 1, "creationTimestamp": "2026-11-21T08:00:00Z"}
        obj["metadata"] = {**given, **obj["metadata"], "resourceVersion": str(self.version)}
        self.objects[kind.kind, name_of(obj)] = obj
        self.cache.put(kind, obj)
        return _copy(obj)

    def remove(self, kind: str, name: str) -> bool:
        found = self.objects.pop((kind, name), None)
        if found is None:
            return False
        self.writes += 1
        for each in KINDS:
            if each.kind == kind:
                self.cache.put(each, found, deleted=True)
        return True

    # --- the other controllers of the cluster ---

    def settle(self) -> None:
        """Deployments get the pods that they ask for, Services their endpoints, routes their status."""
        for (kind, name), obj in list(self.objects.items()):
            if kind == "Deployment":
                self._run(name, obj)
        for (kind, name), obj in list(self.objects.items()):
            if kind == "Service":
                self._give_endpoints(name, obj)
            elif kind == "HTTPRoute" and not obj.get("status"):
                self.put(HTTP_ROUTE, {**obj, "status": {"parents": [_accepted(obj)]}})

    def _run(self, name: str, deployment: Object) -> None:
        wanted = deployment["spec"].get("replicas", 1)
        pods = {pod for kind, pod in self.objects if kind == "Pod" and pod.startswith(f"{name}-pod")}
        for number in range(wanted):
            pod = f"{name}-pod{number}"
            if pod not in pods:
                template = deployment["spec"]["template"]
                metadata = {**template["metadata"], "name": pod, "namespace": NAMESPACE}
                self.put(POD, {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Running"}})
        for pod in pods - {f"{name}-pod{number}" for number in range(wanted)}:
            self.remove("Pod", pod)

    def _give_endpoints(self, name: str, service: Object) -> None:
        selector = service["spec"]["selector"]
        ready = [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": True, "serving": True}}
            for (kind, _), obj in self.objects.items()
            if kind == "Pod" and all(labels_of(obj).get(key) == value for key, value in selector.items())
        ]
        labels = {**labels_of(service), "kubernetes.io/service-name": name}
        known = self.objects.get(("EndpointSlice", name))
        if known is None or known["endpoints"] != ready:
            body = {"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "endpoints": ready}
            self.put(ENDPOINT_SLICE, body)


KINDS = (MODEL_DEPLOYMENT, CONTROLLER_REVISION, DEPLOYMENT, SERVICE, POD, ENDPOINT_SLICE, HTTP_ROUTE)


def _accepted(route: Object) -> Object:
    generation = route["metadata"]["generation"]
    conditions = [
        {"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation}
        for kind in ("Accepted", "ResolvedRefs")
    ]
    return {"parentRef": route["spec"]["parentRefs"][0], "controllerName": "test", "conditions": conditions}


def _copy(obj: Object) -> Object:
    copied: Object = json.loads(json.dumps(obj))
    return copied


def _merged(live: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(live, dict):
        return patch
    merged = {**live, **{key: _merged(live.get(key), value) for key, value in patch.items() if value is not None}}
    return {key: value for key, value in merged.items() if patch.get(key, 0) is not None}


# --- the registry -----------------------------------------------------------------------------------------------------


def _home(name: str) -> CollectionRef:
    return CollectionRef("acme", "models", name)


def _answer(registries: Registries, server: str, secret: str, question: Question) -> Reading:
    """What a credential reads: everything, or nothing if its key does not work. The other server has the same bytes
    under the same names, and never a mark."""
    times: dict[str, Any] = {"asked_at": ASKED, "answered_at": ASKED, "asked": clock()}
    refs: dict[ModelRef, Any] = {}
    for ref in question.all_refs:
        known = ref.collection in (CHAT, TWIN)
        if secret not in registries.alive:
            refs[ref] = Denied(subject=ref, message="401", **times)
        elif not known:
            refs[ref] = Missing(subject=ref, what="collection", message="no such collection", **times)
        else:
            refs[ref] = _resolved(registries, server, ref, times)
    collections: dict[CollectionRef, Any] = {
        home: CollectionRead(
            collection=home, tags=frozenset(), aliases=frozenset({"production"}), hold_aliases=frozenset(), **times
        )
        if secret in registries.alive
        else Denied(subject=home, message="401", **times)
        for home in question.collections
    }
    return Reading(refs, collections, {})


def _resolved(registries: Registries, server: str, ref: ModelRef, times: Mapping[str, Any]) -> Resolved:
    name = ref.collection
    digest = registries.alias if name == CHAT and ref.alias == "production" else HELD
    if ref.alias in ("v7", "v8"):
        digest = HELD if ref.alias == "v7" else SAFE
    number = 7 if digest == HELD else 8
    tags = {TAG} if digest == HELD and name in registries.marked and server == SERVER else set()
    home = _home(name)
    artifact = Artifact(
        artifact_id=f"id-{name}-v{number}",
        digest=digest,
        digest_algorithm=None,
        state="COMMITTED",
        size=1,
        file_count=1,
        type="model",
        tags=frozenset(tags),
        metadata="",
        created_at="",
        updated_at="",
        source=home,
        source_version=f"v{number}",
        links=(Link(home, f"v{number}", frozenset(), frozenset()),),
    )
    return Resolved(
        ref=ref,
        collection_ref=home,
        version_index=number,
        aliases=frozenset(),
        collection_tags=frozenset(),
        artifact=artifact,
        **times,
    )


class PolledRegistries:
    """The poller's interface; each pair of server and Secret is read by `poll`."""

    def __init__(self, registries: Registries, settings: OperatorSettings) -> None:
        self._registries = registries
        self._index = MarkIndex(administrator_names(settings))
        self._pairs: dict[tuple[str, str], Store] = {}
        self._pair_of: dict[PollerKey, tuple[str, str]] = {}

    def subscribe(self, key: PollerKey, subscription: Subscription) -> None:
        _namespace, secret, _key = cast(tuple[str, str, str], subscription.identity)
        pair = (subscription.server.base_url, secret)
        if self._pair_of.get(key, pair) != pair:
            self.unsubscribe(key)
        store = self._pairs.setdefault(pair, Store(self._index.showings(pair[0])))
        self._pair_of[key] = pair
        store.ask(key, subscription.question)

    def unsubscribe(self, key: PollerKey) -> None:
        if (pair := self._pair_of.pop(key, None)) is not None:
            self._pairs[pair].forget(key)

    def poll(self) -> None:
        for (server, secret), store in self._pairs.items():
            keys = [key for key, pair in self._pair_of.items() if pair == (server, secret)]
            for question in store.questions(keys):
                store.add(_answer(self._registries, server, secret, question))

    def snapshot(self, key: PollerKey) -> Answers | None:
        pair = self._pair_of.get(key)
        return self._pairs[pair].answers(key) if pair is not None else None

    def watch_digests(self, key: PollerKey, wanted: Any) -> None:
        self._index.watch(key, wanted)

    def unwatch(self, key: PollerKey) -> None:
        self._index.watch(key, ())

    def marks(self, server: str, digest: str) -> Mapping[HoldMark, datetime]:
        return self._index.marks(server, digest)

    def absence(self, server: str, mark: HoldMark) -> datetime | None:
        return self._index.absence(server, mark)

    def look(self, _key: PollerKey) -> None:
        return


# --- the operator -----------------------------------------------------------------------------------------------------


@dataclass
class Queue:
    """Remembers nothing: every round works on every key."""

    added: list[Key] = field(default_factory=list)

    def add(self, _key: Key) -> None:
        return

    def add_after(self, _key: Key, _delay: timedelta) -> None:
        return

    def retry(self, _key: Key, **_: Any) -> timedelta:
        return timedelta(0)

    def forget(self, _key: Key) -> None:
        return

    def succeeded(self, _key: Key) -> None:
        return


class _Recorder:
    async def record(self, _owner: Object, _event: Any) -> None:
        return


def operate(world: World, setting: Setting) -> World:
    """Start an operator, let it work until nothing changes any more, and end it."""
    return asyncio.run(_operate(world, setting))


async def _operate(world: World, setting: Setting) -> World:
    cache, settings, silences, queue = Cache(), setting.settings, Silences(), Queue()
    api = Api({(obj["kind"], name_of(obj)): obj for obj in map(json.loads, world.objects)}, cache)
    for kind in KINDS:
        for (each, _), obj in api.objects.items():
            obj["metadata"]["resourceVersion"] = "1"
            if each == kind.kind:
                cache.put(kind, obj)
    cluster = cast(Cluster, api)
    cached = CachedFamilies(cache)
    cutter = Cutter(cluster, cache, silences)
    poller = PolledRegistries(world.registries, settings)
    credentials = RegistryCredentials(cluster, own_namespace=OWN_NAMESPACE)
    recorder = cast(Any, _Recorder())
    guard = HoldGuard(
        poller=cast(Any, poller),
        credentials=credentials,
        silencer=UnplannedSilencer(cluster, cache, cutter),
        recorder=recorder,
        settings=settings,
        requeue=lambda _key, _delay: None,
    )
    reconciler = Reconciler(
        cache=cache,
        cached=cached,
        live=LiveFamilies(cluster, cache, cached),
        applier=Applier(cluster, cache, settings, cutter=cutter, retry=queue.retry, requeue=queue.add),
        silences=silences,
        recorder=recorder,
        credentials=credentials,
        poller=cast(Any, poller),
        guard=guard,
        adapters=cast(Any, SimpleNamespace()),
        queue=cast(Any, queue),
        settings=settings,
        epoch="1",
        exams=cast(Any, SimpleNamespace(poll=lambda _key, _pods: {}, forget=lambda _key: None)),
        instrumentation=Instrumentation(Metrics()),
        now=lambda: NOW,
    )
    for number in range(ROUNDS):
        before = api.writes
        for key in sorted(cache.all_keys()):
            await reconciler._work_on(key)
            await asyncio.sleep(0)
        poller.poll()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))  # cut-offs run beside the passes
        api.settle()
        if api.writes == before and number:  # what the first poll showed is acted on in the second round
            break
    return World(_frozen(api.objects), world.registries)


def _frozen(objects: Mapping[tuple[str, str], Object]) -> tuple[str, ...]:
    """The objects without what differs between equal states."""
    kept = []
    for obj in objects.values():
        copied = _copy(obj)
        copied["metadata"].pop("resourceVersion", None)
        kept.append(json.dumps(copied, sort_keys=True))
    return tuple(sorted(kept))


# --- disturbances -----------------------------------------------------------------------------------------------------


def _registry(server: str, secret: str) -> Object:
    return {"baseURL": server, "auth": {"secretKeyRef": {"name": secret, "key": "WANDB_API_KEY"}}}


def model_deployment(name: str) -> Object:
    """A ModelDeployment of a collection of its own name."""
    traffic = {
        "settle": "0s",
        "gateway": {"parentRefs": [{"name": "models", "namespace": "gateways"}], "hostnames": [f"{name}.example.com"]},
    }
    spec = {
        "modelRef": f"acme/models/{name}:production",
        "replicas": 1,
        "registry": _registry(SERVER, name),
        "traffic": traffic,
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "generation": 1,
                     "creationTimestamp": "2026-11-21T08:00:00Z", "resourceVersion": "1"},
        "spec": spec,
    }  # fmt: skip


Change = Callable[[World], World]


def _edit(world: World, change: Callable[[Object], Object | None], *, kind: str, name: str = CHAT) -> World:
    """`change` the objects of a kind whose name starts with `name`; None removes them."""
    found = []
    for obj in map(json.loads, world.objects):
        changed = change(obj) if obj["kind"] == kind and name_of(obj).split("-")[0] == name else obj
        if changed is not None:
            found.append(json.dumps(changed, sort_keys=True))
    return world._replace(objects=tuple(sorted(found)))


def _with_spec(world: World, **parts: Any) -> World:
    return _edit(world, lambda obj: {**obj, "spec": {**obj["spec"], **parts}}, kind=names.KIND)


def _orphan(obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": None}}


def orphaned(world: World) -> World:
    """`kubectl delete --cascade=orphan`, and what a restore from a backup leaves."""
    left = _edit(world, lambda _obj: None, kind=names.KIND)
    for kind in ("ControllerRevision", "Deployment", "Service", "HTTPRoute", "PodDisruptionBudget", "Secret"):
        left = _edit(left, _orphan, kind=kind)
    return left


def _recreated(world: World) -> World:
    """Somebody applies the ModelDeployment again; its uid is a new one."""
    if any(obj["kind"] == names.KIND and name_of(obj) == CHAT for obj in map(json.loads, world.objects)):
        return world
    made = model_deployment(CHAT)
    made["metadata"]["uid"] = "uid-again"
    return world._replace(objects=tuple(sorted((*world.objects, json.dumps(made, sort_keys=True)))))


def _registries(**change: Any) -> Change:
    return lambda world: world._replace(registries=world.registries._replace(**change))


DISTURBANCES: Mapping[str, Change] = {
    "the key dies": lambda world: _registries(alive=world.registries.alive - {CHAT})(world),
    "the spec names another key": lambda world: _with_spec(world, registry=_registry(SERVER, "dead")),
    "the spec names another server": lambda world: _with_spec(world, registry=_registry(OTHER, CHAT)),
    "the spec names an invalid server": lambda world: _with_spec(world, registry=_registry("http://[1]", CHAT)),
    "the reference is invalid": lambda world: _with_spec(world, modelRef="acme/wandb-registry-/chat:production"),
    "the spec cannot be read": lambda world: _edit(world, lambda obj: {**obj, "spec": {}}, kind=names.KIND),
    "the spec is repaired": lambda world: _edit(
        world, lambda obj: {**obj, "spec": model_deployment(CHAT)["spec"]}, kind=names.KIND
    ),
    "the ModelDeployment is suspended": lambda world: _with_spec(world, suspend=True),
    "the alias moves on": _registries(alias=SAFE),
    "it is being deleted, and a finalizer keeps it": lambda world: _edit(
        world,
        lambda obj: {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "2026-11-21T09:00:00Z"}},
        kind=names.KIND,
    ),
    "its children are orphaned": orphaned,
    "it is created again": _recreated,
    "its status is lost": lambda world: _edit(world, lambda obj: {**obj, "status": {}}, kind=names.KIND),
    "its record is gone": lambda world: _edit(world, lambda _obj: None, kind="ControllerRevision"),
    "its record is unreadable": lambda world: _edit(world, lambda obj: {**obj, "data": 7}, kind="ControllerRevision"),
}  # fmt: skip

MARK = "the version gets the mark"


def serving(setting: Setting) -> World:
    """Everything serves the version that may be held."""
    deployments = [model_deployment(name) for name in ((CHAT, TWIN) if setting.twin else (CHAT,))]
    objects = tuple(sorted(json.dumps(obj, sort_keys=True) for obj in deployments))
    world = operate(World(objects, Registries()), setting)
    assert len(world.exposed()) == 3 * len(deployments), world.exposed()
    return world


@dataclass(frozen=True)
class Counterexample:
    """The shortest way to a held version that can be reached."""

    steps: tuple[str, ...]
    exposed: frozenset[str]

    def __str__(self) -> str:
        return "\n".join((*self.steps, f"still exposed: {', '.join(sorted(self.exposed))}"))


def is_known(world: World, setting: Setting) -> bool:
    """Whether there is a mark, and a credential that the operator may use for what serves can read it."""
    marked, alive = world.registries.marked, world.registries.alive
    return bool(marked & alive) or (bool(marked) and setting.own_credential and OPERATOR_KEY in alive)


def search(setting: Setting, disturbances: int) -> Iterator[World | Counterexample]:
    """Every order of at most so many different disturbances and one mark, with an operator after each; breadth-first.

    Yields each world once, and at last the first counterexample if there is one.
    """
    start = serving(setting)
    queue: list[tuple[World, tuple[str, ...]]] = [(start, ())]
    seen = {start}
    while queue:
        world, steps = queue.pop(0)
        changes = dict(DISTURBANCES) if sum(step in DISTURBANCES for step in steps) < disturbances else {}
        if not world.registries.marked:
            changes |= {MARK: _registries(marked=frozenset({TWIN if setting.twin else CHAT}))}
        for name, change in changes.items():
            if name in steps:
                continue
            changed = operate(change(world), setting)
            path = (*steps, name)
            if is_known(changed, setting) and (exposed := changed.exposed()):
                yield Counterexample(path, frozenset(exposed))
                return
            if changed not in seen:
                seen.add(changed)
                yield changed
                queue.append((changed, path))
