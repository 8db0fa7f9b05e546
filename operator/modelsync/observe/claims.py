"""Which host names and paths a ModelDeployment or an HTTPRoute claims."""

from typing import Any

from modelsync.api.kinds import Object
from modelsync.api.traffic import DEFAULT_PATHS
from modelsync.observe.fields import mapping, objects


def hosts_of_owner(obj: Object) -> tuple[str, ...]:
    """The host names that a ModelDeployment claims; `*` if it sets a gateway without host names."""
    gateway = _gateway(obj)
    return (_texts(gateway.get("hostnames")) or ("*",)) if gateway else ()


def hosts_of_route(obj: Object) -> tuple[str, ...]:
    """The host names of an HTTPRoute; `*` if it has none."""
    return tuple(str(host) for host in mapping(obj.get("spec")).get("hostnames") or ("*",))


def paths_of_owner(obj: Object) -> tuple[str, ...]:
    """The paths that a ModelDeployment publishes."""
    return _texts(_gateway(obj).get("paths")) or DEFAULT_PATHS


def paths_of_route(obj: Object) -> tuple[str, ...]:
    """The paths of an HTTPRoute without trailing slash. Only equal paths conflict; longer and shorter ones do not."""
    found: dict[str, None] = {}
    for rule in objects(mapping(obj.get("spec")).get("rules")):
        for match in objects(rule.get("matches")):
            path = mapping(match.get("path"))
            if path.get("type", "PathPrefix") in ("PathPrefix", "Exact"):
                found[str(path.get("value", "/")).rstrip("/")] = None
    return tuple(found)


def _gateway(obj: Object) -> Object:
    return mapping(mapping(mapping(obj.get("spec")).get("traffic")).get("gateway"))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
