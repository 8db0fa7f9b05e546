"""Adapters are read once for each digest, separately for each credential, and again after a failure."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from modelsync.api.kinds import Key
from modelsync.effects import adapter_reader
from modelsync.effects.adapter_reader import AdapterReader
from modelsync.observe.adapters import Failing, Refused
from modelsync.puller.errors import CorruptFileError, PullError, UnreachableError
from modelsync.puller.inspect_artifact import InspectedArtifact
from modelsync.registry.model import Question
from modelsync.registry.poller import Server, Subscription
from modelsync.resources.adapter_config import AdapterConfig
from unit.observe.builders import artifact

CHAT, OTHER = Key("prod", "chat"), Key("prod", "other")
PLAIN = json.dumps({"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}).encode()
FILES = frozenset({"adapter_config.json", "adapter_model.safetensors"})


async def no_credential() -> Any:
    raise AssertionError("the fake needs no credential")


def subscription(identity: str = "wandb") -> Subscription:
    return Subscription(Server("https://w"), identity, no_credential, Question(refs=frozenset()), timedelta(seconds=30))


class Registry:
    """Stands in for the registry: one answer for each read; the last one is repeated."""

    def __init__(self, *answers: InspectedArtifact | PullError | Exception) -> None:
        self.answers = list(answers)
        self.reads: list[tuple[Any, str]] = []

    async def __call__(self, subscription: Subscription, artifact: Any) -> InspectedArtifact:
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


GOOD = InspectedArtifact(FILES, {"adapter_config.json": PLAIN})


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


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (InspectedArtifact(FILES, {"adapter_config.json": b"{}"}), "lacks r"),
        (InspectedArtifact(frozenset({"model.safetensors"}), {}), "no adapter_config.json"),
        (
            InspectedArtifact(frozenset({"adapter_config.json"}), {"adapter_config.json": PLAIN}),
            "no adapter_model.safetensors",
        ),
        (CorruptFileError("other bytes"), "other bytes"),
    ],
)
async def test_bad_content_is_refused_permanently(answer: Any, message: str) -> None:
    changes = Changes()
    reader = AdapterReader(changes, Registry(answer))
    reader.request(CHAT, subscription(), artifact())
    await changes.next()
    (result,) = reader.known(subscription()).values()
    assert isinstance(result, Refused)
    assert message in result.message


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
    async def never(subscription: Subscription, artifact: Any) -> InspectedArtifact:
        await asyncio.Event().wait()
        raise AssertionError

    reader = AdapterReader(Changes(), never)
    reader.request(CHAT, subscription(), artifact())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await reader.stop()
