"""Which host names and paths a ModelDeployment or an HTTPRoute claims."""

from modelsync.api.kinds import Object
from modelsync.api.traffic import DEFAULT_PATHS


def hosts_of_owner(obj: Object) -> tuple[str, ...]:
    """The host names that a ModelDeployment claims; `*` if it sets a gateway without host names."""
    gateway = ((obj.get("spec") or {}).get("traffic") or {}).get("gateway")
    if not isinstance(gateway, dict):
        return ()
    return tuple(str(host) for host in gateway.get("hostnames") or ("*",))


def hosts_of_route(obj: Object) -> tuple[str, ...]:
    """The host names of an HTTPRoute; `*` if it has none."""
    return tuple(str(host) for host in (obj.get("spec") or {}).get("hostnames") or ("*",))


def paths_of_owner(obj: Object) -> tuple[str, ...]:
    """The paths that a ModelDeployment publishes."""
    gateway = ((obj.get("spec") or {}).get("traffic") or {}).get("gateway")
    return tuple(map(str, (gateway.get("paths") if isinstance(gateway, dict) else None) or DEFAULT_PATHS))


def paths_of_route(obj: Object) -> tuple[str, ...]:
    """The paths of an HTTPRoute without trailing slash. Only equal paths conflict; longer and shorter ones do not."""
    found: dict[str, None] = {}
    for rule in (obj.get("spec") or {}).get("rules") or ():
        for match in rule.get("matches") or ():
            path = match.get("path") or {}
            if path.get("type", "PathPrefix") in ("PathPrefix", "Exact"):
                found[str(path.get("value", "/")).rstrip("/")] = None
    return tuple(found)
