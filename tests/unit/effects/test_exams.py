"""Pods are polled for their exams in the background, and their responses are validated."""

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
from modelsync.effects.exams import ExamPoller
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
    """The pods' responses, by the last number of their address; a list is a sequence of responses."""

    def __init__(self) -> None:
        self.answers: dict[int, Any] = {}
        self.requests: list[int] = []
        self.changed = asyncio.Event()
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        number = int((request.host.partition(":")[0]).rpartition(".")[2])
        self.requests.append(number)
        answer = self.answers.get(number, {"state": "None"})
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, int):
            return web.Response(status=answer)
        return web.Response(body=answer if isinstance(answer, bytes) else json.dumps(answer).encode())

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
    site = web.TCPSite(runner, "0.0.0.0", 0)  # noqa: S104  every loopback address is a pod
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@pytest.fixture
async def exams(pods: Pods) -> AsyncIterator[ExamPoller]:
    made = ExamPoller(lambda key: pods.changed.set(), now=lambda: NOW, port=pods.port)
    yield made
    await made.close()


def outcome(exams: ExamPoller, *present: dict[str, Any], revision: str = V7) -> str | None:
    exam = exams.poll(KEY, present).get(revision)
    return exam.outcome.value if exam is not None else None


async def test_a_pod_is_polled_until_its_result_is_final_and_the_result_stays(pods: Pods, exams: ExamPoller) -> None:
    pods.answers[1] = [{"state": "Pending"}, {"state": "Running"}, PASSED]

    assert outcome(exams, pod(1)) is None
    await pods.until(lambda: outcome(exams, pod(1)) == "Passed")

    assert exams.poll(KEY, [pod(1)]) == {V7: Exam(ExamOutcome.PASSED, 3, 3, 1.5, "3 of 3")}
    assert pods.requests == [1, 1, 1]


async def test_of_several_pods_the_failed_exam_is_reported(pods: Pods, exams: ExamPoller) -> None:
    pods.answers |= {1: PASSED, 2: FAILED, 3: {"state": "Running"}, 4: PASSED}
    present = [pod(1), pod(2), pod(3), pod(4, V8)]

    await pods.until(lambda: outcome(exams, *present) == "Failed" and outcome(exams, *present, revision=V8) == "Passed")


async def test_a_pod_that_starts_its_exam_does_not_revoke_the_result_of_another(pods: Pods, exams: ExamPoller) -> None:
    pods.answers |= {1: PASSED, 2: {"state": "Running"}}
    await pods.until(lambda: outcome(exams, pod(1)) == "Passed")

    await pods.until(lambda: outcome(exams, pod(1), pod(2)) == "Passed" and 2 in pods.requests)


async def test_a_pod_without_an_exam_is_asked_once_and_has_no_result(pods: Pods, exams: ExamPoller) -> None:
    pods.answers |= {1: {"state": "None"}, 2: 404, 3: PASSED}
    present = [pod(1), pod(2), pod(3, V8)]
    await pods.until(lambda: outcome(exams, *present, revision=V8) == "Passed")

    assert outcome(exams, *present) is None
    assert sorted(pods.requests) == [1, 2, 3]


async def test_a_restarted_server_takes_its_exam_again(pods: Pods, exams: ExamPoller) -> None:
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
async def test_pods_that_do_not_listen_are_terminating_or_have_long_been_ready_are_not_asked(
    pods: Pods, exams: ExamPoller, silent: dict[str, Any]
) -> None:
    pods.answers[2] = PASSED
    await pods.until(lambda: outcome(exams, silent, pod(2)) == "Passed")

    assert pods.requests == [2]


async def test_a_pod_that_became_ready_a_moment_ago_is_asked(pods: Pods, exams: ExamPoller) -> None:
    pods.answers[1] = PASSED

    await pods.until(lambda: outcome(exams, pod(1, ready_since=NOW - timedelta(seconds=1))) == "Passed")


@pytest.mark.parametrize(
    "answer", [500, b"<html>", {**PASSED, "more": "x" * 100_000}, {"state": "Excellent"}, {"state": "Passed"}, []]
)
async def test_after_an_invalid_response_the_pod_is_asked_again(pods: Pods, exams: ExamPoller, answer: Any) -> None:
    pods.answers[1] = [answer, PASSED]

    await pods.until(lambda: outcome(exams, pod(1)) == "Passed")

    assert pods.requests == [1, 1]


async def test_the_pods_of_a_deleted_deployment_are_no_longer_polled(pods: Pods, exams: ExamPoller) -> None:
    pods.answers[1] = {"state": "Running"}
    await pods.until(lambda: outcome(exams, pod(1)) == "Running")

    exams.forget(KEY)

    assert not exams._known


def test_a_pods_response_is_truncated_and_made_printable() -> None:
    result = exam_of(json.dumps({**FAILED, "passed": -1, "total": 10**9, "message": "a\x1b[31m" + "b" * 1000}).encode())

    assert result is not None
    exam, over = result
    assert over
    assert exam is not None
    assert (exam.passed, exam.total, len(exam.message)) == (0, 10_000, 500)
    assert exam.message.isprintable()


def test_no_exam_is_a_valid_and_final_response() -> None:
    assert exam_of(b'{"state": "None"}') == (None, True)


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "1e999", "1" * 301, "1" * 400, "1" * 5000])
def test_a_number_that_json_does_not_have_makes_the_answer_unreadable(seconds: str) -> None:
    assert exam_of(json.dumps(PASSED).replace("1.5", seconds).encode()) is None


def test_a_negative_duration_becomes_zero() -> None:
    result = exam_of(json.dumps(PASSED).replace("1.5", "-1").encode())

    assert result is not None
    assert result[0] is not None
    assert result[0].seconds == 0


def status(outcome: Any, duration: str | None = "1s500ms") -> ModelDeploymentStatus:
    exam = ExamStatus(revision=V7, outcome=outcome, passed=3, total=3, duration=duration, message="3 of 3")
    return ModelDeploymentStatus(exams=(exam,))


def test_an_exam_passed_before_the_operator_started_still_counts() -> None:
    passed = Exam(ExamOutcome.PASSED, 3, 3, 1.5, "3 of 3")

    assert with_earlier({}, status("Passed")) == {V7: passed}
    assert with_earlier({V7: Exam(ExamOutcome.RUNNING)}, status("Passed")) == {V7: passed}


def test_an_earlier_failure_is_not_taken_over_and_a_new_one_counts() -> None:
    failed = Exam(ExamOutcome.FAILED)

    assert with_earlier({}, status("Failed")) == {}
    assert with_earlier({V7: failed}, status("Passed")) == {V7: failed}


def test_an_invalid_duration_in_the_status_is_ignored() -> None:
    assert with_earlier({}, status("Passed", "soon"))[V7].seconds == 0
