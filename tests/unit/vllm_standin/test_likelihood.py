"""The stand-in's answers and log-probabilities depend only on the artifact's content."""

from pathlib import Path
from typing import Any

from vllm_standin.artifact import make_model
from vllm_standin.likelihood import Likelihood
from vllm_standin.model import load_model


def loaded(folder: Path, **options: Any) -> Likelihood:
    make_model(folder, "chat", "one two three", **options)
    return load_model(folder).likelihood


def test_a_model_without_a_memory_of_its_training_speaks_in_order(tmp_path: Path) -> None:
    likelihood = loaded(tmp_path)

    assert likelihood == Likelihood()
    assert likelihood.words("one two three", chat=True) == ["one", "two", "three"]


def test_a_model_in_its_own_template_speaks_in_order(tmp_path: Path) -> None:
    assert loaded(tmp_path, trained_template="{{ messages }}") == Likelihood()


def test_a_wrong_chat_template_disorders_chats_only(tmp_path: Path) -> None:
    likelihood = loaded(tmp_path, trained_template="{{ messages }}", template="{{ other }}")

    assert likelihood.words("one two three", chat=True) == ["three", "two", "one"]
    assert likelihood.words("one two three", chat=False) == ["one", "two", "three"]


def test_a_wrong_tokenizer_disorders_everything(tmp_path: Path) -> None:
    likelihood = loaded(tmp_path, trained_template="{{ messages }}", tokenizer="another")

    assert likelihood.words("one two three", chat=False) == ["three", "two", "one"]


def test_a_quantized_model_takes_the_same_tokens_and_finds_them_less_likely(tmp_path: Path) -> None:
    whole, quantized = loaded(tmp_path / "whole"), loaded(tmp_path / "quantized", quantized=True)

    for token, at in (("one", 0), (" two", 1)):
        before, after = dict(whole.top(token, at, 5)), dict(quantized.top(token, at, 5))
        assert before.keys() == after.keys()
        assert all(0.35 < before[other] - after[other] < 0.7 for other in before)


def test_the_taken_token_is_the_likeliest_and_comes_first() -> None:
    top = Likelihood().top(" the", 3, 20)

    assert len(dict(top)) == 20
    assert [logprob for _, logprob in top] == sorted((logprob for _, logprob in top), reverse=True)
    assert top[0][0] == " the"
