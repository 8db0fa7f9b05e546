"""The transport classifies why an answer is missing, and never reveals the key."""

import base64
import logging
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from modelsync.registry.credential import Credential
from modelsync.registry.errors import (
    DeniedError,
    NotFoundError,
    NotGraphQLError,
    RefusedError,
    RegistryError,
    ThrottledError,
    UnreachableError,
)
from modelsync.registry.graphql import (
    MAX_ERRORS,
    MAX_WAIT,
    GraphQL,
    InvalidBaseURLError,
    InvalidCABundleError,
    parse_base_url,
    tls,
)
from wandb_standin import Admin, StandIn

VIEWER = "query Viewer { viewer { username } }"
KEY = "k" * 30 + "0123456789"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Odd:
    """Not a W&B server: returns the response that a test sets, and records the requests."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.answer: Handler = self._none
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.requests.append(request)
        return await self.answer(request)

    def answers(self, response: Callable[[], web.StreamResponse]) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return response()

        self.answer = answer

    async def _none(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=500)


@pytest_asyncio.fixture
async def odd() -> AsyncIterator[Odd]:
    server = Odd()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


async def failure(url: str, key: str = KEY, **options: object) -> RegistryError:
    """Send a query and return its error."""
    async with GraphQL(url, Credential(key), **options) as api:  # type: ignore[arg-type]
        with pytest.raises(RegistryError) as caught:
            await api.execute(VIEWER)
    return caught.value


async def test_an_answer_comes_with_when_it_was_asked_for(standin: StandIn, credential: Credential) -> None:
    before = datetime.now(UTC)
    async with GraphQL(f"{standin.url}/", credential) as api:
        response = await api.execute(VIEWER, operation="Viewer")
    assert response.data == {"viewer": {"username": "alice"}}
    assert before <= response.asked_at <= response.answered_at <= datetime.now(UTC)


async def test_a_wrong_key_is_denied_and_the_message_says_what_to_check(standin: StandIn) -> None:
    error = await failure(standin.url)
    assert isinstance(error, DeniedError)
    assert error.status == 401
    assert "check the key" in str(error)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "status", "status": 403}, DeniedError),
        ({"kind": "status", "status": 404}, NotFoundError),
        ({"kind": "status", "status": 500}, UnreachableError),
        ({"kind": "status", "status": 502}, UnreachableError),
        ({"kind": "status", "status": 400}, RefusedError),
        ({"kind": "html"}, NotGraphQLError),
        ({"kind": "reset"}, UnreachableError),
        ({"kind": "slow", "delay": 1.0}, UnreachableError),
    ],
    ids=lambda value: "-".join(str(v) for v in value.values()) if isinstance(value, dict) else "",
)
async def test_each_failure_of_a_server_has_a_kind_of_its_own(
    standin: StandIn, admin: Admin, credential: Credential, fault: dict[str, object], kind: type[RegistryError]
) -> None:
    settings = dict(fault)
    admin.add_fault(str(settings.pop("kind")), operation="Viewer", **settings)
    error = await failure(standin.url, credential.key, timeout=timedelta(seconds=0.5))
    assert type(error) is kind
    assert standin.url in str(error)


async def test_a_query_that_the_server_does_not_know_is_refused_with_its_words(
    standin: StandIn, credential: Credential
) -> None:
    async with GraphQL(standin.url, credential) as api:
        with pytest.raises(RefusedError, match="noSuchField") as caught:
            await api.execute("{ viewer { noSuchField } }")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"RateLimit-Reset": "8"}, 8),
        ({"Retry-After": "3", "RateLimit-Reset": "12"}, 12),
        ({}, 30),
        ({"Retry-After": "soon"}, 30),
        ({"Retry-After": "999999999"}, MAX_WAIT.total_seconds()),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
    ],
)
async def test_a_server_that_asks_to_wait_is_reported_with_the_time(
    odd: Odd, headers: dict[str, str], seconds: float
) -> None:
    odd.answers(lambda: web.json_response({"errors": [{"message": "slow down"}]}, status=429, headers=headers))
    error = await failure(odd.url)
    assert isinstance(error, ThrottledError)
    assert abs((error.until - datetime.now(UTC)).total_seconds() - seconds) < 5


async def test_a_wait_may_be_given_by_its_end(odd: Odd) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=600)
    odd.answers(lambda: web.Response(status=429, headers={"Retry-After": format_datetime(end, usegmt=True)}))
    error = await failure(odd.url)
    assert isinstance(error, ThrottledError)
    assert abs(error.until - end) < timedelta(seconds=1)


async def test_an_outage_that_names_its_end_is_a_wait_too(odd: Odd) -> None:
    odd.answers(lambda: web.Response(status=503, headers={"Retry-After": "60"}))
    assert isinstance(await failure(odd.url), ThrottledError)


async def test_data_is_kept_whatever_the_status_and_errors_come_with_their_paths(odd: Odd) -> None:
    body = {
        "data": {"r0": None, "r1": {"name": "x"}},
        "errors": [{"message": "project not found", "path": ["r0"], "extensions": {"code": "NOT_FOUND"}}],
    }
    odd.answers(lambda: web.json_response(body, status=404))
    async with GraphQL(odd.url, Credential(KEY)) as api:
        response = await api.execute(VIEWER)
    assert response.status == 404
    assert response.data["r1"] == {"name": "x"}
    assert [(error.path, error.code) for error in response.errors] == [(("r0",), "NOT_FOUND")]


@pytest.mark.parametrize(
    "body",
    [
        b'{"errors": 7}',
        b'{"errors": {"message": "x"}}',
        b'{"errors": [7, null, {"message": 7, "path": 7, "extensions": 7}]}',
        b'{"data": [], "errors": "x"}',
        b'{"data": {"a": 1}, "data": {"a": 2}}',
        b'{"data": 1e999}',
        b"[" * 100_000,
        b'{"data":' * 50_000,
        b"\xff\xfe",
        b"",
    ],
)
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_hostile_answer_raises_only_registry_errors(odd: Odd, body: bytes, status: int) -> None:
    odd.answers(lambda: web.Response(body=body, status=status, content_type="application/json"))
    assert "\n" not in str(await failure(odd.url))


@pytest.mark.parametrize("location", ["http://[", "http://[::1", "//", "https://x:port/", "", "\xa0"])
async def test_a_malformed_location_is_a_redirect_like_any_other(odd: Odd, location: str) -> None:
    odd.answers(lambda: web.Response(status=302, headers={"location": location}))
    assert "redirects are not followed" in str(await failure(odd.url))


async def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(odd: Odd, standin: StandIn) -> None:
    target = f"{odd.url}/login?token=secret"
    odd.answers(lambda: web.Response(status=307, headers={"Location": target}))
    error = await failure(odd.url)
    assert isinstance(error, NotGraphQLError)
    assert "redirects are not followed" in str(error)
    assert "secret" not in str(error)
    assert len(odd.requests) == 1


@pytest.mark.parametrize("status", [200, 400, 403, 404, 500])
async def test_a_signed_url_that_a_server_quotes_is_in_no_error(odd: Odd, status: int) -> None:
    url = "https://me:5ecre7@bucket.s3.amazonaws.com/models/a.bin?X-Amz-Credential=5ecre7&X-Amz-Signature=5ecre7"
    errors = [{"message": f"GET {url}: connection reset", "extensions": {"code": url}}] * 1000
    odd.answers(lambda: web.json_response({"errors": errors, "data": None}, status=status))
    error = await failure(odd.url)
    assert "bucket.s3.amazonaws.com/models/a.bin… connection reset" in str(error)
    assert "5ecre7" not in str(error) + repr(error.__dict__)
    assert len(str(error)) < 1500


async def test_a_location_is_shown_without_user_and_query(odd: Odd) -> None:
    location = "https://me:5ecre7@login.example.com/start;token=5ecre7?next=https%3A%2F%2Fa%3Fsig%3D5ecre7#5ecre7"
    odd.answers(lambda: web.Response(status=302, headers={"location": location}))
    error = await failure(odd.url)
    assert "https://login.example.com/start" in str(error)
    assert "5ecre7" not in str(error)


async def test_errors_that_are_not_listed_one_by_one_still_count(odd: Odd) -> None:
    for errors in ([{"message": "x"}] * 1000, "timeout", {"message": "timeout"}, [None]):
        odd.answers(partial(web.json_response, {"data": {"a": {}}, "errors": errors}))
        async with GraphQL(odd.url, Credential(KEY)) as api:
            response = await api.execute(VIEWER)
        assert 1 <= len(response.errors) <= MAX_ERRORS + 1
        assert response.errors[-1].path == ()


async def test_the_key_is_sent_as_wandb_does_and_once_only_in_the_header(odd: Odd) -> None:
    odd.answers(lambda: web.json_response({"data": {"viewer": {}}}))
    async with GraphQL(odd.url, Credential(KEY)) as api:
        await api.execute(VIEWER)
    [request] = odd.requests
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
    assert request.headers["User-Agent"].startswith("modelsync/")
    assert KEY not in str(request.rel_url)


async def test_a_netrc_of_the_user_changes_nothing(odd: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1\n  login user\n  password another-key\n")
    monkeypatch.setenv("NETRC", str(netrc))
    odd.answers(lambda: web.json_response({"data": {"viewer": {}}}))
    async with GraphQL(odd.url, Credential(KEY)) as api:
        await api.execute(VIEWER)
    assert base64.b64decode(odd.requests[0].headers["Authorization"].removeprefix("Basic ")).decode() == f"api:{KEY}"


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without proxy variables."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def test_a_proxy_of_the_environment_is_used_with_its_password(odd: Odd, no_proxies: pytest.MonkeyPatch) -> None:
    odd.answers(lambda: web.json_response({"data": {"viewer": {}}}))
    no_proxies.setenv("http_proxy", odd.url.replace("http://", "http://me:pass@"))
    async with GraphQL("http://wandb.example.invalid", Credential(KEY)) as api:
        await api.execute(VIEWER)
    assert odd.requests[0].headers["Host"] == "wandb.example.invalid"
    assert odd.requests[0].headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:pass").decode()


async def test_a_host_of_no_proxy_is_asked_directly(odd: Odd, no_proxies: pytest.MonkeyPatch) -> None:
    odd.answers(lambda: web.json_response({"data": {"viewer": {}}}))
    no_proxies.setenv("http_proxy", "http://127.0.0.1:1")
    no_proxies.setenv("no_proxy", "127.0.0.1")
    async with GraphQL(odd.url, Credential(KEY)) as api:
        await api.execute(VIEWER)
    assert len(odd.requests) == 1


@pytest.mark.parametrize("proxy", ["http://me:hunter2@127.0.0.1:1", "socks5://me:hunter2@127.0.0.1:1", "hunter2"])
async def test_a_proxy_that_does_not_work_is_reported_without_its_password(
    no_proxies: pytest.MonkeyPatch, proxy: str
) -> None:
    no_proxies.setenv("http_proxy", proxy)
    error = await failure("http://wandb.example.invalid")
    assert "the proxy" in str(error)
    assert "hunter2" not in str(error)


async def test_a_cookie_that_a_server_sets_does_not_travel_on(odd: Odd) -> None:
    odd.answers(lambda: web.json_response({"data": {"viewer": {}}}, headers={"Set-Cookie": "session=alice; Path=/"}))
    async with GraphQL(odd.url.replace("127.0.0.1", "localhost"), Credential(KEY)) as api:
        await api.execute(VIEWER)
        await api.execute(VIEWER)
    assert "Cookie" not in odd.requests[1].headers


async def test_a_key_that_a_server_says_back_is_in_no_error_no_trace_and_no_log(
    odd: Odd, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    header = base64.b64encode(f"api:{KEY}".encode()).decode()
    odd.answers(
        lambda: web.json_response({"errors": [{"message": f"nobody has {KEY}\n({header})\x1b[31m"}]}, status=403)
    )
    error = await failure(odd.url)
    text = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__) + caplog.text
    assert "nobody has *** (***)" in str(error)
    assert KEY not in text
    assert header not in text
    assert "\x1b" not in str(error)


async def test_a_dead_port_and_an_unknown_host_say_what_to_check() -> None:
    assert "connection refused" in str(await failure("http://127.0.0.1:1"))
    assert "host name cannot be resolved" in str(await failure("https://wandb.nowhere.invalid"))


async def test_an_untrusted_certificate_is_reported_with_a_hint_at_the_ca_bundle(odd: Odd) -> None:
    error = await failure(odd.url.replace("http://", "https://"), ssl_context=ssl.create_default_context())
    assert isinstance(error, UnreachableError)
    assert "CA bundle" in str(error)


async def test_an_answer_without_end_is_broken_off(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelsync.registry.graphql.MAX_ANSWER_BYTES", 2**20)
    odd.answers(lambda: web.Response(body=b"x" * (2**20 + 1)))
    assert "larger than 1 MiB" in str(await failure(odd.url))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "allowed is https://host"),
        ("wandb.example.com", "allowed is https://host"),
        ("ftp://wandb.example.com", "allowed is https://host"),
        ("https://", "allowed is https://host"),
        ("https://host:port", "not a URL"),
        ("https://user:hunter2@wandb.example.com", "must not contain a user or password"),
        ("https://wandb.example.com/?a=b", "must not have a query"),
        ("https://wandb.example.com/a b", "must not have a query, fragment or space"),
    ],
)
def test_a_base_url_that_cannot_be_used_is_refused_with_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(InvalidBaseURLError, match=r"^WANDB_BASE_URL ") as caught:
        parse_base_url(text, source="WANDB_BASE_URL")
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_base_url_may_end_in_a_slash_or_in_the_endpoint_itself() -> None:
    for text in ("https://api.wandb.ai", "https://api.wandb.ai/", " https://api.wandb.ai/graphql\n"):
        assert parse_base_url(text) == "https://api.wandb.ai"
    assert parse_base_url("https://example.com/wandb/") == "https://example.com/wandb"


def test_a_ca_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCABundleError, match=r"--ca-file .*No such file"):
        tls(ca_file=tmp_path / "none.pem", source="--ca-file")
    with pytest.raises(InvalidCABundleError, match="PEM certificates"):
        tls(ca_pem="-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    with pytest.raises(InvalidCABundleError, match="PEM certificates"):
        tls(ca_pem="")
