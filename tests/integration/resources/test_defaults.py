"""The API server adds only the listed fields to each child, compared with what was rendered.

A comparison of the children with what the operator renders (`kubectl diff`, a GitOps tool that tracks them) must not
show a permanent difference.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from apiserver import ApiServer
from integration.resources.test_objects import applied, children
from modelsync.api import names
from modelsync.api.routing import Routing
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.resources.objects import Object, Owner
from modelsync.resources.record import Record
from modelsync.resources.route import http_route

ALLOCATED = "the cluster gives it: no value could be rendered"
UNCHANGING = "Kubernetes' own default, the same in every version; a field that is left out is compared by nobody"

ADDED: dict[str, dict[str, str]] = {
    "ControllerRevision": {},
    "Secret": {},
    "PodDisruptionBudget": {},
    "HTTPRoute": {},
    "Service": {
        "spec.clusterIP": ALLOCATED,
        "spec.clusterIPs": ALLOCATED,
        "spec.ipFamilies": ALLOCATED,
        "spec.ipFamilyPolicy": ALLOCATED,
        "spec.internalTrafficPolicy": UNCHANGING,
        "spec.sessionAffinity": UNCHANGING,
    },
    "Deployment": {
        "spec.template.spec.dnsPolicy": UNCHANGING,
        "spec.template.spec.restartPolicy": UNCHANGING,
        "spec.template.spec.schedulerName": UNCHANGING,
        "spec.template.spec.containers[].terminationMessagePath": UNCHANGING,
        "spec.template.spec.containers[].livenessProbe.successThreshold": UNCHANGING,
        "spec.template.spec.containers[].readinessProbe.successThreshold": UNCHANGING,
        "spec.template.spec.containers[].startupProbe.successThreshold": UNCHANGING,
        "spec.template.spec.volumes[].configMap.defaultMode": UNCHANGING,
    },
}
"""Kind -> path -> why the operator does not render it."""


def added(given: Any, live: Any, at: str = "") -> Iterator[str]:
    """Paths in `live` that are not in `given`; the items of a list are one path."""
    if isinstance(given, dict) and isinstance(live, dict):
        for key, value in live.items():
            path = f"{at}.{key}".lstrip(".")
            if key not in given:
                yield path
            else:
                yield from added(given[key], value, path)
    elif isinstance(given, list) and isinstance(live, list):
        for one, other in zip(given, live, strict=True):
            yield from added(one, other, f"{at}[]")


def test_the_api_server_adds_nothing_to_a_child_but_what_is_listed(
    api: ApiServer, owner: Owner, spec: ModelDeploymentSpec, make_record: Callable[[str], Object]
) -> None:
    made = make_record("v9")
    record = Record.parse(applied(api, made))
    route = http_route(owner, spec.traffic, Routing(((record.revision, 95), (names.BLOCKED, 5))))
    found: dict[str, set[str]] = {kind: set() for kind in ADDED}
    for child in (made, *children(owner, record), route):
        paths = added(child, applied(api, child))
        found[child["kind"]] |= {path for path in paths if not re.match(r"(metadata|status)\b", path)}
    assert found == {kind: set(paths) for kind, paths in ADDED.items()}


def test_a_default_that_is_not_rendered_is_found() -> None:
    assert list(added({"spec": {"ports": [{"port": 1}]}}, {"spec": {"ports": [{"port": 1, "protocol": "TCP"}]}})) == [
        "spec.ports[].protocol"
    ]
