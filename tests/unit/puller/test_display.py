import io
import threading

import pytest

from modelsync.api.pod_contract import MAX_TERMINATION_BYTES
from modelsync.puller.display import duration, line, shown_on, size
from modelsync.puller.progress import Snapshot
from modelsync.puller.result import encode


def test_a_line_says_files_bytes_rate_and_what_is_left() -> None:
    now = Snapshot("fetching", files=3, total_files=9, fetched=2**30, reused=2**29, total=2**32)
    assert line(now, 2**28) == "fetching: 3 of 9 files, 1.5 GiB of 4.0 GiB, 256.0 MiB/s, 10 s left"
    assert line(now, 0) == "fetching: 3 of 9 files, 1.5 GiB of 4.0 GiB"
    assert line(Snapshot("querying the registry", 0, 0, 0, 0, 0), 0) == "querying the registry"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 * 2**40, "3.0 TiB"), (2**50, "1024.0 TiB")]
)
def test_sizes_are_written_for_people(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (61, "61 s"), (90, "1 min 30 s"), (7261, "2 h 1 min")])
def test_times_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_notes_go_to_the_log_at_once() -> None:
    stream = io.StringIO()
    with shown_on(stream, line_seconds=3600) as progress:
        progress.note("trying again")
        assert stream.getvalue() == "trying again\n"


def test_a_storm_of_notes_is_counted_instead_of_printed() -> None:
    stream = io.StringIO()
    noted = threading.Event()

    class Watched(io.StringIO):
        def write(self, text: str) -> int:
            if "more notes" in text:
                noted.set()
            return stream.write(text)

    with shown_on(Watched(), line_seconds=0.05) as progress:
        for number in range(1000):
            progress.note(f"failure {number}")
        assert noted.wait(10)
    assert stream.getvalue().count("failure") < 1000


def test_a_termination_message_is_cut_to_what_kubernetes_keeps() -> None:
    text = encode({"outcome": "CorruptFile", "message": "ä" * 10_000, "file": "w.bin"})
    assert len(text.encode()) <= MAX_TERMINATION_BYTES
    assert text.endswith('…", "file": "w.bin"}')
    assert len(text.encode()) > MAX_TERMINATION_BYTES - 100
