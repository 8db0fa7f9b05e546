"""Ready means: the model has answered once, the engine is still healthy, and no shutdown has started."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import pytest

from modelsync.middleware.modelsync_middleware import VersionHeader, readiness
from modelsync.middleware.modelsync_middleware.readiness import READY_PATH, Readiness
from modelsync.middleware.modelsync_middleware.shared_state import SharedState

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MODELSYNC_SERVED_NAMES", "chat@v7-3fa9c1d2,chat")
    monkeypatch.setattr(readiness, "RETRY_SECONDS", 0.0)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Server:
    """An application with vLLM's responses, which a test can override."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.offered = {"/v1/completions"}
        self.completion: tuple[int, Any] = (200, {"choices": [{"text": "Hi", "finish_reason": "length"}]})
        self.embedding: tuple[int, Any] = (200, {"data": [{"embedding": [0.5]}]})
        self.health = 200
        self.unknown: set[str] = set()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.running = 0
        self.most_running = 0
        self.client_left = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/health":
            await self._send(send, self.health, None)
            return
        body = json.loads((await receive())["body"])
        self.asked.append((scope["path"], body))
        if scope["path"] not in self.offered:
            await self._send(send, 404, {"error": {"message": "Not Found", "type": "Not Found", "code": 404}})
            return
        if body["model"] in self.unknown:
            await self._send(send, 404, {"error": {"message": "does not exist", "type": "NotFoundError", "code": 404}})
            return
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        leaving = asyncio.ensure_future(receive())
        await self.may_answer.wait()
        await asyncio.sleep(0)  # lets `leaving` run
        self.client_left = leaving.done()
        leaving.cancel()
        self.running -= 1
        await self._send(send, *(self.completion if scope["path"] == "/v1/completions" else self.embedding))

    async def _send(self, send: Send, status: int, body: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def probe(app: VersionHeader | Readiness, method: str = "GET") -> tuple[int, str]:
    """Status and reason in the response to a probe."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    answer = app.answer if isinstance(app, Readiness) else app
    await answer({"type": "http", "method": method, "path": READY_PATH, "headers": [], "state": {}}, receive, send)
    return messages[0]["status"], json.loads(messages[1]["body"])["reason"]


async def test_ready_after_one_real_answer_under_the_first_served_name() -> None:
    server = Server()

    assert await probe(VersionHeader(server)) == (200, "")

    [(path, body)] = server.asked
    assert path == "/v1/completions"
    assert body["model"] == "chat@v7-3fa9c1d2"
    assert body["max_tokens"] == 1
    assert not server.client_left


async def test_every_adapter_must_answer_and_no_name_is_asked_again_once_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODELSYNC_ADAPTER_NAMES", "legal,medical")
    server = Server()
    server.unknown = {"medical"}
    app = VersionHeader(server)

    status, reason = await probe(app)
    assert status == 503
    assert reason.startswith("medical: the model's first answer is an error: 404")

    server.unknown = set()
    assert await probe(app) == (200, "")
    assert [body["model"] for _, body in server.asked] == ["chat@v7-3fa9c1d2", "legal", "medical", "medical"]


async def test_a_check_is_asked_once_the_model_has_answered_until_it_passes() -> None:
    server = Server()
    results: list[str | None] = ["the exam failed", None]

    async def check(ask: Any) -> str | None:
        assert len(server.asked) == 1
        return results.pop(0)

    app = Readiness(server, SharedState(""), unfit=lambda: None, checks=[check])

    assert await probe(app) == (503, "the exam failed")
    assert await probe(app) == (200, "")
    assert await probe(app) == (200, "")
    assert len(server.asked) == 1


async def test_a_check_that_raises_leaves_the_pod_unready_and_says_so() -> None:
    async def check(ask: Any) -> str | None:
        raise OSError("no such file")

    app = Readiness(Server(), SharedState(""), unfit=lambda: None, checks=[check])

    assert await probe(app) == (503, "a check of the model failed: OSError: no such file")


async def test_the_model_is_asked_only_once_however_often_the_probe_comes() -> None:
    server = Server()
    app = VersionHeader(server)

    for _ in range(5):
        assert await probe(app) == (200, "")

    assert len(server.asked) == 1


async def test_several_probes_at_once_share_one_request_and_do_not_wait_for_a_slow_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.02)
    server = Server()
    server.may_answer.clear()
    app = VersionHeader(server)

    answers = await asyncio.gather(*(probe(app) for _ in range(5)))

    assert {status for status, _ in answers} == {503}
    assert all("waiting for the model's first answer" in reason for _, reason in answers)
    assert server.most_running == 1
    server.may_answer.set()
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 10)
    assert await probe(app) == (200, "")
    assert len(server.asked) == 1


async def test_a_model_that_never_answers_is_given_up_after_the_time_limit_and_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.02)
    server = Server()
    server.may_answer.clear()
    app = VersionHeader(server)

    assert await probe(app) == (503, "the model gave no answer within 0 s")
    server.may_answer.set()
    assert await probe(app) == (200, "")


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ((500, {"error": {"message": "boom"}}), 'the model\'s first answer is an error: 500 {"error"'),
        ((200, {"choices": [{"finish_reason": "abort"}]}), "the model's first answer ended with 'abort'"),
        ((200, {"choices": [{"finish_reason": None}]}), "the model's first answer ended with None"),
        ((200, {"choices": []}), "the model's first answer is invalid: "),
        ((200, "hello"), "the model's first answer is invalid: "),
        (
            (404, {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError"}}),
            "the model's first answer is an error: 404",
        ),
    ],
    ids=["error", "aborted", "unfinished", "no choice", "not an object", "unknown name"],
)
async def test_an_answer_that_is_none_leaves_the_pod_unready_and_says_why(
    completion: tuple[int, Any], reason: str
) -> None:
    server = Server()
    server.completion = completion

    status, text = await probe(VersionHeader(server))

    assert status == 503
    assert text.startswith(reason)


async def test_a_failed_answer_is_tried_again_by_the_next_probe() -> None:
    server = Server()
    server.completion = (500, {})
    app = VersionHeader(server)
    assert (await probe(app))[0] == 503

    server.completion = (200, {"choices": [{"finish_reason": "stop"}]})

    assert await probe(app) == (200, "")


async def test_failing_tries_keep_a_distance_however_many_probes_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "RETRY_SECONDS", 3600.0)
    server = Server()
    server.completion = (500, {})
    app = VersionHeader(server)

    for _ in range(5):
        assert (await probe(app))[0] == 503

    assert len(server.asked) == 1


async def test_a_model_that_does_not_generate_is_asked_for_an_embedding() -> None:
    server = Server()
    server.offered = {"/v1/embeddings"}

    assert await probe(VersionHeader(server)) == (200, "")

    assert [path for path, _ in server.asked] == ["/v1/completions", "/v1/embeddings"]
    assert server.asked[1][1] == {"model": "chat@v7-3fa9c1d2", "input": "Hello"}


async def test_an_empty_embedding_is_no_answer() -> None:
    server = Server()
    server.offered = {"/v1/embeddings"}
    server.embedding = (200, {"data": [{"embedding": []}]})

    assert await probe(VersionHeader(server)) == (503, "the model's first embedding is empty")


async def test_a_model_that_offers_neither_says_so() -> None:
    server = Server()
    server.offered = set()

    status, reason = await probe(VersionHeader(server))

    assert status == 503
    assert "neither /v1/completions nor /v1/embeddings" in reason


async def test_an_application_that_raises_is_an_answer_that_failed() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise RuntimeError("no engine")

    assert await probe(VersionHeader(app)) == (503, "the model's first answer is an error: 500 RuntimeError: no engine")


async def test_a_dead_engine_ends_readiness_and_a_living_one_restores_it() -> None:
    server = Server()
    app = VersionHeader(server)
    assert await probe(app) == (200, "")

    server.health = 503
    assert await probe(app) == (503, "/health answers 503")

    server.health = 200
    assert await probe(app) == (200, "")


async def test_sigterm_ends_readiness_and_still_reaches_the_servers_own_handler() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    try:
        server = Server()
        app = VersionHeader(server)
        assert await probe(app) == (200, "")

        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stopped.wait(), 5)

        status, reason = await probe(app)
        assert status == 503
        assert reason.startswith("shutting down")
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_a_handler_that_the_server_set_by_signal_is_called_too() -> None:
    calls: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))  # as uvicorn does itself
    app = VersionHeader(Server())
    assert await probe(app) == (200, "")

    signal.raise_signal(signal.SIGTERM)

    assert calls == [signal.SIGTERM]
    assert (await probe(app))[0] == 503


async def test_without_served_names_the_pod_never_becomes_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELSYNC_SERVED_NAMES")

    status, reason = await probe(VersionHeader(Server()))

    assert status == 503
    assert "MODELSYNC_SERVED_NAMES" in reason


async def test_only_get_and_head_are_answered() -> None:
    assert (await probe(VersionHeader(Server()), "POST"))[0] == 405
    assert (await probe(VersionHeader(Server()), "HEAD"))[0] == 200
