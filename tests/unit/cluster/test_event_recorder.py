"""Events are written once, counted in a series when they are repeated, and never fail a pass."""

from typing import Any

import pytest

from modelsync.api.kinds import Kind
from modelsync.cluster.errors import ForbiddenError, NotFoundError
from modelsync.cluster.event_recorder import MAX_NOTE, QUIET, SERIES, Recorder
from modelsync.rollout.model import Event
from unit.observe.builders import model_deployment

OWNER = model_deployment()
EVENT = Event("Warning", "Flapped", "Step", "v3-33333333 lost all its pods", "v3-33333333")


class Api:
    """The requests of the recorder to the API server."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.patched: list[tuple[str, dict[str, Any]]] = []
        self.refuse: Exception | None = None
        self.gone = False

    async def create(self, kind: Kind, namespace: str | None, body: dict[str, Any]) -> dict[str, Any]:
        if self.refuse:
            raise self.refuse
        self.created.append(body)
        return body

    async def merge(self, kind: Kind, namespace: str | None, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        if self.gone:
            raise NotFoundError("patch Event: not found")
        self.patched.append((name, patch))
        return patch


class Scene:
    def __init__(self) -> None:
        self.api, self.now, self.counted = Api(), 1000.0, list[str]()
        self.recorder = Recorder(
            self.api,  # type: ignore[arg-type]
            instance="modelsync-0",
            clock=lambda: self.now,
            count_result=self.counted.append,
        )

    async def record(self, after: float = 0.0, event: Event = EVENT) -> None:
        self.now += after
        await self.recorder.record(OWNER, event)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_an_event_is_about_the_model_deployment_and_names_the_revisions_deployment(scene: Scene) -> None:
    await scene.record()
    (body,) = scene.api.created
    assert body["apiVersion"] == "events.k8s.io/v1"
    assert (body["regarding"]["kind"], body["regarding"]["name"]) == ("ModelDeployment", "chat")
    assert (body["related"]["kind"], body["related"]["name"]) == ("Deployment", "chat-v3-33333333")
    assert (body["reportingController"], body["reportingInstance"]) == ("modelsync.dev/operator", "modelsync-0")
    assert "series" not in body


async def test_a_pass_that_is_repeated_at_once_writes_no_event(scene: Scene) -> None:
    await scene.record()
    await scene.record(after=1)
    assert (len(scene.api.created), scene.api.patched) == (1, [])
    assert scene.counted == ["Written", "Quiet"]


async def test_a_later_repetition_is_counted_in_the_series_of_the_same_event(scene: Scene) -> None:
    await scene.record()
    for _ in range(2):
        await scene.record(after=QUIET.total_seconds() + 1)
    (body,) = scene.api.created
    assert [name for name, _ in scene.api.patched] == [body["metadata"]["name"]] * 2
    assert [patch["series"]["count"] for _, patch in scene.api.patched] == [2, 3]
    assert all(patch["series"]["lastObservedTime"].endswith("Z") for _, patch in scene.api.patched)
    assert scene.counted == ["Written", "Repeated", "Repeated"]


async def test_an_event_that_the_api_server_has_deleted_is_written_again(scene: Scene) -> None:
    await scene.record()
    await scene.record(after=SERIES.total_seconds() + 1)
    scene.api.gone = True
    await scene.record(after=QUIET.total_seconds() + 1)
    assert (len(scene.api.created), scene.api.patched) == (3, [])


async def test_another_note_is_another_event(scene: Scene) -> None:
    await scene.record()
    await scene.record(event=Event("Warning", "Flapped", "Step", "v4-44444444 lost all its pods", "v4-44444444"))
    assert len(scene.api.created) == 2


async def test_a_refused_event_fails_nothing_and_is_retried(scene: Scene) -> None:
    scene.api.refuse = ForbiddenError("create Event: forbidden")
    await scene.record()
    scene.api.refuse = None
    await scene.record(after=1)
    assert len(scene.api.created) == 1
    assert scene.counted == ["Failed", "Written"]


async def test_a_note_is_truncated_to_the_limit_of_the_api_server(scene: Scene) -> None:
    await scene.record(event=Event("Normal", "Step", "Step", "é" * MAX_NOTE))
    (body,) = scene.api.created
    assert len(body["note"].encode()) <= MAX_NOTE
    assert body["note"].endswith("…")
