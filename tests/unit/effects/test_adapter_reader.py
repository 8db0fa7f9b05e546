"""Adapters are read once for each digest, separately for each credential, and again after a failure."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from modelsync.api.kinds import Key
from modelsync.effects import adapter_reader
from modelsync.effects.adapter_process import Order, ReadingFailedError, read_apart
from modelsync.effects.adapter_reader import MAX_WAITING, AdapterReader
from modelsync.observe.adapters import Failing, Refused
from modelsync.puller.digests import Algorithm
from modelsync.puller.errors import CorruptFileError, UnreachableError
from modelsync.puller.inspect_artifact import Location
from modelsync.registry.model import Question
from modelsync.registry.poller import Server, Subscription
from modelsync.resources.adapter_config import AdapterConfig, AdapterRefusedError
from unit.observe.builders import artifact
from unit.puller.filestore import serving

CHAT, OTHER = Key("prod", "chat"), Key("prod", "other")


async def no_credential() -> Any:
    raise AssertionError("the fake needs no credential")


def subscription(identity: str = "wandb") -> Subscription:
    return Subscription(Server("https://w"), identity, no_credential, Question(refs=frozenset()), timedelta(seconds=30))


class Registry:
    """Stands in for the registry: one answer for each read; the last one is repeated."""

    def __init__(self, *answers: AdapterConfig | Exception) -> None:
        self.answers = list(answers)
        self.reads: list[tuple[Any, str]] = []

    async def __call__(self, subscription: Subscription, artifact: Any) -> AdapterConfig:
        self.reads.append((subscription.identity, artifact.digest))
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Changes:
    """Records the keys that were notified of a change."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self._changed = asyncio.Event()

    def __call__(self, key: Key) -> None:
        self.keys.append(key)
        self._changed.set()

    async def next(self) -> None:
        async with asyncio.timeout(10):
            await self._changed.wait()
        self._changed.clear()


GOOD = AdapterConfig(8)


async def test_an_adapter_is_read_once_and_every_key_that_requested_it_is_notified() -> None:
    changes, registry = Changes(), Registry(GOOD)
    reader = AdapterReader(changes, registry)
    for key in (CHAT, OTHER, CHAT):
        reader.request(key, subscription(), artifact())
    assert reader.known(subscription()) == {}
    await changes.next()
    assert reader.known(subscription()) == {artifact().digest: AdapterConfig(8)}
    assert (sorted(changes.keys), len(registry.reads)) == ([CHAT, OTHER], 1)


async def test_a_result_is_not_shared_with_another_credential() -> None:
    changes, registry = Changes(), Registry(GOOD)
    reader = AdapterReader(changes, registry)
    reader.request(CHAT, subscription("one"), artifact())
    await changes.next()
    assert reader.known(subscription("two")) == {}
    reader.request(CHAT, subscription("two"), artifact())
    await changes.next()
    assert [identity for identity, _ in registry.reads] == ["one", "two"]


async def test_a_failed_read_is_retried_after_the_back_off_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapter_reader, "BACKOFF", (timedelta(milliseconds=20), timedelta(seconds=1)))
    changes, registry = Changes(), Registry(UnreachableError("502"), GOOD)
    reader = AdapterReader(changes, registry)
    reader.request(CHAT, subscription(), artifact())
    await changes.next()
    assert reader.known(subscription()) == {artifact().digest: Failing("502")}
    reader.request(CHAT, subscription(), artifact())
    assert len(registry.reads) == 1
    await changes.next()
    reader.request(CHAT, subscription(), artifact())
    await changes.next()
    assert reader.known(subscription()) == {artifact().digest: AdapterConfig(8)}


@pytest.mark.parametrize("answer", [AdapterRefusedError("lacks r"), CorruptFileError("other bytes")])
async def test_bad_content_is_refused_permanently(answer: Exception) -> None:
    changes = Changes()
    reader = AdapterReader(changes, Registry(answer))
    reader.request(CHAT, subscription(), artifact())
    await changes.next()
    assert reader.known(subscription()) == {artifact().digest: Refused(str(answer))}


async def test_a_process_that_failed_is_a_reason_to_try_again() -> None:
    changes = Changes()
    reader = AdapterReader(changes, Registry(ReadingFailedError("ended with signal 9")))
    reader.request(CHAT, subscription(), artifact())
    await changes.next()
    assert reader.known(subscription()) == {artifact().digest: Failing("ended with signal 9")}


async def test_a_defect_does_not_stop_other_reads() -> None:
    changes = Changes()
    reader = AdapterReader(changes, Registry(RuntimeError("a defect"), GOOD))
    reader.request(CHAT, subscription(), artifact())
    await changes.next()
    reader.request(OTHER, subscription(), artifact("v8", "8" * 16))
    await changes.next()
    known = reader.known(subscription())
    assert known[artifact().digest] == Failing("RuntimeError: a defect")
    assert known["8" * 16] == AdapterConfig(8)


async def test_stop_cancels_running_reads() -> None:
    async def never(subscription: Subscription, artifact: Any) -> AdapterConfig:
        await asyncio.Event().wait()
        raise AssertionError

    reader = AdapterReader(Changes(), never)
    reader.request(CHAT, subscription(), artifact())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await reader.stop()


async def test_a_namespace_full_of_adapters_that_never_end_delays_no_other_one() -> None:
    evil = Key("evil", "chat")

    async def read(subscription: Subscription, artifact: Any) -> AdapterConfig:
        if subscription.identity == "evil":
            await asyncio.Event().wait()
        return GOOD

    changes = Changes()
    reader = AdapterReader(changes, read)
    for number in range(MAX_WAITING + 2):
        reader.request(evil, subscription("evil"), artifact("v1", f"{number:016}"))
    await changes.next()
    crowded = reader.known(subscription("evil"))
    assert crowded == {
        f"{MAX_WAITING + 1:016}": Failing(
            f"too many adapters wait to be read: {MAX_WAITING} of namespace evil are waiting already"
        )
    }
    reader.request(CHAT, subscription(), artifact())
    await changes.next()
    assert reader.known(subscription()) == {artifact().digest: GOOD}
    await reader.stop()


async def test_names_are_resolved_while_every_place_to_read_adapters_is_taken() -> None:
    """Six readings filled the threads in which asyncio resolves names, and with them all polling stopped."""
    with serving() as store:
        store.stalled = True
        store.content = {"manifest": b"x" * 1000}
        order = Order(Location("0" * 32, Algorithm.MD5, store.url("manifest"), {}), "a test")

        async def read(subscription: Subscription, artifact: Any) -> AdapterConfig:
            return await read_apart(order)

        reader = AdapterReader(Changes(), read)
        for number in range(40):
            key = Key(f"evil-{number}", "chat")
            reader.request(key, subscription(key.namespace), artifact("v1", f"{number:016}"))
        await store.until_requested(2)
        async with asyncio.timeout(30):
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.getaddrinfo("localhost", port) for port in range(1, 30)))
        assert len(store.requests) == 2
        await reader.stop()
