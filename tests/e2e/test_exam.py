"""A version must pass its own exam before it gets a request."""

import pytest

from e2e.conftest import Scene
from stage.stage import condition, stable_version, weight_of
from vllm_standin.artifact import make_exam

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXT = "I answer as I was trained to"
TRAINED = {"trained_template": "{{ messages }}", "exam": make_exam(TEXT)}


async def test_a_wrong_template_fails_the_exam_and_a_right_one_is_rolled_out(scene: Scene) -> None:
    deployment = await scene.serving()
    scene.log(TEXT, template="{{ other }}", **TRAINED)
    async with deployment.traffic() as traffic:
        scene.point("v1")
        status = await deployment.until(
            "v1 has failed", lambda status: condition(status, "RolledBack").get("status") == "True", 120
        )
        failed = status["failed"][-1]
        assert (failed["revision"].partition("-")[0], failed["reason"]) == ("v1", "ExamFailed")
        assert "2 of 3 answers are as expected; line 2 (greeting): wanted as token 1" in failed["message"]
        assert condition(status, "ExamPassed")["status"] == "False"
        assert condition(status, "Ready")["reason"] == "ExamFailed"
        assert (stable_version(status), weight_of(status, "v1")) == ("v0", 0)
        await deployment.until_gone(failed["revision"])

        scene.log(TEXT, **TRAINED)
        scene.point("v2")
        status = await deployment.until_serving("v2")
        assert condition(status, "ExamPassed")["status"] == "True"
        assert [(exam["outcome"], exam["passed"], exam["total"]) for exam in status["exams"]] == [("Passed", 3, 3)]
    assert not traffic.unserved(), traffic.explain(traffic.unserved())
    assert {revision.partition("-")[0] for revision in traffic.by_revision()} == {"v0", "v2"}


async def test_a_first_version_with_an_exam_that_cannot_be_read_waits_for_a_person(scene: Scene) -> None:
    scene.log(TEXT, exam=make_exam(TEXT) + b'{"prompt": "x", "expects": {}}\n')
    scene.point("v0")
    deployment = await scene.deploy()
    status = await deployment.until(
        "the exam is reported", lambda status: condition(status, "Stalled").get("reason") == "ExamInvalid", 90
    )
    assert "line 5: expects is unknown" in condition(status, "Stalled")["message"]
    assert condition(status, "Available")["status"] == "False"
    scene.log(TEXT, **TRAINED)
    scene.point("v1")
    await deployment.until_serving("v1")
