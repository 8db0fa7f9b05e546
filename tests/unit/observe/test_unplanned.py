"""What serves without a plan, what it contains, and what of it is held."""

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from modelsync.api import names
from modelsync.api.hold import HoldMark, HoldSource
from modelsync.api.kinds import CONTROLLER_REVISION, DEPLOYMENT, POD_DISRUPTION_BUDGET, SERVICE, Object
from modelsync.observe.adoption import adoptable
from modelsync.observe.family import Family
from modelsync.observe.hold_watch import unplanned_places, unplanned_watches
from modelsync.observe.spec_status import read
from modelsync.observe.unplanned import (
    Unplanned,
    held_revisions,
    orphans_beside,
    orphans_of,
    unplanned_of,
)
from modelsync.resources.record import Record
from modelsync.rollout.model import Hold, HoldRead
from unit.observe.builders import KEY, SETTINGS, a_record, family, live, model_deployment

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
DIGEST = "0123456789abcdef"
MARK = HoldMark(DIGEST, "acme/r/chat", "v7", HoldSource.VERSION_TAG, "regulatory-hold")
READS = [{DIGEST: HoldRead(DIGEST, (MARK,), alias_mark_elsewhere=False, asked_at=NOW)}]


def serving() -> tuple[Record, Family]:
    record, body = a_record()
    return record, family((record, body), weights=((record.revision, 100),), plain=record.revision)


def pod(found: Family, record: Record) -> Object:
    (deployment,) = found.deployments.values()
    template = deployment["spec"]["template"]
    body = {"kind": "Pod", "metadata": {"name": "chat-1", "labels": template["metadata"]["labels"]}}
    return live({**body, "spec": template["spec"]})


@pytest.mark.parametrize("lost", ["nothing", "the record", "the record's content", "all but the pods"])
def test_what_is_marked_is_held_whatever_else_is_lost(lost: str) -> None:
    record, found = serving()
    left = replace(unplanned_of(found, ()), pods=(pod(found, record),))
    if lost == "the record's content":
        left = replace(left, records={name: {**body, "data": None} for name, body in left.records.items()})
    elif lost != "nothing":
        left = replace(left, records={})
    if lost == "all but the pods":
        left = replace(left, deployments={}, services={}, route=None)
    assert set(held_revisions(left, READS, ())) == {record.revision}
    assert set(held_revisions(left, [], [Hold(MARK, NOW)])) == {record.revision}, "seen by others"
    assert set(held_revisions(left, [], ())) == set()
    (watch,) = unplanned_watches(left, SETTINGS)
    assert {each.digest for each in watch.question.served} == {DIGEST}
    assert watch.registry.auth.secret_key_ref.name == "wandb"
    assert unplanned_places(left) == {("https://wandb.example.com", DIGEST)}


def test_a_latched_hold_is_not_lifted_without_a_plan() -> None:
    record, found = serving()
    left = unplanned_of(found, (Hold(MARK, NOW),))
    clear = [{DIGEST: HoldRead(DIGEST, (), alias_mark_elsewhere=False, asked_at=NOW)}]
    assert set(held_revisions(left, clear, ())) == {record.revision}


def test_unknown_content_counts_as_held_only_while_a_hold_is_latched() -> None:
    bare = live({"kind": "Pod", "metadata": {"name": "x", "labels": names.labels("chat", "v9-00000009")}, "spec": {}})
    left = Unplanned(KEY, pods=(bare,))
    assert set(held_revisions(left, READS, ())) == set()
    assert set(held_revisions(replace(left, latched=(Hold(MARK, NOW),)), [], ())) == {"v9-00000009"}


def test_names_that_somebody_adds_do_not_displace_what_runs() -> None:
    record, found = serving()
    (deployment,) = found.deployments.values()
    decoys = {
        f"chat-v0-{n:08x}": {
            **deployment,
            "metadata": {**deployment["metadata"], "name": f"chat-v0-{n:08x}"},
            "spec": {"replicas": 0, "template": {"spec": {}}},
        }
        for n in range(500)
    }
    left = replace(unplanned_of(found, ()), deployments={**decoys, **found.deployments})
    assert next(iter(left.exposed)) == record.revision
    assert set(held_revisions(left, READS, ())) == {record.revision}
    (watch,) = unplanned_watches(left, SETTINGS)
    assert DIGEST in {each.digest for each in watch.question.served}


