"""The names of LoRA adapters: what clients request, what the server receives, and that the base is not exposed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.middleware.modelsync_middleware.adapters import AdapterNames, with_adapter_names

REVISION = "v7-3fa9c1d2"
LEGAL = f"legal@{REVISION}"
OWN = f"chat@{REVISION}"


class Server:
    """Records what vLLM would receive."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.answer: tuple[int, bytes] = (200, b"{}")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.bodies.append(message["body"])
        self.headers.append(dict(scope["headers"]))
        status, body = self.answer
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": body[:3], "more_body": True})
        await send({"type": "http.response.body", "body": body[3:]})


@pytest.fixture
def server() -> Server:
    return Server()


def adapters(server: Server, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Any:
    given = {"ADAPTER_NAMES": LEGAL, "BASE_NAMES": f"{OWN},chat", "EXPOSE_BASE": "false"} | environment
    for name, value in given.items():
        monkeypatch.setenv(f"MODELSYNC_{name}", value)
    return with_adapter_names(server)


async def call(
    app: Any, body: bytes | str, path: str = "/v1/chat/completions", method: str = "POST"
) -> tuple[int, bytes, dict[bytes, bytes]]:
    raw = body.encode() if isinstance(body, str) else body
    pieces = [raw[: len(raw) // 2], raw[len(raw) // 2 :]]
    sent: list[Any] = []

    async def receive() -> Any:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", str(len(raw)).encode()), (b"x-other", b"1")]
    await app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    whole = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], whole, dict(sent[0]["headers"])


def test_without_adapters_nothing_stands_between(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELSYNC_ADAPTER_NAMES", raising=False)
    assert with_adapter_names(server) is server


async def test_the_server_is_asked_for_the_adapter_of_this_revision(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = adapters(server, monkeypatch)
    status, _, _ = await call(app, '{ "model" : "legal" , "seed": 1e400, "n": 10000000000000000000001 }')
    assert status == 200
    expected = f'{{ "model" : "{LEGAL}" , "seed": 1e400, "n": 10000000000000000000001 }}'.encode()
    assert server.bodies == [expected], "nothing else of the request is changed"
    assert server.headers[0] == {b"x-other": b"1", b"content-length": str(len(expected)).encode()}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
async def test_a_body_is_read_in_every_encoding_that_the_server_reads(
    server: Server, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    await call(adapters(server, monkeypatch), json.dumps({"model": "legal", "prompt": "ä"}).encode(encoding))
    assert json.loads(server.bodies[0])["model"] == LEGAL


@pytest.mark.parametrize(
    "body", [f'{{"model": "{LEGAL}"}}', '{"model": "other"}', '{"model": "legal@v6-00000000"}', '{"model": "LEGAL"}']
)
async def test_other_names_are_the_servers_to_judge(server: Server, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    await call(adapters(server, monkeypatch), body)
    assert server.bodies == [body.encode()]


@pytest.mark.parametrize("name", ["chat", OWN])
async def test_the_base_is_not_there_unless_it_is_exposed(
    server: Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    status, body, _ = await call(adapters(server, monkeypatch), json.dumps({"model": name}))
    assert (status, server.bodies) == (404, [])
    error = json.loads(body)["error"]
    assert error["message"] == f"The model `{name}` does not exist; use one of: legal"
    assert (error["type"], error["param"], error["code"]) == ("NotFoundError", "model", 404)
    status, _, _ = await call(adapters(server, monkeypatch, EXPOSE_BASE="true"), json.dumps({"model": name}))
    assert status == 200


@pytest.mark.parametrize("body", ["{}", '{"model": null}', '{"model": ""}', '{"prompt": "Hello"}'])
async def test_a_request_without_a_model_gets_the_base_only_where_it_is_exposed(
    server: Server, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    assert (await call(adapters(server, monkeypatch), body))[0] == 400
    assert server.bodies == []
    assert (await call(adapters(server, monkeypatch, EXPOSE_BASE="true"), body))[0] == 200
    assert server.bodies == [body.encode()]


@pytest.mark.parametrize("body", ["{}", ' { "prompt": "Hello" }', '{"model": null, "n": 1}', '{"model": ""}'])
async def test_a_request_without_a_model_gets_the_adapter_that_the_deployment_is_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    environment = {"ADAPTER_NAMES": f"{OWN},{LEGAL}", "BASE_NAMES": "chat-base", "DEFAULT_NAME": OWN}
    assert (await call(adapters(server, monkeypatch, **environment), body))[0] == 200
    assert json.loads(server.bodies[0]) == json.loads(body) | {"model": OWN}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"legal"',
        b"\xff\xfe\x00",
        b'{"model": ["legal"]}',
        b'{"model": 7}',
        b"[" * 5000,
        b"--x\r\ncontent-disposition: form-data; name=model\r\n\r\nchat\r\n--x--",
    ],
)
async def test_what_cannot_be_read_reaches_the_server_only_where_the_base_is_exposed(
    server: Server, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    status, answer, _ = await call(adapters(server, monkeypatch), body)
    assert (status, server.bodies) == (400, [])
    assert "use one of: legal" in json.loads(answer)["error"]["message"]
    await call(adapters(server, monkeypatch, EXPOSE_BASE="true"), body)
    assert server.bodies == [body]


async def test_of_a_model_that_is_named_twice_the_last_counts_as_for_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = adapters(server, monkeypatch)
    assert (await call(app, '{"model": "legal", "model": "chat"}'))[0] == 404
    assert (await call(app, '{"model": "chat", "model": "legal"}'))[0] == 200
    assert json.loads(server.bodies[0])["model"] == LEGAL
    assert b'"chat"' not in server.bodies[0]


async def test_a_websocket_is_closed_unless_the_base_is_exposed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await adapters(server, monkeypatch)({"type": "websocket", "path": "/v1/realtime", "headers": []}, None, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


LISTING = json.dumps(
    {
        "object": "list",
        "data": [
            {"id": OWN, "root": "/models/1", "parent": None},
            {"id": "chat", "root": "/models/1", "parent": None},
            {"id": LEGAL, "root": "/models/2", "parent": OWN},
        ],
    }
).encode()


@pytest.mark.parametrize(("exposed", "names"), [("false", [LEGAL, "legal"]), ("true", [OWN, "chat", LEGAL, "legal"])])
async def test_the_list_of_models_is_what_may_be_asked_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, exposed: str, names: list[str]
) -> None:
    server.answer = (200, LISTING)
    app = adapters(server, monkeypatch, EXPOSE_BASE=exposed)
    _, body, headers = await call(app, b"", path="/v1/models", method="GET")
    cards = json.loads(body)["data"]
    assert [card["id"] for card in cards] == names
    assert headers[b"content-length"] == str(len(body)).encode()
    if exposed == "false":
        assert OWN not in body.decode(), "not as a parent either"


async def test_a_list_that_is_none_shows_nothing_of_the_base(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = (200, b'{"data": [{"name": "chat"}]}')
    _, body, _ = await call(adapters(server, monkeypatch), b"", path="/v1/models", method="GET")
    assert json.loads(body) == {"object": "list", "data": []}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    before=st.dictionaries(st.text(), JSON, max_size=3),
    after=st.dictionaries(st.text(), JSON, max_size=3),
    indent=st.none() | st.integers(0, 3),
    ascii_only=st.booleans(),
)
async def test_whatever_else_a_request_holds_arrives_as_it_was(
    before: dict[str, Any], after: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    server = Server()
    body = {**before, "model": "legal", **{key: value for key, value in after.items() if key != "model"}}
    app = AdapterNames(server, [LEGAL])
    await call(app, json.dumps(body, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
    assert repr(json.loads(server.bodies[0])) == repr(body | {"model": LEGAL})
