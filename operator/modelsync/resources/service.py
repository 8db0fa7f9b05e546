"""The Services: one for each revision, one for clients inside the cluster, and one that selects no pod.

A selector must never be empty: Kubernetes would keep the old endpoints, and a held version would continue to serve.
"""

from modelsync.api import names
from modelsync.resources.objects import Object, Owner, metadata


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
