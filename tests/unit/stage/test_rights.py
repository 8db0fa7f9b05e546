"""The operator's requests in the API server's audit log are compared with the table of its permissions."""

import json
from pathlib import Path
from typing import Any

import pytest

from stage.rights import GRANTED, NEVER_ASKED, SELDOM, Use, uses

ACCOUNT = "system:serviceaccount:modelsync-system:modelsync"


def event(use: Use, *, code: int = 200, message: str = "", user: str = ACCOUNT, decision: str = "allow") -> str:
    resource, _, subresource = use.resource.partition("/")
    body: dict[str, Any] = {
        "verb": use.verb,
        "user": {"username": user},
        "responseStatus": {"code": code, "message": message},
        "annotations": {"authorization.k8s.io/decision": decision},
        "objectRef": {"resource": resource, "apiGroup": use.group, "subresource": subresource},
    }
    return json.dumps(body)


def log(folder: Path, *lines: str) -> Path:
    path = folder / "audit.log"
    path.write_text("\n".join(lines))
    return path


def test_a_request_outside_of_the_table_is_found_whether_or_not_it_was_refused(tmp_path: Path) -> None:
    listing, nodes = Use("", "secrets", "list"), Use("", "nodes", "get")
    found = uses(log(tmp_path, event(listing, code=403, decision="forbid"), event(nodes)))
    assert found.missing == {listing, nodes}


def test_a_right_on_one_object_is_missing_where_another_was_asked_for(tmp_path: Path) -> None:
    lease = Use("coordination.k8s.io", "leases", "get")
    assert lease in GRANTED
    assert uses(log(tmp_path, event(lease, code=403, decision="forbid"))).missing == {lease}


def test_a_write_that_the_policy_for_the_account_refused_is_missing(tmp_path: Path) -> None:
    deleted = Use("", "pods", "delete")
    message = (
        "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'modelsync-operator' with binding 'modelsync-operator' "
        "denied request: the operator may not delete pods prod/x: it is not modelsync's"
    )
    assert uses(log(tmp_path, event(deleted), event(deleted, code=403, message=message))).missing == {deleted}


def test_rights_that_an_uninstallation_has_taken_away_are_not_missing(tmp_path: Path) -> None:
    looked, renewed = (Use("coordination.k8s.io", "leases", verb) for verb in ("get", "update"))
    assert not uses(log(tmp_path, event(looked), event(renewed, code=403, decision="forbid"))).missing


def test_a_terminating_namespace_is_not_a_missing_permission(tmp_path: Path) -> None:
    assert not uses(log(tmp_path, event(Use("", "services", "create"), code=403))).missing


def test_an_unused_permission_is_found(tmp_path: Path) -> None:
    first, *others = sorted(GRANTED - NEVER_ASKED - SELDOM)
    assert uses(log(tmp_path, *map(event, others))).unused == {first}


def test_an_apply_that_makes_its_object_uses_the_right_to_create(tmp_path: Path) -> None:
    made, changed = Use("", "services", "patch"), Use("gateway.networking.k8s.io", "httproutes", "patch")
    found = uses(log(tmp_path, event(made, code=201), event(changed)))
    assert made._replace(verb="create") in found.asked
    assert changed._replace(verb="create") not in found.asked


@pytest.mark.parametrize(
    ("user", "counts"),
    [
        (ACCOUNT, True),
        ("system:serviceaccount:elsewhere:charted-modelsync", True),
        ("system:serviceaccount:kube-system:daemon-set-controller", False),
        ("modelsync", False),
    ],
)
def test_only_requests_of_a_releases_account_count(tmp_path: Path, user: str, counts: bool) -> None:
    assert bool(uses(log(tmp_path, event(Use("", "nodes", "list"), user=user))).missing) is counts


def test_requests_without_an_object_and_a_truncated_line_are_ignored(tmp_path: Path) -> None:
    assert not uses(log(tmp_path, json.dumps({"verb": "get"}), event(Use("", "pods", "get"))[:-5])).asked


def test_what_is_excepted_is_granted() -> None:
    assert NEVER_ASKED | SELDOM <= GRANTED
