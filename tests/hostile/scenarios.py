"""What a tenant tries against the operator, one function each. See `scenario` for how to add one."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from hostile.arena import HEALTH_PORT, METRICS_PORT, WEBHOOK_PORT, WEBHOOK_TOKEN, Arena, repeat
from hostile.servers import ENDLESS, server
from modelsync.api import kinds, names

MIB = 1 << 20
Attack = Callable[[Arena], AbstractContextManager[None]]


@dataclass(frozen=True)
class Scenario:
    """One attack and its bounds: seconds until the bystander is safe, peak of memory, seconds of the loop's lag.

    The bounds allow for two busy cores. What they are there to see: 191 s, 868 MiB, 20 s.
    """

    finding: int
    name: str
    attack: Attack
    safe: float
    peak_bytes: int
    lag: float


SCENARIOS: list[Scenario] = []


def scenario(
    finding: int,
    name: str,
    *,
    safe: float = 5.0,
    peak: int = 320 * MIB,
    lag: float = 1.5,
) -> Callable[[Callable[[Arena], Iterator[None]]], Attack]:
    """Add the decorated function: it attacks, yields while the bystander gets its hold, and ends what it started.

    Objects that it makes through the arena are deleted for it. `finding` is the number in issue 11; 0 is no attack.
    """

    def add(attack: Callable[[Arena], Iterator[None]]) -> Attack:
        made = contextmanager(attack)
        SCENARIOS.append(Scenario(finding, name, made, safe, peak, lag))
        return made

    return add


@scenario(0, "nobody attacks")
def nobody(_: Arena) -> Iterator[None]:
    yield


# --- 1: patterns -----------------------------------------------------------------------------------------------------


def steps_of(*patterns: str) -> list[dict[str, Any]]:
    """31 steps of 8 matches, as many as the CRD allows, of `patterns` in turn."""
    matches = [{"headerName": "x", "headerValue": {"regex": patterns[n % len(patterns)]}} for n in range(8)]
    return [*({"match": matches} for _ in range(31)), {"setWeight": 50}]


@scenario(1, "31 × 8 patterns of 50 classes of all characters")
def slow_patterns(arena: Arena) -> Iterator[None]:
    pattern = "^" + r"(?i:[\u0000-\uffff])" * 50 + "$"
    for number in range(3):
        arena.deploy(f"slow-{number}", rollout={"steps": steps_of(pattern)})
    yield


@scenario(1, "patterns of 2³² repetitions, of 500 parentheses, of nested stars")
def huge_patterns(arena: Arena) -> Iterator[None]:
    steps = steps_of(
        "^a{4294967296}$", "^" + "(" * 500 + ")" * 500 + "$", "^((a{1,1000}){1,1000}){1,1000}$", "^(((a*)*)*)*$"
    )
    for number in range(3):
        arena.deploy(f"huge-{number}", rollout={"steps": steps})
    yield


# --- 2: objects that cannot be read ----------------------------------------------------------------------------------


@scenario(2, "specs that no check can read")
def unreadable_specs(arena: Arena) -> Iterator[None]:
    auth = {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}}
    arena.deploy("server", registry={"baseURL": "http://[1]", "auth": auth})
    for number in range(3):
        arena.deploy(f"nested-{number}", serving={"args": ["--limit-mm-per-prompt=" + "[" * 2000] * 20})
    yield


def message_of(text: str) -> dict[str, Any]:
    """The status of a pod whose puller has ended with this termination message."""
    ended = {"exitCode": 0, "reason": "Completed", "message": text, "finishedAt": "2026-01-01T00:00:00Z"}
    container = {"image": "x", "imageID": "", "ready": True, "restartCount": 0, "lastState": {}}
    return {
        "phase": "Running",
        "initContainerStatuses": [{"name": "pull", **container, "state": {"terminated": ended}}],
    }


@scenario(2, "pods beside the bystander's, with termination messages that no number fits")
def termination_messages(arena: Arena) -> Iterator[None]:
    texts = (
        '{"digest":"x","files":1e999}',
        '{"digest":"x","files":1,"bytes":1,"seconds":' + "9" * 401 + "}",
        '{"digest":"x","seconds":NaN}',
        '{"digest":' + "[" * 2000,
    )
    for number, text in enumerate(texts):
        arena.pod(
            f"message-{number}",
            of="chat",
            revision=arena.revision(),
            status=message_of(text),
        )
    yield


def create_deep_records(arena: Arena) -> None:
    """One in each namespace: anyone who may create ControllerRevisions can."""
    text = "[" * 9000 + "]" * 9000
    for number, space in enumerate((arena.tenant.namespace, arena.bystander.namespace)):
        metadata = {"name": f"deep-{number}", "labels": names.labels("chat")}
        arena.create_text(kinds.CONTROLLER_REVISION, metadata, f'"revision":1,"data":{{"x":{text}}}', namespace=space)


@scenario(2, "records nested 9,000 deep, in the watches")
def deep_records(arena: Arena) -> Iterator[None]:
    create_deep_records(arena)
    yield


@scenario(2, "records nested 9,000 deep, when the operator starts")
def deep_records_at_the_start(arena: Arena) -> Iterator[None]:
    create_deep_records(arena)
    arena.restart()
    yield


# --- 4: adapters -----------------------------------------------------------------------------------------------------


@scenario(
    4,
    "an adapter of 800 files, each in 1,000 folders of its own",
)
def adapter_of_folders(arena: Arena) -> Iterator[None]:
    config = json.dumps({"peft_type": "LORA", "r": 8, "base_model_name_or_path": "x"}).encode()
    references = {f"{number}/{'a/' * 999}x": "https://files.example.com/x" for number in range(800)}
    project = arena.tenant.namespace
    files = {"adapter_config.json": config}
    arena.standin.admin.log_artifact("acme", project, "lora", files, references=references, aliases=["production"])
    adapters = [{"name": "lora", "modelRef": f"acme/{project}/lora:production"}]
    arena.deploy("folders", serving={"adapters": adapters})
    arena.until_downloads()
    yield
    arena.until_decided("folders")


# --- 8: floods -------------------------------------------------------------------------------------------------------


def call_webhook(body: bytes = b"") -> None:
    """Send one webhook with the right token."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{WEBHOOK_PORT}/webhook",
        data=body,
        headers={"Authorization": f"Bearer {WEBHOOK_TOKEN}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 our own port
            answer.read()
    except urllib.error.HTTPError as error:
        error.close()


@scenario(8, "webhooks without end, empty and of 64 KiB")
def webhooks(arena: Arena) -> Iterator[None]:
    stop = threading.Event()
    bodies = (b"", b"[" * 65_000, json.dumps({"entity_name": "x" * 60_000}).encode(), b"\xff" * 65_000)
    turns = iter(range(1 << 30))
    threads = repeat(lambda: call_webhook(bodies[next(turns) % len(bodies)]), stop)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


@scenario(8, "900 idle connections to its ports")
def idle_connections(arena: Arena) -> Iterator[None]:
    with ExitStack() as stack:
        for port in (HEALTH_PORT, METRICS_PORT, WEBHOOK_PORT):
            for _ in range(300):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
                connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        yield


# --- 10: servers -----------------------------------------------------------------------------------------------------

REGISTRY_PORT = 18090
ANSWERS: tuple[tuple[str, bytes | None, str], ...] = (
    ("200 OK", b'{"errors": 5}', ""),
    ("200 OK", b'{"data": ' + b"[" * 5000 + b"]" * 5000 + b"}", ""),
    ("200 OK", b'{"data": {"p0": ' + b"9" * 5000 + b"}}", ""),
    ("302 Found", b"", "Location: http://[1\r\n"),
    ("429 Too Many", b"", "Retry-After: 1e999\r\nRateLimit-Reset: -1\r\n"),
    ("200 OK", ENDLESS, ""),
)


@scenario(10, "registries that answer with what is no answer")
def registries(arena: Arena) -> Iterator[None]:
    with ExitStack() as stack:
        for number, (status, body, headers) in enumerate(ANSWERS, start=2):
            host = f"127.0.0.{number}"
            stack.enter_context(server(host, REGISTRY_PORT, body, status=status, headers=headers))
            registry = {
                "baseURL": f"http://{host}:{REGISTRY_PORT}",
                "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
                "pollInterval": "5s",
            }
            arena.deploy(f"registry-{number}", registry=registry)
        yield


EXAMS = (
    """b'{"state":"Passed","passed":' + b"9" * 60_000 + b',"total":1,"seconds":1,"message":""}'""",
    """b'{"state":"Failed","passed":1e308,"total":1,"seconds":' + b"9" * 401 + b',"message":' + b"[" * 30_000""",
    "ENDLESS",
)
"""What a pod answers to every request, as Python."""


@scenario(10, "pods that answer for their exam and their fuse without end")
def pods(arena: Arena) -> Iterator[None]:
    for number, body in enumerate(EXAMS):
        arena.serving_pod(f"exam-{number}", of="chat", revision=arena.revision(), body=body)
    arena.until_running(f"exam-{number}" for number in range(len(EXAMS)))
    yield


# --- 11, 12: what hides a mark ---------------------------------------------------------------------------------------


@scenario(11, "a collection with 120 other tags, and the version in 60 other collections")
def long_lists(arena: Arena) -> Iterator[None]:
    admin, path = arena.standin.admin, arena.bystander.path
    tags = [f"approved v{number}" for number in range(120)]
    for first in range(0, len(tags), 20):
        admin.add_collection_tag(path, *tags[first : first + 20])
    others = [f"acme/{arena.bystander.namespace}-links/other-{number}" for number in range(60)]
    for other in others:
        admin.link(f"{path}:v0", other)
    try:
        yield
    finally:
        for first in range(0, len(tags), 20):
            admin.remove_collection_tag(path, *tags[first : first + 20])
        for other in others:
            admin.unlink(f"{other}:v0")


@scenario(12, "the operator's clock goes back 10 minutes")
def clock_back(arena: Arena) -> Iterator[None]:
    arena.operator.ask("step -600")
    try:
        yield
    finally:
        arena.operator.ask("step 0")
