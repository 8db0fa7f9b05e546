"""Converting objects and answers to the planner's view."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelsync.api.hold import HoldAction
from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.api.registry import Registry
from modelsync.api.settings import HoldSettings, OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.observe.gather import Gathered, gather, policy
from modelsync.observe.sightings import Sightings
from modelsync.observe.spec_status import UnreadableError, read
from modelsync.registry.model import (
    Answers,
    Artifact,
    CollectionRead,
    Denied,
    Kept,
    Link,
    Missing,
    Resolved,
    Throttled,
    Unreachable,
)
from modelsync.rollout.model import BLOCKED, Exam, ExamOutcome, Pause, RegistryOutcome, SetWeight
from unit.observe.builders import SETTINGS, a_record, family, model_deployment, spec

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ASKED = NOW - timedelta(seconds=3)
HOME = CollectionRef("acme", "wandb-registry-model", "chat llm")
REF = ModelRef("acme", "wandb-registry-model", "chat llm", "production")


def resolved(version: int = 7, digest: str = "0123456789abcdef", **parts: Any) -> Resolved:
    tags = frozenset(parts.pop("tags", ()))
    link = Link(HOME, f"v{version}", frozenset({"production"}), frozenset())
    found = Artifact(
        artifact_id=f"id-v{version}",
        digest=digest,
        digest_algorithm=None,
        state=parts.pop("state", "COMMITTED"),
        size=1000,
        file_count=6,
        type="model",
        tags=tags,
        metadata="",
        created_at="",
        updated_at="",
        source=CollectionRef("acme", "llm", "run"),
        source_version="v41",
        links=(link,),
    )
    return Resolved(
        ref=REF,
        collection_ref=HOME,
        version_index=version,
        aliases=frozenset({"production"}),
        collection_tags=frozenset(),
        artifact=found,
        asked_at=ASKED,
        answered_at=NOW,
    )


def collection() -> CollectionRead:
    return CollectionRead(
        collection=HOME,
        tags=frozenset(),
        aliases=frozenset({"production"}),
        hold_aliases=frozenset(),
        asked_at=ASKED,
        answered_at=NOW,
    )


def answers(latest: Any, positive: Resolved | None = None) -> Answers:
    if isinstance(latest, Resolved):
        positive = latest
    return Answers(
        refs={REF: Kept(latest=latest, positive=positive, since=NOW)},
        collections={HOME: Kept(latest=collection(), positive=collection(), since=NOW)},
        artifacts={},
    )


def gathered(found: Any, replies: Answers | None = None, **parts: Any) -> Gathered:
    given = {"settings": SETTINGS, "refusal": None, "sightings": Sightings(), "now": NOW} | parts
    return gather(read(found, given["settings"]), answers=replies, **given)


# --- the registry's answers ------------------------------------------------------------------------------------------


def test_before_the_first_answer_nothing_is_named() -> None:
    view = gathered(family()).observed.registry
    assert (view.outcome, view.candidate, view.asked_at) == (RegistryOutcome.PENDING, None, None)


def test_the_alias_answer_with_todays_spec_is_the_candidate() -> None:
    made = gathered(family(), answers(resolved()))
    candidate = made.observed.registry.candidate
    assert made.observed.registry.outcome is RegistryOutcome.RESOLVED
    assert made.observed.registry.asked_at == ASKED
    assert candidate is not None
    assert made.pinned is not None
    assert candidate.revision == made.pinned.revision == a_record()[0].revision
    assert candidate.digests == ("0123456789abcdef",)
    assert made.resolved is not None
    assert (made.resolved.version, made.resolved.source_version) == ("v7", "acme/llm/run:v41")


def test_after_a_restart_the_candidate_is_what_the_status_remembers_with_todays_spec() -> None:
    before = gathered(family(), answers(resolved())).resolved
    assert before is not None
    status = {"resolved": before.wire()}
    again = gathered(family(status=status)).observed.registry
    assert again.outcome is RegistryOutcome.PENDING
    assert again.asked_at is None, "this process has not queried anything"
    assert again.candidate is not None
    assert again.candidate.revision == before.revision

    edited = model_deployment(spec=spec(serving={"args": ["--max-model-len=128"]}), status=status)
    candidate = gathered(family(owner=edited)).observed.registry.candidate
    assert candidate is not None
    assert candidate.revision != before.revision
    assert candidate.content == before.content


def test_what_is_remembered_of_another_alias_is_not_believed() -> None:
    before = gathered(family(), answers(resolved())).resolved
    assert before is not None
    moved = model_deployment(
        spec=spec(modelRef="acme/wandb-registry-model/chat llm:staging"), status={"resolved": before.wire()}
    )
    assert gathered(family(owner=moved)).observed.registry.candidate is None


@pytest.mark.parametrize(
    ("latest", "outcome"),
    [
        (
            Missing(subject=REF, what="alias", message="no alias", asked_at=NOW, answered_at=NOW),
            RegistryOutcome.MISSING,
        ),
        (Unreachable(subject=REF, message="502", asked_at=NOW, answered_at=NOW), RegistryOutcome.UNREACHABLE),
        (
            Throttled(subject=REF, until=NOW + timedelta(minutes=1), message="429", asked_at=NOW, answered_at=NOW),
            RegistryOutcome.THROTTLED,
        ),
        (resolved(state="DELETED"), RegistryOutcome.WITHDRAWN),
        (resolved(state="PENDING"), RegistryOutcome.MISSING),
    ],
)
def test_a_failed_query_is_reported_and_the_last_answer_kept(latest: Any, outcome: RegistryOutcome) -> None:
    view = gathered(family(), answers(latest, positive=resolved())).observed.registry
    assert view.outcome is outcome
    assert view.message
    assert view.candidate is not None
    assert view.retry_at == (NOW + timedelta(minutes=1) if outcome is RegistryOutcome.THROTTLED else None)


def test_a_key_that_the_server_refuses_is_named_by_its_secret() -> None:
    denied = Denied(subject=REF, message="401", asked_at=NOW, answered_at=NOW)
    view = gathered(family(), answers(denied)).observed.registry
    assert view.outcome is RegistryOutcome.DENIED
    assert view.message == "401 (spec.registry.auth: Secret wandb, key WANDB_API_KEY)"


def test_a_refusal_names_what_to_put_right_and_since_when() -> None:
    sightings = Sightings()
    first = gathered(family(), refusal="Secret prod/wandb does not exist", sightings=sightings).observed.registry
    later = NOW + timedelta(minutes=5)
    view = gathered(
        family(), refusal="Secret prod/wandb does not exist", sightings=sightings, now=later
    ).observed.registry
    assert first.outcome is view.outcome is RegistryOutcome.REFUSED
    assert view.message == "Secret prod/wandb does not exist"
    assert view.since == NOW


def test_an_answer_that_no_pod_can_be_made_of_is_refused_and_nothing_breaks() -> None:
    view = gathered(family(), answers(resolved(digest="not hexadecimal!"))).observed.registry
    assert view.outcome is RegistryOutcome.REFUSED
    assert "digest" in view.message
    assert view.candidate is None


def test_a_hold_on_what_serves_is_read_though_the_alias_has_moved_on() -> None:
    old = a_record("v6", "aaaaaaaaaaaaaaaa")
    found = family(old, weights=((old[0].revision, 100),), plain=old[0].revision)
    question = read(found, SETTINGS).question
    assert {served.version for served in question.served} == {"v6"}
    assert question.hold.tags == frozenset({"regulatory-hold"})


def test_marks_become_hold_reads_by_digest() -> None:
    reads = gathered(family(), answers(resolved(tags=["regulatory-hold"]))).observed.holds
    (mark,) = reads["0123456789abcdef"].marks
    assert (mark.via, mark.name, mark.version) == ("VersionTag", "regulatory-hold", "v7")


def test_a_digest_that_was_not_read_is_unknown_and_not_clear() -> None:
    old = a_record("v6", "aaaaaaaaaaaaaaaa")
    reads = gathered(family(old, weights=((old[0].revision, 100),)), answers(resolved())).observed.holds
    assert "aaaaaaaaaaaaaaaa" not in reads
    assert reads["0123456789abcdef"].marks == ()


# --- problems --------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_allowed_is_not_to_be_asked() -> None:
    bad = spec()
    bad["registry"] = {**bad["registry"], "baseURL": "https://evil.example.com"}
    found = read(family(owner=model_deployment(spec=bad)), SETTINGS)
    assert found.not_to_ask is not None
    assert "https://evil.example.com" in found.not_to_ask
    assert [problem.reason for problem in found.problems] == ["InvalidSpec"]


def test_a_bad_argument_is_a_problem_but_the_registry_is_asked_all_the_same() -> None:
    owner = model_deployment(spec=spec(serving={"args": ["--trust-remote-code=true"]}))
    found = read(family(owner=owner), SETTINGS)
    assert found.not_to_ask is None
    assert "spec.serving.args" in found.problems[0].message


def test_a_missing_gateway_api_blocks_the_route_with_what_to_install() -> None:
    (problem,) = read(family(gateway_api=False), SETTINGS).problems
    assert problem.blocks_route
    assert "install the Gateway API" in problem.message


def test_a_spec_with_a_part_that_cannot_be_read_keeps_the_rest_so_that_holds_act() -> None:
    old = a_record("v6", "aaaaaaaaaaaaaaaa")
    owner = model_deployment(spec=spec(rollout={"steps": "all at once"}))
    found = read(family(old, owner=owner, weights=((old[0].revision, 100),)), SETTINGS)
    assert "spec.rollout" in found.problems[0].message
    assert {served.version for served in found.question.served} == {"v6"}


def test_a_spec_without_required_fields_is_unreadable() -> None:
    with pytest.raises(UnreadableError, match=r"spec\.modelRef"):
        read(family(owner=model_deployment(spec={"replicas": 1})), SETTINGS)


def test_a_status_that_someone_broke_is_read_as_far_as_it_goes() -> None:
    status = {"promoted": ["v6-aaaaaaaa"], "canary": "nonsense", "phase": "Unheard"}
    found = read(family(status=status), SETTINGS)
    assert found.state.promoted == ("v6-aaaaaaaa",)
    assert found.state.canary is None


def test_a_record_that_cannot_be_read_hides_no_pods() -> None:
    made, body = a_record()
    broken = (made, body | {"data": {"format": 99}})
    views = gathered(family(broken)).observed.revisions
    assert not views[made.revision].recorded
    assert views[made.revision].deployed
    assert views[made.revision].replicas == 2


def test_pods_that_an_earlier_one_of_the_same_name_left_do_not_hide_what_the_candidate_is_made_of() -> None:
    made = gathered(family(), answers(resolved())).pinned
    assert made is not None
    labels = {"modelsync.dev/name": "chat", "modelsync.dev/revision": made.revision}
    pod = {"metadata": {"name": "left", "labels": labels, "deletionTimestamp": "2026-11-21T09:00:00Z"}, "spec": {}}
    view = gathered(family(pods=(pod,)), answers(resolved())).observed.revisions[made.revision]
    assert (view.recorded, view.pods, view.digests) == (False, 1, ("0123456789abcdef",))


# --- live objects ----------------------------------------------------------------------------------------------------


def test_a_revision_is_deployed_when_deployment_and_service_are_there() -> None:
    made = a_record()
    whole = family(made)
    assert gathered(whole).observed.revisions[made[0].revision].deployed
    del whole.services[f"chat-{made[0].revision}"]  # type: ignore[attr-defined]
    assert not gathered(whole).observed.revisions[made[0].revision].deployed


def test_the_route_is_read_with_zero_weights_and_accepted_since_this_process_saw_it() -> None:
    made = a_record()
    found = family(made, weights=((made[0].revision, 100),))
    assert found.route is not None
    view = gathered(found).observed.route
    assert view is not None
    assert (view.weights, view.accepted, view.drifted) == (((made[0].revision, 100),), None, False)

    conditions = [{"type": kind, "status": "True", "observedGeneration": 1} for kind in ("Accepted", "ResolvedRefs")]
    found.route["status"] = {"parents": [{"parentRef": found.route["spec"]["parentRefs"][0], "conditions": conditions}]}
    sightings = Sightings()
    assert gathered(found, sightings=sightings).observed.route.accepted_since == NOW  # type: ignore[union-attr]
    later = gathered(found, sightings=sightings, now=NOW + timedelta(seconds=9)).observed.route
    assert later is not None
    assert later.accepted_since == NOW

    found.route["metadata"]["generation"] = 2
    assert gathered(found, sightings=sightings).observed.route.accepted is None  # type: ignore[union-attr]


def test_a_route_that_was_accepted_before_this_process_came_has_settled_since_then() -> None:
    made = a_record()
    found = family(made, weights=((made[0].revision, 100),))
    assert found.route is not None
    conditions = [{"type": kind, "status": "True", "observedGeneration": 1} for kind in ("Accepted", "ResolvedRefs")]
    found.route["status"] = {"parents": [{"parentRef": found.route["spec"]["parentRefs"][0], "conditions": conditions}]}
    found.route["metadata"]["managedFields"] = [
        {"manager": "modelsync", "time": "2026-11-21T08:58:00Z"},
        {"manager": "gateway", "subresource": "status", "time": "2026-11-21T08:59:00Z"},
    ]
    sightings = Sightings()
    view = gathered(found, sightings=sightings).observed.route
    assert view is not None
    assert view.accepted_since == NOW - timedelta(seconds=59)

    # A change while this process runs is timed by its own clock: the gateway's answer to the previous one is too old.
    found.route["metadata"]["generation"] = 2
    for condition in conditions:
        condition["observedGeneration"] = 2
    later = gathered(found, sightings=sightings, now=NOW + timedelta(seconds=9)).observed.route
    assert later is not None
    assert later.accepted_since == NOW + timedelta(seconds=9)


def test_a_route_whose_hold_annotation_is_out_of_date_has_drifted() -> None:
    made = a_record()
    hold = {
        "digest": "0123456789abcdef",
        "collection": "acme/wandb-registry-model/chat llm",
        "version": "v7",
        "via": "VersionTag",
        "name": "regulatory-hold",
        "since": "2026-11-21T08:00:00Z",
    }
    found = family(made, weights=((made[0].revision, 100),), status={"holds": [hold]})
    view = gathered(found).observed.route
    assert view is not None
    assert view.drifted


def test_a_route_that_is_no_longer_wanted_still_shows_the_traffic() -> None:
    made = a_record()
    with_route = family(made, weights=((made[0].revision, 100),))
    plain_spec = spec()
    plain_spec["traffic"] = {}
    found = family(made, owner=model_deployment(spec=plain_spec))
    view = gathered(
        type(found)(**{**{name: getattr(found, name) for name in found.__slots__}, "route": with_route.route})
    )
    assert view.observed.route is not None
    assert view.observed.route.weights == ((made[0].revision, 100),)


def test_the_view_has_what_the_plain_service_selects() -> None:
    made = a_record()
    assert gathered(family(made)).observed.service is None
    assert gathered(family(made, plain=made[0].revision)).observed.service == made[0].revision
    assert gathered(family(made, plain=BLOCKED)).observed.service == BLOCKED


def test_pods_that_are_gone_leave_no_time_so_ours_counts() -> None:
    made = a_record()
    sightings = Sightings()
    gathered(family(made), sightings=sightings)
    later = gathered(family(made), sightings=sightings, now=NOW + timedelta(seconds=20))
    assert later.observed.revisions[made[0].revision].unready_since == NOW


def test_the_administrators_block_is_stronger_than_a_fallback() -> None:
    strict = SETTINGS.model_copy(update={"hold": HoldSettings(action=HoldAction.BLOCK)})
    wanted = ModelDeploymentSpec.model_validate(spec())
    assert policy(wanted, SETTINGS).hold_action == "Fallback"
    assert policy(wanted, strict).hold_action == "Block"


def test_steps_are_those_of_the_spec_or_the_default_with_a_gateway() -> None:
    given = spec(rollout={"steps": [{"setWeight": 20}, {"pause": {"duration": "90s"}}, {"pause": {}}]})
    steps = policy(ModelDeploymentSpec.model_validate(given), SETTINGS).steps
    assert steps == (SetWeight(20), Pause(timedelta(seconds=90)), Pause(None))
    assert policy(ModelDeploymentSpec.model_validate(spec()), SETTINGS).steps[0] == SetWeight(5)


def test_a_persons_annotations_are_requests() -> None:
    owner = model_deployment(annotations={"modelsync.dev/promote": "v7-aa", "modelsync.dev/requested-at": "now"})
    requests = gathered(family(owner=owner)).observed.requests
    assert (requests.promote, requests.requested_at, requests.abort) == ("v7-aa", "now", None)


def test_the_first_time_a_version_was_seen_stays_while_the_alias_names_it() -> None:
    first = gathered(family(), answers(resolved())).resolved
    assert first is not None
    status = {"resolved": first.wire()}
    later = NOW + timedelta(hours=1)
    same = gathered(family(status=status), answers(resolved()), now=later).resolved
    moved = gathered(family(status=status), answers(resolved(8, "bbbbbbbbbbbbbbbb")), now=later).resolved
    assert same == first
    assert moved is not None
    assert moved.first_seen == later


def test_a_spec_without_image_keeps_the_image_of_its_record_after_an_upgrade() -> None:
    made = a_record()
    upgraded = SETTINGS.model_copy(update={"serving_image": "vllm/vllm-openai:v9.9.9"})
    view = gathered(family(made), answers(resolved()), settings=upgraded).observed.registry
    assert view.candidate is not None
    assert view.candidate.revision == made[0].revision


# --- the administrator's default registry ----------------------------------------------------------------------------


def by_default(base_url: str = "https://wandb.example.com") -> OperatorSettings:
    return SETTINGS.model_copy(update={"registry": Registry.model_validate(spec()["registry"] | {"baseURL": base_url})})


def without_registry(**parts: Any) -> dict[str, Any]:
    return model_deployment(spec={key: part for key, part in spec().items() if key != "registry"}, **parts)


def test_another_default_registry_makes_no_other_revision_of_the_same_version() -> None:
    made = a_record()
    for default in (by_default(), by_default("https://wandb.corp.example")):
        found = gathered(family(made, owner=without_registry()), answers(resolved()), settings=default)
        assert found.read.registry == default.registry
        assert found.observed.problems == ()
        assert found.pinned is not None
        assert found.pinned.revision == made[0].revision


def test_the_status_has_the_default_registry_only_if_it_is_used() -> None:
    shown = gathered(family(owner=without_registry()), settings=by_default()).registry
    assert shown is not None
    assert (shown.base_url, shown.secret_name, shown.secret_key) == (
        "https://wandb.example.com",
        "wandb",
        "WANDB_API_KEY",
    )
    assert gathered(family(), settings=by_default()).registry is None


def test_without_any_registry_nothing_is_asked_and_the_field_is_named() -> None:
    found = gathered(family(owner=without_registry()), settings=SETTINGS, refusal="as the reconciler hands it on")
    assert found.read.registry is None
    assert found.read.not_to_ask is not None
    assert found.read.not_to_ask.startswith("spec.registry: is not set, and the administrator has set no default")
    assert [problem.reason for problem in found.observed.problems] == ["InvalidSpec"]


def test_marks_that_another_server_showed_are_not_looked_for_on_this_one() -> None:
    def hold(name: str, server: str) -> dict[str, Any]:
        mark = {"digest": "0123456789abcdef", "collection": str(HOME), "version": "v7", "via": "VersionTag"}
        return mark | {"name": name, "since": NOW.isoformat(), "server": server}

    status = {"holds": [hold("here", "https://wandb.example.com/"), hold("there", "https://old.example")]}
    found = gathered(family(a_record(), owner=without_registry(status=status)), settings=by_default())
    assert {mark.name for mark in found.read.question.latched} == {"here"}
    assert [(each.mark.name, each.server) for each in found.observed.state.holds][1] == ("there", "https://old.example")
    assert found.observed.registry.server == "https://wandb.example.com"


def test_the_default_does_not_take_the_place_of_a_registry_that_cannot_be_read() -> None:
    owner = model_deployment(spec=spec(registry={"baseURL": "https://wandb.example.com"}))
    found = read(family(owner=owner), by_default())
    assert found.registry is None
    assert found.not_to_ask == "spec.registry.auth: is required; set it"


def test_a_problem_of_the_default_registry_names_it_as_the_default() -> None:
    owner = without_registry()
    refused = gathered(family(owner=owner), settings=by_default(), refusal="Secret prod/wandb does not exist")
    assert refused.observed.registry.message == (
        "Secret prod/wandb does not exist (spec.registry is not set: the administrator's default "
        "https://wandb.example.com applies)"
    )
    denied = Denied(subject=REF, message="the key is wrong", asked_at=ASKED, answered_at=NOW)
    found = gathered(family(owner=owner), answers(denied), settings=by_default())
    assert found.observed.registry.message.endswith(
        "(the administrator's default registry: Secret wandb, key WANDB_API_KEY)"
    )


def test_exam_results_of_pods_are_in_the_view_of_their_revision() -> None:
    record = a_record()
    revision = record[0].revision
    exam = Exam(ExamOutcome.FAILED, 2, 3, 1.5, "line 3")
    found = read(family(record), SETTINGS)

    gathered = gather(
        found, settings=SETTINGS, answers=None, refusal=None, sightings=Sightings(), now=NOW, exams={revision: exam}
    )

    assert gathered.observed.revisions[revision].exam == exam


def test_an_exam_that_was_passed_before_the_operator_started_is_still_passed() -> None:
    record = a_record()
    revision = record[0].revision
    status = {"exams": [{"revision": revision, "outcome": "Passed", "passed": 3, "total": 3, "duration": "1s500ms"}]}
    found = read(family(record, status=status), SETTINGS)

    gathered = gather(found, settings=SETTINGS, answers=None, refusal=None, sightings=Sightings(), now=NOW)

    assert gathered.observed.revisions[revision].exam == Exam(ExamOutcome.PASSED, 3, 3, 1.5)


def test_pods_lack_from_when_they_were_first_missed_and_a_suspension_does_not_count() -> None:
    made = a_record()
    sightings = Sightings()

    def lacking(after: int, **parts: Any) -> datetime | None:
        owner = model_deployment(spec=spec(**parts))
        seen = gathered(family(made, owner=owner), sightings=sightings, now=NOW + timedelta(seconds=after))
        return seen.observed.revisions[made[0].revision].lacking_since

    assert lacking(0) == NOW
    assert lacking(20) == NOW
    assert lacking(40, suspend=True) is None
    assert lacking(60) == NOW + timedelta(seconds=60)
