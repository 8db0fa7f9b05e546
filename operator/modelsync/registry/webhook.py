"""Receives W&B's webhooks. A webhook only triggers a read: its content is never trusted; answers come from the server.

W&B's automations post the user's template, with `Authorization: Bearer <access token>` and, if the webhook has a
secret, `X-Wandb-Signature`: HMAC-SHA256 over the raw body. The signature's encoding is documented as base64 and seen in
practice as hex, with and without a `sha256=` prefix; all three are accepted. Delivery is not guaranteed: polling
continues regardless.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from aiohttp import web

from modelsync.api.foreign_json import ForeignJSONError, read_object
from modelsync.api.model_ref import CollectionRef, InvalidReferenceError, ModelRef
from modelsync.registry.relay import RELAYED_HEADER, Look, Relay

MAX_BODY_BYTES = 64 * 2**10
READ_TIMEOUT = timedelta(seconds=5)
"""Time limit for a client to send its body."""
KEEPALIVE = timedelta(seconds=15)
"""How long a connection may be idle: webhooks are rare."""
MIN_TOKEN_LENGTH = 16

log = structlog.get_logger(__name__)

Heard = Callable[[str], None]
"""Called with the result of each webhook: `Accepted`, `Refused`, or `Unserved` (503). Must not block."""


def application(
    look: Look | Relay,
    *,
    token: str,
    secret: str = "",
    path: str = "/webhook",
    heard: Heard = lambda _: None,
) -> web.Application:
    """Create the receiver: `POST path` answers 202 at once and calls `look`, or answers 401 and does nothing.

    With a relay it answers 503 when the webhook could not be forwarded to a leader.

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
        elif not await look.handle(*place, relayed=relayed):
            heard("Unserved")
            return web.Response(status=503)
        if not relayed:  # the replica that forwarded it has counted it
            heard("Accepted")
        return web.Response(status=202)

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post(path, receive)
    return app


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


def _unauthorized(request: web.Request, why: str) -> web.Response:
    log.warning("registry.webhook_refused", why=why, remote=request.remote)
    return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
