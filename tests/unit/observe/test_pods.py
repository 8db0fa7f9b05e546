"""Reading pods as the kubelet and the controllers wrote them (recorded from Kubernetes 1.36)."""

import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelsync.api.kinds import Object
from modelsync.observe import pods
from modelsync.observe.pod_trouble import trouble_of
from modelsync.rollout.model import RevisionView, TroubleKind, Verified

REVISION_LABEL = "modelsync.dev/revision"
RECORDED = json.loads((Path(__file__).parent / "recorded" / "kubelet.json").read_text())


def view_of(deployment: Object | None, found: list[Object], slices: list[Object]) -> RevisionView:
    return pods.with_pods(RevisionView("v7-abc", "v7", "", ()), deployment, found, slices)


@pytest.fixture
def recorded() -> dict[str, Any]:
    return copy.deepcopy(RECORDED)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("content-refused", TroubleKind.CONTENT_REFUSED, "model.safetensors: MD5 is aa, the manifest says bb"),
        ("pull-failed", TroubleKind.PULL_FAILED, "the server cannot be reached: connection refused"),
        ("crashed-loading", TroubleKind.CRASHED_LOADING, "exit code 1: ValueError: bad config.json"),
        ("crashed", TroubleKind.CRASHED, "exit code 1: CUDA error: device-side assert"),
        ("killed", TroubleKind.CRASHED_LOADING, "exit code 137 (OOMKilled)"),
        ("bad-image", TroubleKind.IMAGE, "docker.io/library/nothing-there:v1"),
        ("invalid-image", TroubleKind.IMAGE, "InvalidImageName"),
        ("unschedulable", TroubleKind.UNSCHEDULABLE, "0/1 nodes are available"),
        ("config-error", TroubleKind.OTHER, 'secret "nope" not found'),
    ],
)
def test_what_is_wrong_with_a_pod_is_reported(recorded: Any, name: str, kind: TroubleKind, message: str) -> None:
    trouble = trouble_of(recorded[name])
    assert trouble is not None
    assert trouble.kind is kind
    assert message in trouble.message


@pytest.mark.parametrize("name", ["ready", "pulling", "starting"])
def test_a_pod_that_is_ready_or_on_its_way_is_not_in_trouble(recorded: Any, name: str) -> None:
    assert trouble_of(recorded[name]) is None


def test_a_pod_whose_claim_is_not_attached_is_reported_after_a_while(recorded: Any) -> None:
    pod = recorded["pulling"]
    since = datetime(2026, 1, 1, tzinfo=UTC)
    pod["metadata"]["name"], pod["spec"] = (
        "chat-v7-abc",
        {
            "nodeName": "node-2",
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "model", "persistentVolumeClaim": {"claimName": "disk"}},
            ],
        },
    )
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    not_yet = {"type": "PodReadyToStartContainers", "status": "False"}
    pod["status"] = {"conditions": [scheduled, not_yet], "initContainerStatuses": [{"state": {"waiting": {}}}]}
    soon, late = since + timedelta(seconds=60), since + timedelta(minutes=2)
    assert trouble_of(pod) is None
    assert trouble_of(pod, now=soon) is None
    trouble = trouble_of(pod, now=late)
    assert trouble is not None
    assert (trouble.kind, trouble.since) == (TroubleKind.OTHER, since)
    assert "waits on node-2 for its volumes" in trouble.message
    assert "ReadWriteOnce can be used on one node at a time (disk)" in trouble.message
    assert "kubectl describe pod chat-v7-abc" in trouble.message
    pod["spec"]["volumes"].pop()
    assert trouble_of(pod, now=late) is None


def test_pods_that_quota_or_pod_security_refuse_are_reported_from_the_deployment(recorded: Any) -> None:
    view = view_of(recorded["refused"], [], [])
    assert view.trouble is not None
    assert view.trouble.kind is TroubleKind.REFUSED
    assert "violates PodSecurity" in view.trouble.message


