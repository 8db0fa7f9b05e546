"""Which ModelDeployment somebody means: the one of that name, or an error that tells which there are."""

import difflib

from modelsync.api import names
from modelsync.kubectl.cluster.objects import Cluster, Object, model_deployments
from modelsync.kubectl.errors import KindMissingError, NotThereError, PluginError

_SHOWN = 5
"""How many names an error tells; `get` lists them all."""


def one(api: Cluster, name: str) -> Object:
    """The one of the namespace. Raises PluginErrors."""
    try:
        return api.get(model_deployments(api.namespace, name))
    except KindMissingError:
        raise
    except NotThereError:
        raise not_there(api, api.namespace, name) from None


def not_there(api: Cluster, namespace: str, name: str) -> NotThereError:
    """That there is none, with names that may have been meant as far as the user may see them."""
    said = f'{names.CRD_NAME} "{name}" not found in namespace {namespace}'
    there = _names(api, namespace)
    near = difflib.get_close_matches(name, there, n=_SHOWN)
    if near:
        return NotThereError(f"{said}; did you mean {' or '.join(near)}?")
    elsewhere = _namespaces(api, name)
    if elsewhere:
        return NotThereError(f"{said}; there is one in {', '.join(elsewhere[:_SHOWN])}: add -n {elsewhere[0]}")
    if there:
        more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
        return NotThereError(f"{said}; there are: {', '.join(there[:_SHOWN])}{more}")
    return NotThereError(f"{said}; `kubectl modelsync get -A` lists those of all namespaces")


def gone(name: str) -> NotThereError:
    """That it was deleted while somebody looked on."""
    return NotThereError(f'{names.CRD_NAME} "{name}" was deleted')


def _names(api: Cluster, namespace: str) -> list[str]:
    try:
        items = api.list(model_deployments(namespace))["items"]
    except PluginError:
        return []  # who may `get` and not `list` is told no names
    return sorted(str(item["metadata"]["name"]) for item in items)


def _namespaces(api: Cluster, name: str) -> list[str]:
    try:
        items = api.list(model_deployments(None), fields=f"metadata.name={name}")["items"]
    except PluginError:
        return []
    return sorted(str(item["metadata"]["namespace"]) for item in items)
