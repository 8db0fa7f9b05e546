"""What `adapter_config.json` says of a LoRA adapter, and whether vLLM can load such an adapter.

PEFT writes the file; vLLM reads it when it starts, and a pod whose adapter it refuses would crash for ever. So its
rules (vllm/lora/peft_helper.py and lora_model.py of 0.32) are applied here before anything is scheduled. Must never do
I/O.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_HEADS = ("classifier", "score")
"""Full modules that vLLM takes from an adapter, for models that classify."""
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Ways of initialisation that leave the base as it was; others change its weights, and the adapter alone is wrong."""
_NOT_IN_VLLM = {
    "use_dora": "DoRA",
    "lora_bias": "a LoRA bias (lora_bias)",
    "alora_invocation_tokens": "Activated LoRA (alora_invocation_tokens)",
    "layer_replication": "layer_replication",
    "use_bdlora": "block-diagonal LoRA (use_bdlora)",
    "use_qalora": "QALoRA",
}


class AdapterRefusedError(ValueError):
    """vLLM cannot load the adapter; the message says why, and what could be done."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What the pod needs to know of an adapter."""

    rank: int
    """The highest rank of any module, at least 1."""


def read_adapter(files: Collection[str], config: bytes) -> AdapterConfig:
    """Judge an adapter by the names of its files and its adapter_config.json. Raises AdapterRefusedError."""
    if WEIGHTS_FILE not in files:
        others = sorted(name for name in files if name.endswith((".bin", ".pt", ".safetensors")))[:3]
        seen = f" (it has {', '.join(others)})" if others else ""
        raise AdapterRefusedError(
            f"it has no {WEIGHTS_FILE}{seen}; save it with PEFT's save_pretrained, which writes safetensors, and log "
            "the folder's files at the artifact's top"
        )
    try:
        said = json.loads(config)
    except ValueError as error:
        raise AdapterRefusedError(f"{CONFIG_FILE} is no JSON ({error}); log the adapter again") from None
    if not isinstance(said, dict):
        raise AdapterRefusedError(f"{CONFIG_FILE} holds no object; log the adapter again")
    return _judged(said)


def _judged(said: dict[str, Any]) -> AdapterConfig:
    kind = said.get("peft_type", "LORA")
    if kind != "LORA":
        raise AdapterRefusedError(f"its peft_type is {kind!r}, and vLLM serves LORA only; train a LoRA adapter")
    if missing := [name for name in ("r", "lora_alpha", "target_modules") if name not in said]:
        raise AdapterRefusedError(f"{CONFIG_FILE} lacks {', '.join(missing)}; save the adapter with PEFT again")
    reasons = [f"vLLM does not support {what}" for name, what in _NOT_IN_VLLM.items() if said.get(name)]
    if said.get("bias") not in (None, "none"):
        reasons.append(f"vLLM does not support an adapter's bias (bias: {said['bias']!r})")
    saved = said.get("modules_to_save") or []
    if foreign := [str(name) for name in saved if name not in _HEADS] if isinstance(saved, list) else [str(saved)]:
        reasons.append(f"vLLM does not take whole modules from an adapter (modules_to_save: {', '.join(foreign)})")
    init = said.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        reasons.append(
            f"its initialisation {init!r} changed the base model's weights; convert it with PEFT's "
            "path_initial_model_for_weight_conversion"
        )
    if reasons:
        raise AdapterRefusedError(f"{'; '.join(reasons)}; train or convert it as a plain LoRA adapter")
    return AdapterConfig(_rank(said))


def _rank(said: dict[str, Any]) -> int:
    pattern = said.get("rank_pattern") or {}
    ranks = [said["r"], *(pattern.values() if isinstance(pattern, dict) else ())]
    for rank in ranks:
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            raise AdapterRefusedError(
                f"{CONFIG_FILE} has the rank {rank!r} (r, rank_pattern); a rank is a whole number above 0"
            )
    return int(max(ranks))
