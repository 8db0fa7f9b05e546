"""Whatever a server answers, a read has an outcome for each of its subjects, and raises nothing."""

import asyncio
import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelsync.registry.credential import Credential
from modelsync.registry.errors import RegistryError
from modelsync.registry.graphql import GraphQL
from modelsync.registry.holds import hold_reads
from modelsync.registry.model import (
    ArtifactRead,
    CollectionRead,
    Denied,
    HoldNames,
    Missing,
    Question,
    Reading,
    Resolved,
    ServedVersion,
    Throttled,
    Unreachable,
)
from modelsync.registry.origin import Origin, origin
from modelsync.registry.resolver import Resolver
from modelsync.registry.store import Store, answers_of
from unit.registry.facts import CHAT
from wandb_standin import StandIn

HOLD = HoldNames(tags=frozenset({"regulatory-hold"}), aliases=frozenset({"regulatory-hold*"}))
KEY = Credential("5eed" * 10)
FAILURES = (Missing, Denied, Throttled, Unreachable)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**63, 10**399, -(10**399)]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(), max_size=20),
    st.sampled_from(
        ["\ud800", "\x00\x1b[31m", "https://u:p@h/x?X-Amz-Signature=1", "v1", "regulatory-hold", "x" * 9999]
    ),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
deep = st.integers(1, 60).map(lambda depth: json.loads("[" * depth + "]" * depth))
status = st.sampled_from([200, 200, 200, 200, 400, 403, 404, 422, 500])


class Answered(GraphQL):
    """A client whose server gives these answers in turn, the last one for ever."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        super().__init__("https://wandb.example.com", KEY)
        self._answers = list(answers)
        self.sent: list[Mapping[str, Any]] = []

    async def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        self.sent.append(body)
        code, content = self._answers[min(len(self.sent), len(self._answers)) - 1]
        return code, {"content-type": "application/json"}, content


class Recorded(GraphQL):
    """A client that keeps what the server answered."""

    answers: list[bytes]

    async def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        code, headers, content = await super()._post(body)
        self.answers.append(content)
        return code, headers, content


class World:
    """A question, and a server's true answers to it: the first one, a further page, an artifact by its id."""

    def __init__(self, question: Question, artifact_id: str, answers: list[Any]) -> None:
        self.question = question
        self.artifact_id = artifact_id
        self.answers = answers


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with StandIn(api_key=KEY.key) as standin:
        admin, names = standin.admin, "acme/wandb-registry-model/chat llm"
        source = admin.log_artifact("acme-ml", "llms", "chat", {"a": b"1"}, tags=["approved"], metadata={"a": 1})
        lost = admin.log_artifact("acme-ml", "llms", "chat", {"a": b"2"})
        admin.link(source, names, aliases=["production"])
        admin.link(source, f"{names} 2", aliases=["regulatory-hold"])
        for tag in ("gold", "approved v1", "regulatory-hold v9"):
            admin.add_collection_tag(names, tag)
        admin.configure(page_sizes=(2, 2))
        served = ServedVersion(CHAT, "v8", lost.artifact_id, lost.digest)
        question = Question(refs=frozenset({CHAT.at("production")}), served=frozenset({served}), hold=HOLD)

        async def record() -> list[bytes]:
            async with Recorded(standin.url, KEY) as api:
                api.answers = []
                await Resolver().read(api, [question])
                return api.answers

        answers = [json.loads(each) for each in asyncio.run(record())]
        assert len(answers) == 3
        yield World(question, lost.artifact_id, answers)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each node."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def spoiled(data: st.DataObject, answer: Any) -> bytes:
    """`answer` with some of its nodes replaced."""
    changed = copy.deepcopy(answer)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(changed))))
        value = data.draw(st.one_of(anything, deep))
        if not path:
            changed = value
            break
        parent = changed
        for step in path[:-1]:
            parent = parent[step]
        parent[path[-1]] = value
    if isinstance(changed, dict) and data.draw(st.booleans()):
        changed["errors"] = data.draw(anything)
    return json.dumps(changed).encode()


async def read(world: World, *answers: tuple[int, bytes]) -> Reading:
    reading = await Resolver().read(Answered(*answers), [world.question])
    for ref in world.question.all_refs:
        assert isinstance(reading.refs[ref], (Resolved, *FAILURES))
    for home in world.question.collections:
        assert isinstance(reading.collections[home], (CollectionRead, *FAILURES))
    for found in reading.artifacts.values():
        assert isinstance(found, (ArtifactRead, *FAILURES))
    for outcome in (*reading.refs.values(), *reading.collections.values(), *reading.artifacts.values()):
        if isinstance(outcome, FAILURES):
            assert outcome.message.isprintable()
            assert len(outcome.message) < 3000
            assert "X-Amz" not in outcome.message
    answers_of(reading)
    store = Store()
    store.ask(("a", "b"), world.question)
    store.add(reading)
    hold_reads(store.answers(("a", "b")), world.question)
    return reading


async def test_the_true_answers_are_positive(world: World) -> None:
    reading = await read(world, *((200, json.dumps(each).encode()) for each in world.answers))
    resolved = reading.refs[CHAT.at("production")]
    assert isinstance(resolved, Resolved)
    assert resolved.artifact.whole
    assert isinstance(reading.artifacts[world.artifact_id], ArtifactRead)


@given(st.data(), status)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
async def test_a_read_of_any_answer_has_declared_outcomes(world: World, data: st.DataObject, code: int) -> None:
    number = data.draw(st.integers(0, len(world.answers) - 1))
    answers = [(200, json.dumps(each).encode()) for each in world.answers]
    answers[number] = (code, spoiled(data, world.answers[number]))
    await read(world, *answers)


async def logged_by(answer: Any) -> Origin | None:
    """Who logged an artifact, if the server answers this."""
    try:
        return await origin(Answered((200, json.dumps({"data": {"artifact": answer}}).encode())), "QXJ0")
    except RegistryError:
        return None


@given(anything)
@settings(deadline=None)
async def test_who_logged_an_artifact_is_known_or_not_whatever_the_answer(answer: Any) -> None:
    assert await logged_by(answer) is None
    await logged_by({"createdBy": answer})
    found = await logged_by({"createdBy": {"__typename": "User", "username": answer}})
    assert found is None or found.user == answer != ""
    run = {"__typename": "Run", "name": answer, "project": {"name": answer, "entity": {"name": "acme"}}}
    found = await logged_by({"createdBy": run})
    assert found is None or found.run == f"acme/{answer}/{answer}"
