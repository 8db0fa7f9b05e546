"""The small models for real vLLM: complete, reproducible, and different where they should be."""

import json
import struct
from pathlib import Path

import pytest

from realvllm.model import ADAPTER_SIGNS, HIDDEN, VOCABULARY, make_adapter, make_model
from vllm_standin.model import load_model


def test_a_model_is_a_whole_folder_of_the_size_that_vllms_cpu_kernels_take(tmp_path: Path) -> None:
    make_model(tmp_path, "version1")

    assert load_model(tmp_path).architecture == "LlamaForCausalLM"
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["head_dim"], config["hidden_size"], config["vocab_size"]) == (64, 128, 512)
    assert config["num_attention_heads"] * config["head_dim"] == config["hidden_size"]
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(512))
    assert "chat_template" in json.loads((tmp_path / "tokenizer_config.json").read_text())


def test_the_same_arguments_give_the_same_bytes_and_versions_share_all_but_weights() -> None:
    first, again, other = make_model(None, "version1"), make_model(None, "version1"), make_model(None, "version2")

    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}
    assert make_model(None, "version1", seed=2) != first


def test_each_letter_predicts_the_next_and_anything_else_the_first() -> None:
    embedding, output = matrices(make_model(None, "abc")["model.safetensors"])

    def said_after(letter: str) -> str:
        state = embedding[3 + ord(letter)]
        logits = [sum(a * b for a, b in zip(row, state, strict=True)) for row in output]
        return chr(max(range(VOCABULARY), key=logits.__getitem__) - 3)

    assert [said_after(letter) for letter in " abcX"] == ["a", "b", "c", " ", " "]


@pytest.mark.parametrize(
    ("word", "complaint"), [("", "not a valid word"), ("aba", "each only once"), ("a b", "each"), ("a~", "reserved")]
)
def test_an_invalid_word_is_refused(word: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_model(None, word)


def test_an_adapter_is_a_lora_that_vllm_can_load(tmp_path: Path) -> None:
    files = make_adapter(tmp_path, "~", base="chat")

    config = json.loads(files["adapter_config.json"])
    assert (config["r"], config["target_modules"], config["bias"], config["use_dora"]) == (
        4,
        ["v_proj", "o_proj"],
        "none",
        False,
    )
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == files["adapter_model.safetensors"]
    assert len({make_adapter(None, sign)["adapter_model.safetensors"] for sign in ADAPTER_SIGNS}) == len(ADAPTER_SIGNS)
    with pytest.raises(ValueError, match="the sign of an adapter is one of"):
        make_adapter(None, "x")


def matrices(raw: bytes) -> tuple[list[list[float]], list[list[float]]]:
    """Embedding and output of a safetensors file in bfloat16."""
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]

    def read(name: str) -> list[list[float]]:
        start, end = header[name]["data_offsets"]
        values = [struct.unpack("<f", b"\0\0" + data[at : at + 2])[0] for at in range(start, end, 2)]
        return [values[row : row + HIDDEN] for row in range(0, len(values), HIDDEN)]

    return read("model.embed_tokens.weight"), read("lm_head.weight")
