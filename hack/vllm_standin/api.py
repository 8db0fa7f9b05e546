"""The HTTP API: vLLM's routes, middleware order and HTTP counters on top of the engine.

As in vLLM, the counters are inside every `--middleware`: what such a middleware answers itself is not counted.
"""

import asyncio
import hashlib
import importlib
import inspect
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vllm_standin import VLLM_VERSION, protocol
from vllm_standin.engine import Engine, GenerationError, GenerationRequest, Token
from vllm_standin.metrics import Metrics
from vllm_standin.model import Model
from vllm_standin.protocol import ApiError, Spoken, TextAnswer, TextRequest

_NOT_COUNTED = frozenset({"/metrics", "/health", "/load", "/ping", "/version"})
_GUARDED = ("/v1", "/v2", "/inference")


class MiddlewareError(Exception):
    """A `--middleware` cannot be used; the message names it."""


def make_app(
    model: Model,
    engine: Engine,
    metrics: Metrics,
    *,
    served_names: Sequence[str],
    max_model_len: int,
    api_keys: Sequence[str] = (),
    middleware: Sequence[str] = (),
    fingerprint: str | None = None,
) -> Starlette:
    """The ASGI application that `vllm serve` would run. Raises MiddlewareError."""
    api = _Api(model, engine, metrics, served_names, max_model_len, fingerprint)
    app = Starlette(routes=api.routes(), exception_handlers={HTTPException: _http_error, ApiError: _api_error})
    app.add_middleware(_HttpMetrics, metrics=metrics, paths=frozenset(route.path for route in api.routes()))
    app.add_middleware(CORSMiddleware, allow_origins=(), allow_methods=("*",), allow_headers=("*",))
    if api_keys:
        app.add_middleware(_Authentication, keys=api_keys)
    for path in middleware:
        _add_middleware(app, path)
    return app


