"""The shape that the API promises of each kind: what everything behind it may rely on, whoever wrote the object.

One malformed object must not stop a pass, and no reader should have to doubt each field again. So an object passes here
once, at the border: a value of another type than the API's is taken out, as if it had not been set. Nothing is added,
and fields that modelsync does not read are left alone. The spec of a ModelDeployment and the data of a record are left
to readers of their own, which report what is wrong. Pure, and never raises.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from modelsync.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Kind,
    Object,
    name_of,
    namespace_of,
    uid_of,
)

Shape: TypeAlias = "type | tuple[Shape] | Mapping[str, Shape]"
"""`str`, `int` (a count: not negative, of 31 bits) or `bool`; a list as a tuple of its items' shape; an object by its
known fields."""

_ANY = ""
"""In an object: the shape of the fields that are not named."""

_TEXTS: Shape = {_ANY: str}

_METADATA: Shape = {
    "name": str,
    "namespace": str,
    "uid": str,
    "resourceVersion": str,
    "generation": int,
    "creationTimestamp": str,
    "deletionTimestamp": str,
    "deletionGracePeriodSeconds": int,
    "labels": _TEXTS,
    "annotations": _TEXTS,
    "ownerReferences": ({"name": str, "uid": str, "controller": bool},),
    "managedFields": ({"subresource": str, "time": str},),
}

_CONDITIONS: Shape = (
    {"type": str, "status": str, "reason": str, "message": str, "lastTransitionTime": str, "observedGeneration": int},
)

_STATE: Shape = {
    "waiting": {"reason": str, "message": str},
    "running": {"startedAt": str},
    "terminated": {"exitCode": int, "signal": int, "reason": str, "message": str, "startedAt": str, "finishedAt": str},
}
_CONTAINERS: Shape = (
    {
        "name": str,
        "image": str,
        "imageID": str,
        "ready": bool,
        "started": bool,
        "restartCount": int,
        "state": _STATE,
        "lastState": _STATE,
    },
)

_PARENT: Shape = {"group": str, "kind": str, "namespace": str, "name": str, "sectionName": str, "port": int}
_MATCH: Shape = {
    "path": {"type": str, "value": str},
    "headers": ({"type": str, "name": str, "value": str},),
}

_SHAPES: Mapping[Kind, Mapping[str, Shape]] = {
    MODEL_DEPLOYMENT: {"status": {}},
    CONTROLLER_REVISION: {},
    DEPLOYMENT: {"spec": {"replicas": int}, "status": {"conditions": _CONDITIONS}},
    SERVICE: {"spec": {"selector": _TEXTS}},
    POD_DISRUPTION_BUDGET: {"spec": {}},
    POD: {
        "spec": {
            "nodeName": str,
            "volumes": ({"name": str, "persistentVolumeClaim": {"claimName": str}},),
        },
        "status": {
            "phase": str,
            "podIP": str,
            "conditions": _CONDITIONS,
            "containerStatuses": _CONTAINERS,
            "initContainerStatuses": _CONTAINERS,
        },
    },
    ENDPOINT_SLICE: {
        "endpoints": (
            {
                "addresses": (str,),
                "conditions": {"ready": bool, "serving": bool, "terminating": bool},
                "targetRef": {"uid": str},
            },
        )
    },
    HTTP_ROUTE: {
        "spec": {
            "hostnames": (str,),
            "parentRefs": (_PARENT,),
            "rules": ({"matches": (_MATCH,), "backendRefs": ({"name": str, "weight": int},)},),
        },
        "status": {"parents": ({"parentRef": _PARENT, "conditions": _CONDITIONS},)},
    },
}

_COUNTS = range(1 << 31)


def shaped(kind: Kind, obj: Object) -> Object | None:
    """`obj` without what is not of the API's type; not a copy if all is. None if it is no object with name and uid."""
    if not isinstance(obj, dict):
        return None
    found = _fields(obj, {"metadata": _METADATA, **_SHAPES.get(kind, {})})
    return found if name_of(found) and namespace_of(found) and uid_of(found) else None


def all_shaped(kind: Kind, found: Iterable[Object]) -> list[Object]:
    """Each object as `shaped` returns it, without those that are none."""
    return [obj for each in found if (obj := shaped(kind, each)) is not None]


def _fits(value: Any, shape: Shape) -> bool:
    """Whether `value` is of the shape's own type; what it contains is looked at by `_cut`."""
    if value is None:
        return True  # not set, as the API has it
    if shape is int:
        return isinstance(value, int) and not isinstance(value, bool) and value in _COUNTS
    if shape is str:
        return isinstance(value, str) and (value.isascii() or _is_unicode(value))
    if isinstance(shape, type):
        return isinstance(value, shape)
    return isinstance(value, list if isinstance(shape, tuple) else dict)


def _is_unicode(text: str) -> bool:
    """Whether it can be written again: JSON can hold half a character (`\\ud800`), and UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cut(value: Any, shape: Shape) -> Any:
    if isinstance(shape, tuple) and isinstance(value, list):
        return _items(value, shape[0])
    if isinstance(shape, Mapping) and isinstance(value, dict):
        return _fields(value, shape)
    return value


def _fields(obj: Object, shape: Mapping[str, Shape]) -> Object:
    changed: Object = {}
    wrong: list[str] = []
    rest = shape.get(_ANY)
    for name, value in obj.items() if rest is not None else ((name, obj[name]) for name in shape if name in obj):
        wanted = rest if rest is not None else shape[name]
        if not _fits(value, wanted):
            wrong.append(name)
        elif (cut := _cut(value, wanted)) is not value:
            changed[name] = cut
    if not wrong and not changed:
        return obj
    return {name: changed.get(name, value) for name, value in obj.items() if name not in wrong}


def _items(items: list[Any], shape: Shape) -> list[Any]:
    kept = [_cut(item, shape) for item in items if item is not None and _fits(item, shape)]
    same = len(kept) == len(items) and all(one is other for one, other in zip(kept, items, strict=True))
    return items if same else kept
