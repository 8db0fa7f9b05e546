"""Reads the `adapter_config.json` of a LoRA adapter and decides whether vLLM can load the adapter.

PEFT writes the file. vLLM reads it at startup, and a pod with an adapter that vLLM rejects would crash forever. So this
module applies vLLM's rules (vllm/lora/peft_helper.py and lora_model.py of 0.32) before anything is scheduled. Must
never do I/O.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from modelsync.api.foreign_json import ForeignJSONError, read_object

CONFIG_FILE = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20
WEIGHTS_FILE = "adapter_model.safetensors"

_HEADS = ("classifier", "score")
"""Full modules that vLLM accepts from an adapter, for classification models."""
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Initializations that do not change the base model. Others do, so that the adapter is wrong without that change."""
_NOT_IN_VLLM = {
    "use_dora": "DoRA",
    "lora_bias": "a LoRA bias (lora_bias)",
    "alora_invocation_tokens": "Activated LoRA (alora_invocation_tokens)",
    "layer_replication": "layer_replication",
    "use_bdlora": "block-diagonal LoRA (use_bdlora)",
    "use_qalora": "QALoRA",
}


class AdapterRefusedError(ValueError):
    """vLLM cannot load the adapter; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The properties of an adapter that the pod needs."""

    rank: int
    """The highest rank of any module, at least 1."""


def read_adapter(files: Collection[str], config_json: bytes) -> AdapterConfig:
    """Check an adapter's file names and its adapter_config.json. Raises AdapterRefusedError."""
    if WEIGHTS_FILE not in files:
        others = sorted(name for name in files if name.endswith((".bin", ".pt", ".safetensors")))[:3]
        seen = f" (it has {', '.join(others)})" if others else ""
        raise AdapterRefusedError(
            f"it has no {WEIGHTS_FILE}{seen}; save it with PEFT's save_pretrained, which writes safetensors, and log "
            "the files of the folder at the top level of the artifact"
        )
    try:
        config = read_object(config_json, max_bytes=MAX_CONFIG_BYTES)
    except ForeignJSONError as error:
        raise AdapterRefusedError(f"{CONFIG_FILE} cannot be read as JSON: {error}; log the adapter again") from None
    return _check(config)


def _check(config: dict[str, Any]) -> AdapterConfig:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise AdapterRefusedError(f"its peft_type is {kind!r}, but vLLM serves only LORA; train a LoRA adapter")
    if missing := [name for name in ("r", "lora_alpha", "target_modules") if name not in config]:
        raise AdapterRefusedError(f"{CONFIG_FILE} lacks {', '.join(missing)}; save the adapter with PEFT again")
    reasons = [f"vLLM does not support {what}" for name, what in _NOT_IN_VLLM.items() if config.get(name)]
    if config.get("bias") not in (None, "none"):
        reasons.append(f"vLLM does not support an adapter's bias (bias: {config['bias']!r})")
    saved = config.get("modules_to_save") or []
    if foreign := [str(name) for name in saved if name not in _HEADS] if isinstance(saved, list) else [str(saved)]:
        reasons.append(f"vLLM does not accept full modules in an adapter (modules_to_save: {', '.join(foreign)})")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        reasons.append(
            f"its initialization {init!r} changed the base model's weights; convert it with PEFT's "
            "path_initial_model_for_weight_conversion"
        )
    if reasons:
        raise AdapterRefusedError(f"{'; '.join(reasons)}; train or convert it as a plain LoRA adapter")
    return AdapterConfig(_rank(config))


def _rank(config: dict[str, Any]) -> int:
    pattern = config.get("rank_pattern") or {}
    ranks = [config["r"], *(pattern.values() if isinstance(pattern, dict) else ())]
    for rank in ranks:
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            raise AdapterRefusedError(
                f"{CONFIG_FILE} has the rank {rank!r} (r, rank_pattern); a rank is a whole number above 0"
            )
    return int(max(ranks))
