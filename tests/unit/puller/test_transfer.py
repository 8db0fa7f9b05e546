import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelsync.puller import connection_scaling, download, retry, transfer
from modelsync.puller.errors import (
    CorruptFileError,
    DeniedError,
    InterruptedPullError,
    NoSpaceError,
    NotFoundError,
    UnreachableError,
)
from modelsync.puller.manifest import Entry
from modelsync.puller.object_store import ObjectStore
from modelsync.puller.progress import Progress
from modelsync.puller.staging import Staging
from modelsync.puller.transfer import Transfer
from unit.puller.filestore import FileStore, entry_of

PART = 10_000


@pytest.fixture(autouse=True)
def small_and_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_scaling, "STARVED", 0.0)
    monkeypatch.setattr(connection_scaling, "EVERY_SECONDS", 0.001)
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(retry, "CAP_SECONDS", 0.05)
    monkeypatch.setattr(download, "PART_BYTES", PART)
    monkeypatch.setattr(download, "READ_BYTES", 700)
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 900)


def content_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


class Run:
    """One transfer of files from the store, and the fresh URLs that it requested."""

    def __init__(self, store: FileStore, folder: Path, *, connections: int = 4, retry_for: float = 20.0) -> None:
        self.store = store
        self.staging = Staging(folder / "model")
        assert self.staging.try_lock()
        self.notes: list[str] = []
        self.progress = Progress(self.notes.append)
        self.refreshed: list[str] = []
        self.neighbours: dict[str, Path] = {}
        self.connections = connections
        self.retry_for = retry_for
        self.done = threading.Event()

    def fresh_url(self, name: str, stale: str) -> str:
        self.refreshed.append(name)
        return self.store.url(name, int(stale.rpartition("=")[2]) + 1)

    @contextmanager
    def started(self, entries: dict[str, Entry]) -> Iterator[Transfer]:
        running = Transfer(
            self.staging,
            ObjectStore(ssl_context=None, connections=self.connections, user_agent="test"),
            fresh_url=self.fresh_url,
            neighbours=self.neighbours,
            progress=self.progress,
            connections=self.connections,
            retry_for=self.retry_for,
            on_done=self.done.set,
        )
        running.start()
        try:
            running.add((entry, self.store.url(name)) for name, entry in entries.items())
            running.no_more_files()
            yield running
        finally:
            running.stop(InterruptedPullError("the test is over"))
            running.close(wait=10)
            self.staging.unlock()

    def fetch(self, files: dict[str, bytes]) -> None:
        """Fetch files with these manifest entries; raise the error that ended the transfer."""
        entries = {name: entry_of(name, content) for name, content in files.items()}
        with self.started(entries) as running:
            assert self.done.wait(60), "the transfer hangs"
            if running.error is not None:
                raise running.error
        for name, content in files.items():
            assert self.staging.object_path(entries[name]).read_bytes() == content
        assert not list(self.staging.folder.rglob("*.part"))


def wait_until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(2000):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("never came true")


def test_files_of_every_size_arrive_and_are_counted(store: FileStore, tmp_path: Path) -> None:
    sizes = (0, 1, 899, 900, 901, PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 7)
    store.content = {f"file-{size}": content_of(size, size) for size in sizes}
    run = Run(store, tmp_path)
    run.fetch(dict(store.content))
    seen = run.progress.snapshot()
    assert (seen.files, seen.fetched, seen.reused) == (len(sizes), sum(sizes), 0)


def test_one_large_file_is_fetched_in_parts(store: FileStore, tmp_path: Path) -> None:
    store.content = {"large": content_of(20 * PART)}
    Run(store, tmp_path).fetch(dict(store.content))
    ranges = {asked for _, asked in store.requests}
    assert {f"bytes={start}-{start + PART - 1}" for start in range(0, 20 * PART, PART)} == ranges


def test_where_each_connection_is_slow_several_are_used_for_one_file(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_scaling, "STARVED", 2.0)
    store.content = {"large": content_of(20 * PART)}
    store.seconds_each_kilobyte = 0.01
    Run(store, tmp_path).fetch(dict(store.content))
    assert store.most_at_once >= 2


def test_while_files_wait_each_is_asked_for_in_one_request(store: FileStore, tmp_path: Path) -> None:
    store.content = {f"file-{number}": content_of(3 * PART, number) for number in range(6)}
    Run(store, tmp_path, connections=1).fetch(dict(store.content))
    assert [asked for _, asked in store.requests[:5]] == [""] * 5


