"""HTTP client for the running server that `modelsync exam` queries, over the OpenAI API."""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

ANSWER_SECONDS = 120.0
MAX_BODY_BYTES = 16 << 20


class ServerError(Exception):
    """The server cannot be used; the message contains the reason and what to do."""


class Server:
    """A server at `url`, with or without a trailing `/v1`. Raises ServerError for an invalid URL."""

    def __init__(self, url: str, key: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerError(f"{url!r} is not the URL of a server; pass a URL such as http://localhost:8000")
        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS), headers=headers, trust_env=True
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def first_model(self) -> str:
        """The name that the server lists first. Raises ServerError."""
        try:
            async with self._session.get(f"{self.url}/v1/models", allow_redirects=False) as answer:
                body = await answer.content.read(MAX_BODY_BYTES)
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServerError(f"{self.url} cannot be reached: {error or type(error).__name__}") from None
        if status in (401, 403):
            raise ServerError(f"{self.url} requires an API key; set VLLM_API_KEY")
        try:
            return str(json.loads(body)["data"][0]["id"])
        except (ValueError, LookupError, TypeError, RecursionError):
            what = f"GET /v1/models returned HTTP {status}"
            raise ServerError(f"{self.url} is not an OpenAI API server: {what}; check the URL") from None

    async def ask(self, path: str, body: Mapping[str, Any]) -> tuple[int | None, bytes]:
        """POST `body`; return the status (None without an answer) and the response body."""
        try:
            async with self._session.post(self.url + path, json=body, allow_redirects=False) as answer:
                chunks = [chunk async for chunk in answer.content.iter_chunked(1 << 16)]
                return answer.status, b"".join(chunks)[:MAX_BODY_BYTES]
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None, b""
