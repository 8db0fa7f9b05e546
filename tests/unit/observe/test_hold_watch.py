"""What serves is watched where its record was pulled from, whatever became of the spec."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelsync.api.hold import HoldMark, HoldSource
from modelsync.api.settings import OperatorSettings
from modelsync.observe.family import Family
from modelsync.observe.hold_watch import PREFERENCE, merge_reads, on_clock, watches
from modelsync.observe.spec_status import read
from modelsync.rollout.model import Hold, HoldRead
from unit.observe.builders import KEY, SETTINGS, a_record, model_deployment, spec

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
MARK = HoldMark("d", "acme/r/chat", "v7", HoldSource.VERSION_TAG, "regulatory-hold")


def registry(url: str = "https://wandb.example.com", name: str = "wandb") -> dict[str, Any]:
    return {"baseURL": url, "auth": {"secretKeyRef": {"name": name, "key": "WANDB_API_KEY"}}}


def family(**parts: Any) -> Family:
    record, body = a_record()
    owner = model_deployment(spec=spec(**parts), status={"promoted": [record.revision]})
    return Family(KEY, owner, {body["metadata"]["name"]: body})


BOTH = SETTINGS.model_copy(update={"allowed_registries": ("https://wandb.example.com", "https://other.example.com")})


def test_a_spec_that_asks_the_same_registry_needs_no_watch() -> None:
    assert watches(read(family(), SETTINGS), SETTINGS) == ()


@pytest.mark.parametrize(
    ("parts", "settings"),
    [
        ({"registry": registry(name="dead")}, SETTINGS),
        ({"registry": registry("https://other.example.com")}, BOTH),
        ({"registry": registry("https://not-allowed.example.com")}, SETTINGS),
        ({"registry": registry("http://[1]")}, SETTINGS),
        ({"modelRef": "acme/wandb-registry-/chat:production"}, SETTINGS),
    ],
    ids=["another Secret", "another server", "a server that is not allowed", "no server", "an invalid reference"],
)
def test_what_serves_is_watched_at_the_registry_of_its_record(
    parts: dict[str, Any], settings: OperatorSettings
) -> None:
    (watch,) = watches(read(family(**parts), settings), settings)
    record, _ = a_record()
    assert watch.registry.base_url == "https://wandb.example.com"
    assert watch.registry.auth.secret_key_ref.name == "wandb"
    assert {each.digest for each in watch.question.served} == set(record.digests)
    assert not watch.question.refs, "it only watches; what the alias names is the spec's to ask"


def test_a_server_that_the_administrator_no_longer_allows_is_not_watched() -> None:
    settings = OperatorSettings(allowed_registries=("https://other.example.com",))
    assert watches(read(family(registry=registry("https://other.example.com")), settings), settings) == ()


def test_a_watch_polls_as_often_as_the_spec_asks_if_that_is_more_often() -> None:
    often = registry(name="dead") | {"pollInterval": "5s"}
    seldom = registry(name="dead") | {"pollInterval": "1h"}
    intervals = [watches(read(family(registry=each), SETTINGS), SETTINGS)[0] for each in (often, seldom)]
    assert [each.registry.poll_interval.total_seconds() for each in intervals] == [5, 30]


def a_read(*marks: HoldMark, age: timedelta = timedelta(0), server: str = "https://a") -> HoldRead:
    return HoldRead("d", marks, False, NOW - age, server, asked=1000 - age.total_seconds())


def test_a_watch_fills_in_what_the_spec_s_registry_does_not_know() -> None:
    assert merge_reads({}, [{"d": a_read(MARK)}], ()) == {"d": a_read(MARK)}


def test_of_one_server_the_newer_read_counts() -> None:
    lifted = a_read()
    assert merge_reads({"d": lifted}, [{"d": a_read(MARK, age=timedelta(seconds=5))}], ())["d"] == lifted
    assert merge_reads({"d": a_read(age=timedelta(seconds=5))}, [{"d": a_read(MARK)}], ())["d"] == a_read(MARK)


def test_the_newer_read_is_found_although_the_clock_was_set_back() -> None:
    late = timedelta(minutes=10)
    held = replace(a_read(MARK), asked_at=NOW - late)
    assert merge_reads({"d": a_read(age=timedelta(seconds=5))}, [{"d": held}], ())["d"] == held
    lifted = replace(a_read(), asked_at=NOW - late)
    assert merge_reads({"d": lifted}, [{"d": a_read(MARK, age=timedelta(seconds=5))}], ())["d"] == lifted
    stale = replace(a_read(MARK, age=PREFERENCE * 2, server="https://b"), asked_at=NOW + late)
    assert merge_reads({"d": stale}, [{"d": lifted}], ())["d"] == lifted


def test_no_server_hides_a_mark_that_another_shows() -> None:
    own, watched = a_read(server="https://b"), a_read(MARK, age=timedelta(minutes=5))
    assert merge_reads({"d": own}, [{"d": watched}], ()) == {"d": watched}
    assert merge_reads({"d": a_read(MARK, server="https://b")}, [{"d": a_read()}], ())["d"].marks == (MARK,)


def test_a_watch_counts_once_the_spec_s_registry_has_fallen_silent() -> None:
    stale = a_read(MARK, age=PREFERENCE + timedelta(seconds=1), server="https://b")
    assert merge_reads({"d": stale}, [{"d": a_read()}], ())["d"] == a_read()


def test_only_the_server_that_showed_a_latched_mark_can_show_it_gone() -> None:
    gone, own = a_read(), a_read(server="https://b")
    latched = Hold(MARK, NOW - timedelta(hours=1), "https://a")
    assert merge_reads({"d": own}, [{"d": gone}], [latched])["d"] == gone
    assert merge_reads({"d": own}, [{"d": gone}], [replace(latched, server="https://b")])["d"] == own


# --- a clock that was set ---


def asked(ago: float, by_the_clock: float) -> Mapping[str, HoldRead]:
    """A read of `ago` seconds ago, by a clock that has been set since and says `by_the_clock`."""
    at = NOW - timedelta(seconds=by_the_clock)
    return {"d": HoldRead("d", (), alias_mark_elsewhere=False, asked_at=at, asked=1000.0 - ago)}


@pytest.mark.parametrize("by_the_clock", [-600.0, 600.0], ids=["set back", "set forward"])
def test_the_age_of_a_read_does_not_follow_a_clock_that_is_set(by_the_clock: float) -> None:
    (read,) = on_clock(asked(90, by_the_clock), NOW, 1000.0).values()
    assert NOW - read.asked_at == timedelta(seconds=90)


def test_a_clock_that_was_not_set_makes_no_new_times() -> None:
    reads = asked(90, 91)
    assert on_clock(reads, NOW, 1000.0) == reads
    assert on_clock(reads, NOW, None) is reads