def test_a_crash_has_its_time_and_the_number_of_terminations(recorded: Any) -> None:
    pod = recorded["crashed-loading"]
    server = pod["status"]["containerStatuses"][0]
    trouble = trouble_of(pod)
    assert trouble is not None
    assert trouble.count == server["restartCount"] + 1, "the termination that it waits after counts too"
    assert trouble.since is not None
    assert trouble.since.tzinfo is not None

    server["lastState"] = {"terminated": server["state"].get("terminated") or server["lastState"]["terminated"]}
    server["restartCount"] += 1
    server["state"] = {"running": {"startedAt": "2026-11-21T09:00:00Z"}}
    again = trouble_of(pod)
    assert again is not None
    assert again.count == trouble.count, "a restart is not another termination"


def test_a_pod_that_is_ready_again_is_out_of_trouble(recorded: Any) -> None:
    pod = recorded["crashed"]
    for condition in pod["status"]["conditions"]:
        if condition["type"] == "Ready":
            condition["status"] = "True"
    assert trouble_of(pod) is None


def test_what_the_puller_proved_is_read_from_its_termination_message(recorded: Any) -> None:
    proof = Verified(digest="2351f0e01eeb7637a97af275ea28d0fb", files=6, size=72467, seconds=1.25)
    assert pods.verified_of(recorded["ready"]) == proof
    assert pods.verified_of(recorded["pulling"]) is None
    assert pods.verified_of(recorded["content-refused"]) is None


@pytest.mark.parametrize(
    "message", ["", "no JSON", "[]", '"text"', "[" * 100_000, '{"digest": 7}', '{"digest": "a", "files": [1]}']
)
def test_a_termination_message_that_anyone_wrote_breaks_nothing(recorded: Any, message: str) -> None:
    pod = recorded["ready"]
    pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["message"] = message
    assert pods.verified_of(pod) is None
    assert view_of(None, [pod], []).pods == 1


def test_what_several_pullers_proved_is_summed_and_counts_when_all_have_ended_well(recorded: Any) -> None:
    pod = recorded["ready"]
    (first,) = pod["status"]["initContainerStatuses"]
    second = copy.deepcopy(first) | {"name": "pull-1"}
    message = json.dumps({"digest": "feed", "files": 1, "bytes": 33, "seconds": 0.25})
    second["state"]["terminated"]["message"] = message
    pod["status"]["initContainerStatuses"] = [first, second]
    assert pods.verified_of(pod) == Verified(
        digest="2351f0e01eeb7637a97af275ea28d0fb", files=7, size=72500, seconds=1.5, artifacts=2
    )
    second["state"] = {"running": {"startedAt": "2026-11-21T09:00:00Z"}}
    assert pods.verified_of(pod) is None


def test_pulling_shows_while_the_init_container_runs(recorded: Any) -> None:
    assert view_of(None, [recorded["pulling"]], []).pulling
    assert not view_of(None, [recorded["ready"]], []).pulling


def test_the_worst_of_all_pods_is_reported(recorded: Any) -> None:
    several = [recorded[name] for name in ("ready", "unschedulable", "crashed", "bad-image")]
    trouble = view_of(None, several, []).trouble
    assert trouble is not None
    assert trouble.kind is TroubleKind.CRASHED


def test_a_pod_that_is_being_deleted_still_counts_but_its_trouble_does_not(recorded: Any) -> None:
    pod = recorded["crashed"]
    pod["metadata"]["deletionTimestamp"] = "2026-11-21T09:00:00Z"
    view = view_of(None, [pod], [])
    assert view.pods == 1
    assert view.trouble is None


@pytest.mark.parametrize(("grace", "cut"), [(None, False), (1, True), (90, False)])
def test_a_pod_is_cut_when_it_ends_with_the_short_grace_of_a_hold(recorded: Any, grace: int | None, cut: bool) -> None:
    pod = recorded["ready"]
    if grace is not None:
        pod["metadata"] |= {"deletionTimestamp": "2026-11-21T09:00:00Z", "deletionGracePeriodSeconds": grace}
    assert view_of(None, [pod], []).cut is cut


