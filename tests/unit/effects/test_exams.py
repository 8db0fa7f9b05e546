"""Pods are asked for their exams beside the passes, and what they say is checked."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from modelsync.api import names
from modelsync.api.kinds import Key
from modelsync.api.status import ExamStatus, ModelDeploymentStatus
from modelsync.effects.exams import Exams
from modelsync.observe.exams import exam_of, with_earlier
from modelsync.rollout.model import Exam, ExamOutcome

KEY = Key("prod", "chat")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
V7, V8 = "v7-11111111", "v8-22222222"
PASSED = {"state": "Passed", "passed": 3, "total": 3, "seconds": 1.5, "message": "3 of 3", "mistakes": []}
FAILED = {**PASSED, "state": "Failed", "passed": 2, "message": "line 3: wanted a, got b"}


def pod(number: int, revision: str = V7, **changes: Any) -> dict[str, Any]:
    """A pod whose server listens on 127.0.0.<number> and is not ready."""
    server = {"name": "vllm", "started": changes.get("started", True), "restartCount": changes.get("restarts", 0)}
    ready = {"type": "Ready", "status": "False"}
    if (since := changes.get("ready_since")) is not None:
        ready |= {"status": "True", "lastTransitionTime": since.isoformat()}
    metadata: dict[str, Any] = {"name": f"pod-{number}", "uid": f"uid-{number}"}
    if changes.get("ends"):
        metadata["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    metadata["labels"] = {names.NAME_LABEL: "chat", names.REVISION_LABEL: revision}
    status = {"podIP": f"127.0.0.{number}", "containerStatuses": [server], "conditions": [ready]}
    return {"metadata": metadata, "status": status}


class Pods:
    """What the pods answer, by the last number of their address; an answer that is a list is taken from in turn."""

    def __init__(self) -> None:
        self.answers: dict[int, Any] = {}
        self.asked: list[int] = []
        self.changed = asyncio.Event()
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        number = int((request.host.partition(":")[0]).rpartition(".")[2])
        self.asked.append(number)
        said = self.answers.get(number, {"state": "None"})
        if isinstance(said, list):
            said = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(said, int):
            return web.Response(status=said)
        return web.Response(body=said if isinstance(said, bytes) else json.dumps(said).encode())

    async def until(self, ready: Any) -> None:
        async with asyncio.timeout(10):
            while not ready():
                await self.changed.wait()
                self.changed.clear()


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    found = Pods()
    app = web.Application()
    app.router.add_get("/modelsync/exam", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)  # noqa: S104  every address of the loop is a pod
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@pytest.fixture
async def exams(pods: Pods) -> AsyncIterator[Exams]:
    made = Exams(lambda key: pods.changed.set(), now=lambda: NOW, port=pods.port)
    yield made
    await made.close()


def outcome(exams: Exams, *present: dict[str, Any], revision: str = V7) -> str | None:
    exam = exams.of(KEY, present).get(revision)
    return exam.outcome.value if exam is not None else None


async def test_a_verdict_is_known_after_it_was_asked_for_and_stays(pods: Pods, exams: Exams) -> None:
    pods.answers[1] = [{"state": "Pending"}, {"state": "Running"}, PASSED]

    assert outcome(exams, pod(1)) is None
    await pods.until(lambda: outcome(exams, pod(1)) == "Passed")

    assert exams.of(KEY, [pod(1)]) == {V7: Exam(ExamOutcome.PASSED, 3, 3, 1.5, "3 of 3")}
    assert pods.asked == [1, 1, 1]


async def test_one_failed_exam_is_what_is_told_of_several_pods(pods: Pods, exams: Exams) -> None:
    pods.answers |= {1: PASSED, 2: FAILED, 3: {"state": "Running"}, 4: PASSED}
    present = [pod(1), pod(2), pod(3), pod(4, V8)]

    await pods.until(lambda: outcome(exams, *present) == "Failed" and outcome(exams, *present, revision=V8) == "Passed")


async def test_a_pod_that_begins_anew_takes_nothing_back(pods: Pods, exams: Exams) -> None:
    pods.answers |= {1: PASSED, 2: {"state": "Running"}}
    await pods.until(lambda: outcome(exams, pod(1)) == "Passed")

    await pods.until(lambda: outcome(exams, pod(1), pod(2)) == "Passed" and 2 in pods.asked)


async def test_a_pod_without_an_exam_is_asked_once_and_nothing_is_told(pods: Pods, exams: Exams) -> None:
    pods.answers |= {1: {"state": "None"}, 2: 404, 3: PASSED}
    present = [pod(1), pod(2), pod(3, V8)]
    await pods.until(lambda: outcome(exams, *present, revision=V8) == "Passed")

    assert outcome(exams, *present) is None
    assert sorted(pods.asked) == [1, 2, 3]


async def test_a_restarted_server_takes_its_exam_anew(pods: Pods, exams: Exams) -> None:
    pods.answers[1] = [PASSED, FAILED]
    await pods.until(lambda: outcome(exams, pod(1)) == "Passed")

    await pods.until(lambda: outcome(exams, pod(1, restarts=1)) == "Failed")


@pytest.mark.parametrize(
    "silent",
    [
        pod(1, started=False),
        pod(1, ends=True),
        pod(1, ready_since=NOW - timedelta(minutes=6)),
        {"metadata": {"name": "x", "uid": "x", "labels": {names.REVISION_LABEL: V7}}, "status": {}},
        {"metadata": {"name": "x", "uid": "x", "labels": {names.REVISION_LABEL: V7}}, "status": None},
        {"metadata": {"name": "x", "uid": "x"}},
    ],
)
async def test_pods_that_do_not_listen_end_or_have_long_been_ready_are_not_asked(
    pods: Pods, exams: Exams, silent: dict[str, Any]
) -> None:
    pods.answers[2] = PASSED
    await pods.until(lambda: outcome(exams, silent, pod(2)) == "Passed")

    assert pods.asked == [2]


async def test_a_pod_that_became_ready_a_moment_ago_is_asked(pods: Pods, exams: Exams) -> None:
    pods.answers[1] = PASSED

    await pods.until(lambda: outcome(exams, pod(1, ready_since=NOW - timedelta(seconds=1))) == "Passed")


@pytest.mark.parametrize(
    "said", [500, b"<html>", {**PASSED, "more": "x" * 100_000}, {"state": "Excellent"}, {"state": "Passed"}, []]
)
async def test_what_cannot_be_read_is_asked_for_again(pods: Pods, exams: Exams, said: Any) -> None:
    pods.answers[1] = [said, PASSED]

    await pods.until(lambda: outcome(exams, pod(1)) == "Passed")

    assert pods.asked == [1, 1]


async def test_a_deployment_that_is_gone_is_forgotten_and_its_pods_are_left_alone(pods: Pods, exams: Exams) -> None:
    pods.answers[1] = {"state": "Running"}
    await pods.until(lambda: outcome(exams, pod(1)) == "Running")

    exams.forget(KEY)

    assert not exams._known


def test_what_a_pod_says_is_cut_and_made_printable() -> None:
    told = exam_of(json.dumps({**FAILED, "passed": -1, "total": 10**9, "message": "a\x1b[31m" + "b" * 1000}).encode())

    assert told is not None
    exam, over = told
    assert over
    assert exam is not None
    assert (exam.passed, exam.total, len(exam.message)) == (0, 10_000, 500)
    assert exam.message.isprintable()


def test_no_exam_is_an_answer_and_the_last_one() -> None:
    assert exam_of(b'{"state": "None"}') == (None, True)


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-1"])
def test_times_that_are_none_are_zero(seconds: str) -> None:
    told = exam_of(json.dumps(PASSED).replace("1.5", seconds).encode())

    assert told is not None
    assert told[0] is not None
    assert told[0].seconds == 0


def status(outcome: Any, duration: str | None = "1s500ms") -> ModelDeploymentStatus:
    exam = ExamStatus(revision=V7, outcome=outcome, passed=3, total=3, duration=duration, message="3 of 3")
    return ModelDeploymentStatus(exams=(exam,))


def test_what_was_passed_before_the_operator_started_counts_still() -> None:
    passed = Exam(ExamOutcome.PASSED, 3, 3, 1.5, "3 of 3")

    assert with_earlier({}, status("Passed")) == {V7: passed}
    assert with_earlier({V7: Exam(ExamOutcome.RUNNING)}, status("Passed")) == {V7: passed}


def test_what_was_failed_before_is_not_taken_over_and_what_fails_now_counts() -> None:
    failed = Exam(ExamOutcome.FAILED)

    assert with_earlier({}, status("Failed")) == {}
    assert with_earlier({V7: failed}, status("Passed")) == {V7: failed}


def test_a_time_in_the_status_that_cannot_be_read_is_left_out() -> None:
    assert with_earlier({}, status("Passed", "soon"))[V7].seconds == 0
