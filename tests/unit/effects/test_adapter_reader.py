"""Reading adapters: once for each content, apart for each credential, again after a failure."""

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
    raise AssertionError("the fake looks without one")


def subscription(identity: str = "wandb") -> Subscription:
    return Subscription(Server("https://w"), identity, no_credential, Question(refs=frozenset()), timedelta(seconds=30))


class Looks:
    """What the registry would give: one answer for each look, the last one for ever."""

    def __init__(self, *answers: InspectedArtifact | PullError | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Any, str]] = []

    async def __call__(self, subscription: Subscription, artifact: Any) -> InspectedArtifact:
        self.asked.append((subscription.identity, artifact.digest))
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Told:
    """The keys that were told of a change."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self._news = asyncio.Event()

    def __call__(self, key: Key) -> None:
        self.keys.append(key)
        self._news.set()

    async def next(self) -> None:
        async with asyncio.timeout(10):
            await self._news.wait()
        self._news.clear()


GOOD = InspectedArtifact(FILES, {"adapter_config.json": PLAIN})


async def test_an_adapter_is_read_once_and_everyone_who_wanted_it_is_told() -> None:
    told, looks = Told(), Looks(GOOD)
    reader = AdapterReader(told, looks)
    for key in (CHAT, OTHER, CHAT):
        reader.want(key, subscription(), artifact())
    assert reader.known(subscription()) == {}
    await told.next()
    assert reader.known(subscription()) == {artifact().digest: AdapterConfig(8)}
    assert (sorted(told.keys), len(looks.asked)) == ([CHAT, OTHER], 1)


async def test_what_one_credential_has_read_is_nothing_to_another() -> None:
    told, looks = Told(), Looks(GOOD)
    reader = AdapterReader(told, looks)
    reader.want(CHAT, subscription("one"), artifact())
    await told.next()
    assert reader.known(subscription("two")) == {}
    reader.want(CHAT, subscription("two"), artifact())
    await told.next()
    assert [identity for identity, _ in looks.asked] == ["one", "two"]


async def test_one_that_cannot_be_read_is_tried_again_after_a_while_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapter_reader, "BACKOFF", (timedelta(milliseconds=20), timedelta(seconds=1)))
    told, looks = Told(), Looks(UnreachableError("502"), GOOD)
    reader = AdapterReader(told, looks)
    reader.want(CHAT, subscription(), artifact())
    await told.next()
    assert reader.known(subscription()) == {artifact().digest: Failing("502")}
    reader.want(CHAT, subscription(), artifact())
    assert len(looks.asked) == 1
    await told.next()
    reader.want(CHAT, subscription(), artifact())
    await told.next()
    assert reader.known(subscription()) == {artifact().digest: AdapterConfig(8)}


@pytest.mark.parametrize(
    ("answer", "says"),
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
async def test_bad_content_is_refused_for_good(answer: Any, says: str) -> None:
    told = Told()
    reader = AdapterReader(told, Looks(answer))
    reader.want(CHAT, subscription(), artifact())
    await told.next()
    (verdict,) = reader.known(subscription()).values()
    assert isinstance(verdict, Refused)
    assert says in verdict.message


async def test_a_mistake_of_ours_stops_no_other_reading() -> None:
    told = Told()
    reader = AdapterReader(told, Looks(RuntimeError("a defect"), GOOD))
    reader.want(CHAT, subscription(), artifact())
    await told.next()
    reader.want(OTHER, subscription(), artifact("v8", "8" * 16))
    await told.next()
    known = reader.known(subscription())
    assert known[artifact().digest] == Failing("RuntimeError: a defect")
    assert known["8" * 16] == AdapterConfig(8)


async def test_stopping_ends_what_is_under_way() -> None:
    async def never(subscription: Subscription, artifact: Any) -> InspectedArtifact:
        await asyncio.Event().wait()
        raise AssertionError

    reader = AdapterReader(Told(), never)
    reader.want(CHAT, subscription(), artifact())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await reader.stop()
