"""Receives W&B's webhooks. A webhook only triggers a read: its content is never trusted; answers come from the server.

W&B's automations post the user's template, with `Authorization: Bearer <access token>` and, if the webhook has a
secret, `X-Wandb-Signature`: HMAC-SHA256 over the raw body. The signature's encoding is documented as base64 and seen in
practice as hex, with and without a `sha256=` prefix; all three are accepted. Delivery is not guaranteed: polling
continues regardless.

Anyone who reaches the port may post, so there is a budget of requests without the token, and another one of requests
and bytes with it. A webhook beyond the budget is answered 429, and one look later makes up for all of them.
"""

import asyncio
import base64
import hashlib
import hmac
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from aiohttp import web

from modelsync.api.foreign_json import ForeignJSONError, read_object
from modelsync.api.model_ref import CollectionRef, InvalidReferenceError, ModelRef
from modelsync.registry.budget import Budget, Rate
from modelsync.registry.relay import RELAYED_HEADER, Look, Relay

MAX_BODY_BYTES = 64 * 2**10
READ_TIMEOUT = timedelta(seconds=5)
"""Time limit for a client to send its body."""
KEEPALIVE = timedelta(seconds=15)
"""How long a connection may be idle: webhooks are rare."""
MIN_TOKEN_LENGTH = 16
EVERYWHERE = ("", "", "")

OF_ONE, OF_ALL = Rate(60, 2), Rate(120, 4)
"""Webhooks with the right token, by address and together. An automation fires once for each alias or tag."""
BYTES_OF_ONE, BYTES_OF_ALL = Rate(2**20, 2**17), Rate(2**21, 2**18)
"""Of their bodies. W&B's are below 2 KiB."""
STRANGERS_OF_ONE, STRANGERS_OF_ALL = Rate(20, 1), Rate(100, 10)
"""Requests without it that are logged and answered 401; more are answered 429."""

log = structlog.get_logger(__name__)

Heard = Callable[[str], None]
"""Called with the result of each webhook: `Accepted`, `Refused`, `Deferred` (429), `Unserved` (503). Must not block."""


