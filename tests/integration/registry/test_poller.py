"""The poller against a server with W&B's protocol: what it queries, when, and which keys it notifies."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, TypeVar

import pytest
import pytest_asyncio
import structlog

from integration.registry.conftest import Project, Requests
from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.controller.listen import listen
from modelsync.registry.credential import Credential, InvalidCredentialError
from modelsync.registry.holds import hold_reads
from modelsync.registry.model import (
    Answers,
    Denied,
    HoldNames,
    Kept,
    Question,
    Resolved,
    ServedVersion,
    Throttled,
    Unreachable,
)
from modelsync.registry.poller import PARALLEL_LOOKS, Poller, Server, Subscription
from modelsync.registry.store import Key
from modelsync.registry.webhook import application
from wandb_standin import Admin, StandIn
from wandb_standin.admin import LoggedRequest

HOLD = HoldNames(tags=frozenset({"regulatory-hold"}), aliases=frozenset({"regulatory-hold*"}))
NEVER = timedelta(hours=1)
SOON = timedelta(seconds=0.2)
A, B = ("prod", "a"), ("prod", "b")
PATIENCE = 60.0
"""Seconds after which a wait fails; generous, since a busy machine is no failure of the poller."""
T = TypeVar("T")


class Scene:
    """A poller, and the keys that it notified."""

    def __init__(self, standin: StandIn, project: Project) -> None:
        self.standin = standin
        self.project = project
        self.notified: list[Key] = []
        self.seen: list[type] = []
        self._something = asyncio.Event()
        self.requests_seen: list[tuple[str, str]] = []
        self.poller = Poller(self._notify, hold_names=HOLD, random_share=lambda: 0.5, watch=self._watch)
        self.credentials_asked = 0

    def _watch(self, server: str, outcome: str, seconds: float) -> None:
        assert seconds > 0
        self.requests_seen.append((server, outcome))

    def _notify(self, key: Key) -> None:
        self.notified.append(key)
        self.seen += [type(kept.latest) for kept in self.answers(key).refs.values()]
        self._something.set()

    def subscription(
        self,
        *refs: ModelRef,
        interval: timedelta = NEVER,
        identity: str = "alice",
        key: str = "",
        served: ServedVersion | None = None,
        url: str = "",
    ) -> Subscription:
        async def credential() -> Credential:
            self.credentials_asked += 1
            return Credential(key or self.standin.api_key)

        return Subscription(
            server=Server(url or self.standin.url),
            identity=identity,
            credential=credential,
            question=Question(
                refs=frozenset(refs or {self.project.ref("production")}),
                served=frozenset({served} if served else ()),
                hold=HOLD,
            ),
            interval=interval,
        )

    async def until(self, condition: Callable[[], T | None]) -> T:
        """Wait until a notification makes the condition true."""
        async with asyncio.timeout(PATIENCE):
            while not (found := condition()):
                self._something.clear()
                await self._something.wait()
            return found

    async def until_told(self, key: Key, count: int = 1) -> None:
        await self.until(lambda: self.notified.count(key) >= count)

    def answers(self, key: Key = A) -> Answers:
        found = self.poller.snapshot(key)
        assert found is not None
        return found

    def kept(self, key: Key = A, alias: str = "production") -> Kept[Resolved] | None:
        return self.answers(key).refs.get(self.project.ref(alias))

    def version(self, key: Key = A) -> str:
        kept = self.kept(key)
        return kept.positive.version if kept and kept.positive else ""

    async def requests(self, count: int, since: int) -> list[LoggedRequest]:
        """The first `count` requests after `since`, once they have arrived."""
        return await asyncio.to_thread(self.standin.admin.wait_for_requests, count, since=since, seconds=PATIENCE)


@pytest_asyncio.fixture
async def scene(standin: StandIn, admin: Admin, project: Project) -> AsyncIterator[Scene]:
    made = Scene(standin, project)
    async with made.poller:
        yield made


async def test_what_is_logged_of_a_server_names_none_of_those_who_ask_it(scene: Scene) -> None:
    named: list[dict[str, Any]] = []

    def record(_server: str, _outcome: str, _seconds: float) -> None:
        named.append(structlog.contextvars.get_contextvars())

    scene.poller = Poller(scene._notify, watch=record)
    async with scene.poller:
        with structlog.contextvars.bound_contextvars(namespace="prod", name="a"):
            scene.poller.subscribe(A, scene.subscription())
        await scene.until_told(A)
    assert named
    assert all(each == {} for each in named)


async def test_a_subscription_is_answered_at_once_and_notified(scene: Scene, project: Project) -> None:
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription())
    await scene.until_told(A)
    assert scene.version() == "v0"
    kept = scene.kept()
    assert kept is not None
    assert kept.latest is kept.positive


async def test_the_same_subscription_again_asks_for_nothing(scene: Scene, admin: Admin, project: Project) -> None:
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription())
    await scene.until_told(A)
    asked = Requests(admin)
    for _ in range(3):
        scene.poller.subscribe(A, scene.subscription())
    scene.poller.subscribe(B, scene.subscription())
    assert scene.version(B) == "v0"
    scene.poller.look(B)
    await scene.until_told(B)
    assert len(asked()) == 1, "only the requested look"


async def test_a_poll_sees_an_alias_that_moved_and_notifies_no_other_key(scene: Scene, project: Project) -> None:
    project.log(aliases=["production"])
    project.log("other", aliases=["production"])
    scene.poller.subscribe(A, scene.subscription(interval=SOON))
    scene.poller.subscribe(B, scene.subscription(project.ref("production", "other"), interval=SOON))
    await scene.until_told(A)
    await scene.until_told(B)
    scene.notified.clear()
    project.admin.set_alias(project.log(), "production")
    await scene.until(lambda: scene.version() == "v1")
    assert set(scene.notified) == {A}


async def test_a_quiet_server_is_asked_once_in_an_interval(scene: Scene, admin: Admin, project: Project) -> None:
    project.log(aliases=["production"])
    before = admin.last_request()
    began = time.monotonic()
    scene.poller.subscribe(A, scene.subscription(interval=timedelta(seconds=0.6)))
    asked = await scene.requests(4, before)
    # Not between arrivals: a request that was delayed on its way would seem close to the next one.
    assert time.monotonic() - began >= 0.5 * (len(asked) - 1)


async def test_irrelevant_changes_cause_no_notification(scene: Scene, admin: Admin, project: Project) -> None:
    first = project.log(aliases=["production"])
    project.log()  # takes the alias `latest`
    scene.poller.subscribe(A, scene.subscription(interval=SOON))
    await scene.until_told(A)
    project.log(aliases=["nightly"])
    await scene.requests(3, admin.last_request())
    assert scene.notified == [A]
    admin.add_tag(first, "regulatory-hold")
    await scene.until_told(A, 2)
    question = scene.subscription().question
    [read] = hold_reads(scene.answers(), question).values()
    assert [mark.name for mark in read.marks] == ["regulatory-hold"]


async def test_keys_of_one_credential_share_each_request(scene: Scene, admin: Admin, project: Project) -> None:
    project.log(aliases=["production"])
    keys = [("prod", f"m{number}") for number in range(30)]
    for key in keys:
        scene.poller.subscribe(key, scene.subscription(interval=SOON))
    await scene.until(lambda: set(scene.notified) >= set(keys))
    polls = await scene.requests(2, admin.last_request())
    assert all(entry.refs.count(str(project.ref("production"))) == 1 for entry in polls)


async def test_a_look_for_many_keys_of_one_credential_is_one_request(
    scene: Scene, admin: Admin, project: Project
) -> None:
    project.log(aliases=["production"])
    keys = [("prod", f"m{number}") for number in range(30)]
    for key in keys:
        scene.poller.subscribe(key, scene.subscription())
    await scene.until(lambda: set(scene.notified) >= set(keys))
    asked = Requests(admin)
    scene.notified.clear()
    scene.poller.look_at(collection="chat")
    await scene.until(lambda: set(scene.notified) >= set(keys))
    [entry] = asked()
    assert entry.refs.count(str(project.ref("production"))) == 1


async def test_answers_do_not_cross_from_one_credential_to_another(
    scene: Scene, admin: Admin, project: Project
) -> None:
    key = f"b0b{project.name:0>37}".replace("-", "0")
    admin.add_user(f"bob-{project.name}", key, roles={"acme": "viewer"})
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription())
    await scene.until_told(A)
    asked = Requests(admin)
    scene.poller.subscribe(B, scene.subscription(identity="bob", key=key))
    await scene.until_told(B)
    assert {entry.user for entry in asked()} == {f"bob-{project.name}"}
    assert scene.version(A) == "v0"
    assert scene.version(B) == ""
    hidden = scene.kept(B)
    assert hidden is not None
    assert hidden.positive is None


async def test_a_mark_crosses_from_one_credential_to_the_same_bytes_of_another(
    scene: Scene, admin: Admin, project: Project
) -> None:
    bob, key = f"bob-{project.name}", f"b0b{project.name:0>37}".replace("-", "0")
    admin.add_user(bob, key, roles={"acme": "viewer"})
    content = {"model.safetensors": f"{project.name}/twice".encode()}
    held = admin.log_artifact(project.home().entity, project.name, "chat", content, aliases=["production"])
    copy = admin.log_artifact(bob, project.name, "copy", content, aliases=["production"])
    assert copy.digest == held.digest
    scene.poller.subscribe(A, scene.subscription())
    copied = CollectionRef(bob, project.name, "copy").at("production")
    scene.poller.subscribe(B, scene.subscription(copied, identity="bob", key=key))
    scene.poller.watch_digests(B, [(scene.standin.url, held.digest)])
    await scene.until_told(A)
    await scene.until_told(B)
    assert scene.answers(B).refs[copied].positive is not None

    def marks() -> set[str]:
        return {mark.name for mark in scene.poller.marks(scene.standin.url, held.digest)}

    assert not marks()
    scene.notified.clear()
    admin.add_tag(held, "regulatory-hold")
    scene.poller.look(A)
    await scene.until_told(B)
    assert marks() == {"regulatory-hold"}
    [mark] = scene.poller.marks(scene.standin.url, held.digest)
    assert scene.poller.absence(scene.standin.url, mark) is None
    scene.notified.clear()
    admin.remove_tag(held, "regulatory-hold")
    scene.poller.look(A)
    await scene.until_told(B)
    assert not marks()
    assert scene.poller.absence(scene.standin.url, mark) is not None
    scene.poller.unwatch(B)


async def test_a_rotated_credential_begins_anew(scene: Scene, project: Project) -> None:
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription(identity="alice-1"))
    await scene.until_told(A)
    scene.poller.subscribe(A, scene.subscription(identity="alice-2"))
    assert scene.kept() is None
    await scene.until_told(A, 2)
    assert scene.version() == "v0"


async def test_the_credential_is_asked_for_at_each_look(scene: Scene, project: Project) -> None:
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription())
    await scene.until_told(A)
    scene.poller.look(A)
    await scene.until_told(A, 2)
    assert scene.credentials_asked == 2


async def test_a_missing_credential_is_reported_and_nothing_is_sent(
    scene: Scene, admin: Admin, project: Project
) -> None:
    async def credential() -> Credential:
        raise InvalidCredentialError("Secret prod/wandb has no key WANDB_API_KEY")

    asked = Requests(admin)
    plain = scene.subscription()
    scene.poller.subscribe(A, Subscription(plain.server, plain.identity, credential, plain.question, plain.interval))
    await scene.until_told(A)
    kept = scene.kept()
    assert kept is not None
    assert isinstance(kept.latest, Denied)
    assert "Secret prod/wandb" in kept.latest.message
    assert asked() == []


async def test_a_look_is_answered_by_a_question_that_was_sent_after_it(scene: Scene, project: Project) -> None:
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription())
    await scene.until_told(A)
    asked = datetime.now(UTC)
    scene.poller.look(A)
    await scene.until_told(A, 2)
    kept = scene.kept()
    assert kept is not None
    assert kept.latest.asked_at >= asked


async def test_a_look_asked_for_during_a_poll_starts_another_and_does_not_wait_for_it(
    scene: Scene, admin: Admin, project: Project
) -> None:
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription(interval=SOON))
    await scene.until_told(A)
    admin.add_fault("slow", operation="ModelsyncResolve", delay=3600, times=1)
    await asyncio.to_thread(until, lambda: not admin.faults(), "a poll is under way")
    project.admin.set_alias(project.log(), "production")
    scene.poller.look_at(collection="chat")
    asked = datetime.now(UTC)
    await scene.until(lambda: scene.version() == "v1")
    assert Unreachable not in scene.seen, "the poll is still in progress: its end would be reported"
    kept = scene.kept()
    assert kept is not None
    assert kept.latest.asked_at >= asked


async def test_a_look_asked_for_during_a_look_starts_another(scene: Scene, admin: Admin, project: Project) -> None:
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription())
    await scene.until_told(A)
    admin.add_fault("slow", operation="ModelsyncResolve", delay=0.5, times=1)
    scene.poller.look_at(collection="chat")
    await asyncio.to_thread(until, lambda: not admin.faults(), "a look is under way")
    asked = datetime.now(UTC)
    scene.poller.look_at(collection="chat")
    await scene.until_told(A, 3)
    kept = scene.kept()
    assert kept is not None
    assert kept.latest.asked_at >= asked


async def test_a_throttled_server_is_left_alone_until_its_time_and_then_asked(
    scene: Scene, admin: Admin, project: Project
) -> None:
    project.log(aliases=["production"])
    admin.add_fault("status", status=429, retry_after=2, times=1)
    asked = Requests(admin)
    scene.poller.subscribe(A, scene.subscription(interval=SOON))
    await scene.until_told(A)
    kept = scene.kept()
    assert kept is not None
    assert isinstance(kept.latest, Throttled)
    scene.poller.look(A)
    scene.poller.look_at()
    await scene.until(lambda: scene.version() == "v0")
    assert scene.seen.count(Throttled) == 1, "looks wait, and do not end with the known answer"
    refused, answered, *_ = asked()
    assert (refused.status, answered.status) == (429, 200)
    assert answered.at - refused.at >= 1.9


@pytest.mark.parametrize("minutes", [-10, 10])
@pytest.mark.parametrize("how", ["poll", "look", "webhook"])
async def test_a_hold_is_seen_although_the_clock_was_set(
    scene: Scene, admin: Admin, project: Project, monkeypatch: pytest.MonkeyPatch, how: str, minutes: int
) -> None:
    version = project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription(interval=SOON if how == "poll" else NEVER))
    await scene.until_told(A)
    set_clock(monkeypatch, timedelta(minutes=minutes))
    admin.add_tag(version, "regulatory-hold")
    if how == "look":
        scene.poller.look(A)
    if how == "webhook":
        scene.poller.look_at(collection="chat")
    question = scene.subscription().question
    await scene.until(lambda: any(read.marks for read in hold_reads(scene.answers(), question).values()))
    set_clock(monkeypatch, timedelta(0))
    admin.remove_tag(version, "regulatory-hold")
    if how != "poll":
        scene.poller.look(A)
    await scene.until(lambda: not any(read.marks for read in hold_reads(scene.answers(), question).values()))


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_wait_that_a_server_asked_for_ends_in_time_although_the_clock_was_set(
    scene: Scene, admin: Admin, project: Project, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    project.log(aliases=["production"])
    admin.add_fault("status", status=429, retry_after=2, times=1)
    asked = Requests(admin)
    scene.poller.subscribe(A, scene.subscription(interval=SOON))
    await scene.until_told(A)
    set_clock(monkeypatch, timedelta(minutes=minutes))
    await scene.until(lambda: scene.version() == "v0")
    refused, answered, *_ = asked()
    assert answered.at - refused.at >= 1.9


async def test_an_outage_keeps_the_last_answer_and_is_asked_ever_more_seldom(
    scene: Scene, admin: Admin, project: Project
) -> None:
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription(interval=SOON))
    await scene.until_told(A)
    began = datetime.now(UTC).timestamp()
    outage = admin.down()
    assert outage is not None
    await scene.until(lambda: isinstance(latest(scene), Unreachable))
    assert scene.version() == "v0"

    def tries() -> list[float]:
        return [entry.at for entry in admin.requests() if outage in entry.faults and entry.at > began]

    await asyncio.to_thread(until, lambda: len(tries()) >= 3, "a third try")
    first, second, third, *_ = tries()
    assert second - first >= 0.9
    assert third - second >= 1.8


async def test_a_webhook_ends_the_waiting_for_a_server_that_was_silent(
    scene: Scene, admin: Admin, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelsync.registry.poller.BACKOFF", (NEVER, NEVER))
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription(interval=SOON))
    await scene.until_told(A)
    admin.down()
    await scene.until(lambda: isinstance(latest(scene), Unreachable))
    admin.lift_fault()
    scene.poller.look_at(collection="chat")
    await scene.until(lambda: isinstance(latest(scene), Resolved))


async def test_wishes_of_the_planner_that_bring_nothing_are_spaced(
    scene: Scene, admin: Admin, project: Project
) -> None:
    project.log(aliases=["other"])
    scene.poller.subscribe(A, scene.subscription())
    await scene.until_told(A)
    asked = Requests(admin)
    for count in (2, 3):
        scene.poller.look(A)
        await scene.until_told(A, count)
    first, second = [entry.at for entry in asked()]
    assert second - first >= 1.5


async def test_a_server_that_never_answers_does_not_hold_up_another(scene: Scene, project: Project) -> None:
    project.log(aliases=["production"])
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        for number in range(2 * PARALLEL_LOOKS):
            dead = scene.subscription(identity=f"dead-{number}", url=f"http://127.0.0.1:{silent.getsockname()[1]}")
            scene.poller.subscribe(("prod", f"dead-{number}"), dead)
        scene.poller.subscribe(A, scene.subscription())
        await scene.until(lambda: A in scene.notified)
        assert scene.version() == "v0"
        assert Unreachable not in scene.seen, "none of the others has been given up yet"


async def test_one_reference_that_cannot_be_read_does_not_quieten_the_rest(
    scene: Scene, admin: Admin, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelsync.registry.poller.BACKOFF", (NEVER, NEVER))
    project.log(aliases=["production", "bad"])
    admin.add_fault("error", ref=str(project.ref("bad")), status=500)
    scene.poller.subscribe(B, scene.subscription(project.ref("bad")))
    await scene.until_told(B)
    project.admin.set_alias(project.log(), "production")
    scene.poller.subscribe(A, scene.subscription())
    await scene.until(lambda: scene.version() == "v1")


async def test_an_unsubscribed_key_is_neither_queried_nor_notified(
    scene: Scene, admin: Admin, project: Project
) -> None:
    project.log(aliases=["production"])
    project.log("other", aliases=["production"])
    scene.poller.subscribe(A, scene.subscription(interval=SOON))
    scene.poller.subscribe(B, scene.subscription(project.ref("production", "other"), interval=SOON))
    await scene.until_told(A)
    await scene.until_told(B)
    scene.poller.unsubscribe(A)
    assert scene.poller.snapshot(A) is None
    scene.poller.look(A)
    await scene.requests(1, admin.last_request())
    polls = await scene.requests(2, admin.last_request())
    assert not any(str(project.ref("production")) in entry.refs for entry in polls)


async def test_a_webhook_of_wandb_brings_an_alias_s_move_at_once(
    scene: Scene, admin: Admin, project: Project, registry: str
) -> None:
    target = f"{registry}/chat llm"
    admin.link(project.log(), target, aliases=["production"])
    ref = CollectionRef.parse(target).at("production")
    scene.poller.subscribe(A, scene.subscription(ref))
    await scene.until_told(A)
    token = "token-of-the-automation"
    app = application(scene.poller.look_at, token=token)
    async with listen(app, host="127.0.0.1", port=0) as port:
        admin.add_automation(
            "look",
            url=f"http://127.0.0.1:{port}/webhook",
            scope=registry,
            event="ADD_ARTIFACT_ALIAS",
            access_token=token,
            payload={
                "entity_name": "${entity_name}",
                "project_name": "${project_name}",
                "artifact_collection_name": "${artifact_collection_name}",
            },
        )
        admin.link(project.log(), target, aliases=["production"])

        def moved() -> bool:
            positive = scene.answers().refs[ref].positive
            return positive is not None and positive.version == "v1"

        await scene.until(moved)


async def test_a_webhook_about_the_source_finds_who_follows_the_registry(
    scene: Scene, admin: Admin, project: Project, registry: str
) -> None:
    source = project.log()
    admin.link(source, f"{registry}/chat llm", aliases=["production"])
    wanted = scene.subscription(CollectionRef.parse(f"{registry}/chat llm").at("production"))
    scene.poller.subscribe(A, wanted)
    await scene.until_told(A)
    admin.add_tag(source, "regulatory-hold")
    scene.poller.look_at("acme-ml", project.name, "chat")
    await scene.until_told(A, 2)
    assert hold_reads(scene.answers(), wanted.question)[source.digest].marks


async def test_webhooks_about_strangers_lead_to_one_look_at_everything(
    scene: Scene, admin: Admin, project: Project
) -> None:
    project.log(aliases=["production"])
    scene.poller.subscribe(A, scene.subscription())
    await scene.until_told(A)
    asked = Requests(admin)
    for number in range(50):
        scene.poller.look_at("someone", "else", f"c{number}")
    await scene.until_told(A, 2)
    assert len(asked()) == 1


def set_clock(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Set the operator's wall clock; its monotonic clock goes on."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return super().now(tz) + by

    monkeypatch.setattr("modelsync.registry.graphql.datetime", Clock)


def latest(scene: Scene) -> object:
    kept = scene.kept()
    return kept.latest if kept else None


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait, in a thread, for a state of the server."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)


async def test_requests_and_the_last_answer_are_reported_by_server_and_namespace(
    scene: Scene, project: Project
) -> None:
    project.log(aliases=["production"])
    began = datetime.now(UTC)
    scene.poller.subscribe(A, scene.subscription())
    denied = scene.subscription(identity="mallory", key="f" * 40)
    scene.poller.subscribe(("other", "c"), denied)
    await scene.until_told(A)
    await scene.until(lambda: Denied in scene.seen)
    last = scene.poller.last_answers()
    answered = last[scene.standin.url, "prod"]
    assert answered is not None
    assert answered >= began
    assert last[scene.standin.url, "other"] is None, "a refusal is no answer"
    assert set(scene.requests_seen) == {(scene.standin.url, "Answered"), (scene.standin.url, "Denied")}

    scene.poller.subscribe(B, scene.subscription(identity="mallory", key="f" * 40))
    assert scene.poller.last_answers()[scene.standin.url, "prod"] is None, (
        "the time of the credential that has waited longest"
    )
    scene.poller.unsubscribe(("other", "c"))
    assert (scene.standin.url, "other") not in scene.poller.last_answers()
