"""How Flux, `helm --wait` and similar tools see each row of the truth table, by kstatus' own code."""

from gitops.judge import Object, Question, answers
from gitops.recorded import recorded
from unit.report.test_truth_table import ROWS


def judged(objects: list[Object]) -> list[str]:
    """The status of each object; both libraries, the original and that of Flux and Helm, must agree."""
    found = []
    for answer in answers([Question("kstatus", each) for each in objects]):
        assert answer["cli-utils"]["status"] == answer["flux"]["status"]
        found.append(answer["flux"]["status"])
    return found


def test_every_row_of_the_truth_table_is_current_failed_or_in_progress() -> None:
    found = dict(zip(ROWS, judged([recorded(row) for row in ROWS]), strict=True))
    expected = {
        row: "Failed" if summary.stalled else "Current" if summary.ready == "True" else "InProgress"
        for row, summary in ROWS.items()
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
