"""The exam's format: what a line may contain, and the error for an invalid one."""

import json
from typing import Any

import pytest

from modelsync.middleware.modelsync_middleware.exam_format import MAX_BYTES, MAX_LINES, ExamError, parse_exam
from modelsync.middleware.modelsync_middleware.exam_grading import judge

LINE = {"prompt": "2+2=", "expect": {"contains": "4"}}


def exam(*lines: Any) -> bytes:
    return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()


def test_a_completion_is_asked_greedily() -> None:
    [question] = parse_exam(exam({**LINE, "name": "sum", "max_tokens": 3, "stop": "\n"}))

    assert question.path == "/v1/completions"
    assert question.body == {"prompt": "2+2=", "max_tokens": 3, "temperature": 0, "stop": ("\n",)}
    assert question.where == "line 1 (sum)"


def test_a_chat_goes_through_the_template_with_its_arguments() -> None:
    messages = [{"role": "user", "content": "2+2?"}]
    line = {"messages": messages, "chat_template_kwargs": {"enable_thinking": False}, "expect": {"equals": "4"}}
    [question] = parse_exam(exam(line))

    assert question.path == "/v1/chat/completions"
    assert question.body["messages"] == messages
    assert question.body["chat_template_kwargs"] == {"enable_thinking": False}


def test_an_embedding_is_asked_as_numbers() -> None:
    [question] = parse_exam(exam({"input": "cat", "expect": {"embedding": [0.6, 0.8]}}))

    assert (question.path, question.body) == ("/v1/embeddings", {"input": "cat", "encoding_format": "float"})


def test_log_probabilities_are_asked_for_only_where_tokens_are_expected() -> None:
    tokens = [{" 4": -0.1, " four": -3}]
    messages = [{"role": "user", "content": "2+2?"}]
    completion, chat, plain = parse_exam(
        exam(
            {"prompt": "2+2=", "expect": {"tokens": tokens}}, {"messages": messages, "expect": {"tokens": tokens}}, LINE
        )
    )

    assert completion.body["logprobs"] == 5
    assert (chat.body["logprobs"], chat.body["top_logprobs"]) == (True, 5)
    assert "logprobs" not in plain.body


def test_the_header_gives_the_tolerance_of_lines_that_have_none() -> None:
    tokens = {"tokens": [{" 4": -0.1}]}
    header, own = {"exam": 1, "tolerance": 0.05}, {"prompt": "x", "expect": {**tokens, "tolerance": 1}}
    first, second = parse_exam(exam(header, {"prompt": "x", "expect": tokens}, own))

    assert (first.expect.tolerance, second.expect.tolerance) == (0.05, 1.0)
    assert (first.line, second.line) == (2, 3)


