"""The stage: one cluster, one W&B stand-in, one operator; `Deployment` is one ModelDeployment on it.

Waiting means polling the API until a state is reached; nothing here sleeps for a fixed time.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from localcluster import Cluster
from localcluster.definitions import wait_established
from localcluster.foreign import NAME as EXISTING
from localcluster.images import modelsync_image, vllm_standin_image
from localcluster.progress import Progress
from modelsync.api import kinds, names
from modelsync.api.crd import crd
from modelsync.cluster.client import Cluster as Kube
from modelsync.cluster.connection import connect
from modelsync.cluster.errors import ClusterError
from stage.manifests import API_KEY, claim, credential, namespace, volume
from stage.servers import WEBHOOK_TOKEN, Servers
from traffic import Traffic
from vllm_standin.artifact import make_model
from wandb_standin.admin import Admin, AdminError, Version

ENTITY = "acme"
PROJECT = "llm-training"
REGISTRY = "wandb-registry-model"
LOOK_SECONDS = 0.1
EVENTS = (
    "LINK_ARTIFACT",
    "ADD_ARTIFACT_ALIAS",
    "ADD_ARTIFACT_TAG",
    "REMOVE_ARTIFACT_TAG",
    "ADD_COLLECTION_TAG",
    "REMOVE_COLLECTION_TAG",
)


class StageError(AssertionError):
    """An expected state was not reached; the message contains the actual one."""


class Stage:
    """The environment of the ModelDeployments. Open it with `await Stage.open(cluster)`."""

    def __init__(self, cluster: Cluster, kube: Kube, servers: Servers, progress: Progress) -> None:
        self.cluster = cluster
        self.kube = kube
        self.servers = servers
        self.progress = progress
        self.registry = Admin(servers.registry_url)
        self.puller_tags: set[str] = set()

    @classmethod
    async def open(cls, cluster: Cluster, *, progress: Progress | None = None, operator: bool = True) -> Self:
        """Load the images and start the W&B stand-in; with `operator`, install the CRD and start the operator, too."""
        progress = progress or Progress(quiet=True)
        connection = await connect(cluster.kubeconfig)
        stage = cls(cluster, Kube(connection.client()), Servers(cluster), progress)
        stage.load_puller("dev", vllm_standin_image(progress=progress))
        if operator:
            stage.define()
        with progress.step("W&B stand-in and operator"):
            stage.servers.start_registry()
            await stage.until("the W&B stand-in answers", stage._prepare_registry)
            if operator:
                stage.start_operator()
        return stage

    def define(self) -> None:
        """Install the CRD."""
        self.cluster.apply(crd())
        wait_established(self.cluster.kubectl, f"crd/{names.CRD_NAME}")

    def load_puller(self, tag: str, *others: Any) -> str:
        """Load modelsync's image under this tag onto the node; returns the image's name."""
        image = modelsync_image(tag, progress=self.progress)
        if tag not in self.puller_tags:
            self.cluster.load_images(image, *others)
            self.puller_tags.add(tag)
        return image.name

    def start_operator(self, *, tag: str = "dev", settings: Mapping[str, Any] | None = None) -> None:
        """Start the operator, with the puller image of this tag."""
        self.servers.start_operator(puller_image=self.load_puller(tag), settings=settings)

    async def close(self) -> None:
        """Close the connections; the servers keep running."""
        await self.kube.close()

    # -- the registry, from its users' view

    def _prepare_registry(self) -> bool:
        try:
            self.registry.last_request()
        except AdminError:
            return False
        with suppress(AdminError):  # from an earlier run on the same cluster
            self.registry.add_user("modelsync", API_KEY, roles={ENTITY: "member"}, entity=ENTITY)
        return True

    def add_webhook(self, collection: str) -> None:
        """Send webhooks to the operator for every change of a collection and of the versions linked there."""
        url = self.servers.webhook_url
        self.registry.configure(registry_tag_events=True)
        for event in EVENTS:
            self.registry.add_automation(
                f"{collection} {event}",
                url=url,
                scope=f"{ENTITY}/{REGISTRY}/{collection}",
                event=event,
                access_token=WEBHOOK_TOKEN,
            )

    def log_version(
        self,
        collection: str,
        text: str,
        *,
        faults: Mapping[str, Any] | None = None,
        size_bytes: int = 65536,
        name: str | None = None,
        **content: Any,
    ) -> Version:
        """Log a small model that answers `text`, and link it to the registry; returns the registry's version.

        `name` is in its files: two collections get the same bytes with the same name. `content` are further arguments
        of `make_model`, such as `exam`.
        """
        # Streams that last seconds, so that every traffic shift happens during some.
        behaviour = {"ttft_seconds": 0.1, "token_seconds": 0.05, "tokens": 100, **(faults or {})}
        files = make_model(
            None, name=name or collection, version_text=text, faults=behaviour, size_bytes=size_bytes, **content
        )
        return self.log_files(collection, files)

    def log_files(self, collection: str, files: Mapping[str, bytes]) -> Version:
        """Log files as an artifact, and link it to the registry; returns the registry's version."""
        slug = "".join(letter if letter.isalnum() else "-" for letter in collection)
        source = self.registry.log_artifact(ENTITY, PROJECT, slug, files)
        return self.registry.link(source, f"{ENTITY}/{REGISTRY}/{collection}")

    # -- the cluster

    async def namespace(self, name: str, *, key: str = API_KEY, labelled: bool = True) -> None:
        """Create a namespace at the restricted Pod Security level, with the W&B key in a Secret."""
        self.cluster.apply(namespace(name))
        self.cluster.apply(credential(name, key=key, labelled=labelled))

    def claim(self, name_space: str, name: str) -> Path | None:
        """Create a claim: on a folder of the local cluster's node, elsewhere of the default StorageClass."""
        if self.cluster.name == EXISTING:
            self.cluster.apply(claim(name_space, name))
            return None
        folder = self.servers.folder / "volumes" / name_space / name
        folder.mkdir(parents=True)
        node = self.cluster.kubectl(
            "get", "nodes", "-o", "jsonpath={.items[0].metadata.labels.kubernetes\\.io/hostname}"
        )
        volume_name = f"{name_space}-{name}"
        self.cluster.apply(volume(volume_name, str(folder), node.strip()))
        self.cluster.apply(claim(name_space, name, volume_name=volume_name))
        return folder

    async def deploy(self, manifest: Mapping[str, Any]) -> "Deployment":
        """Apply a ModelDeployment as a user would."""
        self.cluster.apply(manifest)
        hostnames = (manifest["spec"].get("traffic", {}).get("gateway") or {}).get("hostnames") or [""]
        return Deployment(self, manifest["metadata"]["namespace"], manifest["metadata"]["name"], hostnames[0])

    async def until(self, what: str, ready: Callable[[], bool], timeout: float = 30.0) -> None:
        """Poll until `ready()`. Raises StageError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not ready():
            if time.monotonic() > deadline:
                raise StageError(f"not within {timeout:g} s: {what}")
            await asyncio.sleep(LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class Deployment:
    """One ModelDeployment, its child objects and its traffic."""

    stage: Stage
    namespace: str
    name: str
    host: str

    async def read(self) -> dict[str, Any]:
        """The object as it is now."""
        return await self.stage.kube.get(kinds.MODEL_DEPLOYMENT, self.namespace, self.name)

    async def status(self) -> dict[str, Any]:
        """`.status`; empty before the first one."""
        return (await self.read()).get("status") or {}

    async def until(self, what: str, ready: Callable[[dict[str, Any]], Any], timeout: float = 60.0) -> dict[str, Any]:
        """Poll the status until `ready(status)`; returns that status. Raises StageError with the last one."""
        deadline, status = time.monotonic() + timeout, {}
        while time.monotonic() < deadline:
            with suppress(ClusterError):
                status = await self.status()
                if ready(status):
                    return status
            await asyncio.sleep(LOOK_SECONDS)
        raise StageError(f"{self.namespace}/{self.name}: not within {timeout:g} s: {what}\n{brief(status)}")

    async def until_serving(self, version: str, timeout: float = 90.0) -> dict[str, Any]:
        """Wait until this version is the stable, has all traffic, and everything is settled."""
        return await self.until(
            f"{version} serves fully",
            lambda status: (
                stable_version(status) == version
                and condition(status, "Ready").get("status") == "True"
                and not status.get("canary")
            ),
            timeout,
        )

    async def until_weight(self, version: str, least: int, timeout: float = 60.0) -> dict[str, Any]:
        """Wait until the live route gives this version at least this share."""
        return await self.until(
            f"{version} has at least {least} %", lambda status: weight_of(status, version) >= least, timeout
        )

    async def pods(self, revision: str | None = None) -> list[dict[str, Any]]:
        """The pods of a revision, or all of them."""
        selector = f"{names.NAME_LABEL}={self.name}" + (f",{names.REVISION_LABEL}={revision}" if revision else "")
        return await self.stage.kube.list_all(kinds.POD, self.namespace, labels=selector)

    async def until_gone(self, revision: str, timeout: float = 90.0) -> None:
        """Wait until no pod of this revision is left."""
        deadline = time.monotonic() + timeout
        while pods := await self.pods(revision):
            if time.monotonic() > deadline:
                raise StageError(f"after {timeout:g} s there are still {[pod['metadata']['name'] for pod in pods]}")
            await asyncio.sleep(LOOK_SECONDS)

    async def annotate(self, annotation: str, value: str) -> None:
        """Make a request by annotation, as the kubectl plugin does."""
        patch = {"metadata": {"annotations": {annotation: value}}}
        await self.stage.kube.merge(kinds.MODEL_DEPLOYMENT, self.namespace, self.name, patch)

    async def change(self, **spec: Any) -> None:
        """Merge-patch the spec."""
        await self.stage.kube.merge(kinds.MODEL_DEPLOYMENT, self.namespace, self.name, {"spec": spec})

    def traffic(self, **options: Any) -> Traffic:
        """A client that sends requests to this deployment through the gateway."""
        return Traffic(url=f"{self.stage.cluster.gateway_url}/v1", host=self.host, **options)


def condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """One condition of a status; empty when absent."""
    found: Sequence[dict[str, Any]] = status.get("conditions") or ()
    return next((item for item in found if item["type"] == kind), {})


def stable_version(status: Mapping[str, Any]) -> str | None:
    """The version of the stable, `v7`."""
    promoted = status.get("promoted") or ()
    return promoted[-1].partition("-")[0] if promoted else None


def weight_of(status: Mapping[str, Any], version: str) -> int:
    """The percentage of a version in the live route."""
    return sum(part["weight"] for part in status.get("traffic") or () if part["revision"].partition("-")[0] == version)


def brief(status: Mapping[str, Any]) -> str:
    """A status in a few lines, for the message of a failed test."""
    parts = [
        f"{key}: {status.get(key)}" for key in ("phase", "promoted", "canary", "target", "traffic", "failed", "holds")
    ]
    parts += [
        f"{c['type']}={c['status']} {c['reason']}: {c.get('message', '')}" for c in status.get("conditions") or ()
    ]
    parts += [f"waiting: {status.get('waiting')}", f"pods: {status.get('pods')}"]
    return "\n".join(f"  {part}" for part in parts)
