"""How old the knowledge of marks is, across restarts, and what is known of a revision whose record is gone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelsync.api import names
from modelsync.api.hold import OnStale
from modelsync.api.settings import HoldSettings
from modelsync.observe.family import Family
from modelsync.observe.gather import Gathered
from modelsync.observe.hold_watch import watches
from modelsync.observe.sightings import Sightings
from modelsync.observe.spec_status import MAX_UNRECORDED, read
from modelsync.report.report import report
from modelsync.rollout import plan
from modelsync.rollout.model import CutOff, SetRoute
from unit.observe.builders import SETTINGS, a_record, family, live, model_deployment, spec
from unit.observe.test_gather import answers, gathered, resolved

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
BLOCK = SETTINGS.model_copy(update={"hold": HoldSettings(on_stale=OnStale.BLOCK)})
RECORD, BODY = a_record()
REVISION = RECORD.revision


def serving(status: dict[str, Any] | None = None) -> Family:
    return family((RECORD, BODY), weights=((REVISION, 100),), plain=REVISION, status=status or {"promoted": [REVISION]})


def passed(found: Family, now: datetime, sightings: Sightings, replies: Any = None) -> tuple[Gathered, dict[str, Any]]:
    """One pass; returns the status that it writes."""
    made = gathered(found, replies, settings=BLOCK, sightings=sightings, now=now)
    written = report(made.observed, plan(made.observed), made.read.status, name="chat").status
    return made, written.wire()


def is_blocked(made: Gathered) -> bool:
    return any(isinstance(action, SetRoute) for action in plan(made.observed).actions)


# --- restarts --------------------------------------------------------------------------------------------------------


def test_a_process_that_has_just_started_does_not_declare_anything_stale() -> None:
    made, status = passed(serving(), NOW, Sightings())
    assert not is_blocked(made)
    assert status["holdsKnownAt"] == "2026-11-21T09:00:00Z"
    known = next(each for each in status["conditions"] if each["type"] == "HoldsKnown")
    assert known["status"] == "Unknown"


def test_once_the_registry_has_answered_nothing_is_left_in_the_status() -> None:
    sightings = Sightings()
    _, status = passed(serving(), NOW, sightings)
    made, status = passed(serving(status), NOW + timedelta(seconds=1), sightings, answers(resolved()))
    assert "holdsKnownAt" not in status
    assert made.observed.revisions[REVISION].unread_since is None


def test_a_restart_loop_with_a_dead_registry_does_not_start_the_time_again() -> None:
    _, status = passed(serving(), NOW, Sightings())
    for minutes in range(1, 5):
        made, status = passed(serving(status), NOW + timedelta(minutes=minutes), Sightings())
        assert not is_blocked(made), f"{minutes} minutes"
    made, status = passed(serving(status), NOW + timedelta(minutes=5), Sightings())
    assert is_blocked(made)
    assert status["holdsKnownAt"] == "2026-11-21T09:00:00Z"


def test_a_time_in_the_status_that_lies_ahead_does_not_postpone_anything() -> None:
    """Somebody, or another clock, wrote it."""
    ahead = {"promoted": [REVISION], "holdsKnownAt": "2030-01-01T00:00:00Z"}
    made, _ = passed(serving(ahead), NOW, Sightings())
    assert made.observed.revisions[REVISION].unread_since == NOW


def test_what_is_not_in_play_is_not_waited_for() -> None:
    cold = Family(serving().key, model_deployment(), {BODY["metadata"]["name"]: BODY})
    made = gathered(cold, sightings=Sightings())
    assert made.observed.revisions[REVISION].unread_since is None


# --- a record that is gone -------------------------------------------------------------------------------------------


def without_record(found: Family) -> Family:
    return replace(found, records={})


def unreadable(found: Family) -> Family:
    bad = {**BODY, "data": {"format": 99}}
    return replace(found, records=dict.fromkeys(found.records, bad))


def pod(revision: str = REVISION, template: dict[str, Any] | None = None, name: str = "chat-pod") -> dict[str, Any]:
    """A pod of the revision's template, or of another one."""
    made = template or RECORD.template["spec"]["template"]
    labels = {names.NAME_LABEL: "chat", names.REVISION_LABEL: revision}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": made.get("spec")}
    return live(body)


