"""The Services: one for each revision, a plain one for clients inside the cluster, and one that leads nowhere.

A selector is never empty: Kubernetes would leave the old endpoints in place, and a held version would go on serving.
"""

from modelsync.api import names
from modelsync.resources.objects import Object, Owner, metadata


def revision_service(owner: Owner, revision: str) -> Object:
    """The Service of `revision`, which the route weighs."""
    return _service(owner, names.child(owner.name, revision), revision, revision)


def plain_service(owner: Owner, selected: str) -> Object:
    """The Service with the ModelDeployment's own name; `selected` is a revision, or `names.BLOCKED`."""
    return _service(owner, owner.name, selected, None)


def blocked_service(owner: Owner) -> Object:
    """The Service that no pod belongs to: a route to it answers 503."""
    return _service(owner, names.child(owner.name, names.BLOCKED), names.BLOCKED, None)


def selected_revision(service: Object) -> str | None:
    """What a live plain Service selects: a revision, `names.BLOCKED`, or `None` when it is none of ours."""
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