def application(
    look: Look | Relay,
    *,
    token: str,
    secret: str = "",
    path: str = "/webhook",
    heard: Heard = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> web.Application:
    """Create the receiver: `POST path` answers 202 at once and calls `look`, or answers 401 and does nothing.

    Beyond the budget it answers 429 and calls `look` later, once. With a relay it answers 503 when the webhook could
    not be forwarded to a leader.

    `token` is the automation's access token. With `secret` the request must be signed too. The body can limit what is
    read with `entity_name`, `project_name` and `artifact_collection_name`, or `artifact_version_string`, named like
    W&B's variables; without them, or if it is not JSON, everything is read. Raises ValueError for a token that is too
    short.
    """
    if len(token) < MIN_TOKEN_LENGTH:
        raise ValueError(
            f"the webhook token has {len(token)} characters; at least {MIN_TOKEN_LENGTH} are required; create one with "
            "`openssl rand -hex 32`"
        )

    requests, bodies = Budget(OF_ONE, OF_ALL, clock), Budget(BYTES_OF_ONE, BYTES_OF_ALL, clock)
    strangers = Budget(STRANGERS_OF_ONE, STRANGERS_OF_ALL, clock)

    def refuse(request: web.Request, why: str) -> web.Response:
        heard("Refused")
        if wait := strangers.take(request.remote or ""):
            return _too_many(wait)
        return _unauthorized(request, why)

    async def act(place: tuple[str, str, str], *, relayed: bool) -> bool:
        if isinstance(look, Relay):
            return await look.handle(*place, relayed=relayed)
        look(*place)
        return True

    owed = _Owed(act)

    def defer(place: tuple[str, str, str], wait: float, *, relayed: bool) -> web.Response:
        heard("Deferred")
        owed.add(place, wait, relayed=relayed)
        return _too_many(wait)

    async def receive(request: web.Request) -> web.Response:
        if not _is_token(request.headers.get("Authorization", ""), token):
            return refuse(request, "no valid bearer token")
        relayed = RELAYED_HEADER in request.headers
        # Another replica relays for many addresses, and has counted each of them.
        source = None if relayed else request.remote or ""
        length = request.content_length
        if wait := bodies.take(source, MAX_BODY_BYTES if length is None else min(length, MAX_BODY_BYTES)):
            return defer(EVERYWHERE, wait, relayed=relayed)
        try:
            async with asyncio.timeout(READ_TIMEOUT.total_seconds()):
                body = await request.read()
        except TimeoutError:
            return web.Response(status=408)
        if secret and not is_signed(body, request.headers.get("X-Wandb-Signature", ""), secret):
            return refuse(request, "no valid X-Wandb-Signature")
        place = place_of(body)
        if wait := requests.take(source):
            return defer(place, wait, relayed=relayed)
        log.info("registry.webhook", entity=place[0], project=place[1], collection=place[2])
        if not await act(place, relayed=relayed):
            heard("Unserved")
            return web.Response(status=503)
        if not relayed:  # the replica that forwarded it has counted it
            heard("Accepted")
        return web.Response(status=202)

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post(path, receive)
    app.on_cleanup.append(owed.stop)
    return app


class _Owed:
    """The look that webhooks beyond the budget are owed: one for all of them, when the budget has room again."""

    def __init__(self, act: Callable[..., Awaitable[bool]]) -> None:
        self._act = act
        self._place: tuple[str, str, str] | None = None
        self._relayed = True
        self._task: asyncio.Task[None] | None = None

    def add(self, place: tuple[str, str, str], wait: float, *, relayed: bool) -> None:
        """Look at `place` in `wait` seconds; everywhere, if a look at another place is owed already.

        It may be forwarded to the leader unless all that it makes up for were relayed.
        """
        self._relayed = self._relayed and relayed
        if self._place is None:
            self._place = place
            self._task = asyncio.create_task(self._pay(wait), name="owed look")
        elif self._place != place:
            self._place = EVERYWHERE

    async def stop(self, _app: web.Application) -> None:
        """Forget what is owed."""
        if self._task is not None:
            self._task.cancel()

    async def _pay(self, wait: float) -> None:
        await asyncio.sleep(wait)
        place, self._place = self._place or EVERYWHERE, None
        relayed, self._relayed = self._relayed, True
        log.info("registry.webhook", entity=place[0], project=place[1], collection=place[2], deferred=True)
        await self._act(place, relayed=relayed)


def is_signed(body: bytes, signature: str, secret: str) -> bool:
    """Whether `signature` is the HMAC-SHA256 of `body`. Compares bytes in constant time."""
    expected = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    text = signature.strip()
    given = []
    with suppress(ValueError):
        given.append(bytes.fromhex(text.removeprefix("sha256=")))
    with suppress(ValueError):  # binascii.Error is one
        given.append(base64.b64decode(text, validate=True))
    return any(hmac.compare_digest(expected, each) for each in given)


def place_of(body: bytes) -> tuple[str, str, str]:
    """Read entity, project and collection from a body; empty where they are missing or invalid."""
    try:
        parsed = read_object(body, max_bytes=MAX_BODY_BYTES)
    except ForeignJSONError:
        return ("", "", "")
    try:
        ref: CollectionRef = ModelRef.parse(_text(parsed, "artifact_version_string")).in_collection
    except InvalidReferenceError:
        collection = _text(parsed, "artifact_collection_name")
        return (_text(parsed, "entity_name"), _text(parsed, "project_name"), collection)
    return (ref.entity, ref.project, ref.collection)


def _text(body: Mapping[str, Any], name: str) -> str:
    """A name from the body; empty if it is missing, or an unexpanded W&B variable."""
    value = body.get(name)
    return value if isinstance(value, str) and len(value) <= 512 and "${" not in value else ""


def _is_token(header: str, token: str) -> bool:
    scheme, _, given = header.partition(" ")
    return (
        hmac.compare_digest(given.strip().encode(errors="surrogateescape"), token.encode())
        and scheme.lower() == "bearer"
    )


def _too_many(wait: float) -> web.Response:
    return web.Response(status=429, headers={"Retry-After": str(math.ceil(wait))})


def _unauthorized(request: web.Request, why: str) -> web.Response:
    log.warning("registry.webhook_refused", why=why, remote=request.remote)
    return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
