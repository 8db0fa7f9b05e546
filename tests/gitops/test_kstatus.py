"""What Flux, `helm --wait` and `kubectl wait` style tools make of each row of the truth table, by kstatus' own code."""

from gitops.judge import Object, Question, answers
from gitops.recorded import recorded
from unit.report.test_truth_table import ROWS


def judged(objects: list[Object]) -> list[str]:
    """One word for each, which both libraries must agree on: the original, and the one of Flux and Helm."""
    found = []
    for said in answers([Question("kstatus", each) for each in objects]):
        assert said["cli-utils"]["status"] == said["flux"]["status"]
        found.append(said["flux"]["status"])
    return found


def test_every_row_of_the_truth_table_is_current_failed_or_in_progress() -> None:
    found = dict(zip(ROWS, judged([recorded(row) for row in ROWS]), strict=True))
    expected = {
        row: "Failed" if told.stalled else "Current" if told.ready == "True" else "InProgress"
        for row, told in ROWS.items()
    }
    assert found == expected


def test_a_status_of_an_older_spec_is_in_progress() -> None:
    older = [recorded(row) for row in ROWS]
    for obj in older:
        obj["metadata"]["generation"] += 1
    assert set(judged(older)) == {"InProgress"}


def test_what_is_being_deleted_is_terminating() -> None:
    obj = recorded("held and blocked")
    obj["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"
    assert judged([obj]) == ["Terminating"]
