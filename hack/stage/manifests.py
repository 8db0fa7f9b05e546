"""The objects that a user of the local cluster applies."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelsync.api import names

API_KEY = "local-" + "0123456789abcdef" * 3
"""The users' API key for the stand-in; valid nowhere else."""

SECRET = "wandb"  # noqa: S105 the name of the object, not its content
QUICK_STEPS: tuple[Mapping[str, Any], ...] = (
    {"setWeight": 20},
    {"pause": {"duration": "4s"}},
    {"setWeight": 50},
    {"pause": {"duration": "4s"}},
)


def namespace(name: str) -> dict[str, Any]:
    """A namespace that enforces the restricted Pod Security level."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def credential(name_space: str, *, key: str = API_KEY, labelled: bool = True, name: str = SECRET) -> dict[str, Any]:
    """The Secret with the W&B key; modelsync may read it only because of its label."""
    labels = {names.CREDENTIAL_LABEL: "true"} if labelled else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": name_space, "labels": labels},
        "stringData": {"WANDB_API_KEY": key},
    }


def volume(name: str, path: str, node: str) -> dict[str, Any]:
    """A folder of the node as a volume that any number of pods may use."""
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    }


def claim(name_space: str, name: str, *, volume_name: str | None = None) -> dict[str, Any]:
    """A claim: on the given volume, else on the cluster's default StorageClass, for one node."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteMany" if volume_name else "ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    if volume_name:
        spec |= {"storageClassName": "", "volumeName": volume_name}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": name_space},
        "spec": spec,
    }


def registry(server: str, poll_interval: str = "2s") -> dict[str, Any]:
    """The registry: the stand-in, with the credential in the ModelDeployment's namespace."""
    secret = {"name": SECRET, "key": "WANDB_API_KEY"}
    return {"baseURL": server, "auth": {"secretKeyRef": secret}, "pollInterval": poll_interval}


def model_deployment(
    name_space: str,
    name: str,
    model_ref: str,
    *,
    server: str | None,
    replicas: int = 2,
    steps: Sequence[Mapping[str, Any]] = QUICK_STEPS,
    hold_action: str = "Fallback",
    keep_previous: Mapping[str, Any] | None = None,
    hostname: str | None = None,
    poll_interval: str = "2s",
    gateway: bool = True,
    **spec: Any,
) -> dict[str, Any]:
    """A ModelDeployment with times for tests: short pauses, a settle of one second, drains of ten seconds.

    Without a `server`, it uses the administrator's default registry.
    """
    serving = {
        "servedModelName": "chat",
        "shutdownTimeout": "20s",
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "sharedMemory": "16Mi",
    }
    rollout: dict[str, Any] = {
        "progressDeadline": "60s",
        "keepPrevious": dict(keep_previous or {"replicas": 1, "duration": "10m"}),
    }
    traffic: dict[str, Any] = {"settle": "1s"}
    if gateway:
        rollout["steps"] = list(steps)
        parents = [{"name": "models", "namespace": "gateways"}]
        traffic["gateway"] = {"parentRefs": parents, "hostnames": [hostname or f"{name}.{name_space}.example.com"]}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": name_space},
        "spec": {
            "modelRef": model_ref,
            "replicas": replicas,
            **({"registry": registry(server, poll_interval)} if server is not None else {}),
            "hold": {"action": hold_action},
            "serving": serving | spec.pop("serving", {}),
            "rollout": rollout | spec.pop("rollout", {}),
            "traffic": traffic | spec.pop("traffic", {}),
            **spec,
        },
    }
