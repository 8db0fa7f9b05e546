"""Which webhooks are accepted, and what is read from their bodies."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
import pytest_asyncio
import structlog

from modelsync.controller.listen import listen
from modelsync.registry import webhook
from modelsync.registry.budget import Rate
from modelsync.registry.relay import RELAYED_HEADER, Relay
from modelsync.registry.webhook import MAX_BODY_BYTES, application, is_signed, place_of

TOKEN = "a-token-of-an-automation"
SECRET = "a-secret-for-signing"
BODY = json.dumps({"entity_name": "acme", "project_name": "wandb-registry-model", "artifact_collection_name": "chat"})


@dataclass
class Receiver:
    """A running receiver, and the looks that it requested."""

    url: str
    looks: list[tuple[str, str, str]] = field(default_factory=list)


@pytest_asyncio.fixture
async def open_receiver() -> AsyncIterator[Receiver]:
    looks: list[tuple[str, str, str]] = []
    app = application(lambda *place: looks.append(place), token=TOKEN, path="/hooks/wandb")
    async with listen(app, host="127.0.0.1", port=0) as port:
        yield Receiver(f"http://127.0.0.1:{port}/hooks/wandb", looks)


@pytest_asyncio.fixture
async def signed_receiver() -> AsyncIterator[Receiver]:
    looks: list[tuple[str, str, str]] = []
    app = application(lambda *place: looks.append(place), token=TOKEN, secret=SECRET)
    async with listen(app, host="127.0.0.1", port=0) as port:
        yield Receiver(f"http://127.0.0.1:{port}/webhook", looks)


async def post(url: str, body: str | bytes = BODY, **headers: str) -> int:
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        assert TOKEN not in await response.text()
        return response.status


async def test_the_result_of_each_webhook_is_reported() -> None:
    heard: list[str] = []
    app = application(lambda *_: None, token=TOKEN, heard=heard.append)
    async with listen(app, host="127.0.0.1", port=0) as port:
        url = f"http://127.0.0.1:{port}/webhook"
        await post(url, Authorization=f"Bearer {TOKEN}")
        await post(url, Authorization="Bearer wrong")
        await post(url, Authorization=f"Bearer {TOKEN}", **{RELAYED_HEADER: "true"})
    assert heard == ["Accepted", "Refused"], "what was passed on was counted where it came in"


async def test_a_call_with_the_token_is_answered_202_and_asks_for_a_look_there(open_receiver: Receiver) -> None:
    assert await post(open_receiver.url, Authorization=f"Bearer {TOKEN}") == 202
    assert open_receiver.looks == [("acme", "wandb-registry-model", "chat")]


@pytest.mark.parametrize(
    "header", [None, "", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", "Bearer \u00e4\u00f6"]
)
async def test_a_call_without_the_token_is_answered_401_and_asks_for_nothing(
    open_receiver: Receiver, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    assert await post(open_receiver.url, **headers) == 401
    assert open_receiver.looks == []


@pytest.mark.parametrize("body", ["", "{}", "no json", "[1]", '{"entity_name": 5}', "[" * 5000])
async def test_a_body_that_says_nothing_means_everywhere(open_receiver: Receiver, body: str) -> None:
    assert await post(open_receiver.url, body, Authorization=f"Bearer {TOKEN}") == 202
    assert open_receiver.looks == [("", "", "")]


async def test_a_body_beyond_the_limit_is_refused_and_asks_for_nothing(open_receiver: Receiver) -> None:
    assert await post(open_receiver.url, b"x" * (MAX_BODY_BYTES + 1), Authorization=f"Bearer {TOKEN}") == 413
    assert open_receiver.looks == []


async def test_only_posts_to_the_path_are_taken(open_receiver: Receiver) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        async with session.get(open_receiver.url) as response:
            assert response.status == 405
        async with session.post(f"{open_receiver.url}/other") as response:
            assert response.status == 404
    assert open_receiver.looks == []


async def test_with_a_secret_a_call_must_be_signed_too(signed_receiver: Receiver) -> None:
    signature = base64.b64encode(hmac.digest(SECRET.encode(), BODY.encode(), "sha256")).decode()
    assert await post(signed_receiver.url, Authorization=f"Bearer {TOKEN}") == 401
    assert await post(signed_receiver.url, **{"X-Wandb-Signature": signature}) == 401
    assert signed_receiver.looks == []
    both = {"Authorization": f"Bearer {TOKEN}", "X-Wandb-Signature": signature}
    assert await post(signed_receiver.url, **both) == 202
    assert await post(signed_receiver.url, BODY + " ", **both) == 401
    assert len(signed_receiver.looks) == 1


def test_a_signature_is_taken_in_each_encoding_that_wandb_is_seen_with() -> None:
    digest = hmac.new(b"s", b"body", hashlib.sha256)
    base = base64.b64encode(digest.digest()).decode()
    for good in (base, digest.hexdigest(), f"sha256={digest.hexdigest()}", digest.hexdigest().upper()):
        assert is_signed(b"body", good, "s")
        assert not is_signed(b"Body", good, "s")
        assert not is_signed(b"body", good, "t")
    for bad in ("", "sha256=", "ä", base[:-4], digest.hexdigest()[:32]):
        assert not is_signed(b"body", bad, "s")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (
            {"artifact_version_string": "acme/wandb-registry-model/chat llm:v7"},
            ("acme", "wandb-registry-model", "chat llm"),
        ),
        ({"artifact_version_string": "${artifact_version_string}", "entity_name": "acme"}, ("acme", "", "")),
        ({"entity_name": "acme", "project_name": "${project_name}"}, ("acme", "", "")),
        ({"artifact_collection_name": "c" * 600}, ("", "", "")),
    ],
)
def test_a_body_narrows_by_the_names_of_wandb_s_variables(body: dict[str, str], place: tuple[str, str, str]) -> None:
    assert place_of(json.dumps(body).encode()) == place


def test_a_token_that_can_be_guessed_is_refused_with_how_to_make_one() -> None:
    with pytest.raises(ValueError, match="openssl rand"):
        application(lambda *_: None, token="short")


# --- the budget ------------------------------------------------------------------------------------------------------

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Flooded(Receiver):
    """A receiver whose clock stands still until the test moves it, and the results that it reported."""

    heard: list[str] = field(default_factory=list)
    now: float = 0.0

    async def statuses(self, count: int, body: str = BODY, **headers: str) -> list[int]:
        async with aiohttp.ClientSession(headers=headers) as session:
            found = []
            for _ in range(count):
                async with session.post(self.url, data=body) as response:
                    found.append(response.status)
                    assert (response.status == 429) == ("Retry-After" in response.headers)
            return found

    async def until_looked(self) -> None:
        async with asyncio.timeout(10):
            while not self.looks:  # noqa: ASYNC110 the look is a callback
                await asyncio.sleep(0.01)


@asynccontextmanager
async def flooded(monkeypatch: pytest.MonkeyPatch, *, secret: str = "", **rates: Rate) -> AsyncIterator[Flooded]:
    for name, rate in rates.items():
        monkeypatch.setattr(webhook, name, rate)
    found = Flooded("")
    app = application(
        lambda *place: found.looks.append(place),
        token=TOKEN,
        secret=secret,
        heard=found.heard.append,
        clock=lambda: found.now,
    )
    async with listen(app, host="127.0.0.1", port=0) as port:
        found.url = f"http://127.0.0.1:{port}/webhook"
        yield found


async def test_webhooks_beyond_the_budget_are_answered_429_and_are_owed_one_look_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with flooded(monkeypatch, OF_ONE=Rate(2, 50)) as receiver:
        assert await receiver.statuses(6, **AUTHORIZED) == [202, 202, 429, 429, 429, 429]
        assert receiver.heard == ["Accepted"] * 2 + ["Deferred"] * 4
        receiver.looks.clear()
        await receiver.until_looked()
        assert receiver.looks == [("acme", "wandb-registry-model", "chat")]


async def test_what_is_owed_for_several_places_is_one_look_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async with flooded(monkeypatch, OF_ONE=Rate(1, 10)) as receiver:
        await receiver.statuses(2, **AUTHORIZED)
        receiver.looks.clear()
        await receiver.statuses(1, BODY.replace("chat", "other"), **AUTHORIZED)
        await receiver.until_looked()
        assert receiver.looks == [("", "", "")]


async def test_384_webhooks_in_no_time_are_no_more_looks_than_the_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    burst = webhook.OF_ONE.burst
    async with flooded(monkeypatch, OF_ONE=Rate(burst, 0.001)) as receiver:
        statuses = await receiver.statuses(384, "", **AUTHORIZED)
        assert statuses.count(202) == burst == len(receiver.looks)


async def test_a_flood_without_the_token_uses_up_nothing_of_those_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with flooded(monkeypatch) as receiver:
        assert set((await receiver.statuses(300))[int(webhook.STRANGERS_OF_ONE.burst) :]) == {429}
        assert await receiver.statuses(1, **AUTHORIZED) == [202]


async def test_a_flood_without_the_signature_uses_up_nothing_of_those_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = hmac.new(SECRET.encode(), BODY.encode(), hashlib.sha256).hexdigest()
    async with flooded(monkeypatch, secret=SECRET, OF_ONE=Rate(3, 1)) as receiver:
        assert set(await receiver.statuses(100, **AUTHORIZED)) == {401, 429}
        assert receiver.looks == []
        assert await receiver.statuses(1, **AUTHORIZED, **{"X-Wandb-Signature": signature}) == [202]


async def test_bytes_have_a_budget_too_and_what_is_beyond_it_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with flooded(monkeypatch, BYTES_OF_ONE=Rate(100_000, 1_000_000)) as receiver:
        assert await receiver.statuses(3, "x" * 50_000, **AUTHORIZED) == [202, 202, 429]
        receiver.looks.clear()
        await receiver.until_looked()
        assert receiver.looks == [("", "", "")], "what was not read could have been about anything"


async def test_only_the_log_lines_of_strangers_within_their_budget_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with flooded(monkeypatch, STRANGERS_OF_ONE=Rate(2, 0.001)) as receiver:
            await receiver.statuses(50)
    assert [line["event"] for line in logs].count("registry.webhook_refused") == 2


async def test_a_relayed_webhook_is_counted_for_the_replica_that_forwarded_it_only_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with flooded(monkeypatch, OF_ONE=Rate(1, 0.001), OF_ALL=Rate(3, 0.001)) as receiver:
        statuses = await receiver.statuses(4, **AUTHORIZED, **{RELAYED_HEADER: "true"})
        assert statuses == [202, 202, 202, 429]


class Follower(Relay):
    """A replica that does not lead: it can serve a webhook only by forwarding it, and notes which it may forward."""

    def __init__(self) -> None:
        super().__init__(lambda: None, token=TOKEN)
        self.forwardable: list[bool] = []

    async def handle(self, entity: str, project: str, collection: str, *, relayed: bool) -> bool:
        self.forwardable.append(not relayed)
        return not relayed


@pytest.mark.parametrize("others", [{}, {RELAYED_HEADER: "true"}], ids=["none relayed", "the first relayed"])
async def test_a_look_that_is_owed_for_a_webhook_of_its_own_is_forwarded(
    monkeypatch: pytest.MonkeyPatch, others: dict[str, str]
) -> None:
    monkeypatch.setattr(webhook, "OF_ALL", Rate(1, 10))
    follower = Follower()
    async with listen(application(follower, token=TOKEN, clock=lambda: 0.0), host="127.0.0.1", port=0) as port:
        url = f"http://127.0.0.1:{port}/webhook"
        assert await post(url, **AUTHORIZED) == 202
        assert await post(url, **AUTHORIZED, **others) == 429
        assert await post(url, **AUTHORIZED) == 429
        async with asyncio.timeout(10):
            while follower.forwardable.count(True) < 2:  # noqa: ASYNC110 the look is a callback
                await asyncio.sleep(0.01)
