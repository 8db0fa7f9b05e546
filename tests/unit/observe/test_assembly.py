"""A family is assembled from the children that the ModelDeployment controls; its status names more children to read."""

from typing import Any

import pytest

from modelsync.api.kinds import DEPLOYMENT, SERVICE, Key
from modelsync.observe.assembly import CONTROLLED_KINDS, Rivals, assemble, children_to_read
from modelsync.observe.family import Family

KEY = Key("prod", "chat")


def owner(status: Any = None) -> dict[str, Any]:
    return {"metadata": {"name": "chat", "namespace": "prod", "uid": "uid-1"}, "status": status}


def child(name: str, owner_uid: str) -> dict[str, Any]:
    reference = {"uid": owner_uid, "controller": True}
    return {"metadata": {"name": name, "namespace": "prod", "uid": f"of-{name}", "ownerReferences": [reference]}}


def test_only_controlled_children_and_the_controlled_route_belong_to_the_family() -> None:
    children = {kind: [child("ours", "uid-1"), child("theirs", "uid-2")] for kind in CONTROLLED_KINDS}

    family = assemble(
        KEY,
        owner(),
        children,
        pods=[],
        slices=[],
        route=child("chat", "uid-2"),
        gateway_api=True,
        rivals=Rivals(),
    )

    for found in (family.records, family.deployments, family.services, family.budgets):
        assert found.keys() == {"ours"}
    assert family.route is None


def test_the_children_of_revisions_in_the_status_are_read_too() -> None:
    status = {"promoted": ["v1-1", "v2-2"], "canary": {"revision": "v3-3"}}

    found = children_to_read(Family(KEY, owner(status)))

    assert {name for kind, name in found if kind == DEPLOYMENT} == {"chat-v2-2", "chat-v3-3"}
    assert {name for kind, name in found if kind == SERVICE} == {"chat", "chat-v2-2", "chat-v3-3"}


@pytest.mark.parametrize("status", [None, {}, {"promoted": "v1", "target": []}, {"promoted": [["v1"]], "canary": {}}])
def test_an_odd_status_adds_nothing(status: Any) -> None:
    assert children_to_read(Family(KEY, owner(status))) == [(SERVICE, "chat")]
