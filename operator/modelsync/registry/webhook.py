"""Receives W&B's webhooks. A call only says "look now": what it tells is never believed; answers come from the server.

W&B's automations post what the user's template says, with `Authorization: Bearer <access token>` and, if the webhook
has a secret, `X-Wandb-Signature`: HMAC-SHA256 over the raw body. Its encoding is described as base64 and seen in the
wild as hex, with and without `sha256=` in front; all three are taken. Delivery is not guaranteed: polling goes on
beside it.
"""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from aiohttp import web

from modelsync.api.model_ref import CollectionRef, InvalidReferenceError, ModelRef
from modelsync.registry.relay import RELAYED_HEADER, Look, Relay

MAX_BODY_BYTES = 64 * 2**10
READ_TIMEOUT = timedelta(seconds=5)
"""How long a caller may take to send its body."""
KEEPALIVE = timedelta(seconds=15)
"""How long a connection may be idle: calls come once in a while, from anywhere."""
MIN_TOKEN_LENGTH = 16

log = structlog.get_logger(__name__)

Heard = Callable[[str], None]
"""Is told what became of each call: `Accepted`, `Refused`, or `Unserved` (503). Must not block."""


def application(
    look: Look | Relay,
    *,
    token: str,
    secret: str = "",
    path: str = "/webhook",
    heard: Heard = lambda _: None,
) -> web.Application:
    """Make the receiver: `POST path` answers 202 at once and calls `look`, or 401 and does nothing.

    With a relay it answers 503 when nobody could be told to look.

    `token` is the automation's access token. With `secret` a call must be signed too. A body may narrow where to look
    by `entity_name`, `project_name` and `artifact_collection_name`, or `artifact_version_string`, as W&B's variables
    are called; one without them, or that is no JSON, means everywhere. Raises ValueError for a token that can be
    guessed.
    """
    if len(token) < MIN_TOKEN_LENGTH:
        raise ValueError(
            f"the webhook token has {len(token)} characters; at least {MIN_TOKEN_LENGTH} are needed, as from "
            "`openssl rand -hex 32`"
        )

    async def receive(request: web.Request) -> web.Response:
        if not _is_token(request.headers.get("Authorization", ""), token):
            heard("Refused")
            return _unauthorized(request, "no valid bearer token")
        try:
            async with asyncio.timeout(READ_TIMEOUT.total_seconds()):
                body = await request.read()
        except TimeoutError:
            return web.Response(status=408)
        if secret and not is_signed(body, request.headers.get("X-Wandb-Signature", ""), secret):
            heard("Refused")
            return _unauthorized(request, "no valid X-Wandb-Signature")
        place = place_of(body)
        log.info("registry.webhook", entity=place[0], project=place[1], collection=place[2])
        relayed = RELAYED_HEADER in request.headers
        if not isinstance(look, Relay):
            look(*place)
        elif not await look.take(*place, relayed=relayed):
            heard("Unserved")
            return web.Response(status=503)
        if not relayed:  # the replica that passed it on has counted it
            heard("Accepted")
        return web.Response(status=202)

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post(path, receive)
    return app


def is_signed(body: bytes, signature: str, secret: str) -> bool:
    """Whether `signature` is the HMAC-SHA256 of `body`; compared in constant time, as bytes."""
    expected = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    text = signature.strip()
    given = []
    with suppress(ValueError):
        given.append(bytes.fromhex(text.removeprefix("sha256=")))
    with suppress(ValueError):  # binascii.Error is one
        given.append(base64.b64decode(text, validate=True))
    return any(hmac.compare_digest(expected, each) for each in given)


def place_of(body: bytes) -> tuple[str, str, str]:
    """Read entity, project and collection from a body; empty where it does not say, or says something odd."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return ("", "", "")
    if not isinstance(parsed, dict):
        return ("", "", "")
    try:
        ref: CollectionRef = ModelRef.parse(_text(parsed, "artifact_version_string")).in_collection
    except InvalidReferenceError:
        collection = _text(parsed, "artifact_collection_name")
        return (_text(parsed, "entity_name"), _text(parsed, "project_name"), collection)
    return (ref.entity, ref.project, ref.collection)


def _text(body: Mapping[str, Any], name: str) -> str:
    """A name from the body; empty if there is none, or a variable that W&B did not fill in."""
    value = body.get(name)
    return value if isinstance(value, str) and len(value) <= 512 and "${" not in value else ""


def _is_token(header: str, token: str) -> bool:
    scheme, _, given = header.partition(" ")
    return (
        hmac.compare_digest(given.strip().encode(errors="surrogateescape"), token.encode())
        and scheme.lower() == "bearer"
    )


def _unauthorized(request: web.Request, why: str) -> web.Response:
    log.warning("registry.webhook_refused", why=why, remote=request.remote)
    return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