def test_pods_that_claim_to_pull_anything_do_not_hide_what_the_template_pulls() -> None:
    record, found = serving()
    real = pod(found, record)
    (init,) = real["spec"]["initContainers"]

    def pulls(digest: str) -> Object:
        return {
            **init,
            "args": [f"--digest={digest}" if each.startswith("--digest=") else each for each in init["args"]],
        }

    decoy = {**real, "spec": {**real["spec"], "initContainers": [pulls(f"{n:032x}") for n in range(64)]}}
    left = replace(unplanned_of(found, ()), pods=(decoy,) * 5)
    assert set(held_revisions(left, READS, ())) == {record.revision}


# --- orphans and their adoption ---


def orphaned(obj: Object) -> Object:
    without: Object = copy.deepcopy(obj)
    del without["metadata"]["ownerReferences"]
    return without


def children(found: Family) -> dict[Any, list[Object]]:
    return {
        CONTROLLER_REVISION: [orphaned(each) for each in found.records.values()],
        DEPLOYMENT: [orphaned(each) for each in found.deployments.values()],
        SERVICE: [orphaned(each) for each in found.services.values()],
        POD_DISRUPTION_BUDGET: [],
    }


def names_of(adopted: Any) -> set[str]:
    return {f"{kind}/{obj['metadata']['name']}" for kind, obj in adopted}


def test_what_the_operator_wrote_is_adopted() -> None:
    record, found = serving()
    assert found.route is not None
    child = f"chat-{record.revision}"
    assert names_of(adoptable("chat", children(found), orphaned(found.route))) == {
        f"ControllerRevision/{child}",
        f"Deployment/{child}",
        f"Service/{child}",
        "Service/chat",
        "Service/chat-blocked",
        "HTTPRoute/chat",
    }


def test_what_has_an_owner_is_not_adopted() -> None:
    _, found = serving()
    owned = {
        CONTROLLER_REVISION: list(found.records.values()),
        DEPLOYMENT: list(found.deployments.values()),
        SERVICE: list(found.services.values()),
    }
    assert adoptable("chat", owned, found.route) == ()


def edited_inputs(record: Object) -> None:
    record["data"]["inputs"]["serving"]["image"] = "evil:1"


def edited_label(record: Object) -> None:
    record["metadata"]["labels"][names.NAME_LABEL] = "other"


@pytest.mark.parametrize("edit", [edited_inputs, edited_label])
def test_a_record_that_does_not_verify_is_not_adopted_nor_what_depends_on_it(edit: Any) -> None:
    _, found = serving()
    each = children(found)
    edit(each[CONTROLLER_REVISION][0])
    assert names_of(adoptable("chat", each, None)) == {"Service/chat", "Service/chat-blocked"}


def test_a_deployment_that_is_not_its_records_is_not_adopted() -> None:
    record, found = serving()
    each = children(found)
    each[DEPLOYMENT][0]["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    assert f"Deployment/chat-{record.revision}" not in names_of(adoptable("chat", each, None))


def test_children_of_somebody_else_are_no_orphans() -> None:
    _, found = serving()
    each = children(found)
    each[DEPLOYMENT][0]["metadata"]["ownerReferences"] = [{"kind": "Rollout", "uid": "x", "controller": True}]
    assert not orphans_of(KEY, each, (), None).deployments


def test_children_of_a_model_deployment_that_is_gone_are_orphans() -> None:
    _, found = serving()
    left = orphans_of(KEY, {DEPLOYMENT: found.deployments.values()}, (), found.route)
    assert left.deployments
    assert left.route is not None


def test_pods_of_what_is_owned_are_no_orphans() -> None:
    record, found = serving()
    running = replace(found, pods=(pod(found, record),))
    assert orphans_beside(running).pods == ()
    beside = replace(running, deployments={}, foreign={DEPLOYMENT: tuple(children(found)[DEPLOYMENT])})
    assert len(orphans_beside(beside).pods) == 1


# --- a status that was lost ---


def test_what_the_service_selects_was_the_stable_when_the_status_is_lost() -> None:
    record, found = serving()
    assert read(found, SETTINGS).state.promoted == (record.revision,)


def test_a_status_with_an_intent_is_not_corrected() -> None:
    record, found = serving()
    target = {"revision": "v8-00000008", "reason": "First", "startedAt": "2026-11-21T09:00:00Z"}
    moving = replace(found, owner=model_deployment(status={"target": target}))
    assert read(moving, SETTINGS).state.promoted == ()
    assert record.revision


@pytest.mark.parametrize("plain", [None, names.BLOCKED, "v8-00000008"])
def test_nothing_is_made_the_stable_that_does_not_serve(plain: str | None) -> None:
    record, body = a_record()
    found = family((record, body), weights=((record.revision, 100),), plain=plain)
    assert read(found, SETTINGS).state.promoted == ()