def test_a_cut_connection_goes_on_where_it_was_cut(store: FileStore, tmp_path: Path) -> None:
    store.content = {"file": content_of(5000)}
    store.cut_after = [2000, 1500]
    run = Run(store, tmp_path, connections=1)
    run.fetch(dict(store.content))
    assert [asked for _, asked in store.requests] == ["", "bytes=2000-4999", "bytes=3500-4999"]
    assert run.progress.snapshot().fetched == 5000


def test_what_an_earlier_run_fetched_is_not_fetched_again(store: FileStore, tmp_path: Path) -> None:
    content = content_of(3 * PART)
    store.content = {"file": content}
    entry = entry_of("file", content)
    first = Run(store, tmp_path, connections=1)
    store.stalled = True
    with first.started({"file": entry}):
        wait_until(lambda: first.progress.snapshot().fetched > PART // 4)
    before = first.progress.snapshot().fetched
    store.stalled = False
    store.gate.set()
    store.requests.clear()
    second = Run(store, tmp_path, connections=1)
    second.fetch({"file": content})
    assert store.requests[0][1] == f"bytes={before}-{PART - 1}"
    seen = second.progress.snapshot()
    assert (seen.fetched, seen.reused) == (3 * PART - before, before)


def test_a_file_of_which_only_the_check_is_missing_is_not_fetched(store: FileStore, tmp_path: Path) -> None:
    content = content_of(2 * PART)
    run = Run(store, tmp_path)
    partial = run.staging.partial(entry_of("file", content))
    partial.open()
    partial.write(content, 0)
    partial.save_ranges([(0, PART), (PART, 2 * PART)])
    partial.close()
    run.fetch({"file": content})
    assert store.requests == []


def test_a_partial_file_whose_bytes_a_power_cut_lost_is_fetched_whole(store: FileStore, tmp_path: Path) -> None:
    content = content_of(2 * PART)
    store.content = {"file": content}
    run = Run(store, tmp_path)
    partial = run.staging.partial(entry_of("file", content))
    partial.open()
    partial.write(bytes(PART), 0)
    partial.save_ranges([(0, PART)])
    partial.close()
    run.fetch({"file": content})
    assert "fetching it once more" in run.notes[0]


def test_wrong_bytes_are_fetched_once_more_and_then_refused(store: FileStore, tmp_path: Path) -> None:
    good, bad = content_of(2 * PART), bytearray(content_of(2 * PART))
    bad[PART + 5] ^= 1
    store.content = {"weights": bytes(bad), "other": b"fine"}
    run = Run(store, tmp_path)
    with pytest.raises(CorruptFileError, match="weights: its 20000 bytes have the MD5") as caught:
        run.fetch({"weights": good, "other": b"fine"})
    assert (caught.value.file, caught.value.exit_code) == ("weights", 4)
    assert len([path for path, _ in store.requests if "weights" in path]) == 4
    assert not run.staging.object_path(entry_of("weights", good)).exists()
    assert run.staging.object_path(entry_of("other", b"fine")).exists() or not store.requests[4:]


def test_bytes_that_were_wrong_once_are_fetched_once_more(store: FileStore, tmp_path: Path) -> None:
    good = content_of(500)
    store.content = {"file": bytes(500)}
    run = Run(store, tmp_path)
    run.fresh_url = lambda name, stale: store.content.update(file=good) or store.url(name, 1)  # type: ignore[method-assign]
    run.fetch({"file": good})
    assert run.progress.snapshot().fetched == 500


def test_a_file_of_another_length_is_refused(store: FileStore, tmp_path: Path) -> None:
    store.content = {"file": content_of(600)}
    with pytest.raises(CorruptFileError, match="it has 600 bytes, expected 500"):
        Run(store, tmp_path).fetch({"file": content_of(500)})


def test_an_expired_url_is_replaced_in_mid_file(store: FileStore, tmp_path: Path) -> None:
    store.content = {"file": content_of(5000)}
    store.cut_after = [2000]
    run = Run(store, tmp_path, connections=1)
    original = store.requests

    class ExpiresAfterFirst(list[tuple[str, str]]):
        def append(self, request: tuple[str, str]) -> None:
            super().append(request)
            if len(self) == 1:
                store.expired.discard(request[0])
            else:
                store.expired.add("/file?signature=0")

    store.requests = ExpiresAfterFirst(original)
    run.fetch(dict(store.content))
    assert run.refreshed == ["file"]
    assert store.requests[-1] == ("/file?signature=1", "bytes=2000-4999")


def test_a_url_that_stays_refused_is_denied(store: FileStore, tmp_path: Path) -> None:
    store.content = {"file": b"x"}
    store.expired = {f"/file?signature={number}" for number in range(10)}
    with pytest.raises(DeniedError, match="3 fresh URLs in a row") as caught:
        Run(store, tmp_path).fetch({"file": b"x"})
    assert caught.value.exit_code == 3


def test_a_file_that_is_not_there_is_not_found(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="the registry lists the file, but it does not exist"):
        Run(store, tmp_path).fetch({"file": b"x"})


def test_a_store_that_is_down_for_a_while_is_waited_for(store: FileStore, tmp_path: Path) -> None:
    store.content = {"file": b"x" * 100}
    store.answers = [(503, {}), (500, {}), (429, {"Retry-After": "0"})]
    run = Run(store, tmp_path)
    run.fetch(dict(store.content))
    assert len(run.notes) == 3


def test_a_store_that_stays_down_is_given_up(store: FileStore, tmp_path: Path) -> None:
    store.content = {"file": b"x"}
    store.answers = [(503, {"Retry-After": "3600"})] * 5
    with pytest.raises(UnreachableError, match="answered 503; gave up after 1 attempts") as caught:
        Run(store, tmp_path).fetch({"file": b"x"})
    assert caught.value.exit_code == 3


def test_a_store_without_ranges_is_fetched_from_in_one_go(store: FileStore, tmp_path: Path) -> None:
    store.content = {"file": content_of(7 * PART)}
    store.serves_ranges = False
    run = Run(store, tmp_path)
    run.fetch(dict(store.content))
    assert store.requests[-1][1] == ""
    assert run.progress.snapshot().fetched == 7 * PART


def test_a_store_without_ranges_that_always_breaks_off_is_given_up(store: FileStore, tmp_path: Path) -> None:
    store.content = {"file": content_of(PART)}
    store.serves_ranges = False
    store.cut_after = [500] * 100
    with pytest.raises(UnreachableError, match="does not support range requests"):
        Run(store, tmp_path, connections=1).fetch(dict(store.content))


def test_a_size_that_the_manifest_leaves_out_is_asked_for(store: FileStore, tmp_path: Path) -> None:
    content = content_of(3 * PART)
    store.content = {"file": content}
    complete = entry_of("file", content)
    entry = Entry(complete.path, complete.digest, complete.algorithm, None)
    run = Run(store, tmp_path)
    with run.started({"file": entry}) as running:
        assert run.done.wait(30)
        assert running.error is None
    assert run.staging.object_path(entry).read_bytes() == content


def test_a_neighbours_file_is_taken_after_a_check(store: FileStore, tmp_path: Path) -> None:
    good, damaged = content_of(500, 1), content_of(500, 2)
    (tmp_path / "good").write_bytes(good)
    (tmp_path / "damaged").write_bytes(bytes(500))
    store.content = {"damaged": damaged}
    run = Run(store, tmp_path)
    run.neighbours = {
        entry_of("good", good).content_key: tmp_path / "good",
        entry_of("damaged", damaged).content_key: tmp_path / "damaged",
    }
    run.fetch({"good": good, "damaged": damaged})
    assert {path for path, _ in store.requests} == {"/damaged?signature=0"}
    seen = run.progress.snapshot()
    assert (seen.fetched, seen.reused) == (500, 500)


def test_a_full_volume_ends_it_with_the_file_named(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    store.content = {"file": b"x"}
    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(NoSpaceError, match="file cannot be written: No space left on device") as caught:
        Run(store, tmp_path).fetch({"file": b"x"})
    assert caught.value.file == "file"


def test_a_stop_does_not_wait_for_a_silent_connection(store: FileStore, tmp_path: Path) -> None:
    store.content = {f"file-{number}": content_of(5000, number) for number in range(4)}
    store.stalled = True
    run = Run(store, tmp_path)
    with run.started({name: entry_of(name, content) for name, content in store.content.items()}) as running:
        wait_until(lambda: run.progress.snapshot().fetched >= 4 * 1800)
        running.stop(InterruptedPullError("SIGTERM"))
        running.close(wait=5)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("pull-")]
        assert str(running.error) == "SIGTERM"


@pytest.mark.parametrize("seed", range(5))
def test_whatever_breaks_on_the_way_the_bytes_are_right(store: FileStore, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    store.content = {f"file-{n}": content_of(dice.choice((10, PART, 9 * PART + 1)), n) for n in range(8)}
    store.cut_after = [dice.choice((0, 100, PART - 1, 5 * PART)) for _ in range(20)]
    store.answers = [dice.choice(((503, {}), (403, {}), (500, {}))) for _ in range(5)]
    Run(store, tmp_path, connections=dice.choice((1, 3, 8))).fetch(dict(store.content))