class _Api:
    def __init__(
        self,
        model: Model,
        engine: Engine,
        metrics: Metrics,
        served_names: Sequence[str],
        max_model_len: int,
        fingerprint: str | None,
    ) -> None:
        self._model = model
        self._engine = engine
        self._metrics = metrics
        self._names = served_names
        self._max_model_len = max_model_len
        self._fingerprint = fingerprint
        self._created = int(time.time())
        self._load = 0

    def routes(self) -> list[Route]:
        """The routes; like vLLM, only those that the model supports."""
        served = (
            [
                Route("/v1/completions", self._answering(self._completions), methods=["POST"]),
                Route("/v1/chat/completions", self._answering(self._chat_completions), methods=["POST"]),
            ]
            if self._model.generates
            else [Route("/v1/embeddings", self._answering(self._embeddings), methods=["POST"])]
        )
        return [
            *served,
            _only_get("/v1/models", self._models),
            _only_get("/health", self._health),
            _only_get("/ping", self._health),
            Route("/ping", self._health, methods=["POST"]),
            _only_get("/version", self._version),
            _only_get("/load", self._server_load),
            Route("/metrics", self._exposition),
        ]

    async def _completions(self, request: Request) -> Response:
        return await self._text(request, chat=False)

    async def _chat_completions(self, request: Request) -> Response:
        return await self._text(request, chat=True)

    async def _text(self, http: Request, *, chat: bool) -> Response:
        body = protocol.parse_body(await http.body())
        request = protocol.parse_text_request(body, chat=chat, max_model_len=self._max_model_len)
        self._check_model(request.model)
        self._engine.take()
        answer = TextAnswer(request, self._answering_as(request.model), self._fingerprint)
        choices = [self._choice(request, tokens) for tokens in request.prompt_tokens for _ in range(request.n)]
        if request.stream:
            return await self._stream(request, answer, choices)
        try:
            spoken = await asyncio.gather(*(_collect(choice) for choice in choices))
        except GenerationError as failure:
            raise protocol.internal_error(str(failure)) from None
        return JSONResponse(answer.whole([_spoken(request, tokens) for tokens in spoken]))

    async def _stream(self, request: TextRequest, answer: TextAnswer, choices: list[AsyncIterator[Token]]) -> Response:
        async def events() -> AsyncIterator[bytes]:
            counts = [0] * len(choices)
            offsets = [0] * len(choices)
            roles_due = request.chat
            try:
                async for index, token in _merge(choices):
                    if roles_due:
                        roles_due = False
                        for choice in range(len(choices)):
                            yield _event(answer.role_chunk(choice))
                    counts[index] = token.count
                    spoken = _spoken(request, [token], offsets[index])
                    offsets[index] += len(token.text)
                    yield _event(answer.chunk(index, spoken, last=token.finish_reason is not None))
                if request.include_usage:
                    yield _event(answer.usage_chunk(sum(counts)))
            except GenerationError as failure:
                yield _event(protocol.internal_error(str(failure)).body())
            yield b"data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    def _choice(self, request: TextRequest, prompt_tokens: int) -> AsyncIterator[Token]:
        return self._engine.generate(
            GenerationRequest(
                prompt_tokens=prompt_tokens,
                max_tokens=request.max_tokens,
                stream=request.stream,
                ignore_eos=request.ignore_eos,
                stop=request.stop,
                says=self._model.speech(request.model, chat=request.chat),
                chat=request.chat,
                logprobs=request.logprobs,
            )
        )

    async def _embeddings(self, http: Request) -> Response:
        body = protocol.parse_body(await http.body())
        request = protocol.parse_embedding_request(body, max_model_len=self._max_model_len)
        self._check_model(request.model)
        self._engine.take()
        try:
            vectors = await asyncio.gather(*(self._engine.embed(tokens) for tokens in request.prompt_tokens))
        except GenerationError as failure:
            raise protocol.internal_error(str(failure)) from None
        return JSONResponse(protocol.embedding_answer(request, self._answering_as(request.model), vectors))

    def _check_model(self, name: str | None) -> None:
        served = (*self._names, *(each.module.name for each in self._model.adapters))
        if name and name not in served:
            raise protocol.unknown_model(name, self._names)

    def _answering_as(self, name: str | None) -> str:
        """The first served name, or the name of the requested adapter."""
        return name if any(each.module.name == name for each in self._model.adapters) and name else self._names[0]

    def _answering(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """`handler`, cancelled when the client leaves before it answers, and counted in /load while it runs."""

        async def answer(request: Request) -> Response:
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise protocol.unsupported_media_type()
            await request.body()  # read it before listening for the disconnect
            self._load += 1
            try:
                return await _until_disconnect(request, handler(request))
            finally:
                self._load -= 1

        return answer

    async def _models(self, _: Request) -> Response:
        listing = protocol.model_list(self._names, str(self._model.path), self._max_model_len, self._created)
        for adapter in self._model.adapters:
            module = adapter.module
            known = module.base_model_name if module.base_model_name in self._names else self._names[0]
            (card,) = protocol.model_list([module.name], str(module.path), self._max_model_len, self._created)["data"]
            listing["data"].append({**card, "parent": known, "max_model_len": None})
        return JSONResponse(listing)

    async def _health(self, _: Request) -> Response:
        return Response(status_code=200)

    async def _version(self, _: Request) -> Response:
        return JSONResponse({"version": VLLM_VERSION})

    async def _server_load(self, _: Request) -> Response:
        return JSONResponse({"server_load": self._load})

    async def _exposition(self, _: Request) -> Response:
        body, content_type = self._metrics.exposition()
        return Response(body, headers={"content-type": content_type})


def _only_get(path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
    """A route as FastAPI creates it, without HEAD; Starlette's own answers HEAD."""
    route = Route(path, handler, methods=["GET"])
    route.methods = {"GET"}
    return route


async def _collect(tokens: AsyncIterator[Token]) -> list[Token]:
    return [token async for token in tokens]


def _spoken(request: TextRequest, tokens: Sequence[Token], offset: int = 0) -> Spoken:
    logprobs = None
    if request.logprobs is not None:
        tops = [token.top for token in tokens if token.top is not None]
        logprobs = protocol.logprobs_of(tops, chat=request.chat, count=request.logprobs, offset=offset)
    last = tokens[-1]
    return Spoken("".join(token.text for token in tokens), last.count, last.finish_reason, last.stop_reason, logprobs)


async def _merge(choices: list[AsyncIterator[Token]]) -> AsyncIterator[tuple[int, Token]]:
    """The tokens of all choices in order of arrival, each with the index of its choice."""
    if len(choices) == 1:
        async for token in choices[0]:
            yield 0, token
        return
    queue: asyncio.Queue[tuple[int, Token] | Exception | None] = asyncio.Queue()

    async def pump(index: int) -> None:
        try:
            async for token in choices[index]:
                queue.put_nowait((index, token))
            queue.put_nowait(None)
        except GenerationError as failure:
            queue.put_nowait(failure)

    tasks = [asyncio.create_task(pump(index)) for index in range(len(choices))]
    try:
        left = len(tasks)
        while left:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()


async def _until_disconnect(request: Request, answer: Awaitable[Response]) -> Response:
    answering = asyncio.ensure_future(answer)
    leaving = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        return JSONResponse(None)  # nobody reads it; vLLM also counts such a request as 2xx
    finally:
        leaving.cancel()
        answering.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(payload: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  # Starlette calls this handler for nothing else
    return JSONResponse(error.body(), status_code=error.status)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # Starlette calls this handler for nothing else
    return JSONResponse(
        protocol.plain_http_error(error.status_code), status_code=error.status_code, headers=error.headers
    )


def _add_middleware(app: Starlette, path: str) -> None:
    """Add what `--middleware` names, by vLLM's rule: a class by add_middleware, a coroutine function by middleware."""
    module, _, name = path.rpartition(".")
    if not module:
        raise MiddlewareError(
            f"--middleware {path}: give the import path of a class or a function: package.module.Name"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MiddlewareError(f"--middleware {path}: {error}; is its folder in PYTHONPATH?") from None
    except AttributeError:
        raise MiddlewareError(f"--middleware {path}: {module} has no {name}") from None
    if inspect.isclass(found):
        app.add_middleware(cast(Any, found))
    elif inspect.iscoroutinefunction(found):
        app.add_middleware(BaseHTTPMiddleware, dispatch=found)  # what FastAPI's app.middleware("http") does
    else:
        raise MiddlewareError(f"Invalid middleware {path}. Must be a function or a class.")


class _HttpMetrics:
    """http_requests_total and its duration, for the routes that vLLM's instrumentator counts."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _NOT_COUNTED:
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.monotonic()

        async def watching(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watching)
        finally:
            handler = scope["path"] if scope["path"] in self._paths else "none"
            self._metrics.http_request(scope["method"], handler, status, time.monotonic() - started)


class _Authentication:
    """`--api-key`, guarding the paths that vLLM guards and no others."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["method"] != "OPTIONS" and scope["path"].startswith(_GUARDED)
        if guarded and not self._knows(dict(scope["headers"]).get(b"authorization", b"")):
            await JSONResponse({"error": "Unauthorized"}, status_code=401)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, header: bytes) -> bool:
        scheme, _, key = header.partition(b" ")
        digest = hashlib.sha256(key).digest()
        known = any(secrets.compare_digest(digest, mine) for mine in self._keys)
        return scheme.lower() == b"bearer" and known
