"""Which LoRA adapters vLLM can load, according to their files."""

import json
from typing import Any

import pytest

from modelsync.resources.adapter_config import AdapterRefusedError, read_adapter

FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")
PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 16,
    "lora_alpha": 32,
    "target_modules": ["q_proj"],
    "bias": "none",
    "modules_to_save": None,
    "use_dora": False,
    "use_rslora": True,
    "init_lora_weights": True,
    "rank_pattern": {},
}


def rank(**changes: Any) -> int:
    config = {key: value for key, value in (PLAIN | changes).items() if value is not ...}
    return read_adapter(FILES, json.dumps(config).encode()).rank


def test_a_plain_adapter_is_loaded_with_its_rank() -> None:
    assert rank() == 16


def test_the_highest_rank_of_any_module_counts() -> None:
    assert rank(rank_pattern={"q_proj": 64, "v_proj": 8}) == 64


@pytest.mark.parametrize(
    "fine",
    [
        {"modules_to_save": ["score"]},
        {"modules_to_save": []},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"peft_type": ...},
        {"bias": ...},
    ],
)
def test_what_vllm_takes_is_taken(fine: dict[str, Any]) -> None:
    assert rank(**fine) == 16


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias: 'all'"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": ["lm_head", "score"]}, "modules_to_save: lm_head"),
        ({"init_lora_weights": "pissa"}, "'pissa' changed the base model's weights"),
        ({"alora_invocation_tokens": [1]}, "Activated LoRA"),
        ({"layer_replication": [[0, 4]]}, "layer_replication"),
        ({"use_bdlora": {"a": 1}}, "block-diagonal"),
        ({"use_qalora": True}, "QALoRA"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"r": ...}, "lacks r"),
        ({"lora_alpha": ..., "target_modules": ...}, "lacks lora_alpha, target_modules"),
        ({"r": 0}, "the rank 0"),
        ({"r": "16"}, "the rank '16'"),
        ({"rank_pattern": {"q_proj": -1}}, "the rank -1"),
    ],
)
def test_what_vllm_cannot_load_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(AdapterRefusedError, match=r".*; .*") as refused:
        rank(**changes)
    assert reason in str(refused.value)


def test_all_reasons_are_reported_at_once() -> None:
    with pytest.raises(AdapterRefusedError, match=r"DoRA.*bias"):
        rank(use_dora=True, bias="all")


@pytest.mark.parametrize("config", [b"", b"{", b"[]", b'"text"', b"\xff"])
def test_a_config_that_is_none_is_refused(config: bytes) -> None:
    with pytest.raises(AdapterRefusedError, match=r"adapter_config\.json"):
        read_adapter(FILES, config)


def test_an_adapter_without_safetensors_is_refused_with_the_files_that_it_has() -> None:
    files = ("adapter_config.json", "adapter_model.bin")
    with pytest.raises(AdapterRefusedError, match=r"no adapter_model\.safetensors \(it has adapter_model\.bin\)"):
        read_adapter(files, json.dumps(PLAIN).encode())