def test_a_pod_that_was_evicted_counts_no_more(recorded: Any) -> None:
    pod = recorded["ready"]
    pod["status"]["phase"] = "Failed"
    assert view_of(None, [pod], []).pods == 0


def endpoint(uid: str, **conditions: bool | None) -> dict[str, Any]:
    return {"addresses": ["10.0.0.1"], "conditions": conditions, "targetRef": {"kind": "Pod", "uid": uid}}


def test_a_pod_with_two_addresses_is_one_ready_endpoint() -> None:
    slices = [
        {"addressType": "IPv4", "endpoints": [endpoint("a", ready=True), endpoint("b", ready=False)]},
        {"addressType": "IPv6", "endpoints": [endpoint("a", ready=True)]},
    ]
    assert pods.ready_endpoints(slices) == 1


def test_an_endpoint_that_does_not_say_is_ready_and_one_that_ends_is_not() -> None:
    assert pods.ready_endpoints([{"endpoints": [endpoint("a"), endpoint("b", ready=None)]}]) == 2
    assert pods.ready_endpoints([{"endpoints": [endpoint("a", ready=True, terminating=True)]}]) == 0


def test_slices_without_endpoints_are_none() -> None:
    assert pods.ready_endpoints([{"endpoints": None}, {}]) == 0


def test_restarts_are_no_progress(recorded: Any) -> None:
    pod = recorded["crashed-loading"]
    before = view_of(None, [pod], []).progress_at
    server = pod["status"]["containerStatuses"][0]
    later = datetime(2030, 1, 1, tzinfo=UTC)
    server["state"] = {"running": {"startedAt": later.isoformat()}}
    server["restartCount"] += 1
    assert view_of(None, [pod], []).progress_at == before

    server["restartCount"] = 0
    assert view_of(None, [pod], []).progress_at == later


def test_how_long_no_pod_has_been_ready_is_the_last_ones_word(recorded: Any) -> None:
    ready_slice = [{"endpoints": [endpoint("a", ready=True)]}]
    view = view_of(None, [recorded["ready"]], ready_slice)
    assert view.ready_since is not None
    assert view.unready_since is None

    first, second = recorded["starting"], copy.deepcopy(recorded["starting"])
    for condition in second["status"]["conditions"]:
        if condition["type"] == "Ready":
            at = datetime.fromisoformat(condition["lastTransitionTime"]) + timedelta(seconds=30)
            condition["lastTransitionTime"] = at.isoformat()
    assert view_of(None, [first, second], []).unready_since == at


def test_the_pager_sees_the_worst_pod_first_with_its_last_words(recorded: Any) -> None:
    seen = pods.status_of([recorded["ready"], recorded["starting"], recorded["crashed-loading"]], REVISION_LABEL)
    assert [pod.state for pod in seen] == ["Failing", "Starting", "Ready"]
    worst = seen[0]
    assert worst.revision == "v7-3fa9c1d2"
    assert worst.node == "node-0"
    assert worst.last_log == "loading\nValueError: bad config.json"
    assert seen[2].last_log is None


def test_an_image_that_cannot_be_pulled_has_kubernetes_reason(recorded: Any) -> None:
    (pod,) = pods.status_of([recorded["bad-image"]], REVISION_LABEL)
    assert (pod.state, pod.reason) == ("Failing", "ImagePullBackOff")


def test_a_pod_without_any_status_is_pending() -> None:
    bare = {"metadata": {"name": "new", "labels": {}}, "spec": {}}
    (pod,) = pods.status_of([bare], REVISION_LABEL)
    assert pod.state == "Pending"
    assert view_of(None, [bare], []).pods == 1


def test_the_list_for_the_pager_is_short() -> None:
    many = [{"metadata": {"name": f"pod-{number}"}, "spec": {}} for number in range(100)]
    assert len(pods.status_of(many, REVISION_LABEL)) == pods.MAX_PODS
