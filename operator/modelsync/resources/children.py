"""The objects of a ModelDeployment beside pod, record and route: Deployments, fuse Secrets, Services, the budget.

A Service's selector must never be empty: Kubernetes would keep the old endpoints, and a held version would continue to
serve.
"""

import base64

from modelsync.api import names
from modelsync.resources.objects import Object, Owner, metadata
from modelsync.resources.record import Record

FUSE_TOKEN_KEY = "token"  # noqa: S105  the key in the Secret, not a token


def deployment(record: Record, replicas: int) -> Object:
    """The Deployment from the record with `replicas` pods and the record's owner. Nothing else may ever differ.

    A record that was adopted has another owner than when it was written. The pod template is shared with the record
    and must not be changed.
    """
    template = record.template
    return {
        **template,
        "metadata": {**template["metadata"], "ownerReferences": [record.owner.reference]},
        "spec": {**template["spec"], "replicas": replicas},
    }


def fuse_secret(owner: Owner, revision: str, token: str) -> Object:
    """The Secret with the token that triggers the fuse of `revision`. The pods have only its hash."""
    meta = metadata(owner, names.fuse_secret(owner.name, revision), revision)
    meta["labels"][names.FUSE_LABEL] = "true"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": meta,
        "type": "Opaque",
        "immutable": True,
        "data": {FUSE_TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }


def revision_service(owner: Owner, revision: str) -> Object:
    """The Service of `revision`, a backend of the route."""
    return _service(owner, names.child(owner.name, revision), revision, revision)


def plain_service(owner: Owner, selected: str) -> Object:
    """The Service with the ModelDeployment's own name; `selected` is a revision, or `names.BLOCKED`."""
    return _service(owner, owner.name, selected, None)


def blocked_service(owner: Owner) -> Object:
    """The Service that selects no pod: a route to it answers 503."""
    return _service(owner, names.child(owner.name, names.BLOCKED), names.BLOCKED, None)


def selected_revision(service: Object) -> str | None:
    """What a live plain Service selects: a revision, `names.BLOCKED`, or None if it is not one of ours."""
    return ((service.get("spec") or {}).get("selector") or {}).get(names.REVISION_LABEL)


def _service(owner: Owner, name: str, selects: str, revision: str | None) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, name, revision),
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector(owner.name, selects),
            "ports": [
                {"name": names.PORT_NAME, "port": names.PORT, "protocol": "TCP", "targetPort": names.PORT_NAME},
            ],
        },
    }


def disruption_budget(owner: Owner, stable: str) -> Object:
    """Lets node drains evict one pod of `stable` at a time. A broken pod never blocks a drain."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": names.selector(owner.name, stable)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
