import socket
import threading

import pytest

from modelsync.puller.object_store import (
    AttemptError,
    ObjectMissingError,
    ObjectStore,
    RangeIgnoredError,
    TransientError,
    URLRefusedError,
    WrongLengthError,
)
from modelsync.registry.graphql import tls
from unit.puller.filestore import CERTIFICATE, FileStore, serving

CONTENT = bytes(range(256)) * 40


def client() -> ObjectStore:
    return ObjectStore(ssl_context=None, connections=2, user_agent="test")


def read(store: FileStore, *, start: int = 0, end: int = len(CONTENT), size: int = len(CONTENT)) -> bytes:
    store.content.setdefault("file", CONTENT)
    with client().open(store.url("file"), start=start, end=end, size=size) as body:
        parts = []
        while part := body.read(1000):
            parts.append(part)
        return b"".join(parts)


def test_a_range_is_asked_for_and_read(store: FileStore) -> None:
    assert read(store, start=100, end=5000) == CONTENT[100:5000]
    assert store.requests == [("/file?signature=0", "bytes=100-4999")]


def test_a_whole_file_is_asked_for_without_a_range(store: FileStore) -> None:
    assert read(store) == CONTENT
    assert store.requests == [("/file?signature=0", "")]


def test_nothing_that_could_be_a_credential_is_sent(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    read(store)
    assert not {"authorization", "cookie"} & {name.lower() for name in store.headers[0]}


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (400, {}, URLRefusedError),
        (401, {}, URLRefusedError),
        (403, {}, URLRefusedError),
        (404, {}, ObjectMissingError),
        (410, {}, ObjectMissingError),
        (408, {}, TransientError),
        (429, {}, TransientError),
        (500, {}, TransientError),
        (503, {}, TransientError),
        (416, {}, WrongLengthError),
        (204, {}, TransientError),
    ],
)
def test_a_status_says_what_to_do_next(
    store: FileStore, status: int, headers: dict[str, str], error: type[AttemptError]
) -> None:
    store.answers.append((status, headers))
    with pytest.raises(error) as caught:
        read(store, start=10)
    assert "signature" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("", 0.0), ("soon", 0.0), ("-1", 0.0), ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0.0)],
)
def test_retry_after_is_read_and_nonsense_ignored(store: FileStore, text: str, seconds: float) -> None:
    store.answers.append((503, {"Retry-After": text}))
    with pytest.raises(TransientError) as caught:
        read(store)
    assert caught.value.retry_after == seconds


def test_a_retry_date_is_seconds_from_now(store: FileStore) -> None:
    store.answers.append((503, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}))
    with pytest.raises(TransientError) as caught:
        read(store)
    assert caught.value.retry_after > 1e9


def test_a_store_without_ranges_is_recognised(store: FileStore) -> None:
    store.serves_ranges = False
    with pytest.raises(RangeIgnoredError):
        read(store, start=10)


@pytest.mark.parametrize("start", [0, 10])
def test_an_object_of_another_size_is_recognised_before_its_bytes_are_read(store: FileStore, start: int) -> None:
    with pytest.raises(WrongLengthError, match="10240 bytes, expected 10241"):
        read(store, start=start, end=10241, size=10241)


def test_a_login_page_is_no_wrong_file(store: FileStore) -> None:
    store.content_type = "text/html; charset=utf-8"
    with pytest.raises(TransientError, match="login"):
        read(store, end=10, size=10)


def test_a_connection_that_breaks_off_says_so(store: FileStore) -> None:
    store.cut_after.append(3000)
    with pytest.raises(TransientError, match=r"early|broke off|reset"):
        read(store)


def test_a_server_that_is_not_there_is_named_without_the_url(store: FileStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(TransientError, match=r"request to 127\.0\.0\.1: Connection refused"):
        client().open(f"http://127.0.0.1:{port}/secret?signature=1", start=0, end=1, size=1)


def test_a_reader_who_waits_is_woken_up(store: FileStore) -> None:
    store.stalled = True
    store.content["file"] = CONTENT
    body = client().open(store.url("file"), start=0, end=len(CONTENT), size=len(CONTENT))
    caught: list[Exception] = []
    half_read = threading.Event()

    def reader() -> None:
        try:
            body.read(len(CONTENT) // 2)
            half_read.set()
            body.read(1000)
        except TransientError as error:
            caught.append(error)

    thread = threading.Thread(target=reader)
    thread.start()
    assert half_read.wait(10)
    body.abort()
    thread.join(10)
    assert not thread.is_alive()
    assert caught


def test_something_small_is_read_whole_or_not_at_all(store: FileStore) -> None:
    store.content["manifest"] = CONTENT
    assert client().read_all(store.url("manifest"), most=len(CONTENT)) == CONTENT
    with pytest.raises(WrongLengthError, match="larger than"):
        client().read_all(store.url("manifest"), most=len(CONTENT) - 1)
    store.cut_after.append(100)
    with pytest.raises(TransientError):
        client().read_all(store.url("manifest"), most=len(CONTENT))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_size_can_be_asked_for(store: FileStore, ranges: bool) -> None:
    store.serves_ranges = ranges
    store.content |= {"file": CONTENT, "empty": b""}
    assert client().size(store.url("file")) == len(CONTENT)
    assert client().size(store.url("empty")) == 0


def test_a_redirect_is_followed(store: FileStore) -> None:
    store.answers.append((302, {"Location": store.url("elsewhere")}))
    store.content["elsewhere"] = CONTENT
    assert read(store, start=5) == CONTENT[5:]
    assert [path for path, _ in store.requests] == ["/file?signature=0", "/elsewhere?signature=0"]


def test_a_store_that_redirects_in_circles_is_a_failure_like_others(store: FileStore) -> None:
    store.answers.extend([(302, {"Location": store.url("file")})] * 20)
    with pytest.raises(TransientError):
        read(store)


def test_a_connection_with_bytes_left_on_it_is_not_used_again(store: FileStore) -> None:
    store.content["file"] = CONTENT
    reader = client()
    for _ in range(2):
        with reader.open(store.url("file"), start=0, end=len(CONTENT), size=len(CONTENT)) as body:
            assert body.read(100) == CONTENT[:100]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://[", "http://", "//host/file", ""])
def test_only_http_urls_are_asked(url: str) -> None:
    with pytest.raises(ObjectMissingError):
        client().open(url, start=0, end=1, size=1)


@pytest.mark.parametrize("url", ["http://user:5ecre7@127.0.0.1:1/a?sig=5ecre7", "http://127.0.0.1:99999/?sig=5ecre7"])
def test_a_url_that_cannot_be_asked_is_not_shown(url: str) -> None:
    with pytest.raises(AttemptError) as caught:
        client().open(url, start=0, end=1, size=1)
    assert "5ecre7" not in str(caught.value)


def test_proxies_come_from_the_environment(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", store.base)
    store.answers.append((404, {}))
    with pytest.raises(ObjectMissingError):
        client().open("http://models.example/file", start=0, end=1, size=1)
    assert store.requests == [("http://models.example/file", "")]


def test_a_private_authority_must_be_given_and_is_then_trusted() -> None:
    with serving(encrypted=True) as store:
        store.content["file"] = CONTENT
        with pytest.raises(TransientError, match="TLS failed"):
            client().open(store.url("file"), start=0, end=1, size=len(CONTENT))
        trusting = ObjectStore(ssl_context=tls(ca_file=CERTIFICATE), connections=2, user_agent="test")
        with trusting.open(store.url("file"), start=0, end=10, size=len(CONTENT)) as body:
            assert body.read(10) == CONTENT[:10]
