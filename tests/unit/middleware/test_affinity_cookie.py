"""The cookie that pins a client to the revision that answered it."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from modelsync.api.routing import Routing, Rule, RuleKind
from modelsync.api.traffic import Traffic
from modelsync.middleware.modelsync_middleware import VersionHeader
from modelsync.middleware.modelsync_middleware.affinity_cookie import SESSION_HEADER
from modelsync.resources import route
from modelsync.resources.objects import Owner

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

WISH = b"modelsync-chat; Max-Age=3600"


@pytest.fixture(autouse=True)
def revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSYNC_REVISION", "v7-3fa9c1d2")


async def cookies(*headers: tuple[bytes, bytes], status: int = 200) -> list[bytes]:
    """The cookies that a response sets, besides the application's own."""

    async def app(scope: Message, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"set-cookie", b"own=1")]})
        await send({"type": "http.response.body", "body": b"x"})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": list(headers)}
    await VersionHeader(app)(scope, receive, send)
    found = [value for name, value in sent[0]["headers"] if name == b"set-cookie"]
    assert found[0] == b"own=1"
    return found[1:]


async def test_a_client_that_goes_by_the_weights_is_given_the_revision_that_answers_it() -> None:
    assert await cookies((SESSION_HEADER, WISH)) == [
        b"modelsync-chat=v7-3fa9c1d2; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax"
    ]


async def test_without_the_gateways_wish_nothing_is_set() -> None:
    assert await cookies((b"cookie", b"modelsync-chat=v6-deadbeef")) == []


@pytest.mark.parametrize("status", [400, 451, 500, 503])
async def test_nobody_stays_with_a_version_that_failed_it(status: int) -> None:
    assert await cookies((SESSION_HEADER, WISH), status=status) == []


@pytest.mark.parametrize(
    "wish",
    [b"", b"session; Max-Age=1", b"modelsync-chat; Domain=evil", b"modelsync-chat; Max-Age=1\r\nx: y", WISH + b"; x=1"],
)
async def test_only_the_operators_own_wish_is_listened_to(wish: bytes) -> None:
    assert await cookies((SESSION_HEADER, wish)) == []


async def test_a_pod_that_does_not_know_its_revision_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELSYNC_REVISION")
    assert await cookies((SESSION_HEADER, WISH)) == []


async def test_what_the_route_asks_for_is_what_the_middleware_understands_and_the_route_finds_again() -> None:
    traffic = Traffic.model_validate(
        {"gateway": {"parentRefs": [{"name": "models"}]}, "sessionAffinity": {"maxAge": "30m"}}
    )
    rules = (Rule("v7-3fa9c1d2", RuleKind.SESSION), Rule("v8-00c0ffee", RuleKind.SESSION))
    owner = Owner(name="chat", namespace="prod", uid="x")
    shares = Routing((("v7-3fa9c1d2", 95), ("v8-00c0ffee", 5)), rules)
    stable, canary, last = route.http_route(owner, traffic, shares)["spec"]["rules"]
    (wish,) = last["filters"][0]["requestHeaderModifier"]["set"]
    assert wish["name"].encode() == SESSION_HEADER
    (cookie,) = await cookies((SESSION_HEADER, wish["value"].encode()))
    assert b"Max-Age=1800" in cookie
    pair = cookie.partition(b";")[0].decode()
    (header,) = stable["matches"][0]["headers"]
    assert (header["type"], header["name"]) == ("RegularExpression", "Cookie")
    for sent in (pair, f"a=b; {pair}", f"{pair}; c=d", f"a=b;{pair};c=d"):
        assert re.search(header["value"], sent), sent
        assert not re.search(canary["matches"][0]["headers"][0]["value"], sent), sent
    for sent in (f"{pair}0", f"x{pair}", pair.replace("chat", "chat2")):
        assert not re.search(header["value"], sent), sent