def test_empty_lines_a_mark_and_line_separators_inside_of_texts_are_no_matter() -> None:
    questions = parse_exam(
        b"\xef\xbb\xbf" + exam("", '{"prompt": "a\u2028b", "expect": {"contains": "c"}}\r', "", LINE, "")
    )

    assert [question.line for question in questions] == [2, 4]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no questions found"),
        ([{"exam": 1}], "no questions found"),
        ([{"exam": 2}, LINE], "line 1: exam is 2; this modelsync reads format 1"),
        ([{"exam": 1, "tolerence": 1}, LINE], "line 1: tolerence is unknown; allowed are exam, tolerance"),
        ([LINE, {"exam": 1}], "line 2: exam is unknown; allowed are name, prompt, messages"),
        ([LINE, "{"], "line 2: not JSON (Expecting property name"),
        ([LINE, "[1]"], "line 2: each line must be a JSON object, {...}; this is [1]"),
        (["", {"expect": {}}], "line 2: no request; give exactly one of prompt (a completion), messages"),
        ([{"prompt": "x", "input": "x", "expect": {}}], "line 1: prompt and input; give exactly one of"),
        ([{"prompt": "x"}], "line 1: expect is missing; give one of tokens, contains"),
        ([{"prompt": "x", "expect": []}], "line 1: expect must be an object"),
        ([{"prompt": "x", "expect": {}}], "line 1: expect is empty; give one of tokens, contains, equals, regex, json"),
        ([{"prompt": "x", "expect": {"contain": "y"}}], "line 1: expect.contain is unknown; allowed are tokens"),
        ([{"prompt": "x", "expect": {"embedding": [1]}}], "line 1: expect.embedding does not apply to prompt"),
        (
            [{"input": "x", "expect": {"equals": "y"}}],
            "line 1: expect.equals does not apply to input; allowed are embedding",
        ),
        ([{"prompt": "", "expect": {"equals": "y"}}], "line 1: prompt is empty"),
        ([{"prompt": 1, "expect": {"equals": "y"}}], "line 1: prompt must be a string; this is 1"),
        ([{**LINE, "max_tokens": 513}], "line 1: max_tokens is 513; it must be a whole number from 1 to 512"),
        ([{**LINE, "max_tokens": True}], "line 1: max_tokens is true"),
        ([{**LINE, "name": "a\u001bb"}], "line 1: name must be a string of at most 80 printable characters"),
        ([{**LINE, "chat_template_kwargs": {}}], "line 1: chat_template_kwargs does not apply to a prompt"),
        (
            [{"input": "x", "max_tokens": 1, "expect": {"embedding": [1]}}],
            "line 1: max_tokens does not apply to an emb",
        ),
        ([{"messages": [{"content": "x"}], "expect": {"equals": "y"}}], "line 1: each of messages must be an object"),
        ([{"messages": "x", "expect": {"equals": "y"}}], "line 1: messages must be a list"),
        (
            [{"prompt": "x", "expect": {"contains": []}}],
            "line 1: expect.contains must be a string or a list of strings",
        ),
        ([{"prompt": "x", "expect": {"regex": "("}}], "line 1: expect.regex is not a valid Python regular expression"),
        ([{"prompt": "x", "expect": {"json": [1]}}], "line 1: expect.json must be true (any JSON), or an object"),
        ([{"prompt": "x", "expect": {"tokens": [{" y": 0.5}]}}], 'line 1: expect.tokens: " y" has 0.5; a log-prob'),
        ([{"prompt": "x", "expect": {"tokens": ["y"]}}], "line 1: expect.tokens must be a list of objects"),
        (
            [{"prompt": "x", "expect": {"equals": "y", "tolerance": 1}}],
            "line 1: expect.tolerance requires expect.tok",
        ),
        (
            [{"prompt": "x", "expect": {"tokens": [{"y": -1}], "tolerance": 0}}],
            "expect.tolerance is 0; it must be a num",
        ),
        ([{"input": "x", "expect": {"embedding": [0, 0]}}], "line 1: expect.embedding is all zeros"),
        ([{"input": "x", "expect": {"embedding": [1], "min_cosine": 2}}], "line 1: expect.min_cosine is 2"),
        ([LINE] * (MAX_LINES + 1), "line 201: the exam has at most 200 questions"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_allowed(lines: list[Any], message: str) -> None:
    with pytest.raises(ExamError) as error:
        parse_exam(exam(*lines))

    assert message in str(error.value)


def test_a_file_that_is_too_long_or_no_text_is_refused() -> None:
    with pytest.raises(ExamError, match="at most 1048576"):
        parse_exam(b" " * (MAX_BYTES + 1))
    with pytest.raises(ExamError, match="line 2: not UTF-8"):
        parse_exam(exam(LINE) + b"\n\xff")


def test_a_message_never_quotes_much_of_a_file() -> None:
    with pytest.raises(ExamError) as error:
        parse_exam(exam({"prompt": ["secret " * 100], "expect": {"equals": "y"}}))

    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "line",
    [
        '{"exam": 1, "tolerance": 1%s}',
        '{"prompt": "x", "max_tokens": 1%s, "expect": {"contains": "4"}}',
        '{"prompt": "x", "expect": {"tokens": [{"a": -1%s}]}}',
        '{"prompt": "x", "expect": {"json": {"a": 1%s}}}',
        '{"input": "x", "expect": {"embedding": [1%s]}}',
    ],
)
@pytest.mark.parametrize("digits", [301, 5000])
def test_a_number_without_end_is_refused_wherever_it_stands(line: str, digits: int) -> None:
    with pytest.raises(ExamError, match=r"line 1: not JSON \(a number has more than 300 digits\)"):
        parse_exam((line % ("0" * digits)).encode())


@pytest.mark.parametrize("digits", [200, 299])
def test_the_largest_numbers_overflow_nothing(digits: int) -> None:
    huge = "9" * digits
    [question] = parse_exam(f'{{"input": "x", "expect": {{"embedding": [{huge}]}}}}'.encode())
    assert judge(question, f'{{"data": [{{"embedding": [{huge}]}}]}}'.encode()) is not None
    [question] = parse_exam(f'{{"prompt": "x", "expect": {{"tokens": [{{"a": -{huge}}}]}}}}'.encode())
    logprobs = f'{{"tokens": ["a"], "token_logprobs": [-{huge}], "top_logprobs": [{{"a": -{huge}}}]}}'
    body = f'{{"choices": [{{"text": "a", "finish_reason": "stop", "logprobs": {logprobs}}}]}}'
    assert judge(question, body.encode()) is None
