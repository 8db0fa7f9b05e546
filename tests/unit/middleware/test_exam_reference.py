"""The exam's reference page matches the code."""

import re
from pathlib import Path

from modelsync.middleware.modelsync_middleware import exam_format
from modelsync.middleware.modelsync_middleware.exam_format import parse_exam

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "exam.md").read_text(encoding="utf-8")


def test_the_example_can_be_read() -> None:
    [example] = re.findall(r"```jsonl\n(.*?)```", PAGE, re.S)

    questions = parse_exam(example.encode())

    assert [question.path for question in questions] == [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
    ]


def test_every_field_and_every_check_is_described() -> None:
    for field in (*exam_format._FIELDS, *exam_format._EXPECT, "exam"):
        assert f"`{field}`" in PAGE, field


def test_the_limits_are_those_of_the_code() -> None:
    assert f"At most 1 MiB and {exam_format.MAX_LINES} questions" in PAGE
    assert exam_format.MAX_BYTES == 1 << 20
    assert f"1 to {exam_format.MAX_TOKENS}, {exam_format.DEFAULT_TOKENS} by default" in PAGE
    assert f"(1 to {exam_format.MAX_TOP})" in PAGE
    assert f"{exam_format.DEFAULT_TOLERANCE} unless the header sets another value" in PAGE
