"""The kinds of the Kubernetes API that modelsync uses, and helpers to read an object's metadata.

No other module may build an API path. Objects are plain JSON dicts: generated models drop unknown fields, and one
malformed object would fail a whole list.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from modelsync.api import names

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object as parsed JSON."""


class Key(NamedTuple):
    """Namespace and name of a ModelDeployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the API. All kinds used here are namespaced, except CRDs."""

    api_version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """The version within the group."""
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, or of one object; without `namespace`, of all namespaces."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe=":") for part in (name, subresource) if part is not None]
        return "/".join(parts)

    def __str__(self) -> str:
        return self.kind


MODEL_DEPLOYMENT = Kind(names.API_VERSION, names.KIND, names.PLURAL)
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
SERVICE = Kind("v1", "Service", "services")
POD = Kind("v1", "Pod", "pods")
SECRET = Kind("v1", "Secret", "secrets")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
EVENT = Kind("events.k8s.io/v1", "Event", "events")


# Whoever writes an object may write anything: these helpers never raise, and a value of the wrong type is not there.


def name_of(obj: Object) -> str:
    """`metadata.name`."""
    return _text(obj, "name")


def namespace_of(obj: Object) -> str:
    """`metadata.namespace`."""
    return _text(obj, "namespace")


def uid_of(obj: Object) -> str:
    """`metadata.uid`."""
    return _text(obj, "uid")


def resource_version_of(obj: Object) -> str:
    """`metadata.resourceVersion`."""
    return _text(obj, "resourceVersion")


def labels_of(obj: Object) -> dict[str, str]:
    """`metadata.labels`, never None."""
    return _texts(obj, "labels")


def annotations_of(obj: Object) -> dict[str, str]:
    """`metadata.annotations`, never None."""
    return _texts(obj, "annotations")


def is_controlled_by(obj: Object, uid: str) -> bool:
    """Whether the controller owner reference of `obj` is `uid`. Labels prove nothing, since anyone can write them."""
    return controller_uid(obj) == uid


def controller_uid(obj: Object) -> str | None:
    """The uid of the object's controller, if it has one."""
    uid = (controller_of(obj) or {}).get("uid")
    return uid if isinstance(uid, str) and uid else None


def controller_of(obj: Object) -> Object | None:
    """The owner reference of the object's controller, if it has one."""
    for reference in sequence(mapping(obj.get("metadata")).get("ownerReferences")):
        if isinstance(reference, dict) and reference.get("controller"):
            return reference
    return None


def _text(obj: Object, field: str) -> str:
    value = mapping(obj.get("metadata")).get(field)
    return value if isinstance(value, str) else ""


def _texts(obj: Object, field: str) -> dict[str, str]:
    found = mapping(obj.get("metadata")).get(field)
    if not isinstance(found, dict):
        return {}
    if all(isinstance(value, str) for value in found.values()):
        return found
    return {key: value for key, value in found.items() if isinstance(value, str)}


def mapping(value: Any) -> Object:
    """`value` itself; empty if it is not a dict. For objects that anyone may have written."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """`value` itself; empty if it is not a list."""
    return value if isinstance(value, list) else []


def by_name(objects: Iterable[Object]) -> dict[str, Object]:
    """Index objects of one kind and namespace by name."""
    return {name_of(obj): obj for obj in objects}
