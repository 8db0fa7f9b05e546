"""Descriptions of a revision's parts."""

from modelsync.api.parts import MODEL, side_artifact
from modelsync.rollout.model import Part
from modelsync.rollout.part_names import difference, versions

MODEL_7 = Part(MODEL, "v7", "d7")
PROMPTS = side_artifact("prompts")


def prompts(version: str) -> Part:
    return Part(PROMPTS, version, f"digest-{version}")


def test_a_revision_that_is_only_a_model_is_described_by_its_version() -> None:
    assert versions("v7", [MODEL_7]) == "v7"
    assert difference([MODEL_7], [Part(MODEL, "v8", "d8")]) == ""


def test_the_versions_beside_the_model_are_listed_with_it() -> None:
    assert versions("v7", [MODEL_7, prompts("v2")]) == "v7 with artifact prompts v2"


def test_a_change_names_the_part_that_changed() -> None:
    assert difference([MODEL_7, prompts("v2")], [MODEL_7, prompts("v3")]) == "artifact prompts v2 -> v3"
    both = difference([MODEL_7, prompts("v2")], [Part(MODEL, "v8", "d8"), prompts("v3")])
    assert both == "model v7 -> v8, artifact prompts v2 -> v3"


def test_a_part_that_is_added_or_removed_is_listed() -> None:
    assert difference([MODEL_7], [MODEL_7, prompts("v2")]) == "artifact prompts v2 added"
    assert difference([MODEL_7, prompts("v2")], [MODEL_7]) == "artifact prompts removed"


def test_the_same_bytes_under_another_version_are_no_change() -> None:
    assert difference([MODEL_7, prompts("v2")], [MODEL_7, Part(PROMPTS, "v9", "digest-v2")]) == ""


def test_many_parts_are_counted_and_not_all_listed() -> None:
    many = [Part(side_artifact(f"a{number}"), "v1", f"d{number}") for number in range(6)]
    assert versions("v7", [MODEL_7, *many]).endswith("artifact a3 v1 and 2 more")
