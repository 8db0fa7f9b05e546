"""A cluster for the plugin's commands: the golden logs' simulator plays operator, pods, gateway and registry.

So the commands see what the production planner and report produce. Time passes while a command follows.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from golden.simulator import COLLECTION, START, World
from modelsync.api import names
from modelsync.api.requests import VERBS
from modelsync.kubectl.cluster.objects import Object, Path, Update
from modelsync.kubectl.errors import ForbiddenError, KindMissingError, NotFoundError, UnavailableError

ALICE = "alice@example.com"
_REQUESTS = {verb.annotation: verb.field for verb in VERBS}
_STATES = {"ready": "Ready", "ending": "Terminating", "crashed": "Failing", "pulling": "Pulling", "waiting": "Pending"}


class FakeCluster:
    """One namespace, `prod`, with the ModelDeployment `chat` of a simulated world."""

    namespace = "prod"

    def __init__(self, world: World, *, user: str = ALICE) -> None:
        self.world = world
        self.user = user
        self.patches: list[Object] = []
        self.others: dict[str, Object] = {}
        """Other objects and lists than the ModelDeployment, by URL."""
        self.refused: set[str] = set()
        """Plurals that the user may not read."""
        self.unknown: set[str] = set()
        """Plurals that the API server does not know."""
        self.denied: set[str] = set()
        """What access reviews deny, such as `me patch modeldeployments`."""
        self.policy: str | None = None
        """If set, patches are refused with this message."""
        self.operator_runs = True
        self.step = timedelta(seconds=1)
        """Simulated time between two updates of a command that follows."""
        self.looks = 2000
        self.away: range = range(0)
        """The updates at which the API server does not answer."""
        self.deleted_after = self.looks
        self.instead: Object | None = None
        """If set, replaces the world's ModelDeployment."""
        self.beside: list[Object] = []
        """Further ModelDeployments, listed after it."""
        self._annotations: dict[str, str] = {}

    def model_deployment(self) -> Object:
        if self.instead is not None:
            return self.instead
        world = self.world
        status = world.status.wire()
        if world.answered is not None:
            status["resolved"] = {
                "alias": "production",
                "collection": COLLECTION,
                "version": world.answered,
                "artifactID": f"id-{world.answered}",
                "digest": f"digest-{world.answered}",
                "firstSeen": START.isoformat(),
                "revision": world.name_of(world.answered),
                "content": "0123456789abcdef",
            }
        status["pods"] = [
            {
                "name": f"chat-{revision.name}-{pod.number}",
                "revision": revision.name,
                "node": "node-1",
                "state": _STATES.get(pod.stage, "Starting"),
                "restarts": pod.restarts,
            }
            for revision in world.revisions.values()
            for pod in revision.pods
            if pod.alive
        ]
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {
                "name": "chat",
                "namespace": "prod",
                "uid": "uid-chat",
                "generation": world.generation,
                "creationTimestamp": START.isoformat(),
                "annotations": dict(self._annotations),
            },
            "spec": {
                "modelRef": f"{COLLECTION}:production",
                "replicas": world.policy.replicas,
                "suspend": world.policy.suspend,
            },
            "status": status,
        }

    def get(self, path: Path) -> Object:
        if path.plural == names.PLURAL:
            if path.name != "chat" or path.namespace != "prod":
                raise NotFoundError(f'modeldeployments.modelsync.dev "{path.name}" not found')
            return self.model_deployment()
        return self._other(path)

    def list(self, path: Path, *, labels: str = "", fields: str = "") -> Object:
        if path.plural == names.PLURAL and path.plural not in self.unknown:
            if path.plural in self.refused:
                raise ForbiddenError(
                    f'modeldeployments.modelsync.dev is forbidden: User "{self.user}" cannot list resource'
                )
            items = [self.model_deployment(), *self.beside] if path.namespace in (None, "prod") else []
            return {"items": [item for item in items if fields in ("", f"metadata.name={item['metadata']['name']}")]}
        found = self._other(path)
        key, _, value = labels.partition("=")
        return {"items": [item for item in found["items"] if not key or _matches(item, key, value)]}

    def _other(self, path: Path) -> Object:
        if path.plural in self.unknown:
            raise KindMissingError("the server could not find the requested resource")
        if path.plural in self.refused:
            raise ForbiddenError(f'{path.plural} is forbidden: User "{self.user}" cannot get resource')
        if path.url() in self.others:
            return self.others[path.url()]
        if path.name is None:
            return {"items": []}
        raise NotFoundError(f'{path.plural} "{path.name}" not found')

    def review(self, path: Path, body: Object) -> Object:
        if path.plural in self.refused:
            raise ForbiddenError(f"{path.plural} is forbidden")
        if path.plural in ("selfsubjectaccessreviews", "subjectaccessreviews"):
            attributes = body["spec"]["resourceAttributes"]
            asked = f"{body['spec'].get('user', 'me')} {attributes['verb']} {attributes['resource']}"
            return {"status": {"allowed": asked not in self.denied}}
        assert path.plural == "selfsubjectreviews"
        return {"status": {"userInfo": {"username": self.user}}}

    def patch(self, namespace: str, name: str, patch: Object) -> Object:
        assert (namespace, name) == ("prod", "chat")
        if self.policy is not None:
            raise ForbiddenError(self.policy)
        self.patches.append(patch)
        annotations: Mapping[str, str] = patch.get("metadata", {}).get("annotations") or {}
        self._annotations |= annotations
        if self.operator_runs:
            if "spec" in patch:
                self.world.change_spec(**patch["spec"])
            if annotations:
                self.world.request(**{_REQUESTS[key]: value for key, value in annotations.items()})
        return self.model_deployment()

    def follow(self, namespace: str | None, name: str | None) -> Iterator[Update]:
        before: Any = None
        for number in range(self.looks):
            there = name in (None, "chat") and namespace in (None, "prod") and number < self.deleted_after
            now = {("prod", "chat"): self.model_deployment()} if there else {}
            if number in self.away:
                yield UnavailableError("unexpected EOF")
            else:
                yield now if now != before else None
                before = now
            self.world.run(seconds=self.step.total_seconds())
        raise AssertionError("the command did not end:\n" + "\n".join(self.world.log[-20:]))


def _matches(item: Object, key: str, value: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    return key in labels and value in ("", labels[key])
