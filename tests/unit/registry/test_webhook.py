"""Which webhooks are accepted, and what is read from their bodies."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
import pytest_asyncio

from modelsync.controller.listen import listen
from modelsync.registry.relay import RELAYED_HEADER
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
