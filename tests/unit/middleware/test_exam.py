"""The exam in the pod: taken once, by one process, and the pod is not ready until it has passed."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from modelsync.middleware.modelsync_middleware.exam import Exam
from modelsync.middleware.modelsync_middleware.shared_state import SharedState

SUM = {"prompt": "2+2=", "expect": {"contains": "4"}}
CAPITAL = {"prompt": "The capital of France is", "name": "capital", "expect": {"contains": "Paris"}}


class Model:
    """Answers every prompt with `says`, after returning the statuses in `status`."""

    def __init__(self, says: str = "4 in Paris") -> None:
        self.says = says
        self.asked: list[Any] = []
        self.errors: list[int | None] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(
        self, method: str, path: str, body: dict[str, Any] | None, seconds: float
    ) -> tuple[int | None, bytes]:
        self.asked.append(body)
        await self.may_answer.wait()
        if self.errors and (status := self.errors.pop(0)) != 200:
            return status, b'{"error": {"message": "Internal server error"}}' if status else b""
        return 200, json.dumps({"choices": [{"text": self.says, "finish_reason": "stop"}]}).encode()


class Pod(SharedState):
    """SharedState of a pod whose processes are all in this test, without files."""

    processes: ClassVar[list["Pod"]] = []

    def __init__(self) -> None:
        super().__init__(folder="")
        self.processes.append(self)

    def published(self) -> list[dict[str, Any]]:
        return [self._values, *(other._values for other in self.processes if other is not self)]


@pytest.fixture
def make_exam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Exam]:
    """Create an exam with these lines in the test's folder; each call is another process of the same pod."""
    monkeypatch.setattr(Pod, "processes", [])
    monkeypatch.setenv("MODELSYNC_MODEL_DIR", str(tmp_path / "model"))
    monkeypatch.setenv("MODELSYNC_SERVED_NAMES", "chat@v7-3fa9c1d2,chat")

    def make(*lines: Any) -> Exam:
        if lines:
            file = tmp_path / "model" / "modelsync" / "golden.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(json.dumps(line) if isinstance(line, dict) else line for line in lines))
        return Exam(Pod())

    return make


async def get_exam(exam: Exam) -> dict[str, Any]:
    """The response of `GET /modelsync/exam`."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the body of a GET is not read")

    await exam.answer({"type": "http", "method": "GET"}, receive, send)
    assert sent[0]["status"] == 200
    answer: dict[str, Any] = json.loads(sent[1]["body"])
    return answer


async def test_without_a_file_there_is_no_exam(make_exam: Callable[..., Exam]) -> None:
    exam, model = make_exam(), Model()

    assert await exam.check(model) is None
    assert await get_exam(exam) == {"state": "None"}
    assert not model.asked


async def test_without_a_folder_there_is_no_exam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELSYNC_MODEL_DIR", raising=False)

    assert await Exam(SharedState("")).check(Model()) is None


async def test_a_passed_exam_lets_the_pod_be_ready_and_is_reported_with_its_counts(
    make_exam: Callable[..., Exam], capsys: pytest.CaptureFixture[str]
) -> None:
    exam, model = make_exam(SUM, CAPITAL), Model()

    assert await get_exam(exam) == {"state": "Pending"}
    assert await exam.check(model) is None

    answer = await get_exam(exam)
    assert (answer["state"], answer["passed"], answer["total"], answer["mistakes"]) == ("Passed", 2, 2, [])
    assert {body["model"] for body in model.asked} == {"chat@v7-3fa9c1d2"}
    assert "the version's exam: Passed" in capsys.readouterr().err


async def test_a_failed_exam_names_the_first_wrong_line_and_is_not_taken_again(make_exam: Callable[..., Exam]) -> None:
    exam, model = make_exam({"exam": 1}, SUM, CAPITAL), Model("4 in Rome")

    reason = await exam.check(model)
    again = await exam.check(model)

    wanted = 'line 3 (capital): wanted a text that contains "Paris", got "4 in Rome"'
    assert reason == again == f"the version's exam: 1 of 2 answers are as expected; {wanted}"
    assert len(model.asked) == 2
    answer = await get_exam(exam)
    assert answer["state"] == "Failed"
    assert [mistake["line"] for mistake in answer["mistakes"]] == [3]


async def test_an_unreadable_file_is_reported_with_its_line_and_no_question_is_asked(
    make_exam: Callable[..., Exam],
) -> None:
    exam, model = make_exam(SUM, "{"), Model()

    reason = await exam.check(model)

    assert reason is not None
    assert reason.startswith("the version's exam: modelsync/golden.jsonl: line 2: not JSON")
    assert (await get_exam(exam))["state"] == "Invalid"
    assert not model.asked


async def test_a_folder_in_place_of_the_file_is_reported(make_exam: Callable[..., Exam], tmp_path: Path) -> None:
    (tmp_path / "model" / "modelsync" / "golden.jsonl").mkdir(parents=True)

    assert "golden.jsonl: not a file" in str(await make_exam().check(Model()))


@pytest.mark.parametrize("errors", [[500], [None], [503]])
async def test_an_error_of_the_server_is_asked_about_once_more(
    make_exam: Callable[..., Exam], errors: list[int | None]
) -> None:
    model = Model()
    model.errors = errors

    assert await make_exam(SUM).check(model) is None


@pytest.mark.parametrize(
    ("errors", "wanted"),
    [
        ([500, 500], 'got HTTP 500: "Internal server error"'),
        ([None, None], "got none in time"),
        ([400], 'got HTTP 400: "Internal server error"'),
    ],
)
async def test_errors_that_stay_fail_the_line(
    make_exam: Callable[..., Exam], errors: list[int | None], wanted: str
) -> None:
    model = Model()
    model.errors = errors

    assert wanted in str(await make_exam(SUM).check(model))


async def test_all_processes_of_a_pod_know_how_the_exam_stands(make_exam: Callable[..., Exam]) -> None:
    first, second, model = make_exam(SUM), make_exam(), Model()
    model.may_answer.clear()
    taking = asyncio.ensure_future(first.check(model))
    while not model.asked:  # noqa: ASYNC110  # waits for the question itself
        await asyncio.sleep(0)

    assert await get_exam(first) == await get_exam(second) == {"state": "Running"}
    model.may_answer.set()

    assert await taking is None
    assert await second.check(model) is None
    assert (await get_exam(second))["state"] == "Passed"
    assert len(model.asked) == 1


async def test_an_exam_that_was_broken_off_is_taken_by_the_next(make_exam: Callable[..., Exam]) -> None:
    first, second, model = make_exam(SUM), make_exam(), Model()
    model.may_answer.clear()
    taking = asyncio.ensure_future(first.check(model))
    while not model.asked:  # noqa: ASYNC110  # waits for the question itself
        await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    model.may_answer.set()

    assert await get_exam(second) == {"state": "Pending"}
    assert await second.check(model) is None


async def test_a_verdict_ends_with_the_processes_that_know_it(make_exam: Callable[..., Exam]) -> None:
    model = Model()
    await make_exam(SUM).check(model)
    Pod.processes.clear()

    await make_exam().check(model)

    assert len(model.asked) == 2
