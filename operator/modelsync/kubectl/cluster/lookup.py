"""Finds a ModelDeployment by name, or raises an error that suggests others."""

import difflib

from modelsync.api import names
from modelsync.kubectl.cluster.objects import Cluster, Object, model_deployments
from modelsync.kubectl.errors import KindMissingError, NotFoundError, PluginError

_SHOWN = 5
"""How many names an error lists; `get` lists them all."""


def one(api: Cluster, name: str) -> Object:
    """The ModelDeployment of that name in the namespace. Raises PluginErrors."""
    try:
        return api.get(model_deployments(api.namespace, name))
    except KindMissingError:
        raise
    except NotFoundError:
        raise not_found(api, api.namespace, name) from None


def not_found(api: Cluster, namespace: str, name: str) -> NotFoundError:
    """The error for a name that does not exist, with suggestions as far as the user may list them."""
    problem = f'{names.CRD_NAME} "{name}" not found in namespace {namespace}'
    existing = _names(api, namespace)
    near = difflib.get_close_matches(name, existing, n=_SHOWN)
    if near:
        return NotFoundError(f"{problem}; did you mean {' or '.join(near)}?")
    elsewhere = _namespaces(api, name)
    if elsewhere:
        return NotFoundError(f"{problem}; it exists in {', '.join(elsewhere[:_SHOWN])}: add -n {elsewhere[0]}")
    if existing:
        more = f" and {len(existing) - _SHOWN} more" if len(existing) > _SHOWN else ""
        return NotFoundError(f"{problem}; found there: {', '.join(existing[:_SHOWN])}{more}")
    return NotFoundError(f"{problem}; list all namespaces with `kubectl modelsync get -A`")


def deleted(name: str) -> NotFoundError:
    """The error for an object that was deleted while a command followed it."""
    return NotFoundError(f'{names.CRD_NAME} "{name}" was deleted')


def _names(api: Cluster, namespace: str) -> list[str]:
    try:
        items = api.list(model_deployments(namespace))["items"]
    except PluginError:
        return []  # the user may `get` but not `list`: no suggestions
    return sorted(str(item["metadata"]["name"]) for item in items)


def _namespaces(api: Cluster, name: str) -> list[str]:
    try:
        items = api.list(model_deployments(None), fields=f"metadata.name={name}")["items"]
    except PluginError:
        return []
    return sorted(str(item["metadata"]["namespace"]) for item in items)