def only_pods(*pods: dict[str, Any]) -> Family:
    return replace(without_record(serving()), deployments={}, pods=pods)


@pytest.mark.parametrize(
    "found",
    [without_record(serving()), unreadable(serving()), only_pods(pod())],
    ids=["gone", "unreadable", "only a pod is left"],
)
def test_what_a_revision_without_its_record_contains_is_read_from_what_runs(found: Family) -> None:
    made = gathered(found)
    view = made.observed.revisions[REVISION]
    assert view.digests == RECORD.digests
    assert not view.recorded
    question = made.read.question
    assert {(each.collection, each.version, each.artifact_id, each.digest) for each in question.served} == {
        (each.collection, each.version, each.artifact_id, each.digest)
        for each in gathered(serving()).read.question.served
    }, "it is watched as before"


def test_it_is_watched_where_its_template_pulls_from() -> None:
    elsewhere = spec(registry={**spec()["registry"], "auth": {"secretKeyRef": {"name": "dead", "key": "K"}}})
    owner = model_deployment(spec=elsewhere, status={"promoted": [REVISION]})
    found = replace(without_record(serving()), owner=owner)
    (watch,) = watches(read(found, SETTINGS), SETTINGS)
    assert watch.registry.auth.secret_key_ref.name == "wandb"
    assert {each.digest for each in watch.question.served} == set(RECORD.digests)


def test_a_hold_acts_on_a_revision_whose_record_is_gone() -> None:
    replies = answers(resolved(tags=("regulatory-hold",)))
    made = gathered(without_record(serving()), replies)
    assert CutOff(REVISION) in plan(made.observed).actions


@pytest.mark.parametrize(
    "template",
    [
        {"spec": {}},
        {"spec": {"initContainers": "many"}},
        {"spec": {"initContainers": [7, {"name": 3, "args": 4}, {"name": "pull", "args": ["pull", None, "--digest"]}]}},
        {"spec": {"initContainers": [{"name": "pull", "args": ["pull", "--digest=../../etc"]}]}},
        {"spec": {"initContainers": [{"name": "pull", "args": ["push", "--digest=0123456789abcdef"]}]}},
        {
            "spec": {
                "initContainers": [{"name": f"pull-{n}", "args": ["pull", f"--digest={n:08x}"]} for n in range(999)],
            }
        },
    ],
    ids=["no spec", "no list", "no containers", "no digest", "not ours", "far too many"],
)
def test_a_pod_of_any_form_leaves_the_content_unknown_or_bounded(template: dict[str, Any]) -> None:
    found = only_pods(*(pod(template=template, name=f"chat-{number}") for number in range(2)))
    view = gathered(found).observed.revisions[REVISION]
    assert len(view.digests) <= 64
    if "pull-3" not in str(template):
        assert view.digests == ()
    assert gathered(found).read.question.served == frozenset()


def test_of_too_many_digests_those_of_the_first_pods_count() -> None:
    def claims(first: int) -> dict[str, Any]:
        pulls = [{"name": f"pull-{n}", "args": ["pull", f"--digest={n + first:08x}"]} for n in range(100)]
        return {"spec": {"initContainers": pulls}}

    crowd = [pod(template=claims(1000 * n), name=f"chat-{n}") for n in range(10)]
    digests = gathered(only_pods(*crowd)).observed.revisions[REVISION].digests
    assert len(digests) == 256
    assert f"{0:08x}" in digests


def test_pods_labelled_as_many_revisions_do_not_displace_what_serves() -> None:
    crowd = tuple(pod(f"v{number}-{number:08x}", name=f"chat-{number}") for number in range(100))
    found = replace(without_record(serving()), pods=crowd)
    unrecorded = read(found, SETTINGS).unrecorded
    assert REVISION in unrecorded
    assert len(unrecorded) == MAX_UNRECORDED
