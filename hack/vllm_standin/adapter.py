"""LoRA adapters: loads them as vLLM does, and creates small ones.

The text of an adapter's answers is in its safetensors metadata, like a model's. What vLLM refuses
(`vllm/lora/peft_helper.py`, `lora_model.py`) is refused with vLLM's message.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_standin import safetensors
from vllm_standin.artifact import SPEECH_KEY

_REQUIRED = {"r", "lora_alpha", "target_modules"}
_WIDTH = 64


class AdapterError(Exception):
    """The folder cannot be served as an adapter; the message is vLLM's."""


@dataclass(frozen=True)
class Module:
    """One item of `--lora-modules`."""

    name: str
    path: Path
    base_model_name: str | None


@dataclass(frozen=True)
class Adapter:
    """A loaded adapter."""

    module: Module
    says: str


def parse_module(text: str) -> Module:
    """Read `name=path` or the JSON form, as vLLM's LoRAParserAction does. Raises AdapterError."""
    if "=" in text and "," not in text:
        name, path = text.split("=", 1)
        return Module(name, Path(path), None)
    try:
        fields = json.loads(text)
        return Module(fields["name"], Path(fields["path"]), fields.get("base_model_name"))
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"Invalid JSON format for --lora-modules: {text} ({error})") from None


def load_adapter(module: Module, max_rank: int) -> Adapter:
    """Load the adapter of `module`. Raises AdapterError."""
    try:
        config = json.loads((module.path / "adapter_config.json").read_bytes())
    except FileNotFoundError:
        raise AdapterError(f"Loading lora {module.name} failed: No adapter found for {module.path}") from None
    if missing := _REQUIRED - set(config):
        raise AdapterError(f"Missing required configuration fields: {missing}")
    problems = []
    if config.get("modules_to_save"):
        problems.append(f"Unsupported modules_to_save: {config['modules_to_save']}")
    if config.get("use_dora"):
        problems.append("vLLM does not yet support DoRA.")
    if config["r"] > max_rank:
        problems.append(f"LoRA rank {config['r']} is greater than max_lora_rank {max_rank}.")
    if config.get("bias", "none") != "none":
        problems.append("Adapter bias is not supported.")
    if problems:
        raise AdapterError(" ".join(problems))
    weights = module.path / "adapter_model.safetensors"
    if not weights.is_file():
        raise AdapterError(f"{module.path} doesn't contain tensors")
    try:
        header = safetensors.read_header(weights)
    except safetensors.SafetensorsError as error:
        raise AdapterError(str(error)) from None
    return Adapter(module, header.metadata.get(SPEECH_KEY, f"This is the adapter {module.name}."))


def make_adapter(says: str, *, rank: int = 8, config: Mapping[str, Any] | None = None) -> dict[str, bytes]:
    """The files of an adapter that answers `says`: path → content. `config` overrides fields of adapter_config.json."""
    adapter_config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "acme/base",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
        "modules_to_save": None,
        "use_dora": False,
        **(config or {}),
    }
    shapes = {"lora_A": (rank, _WIDTH), "lora_B": (_WIDTH, rank)}
    tensors = {
        f"base_model.model.model.layers.0.self_attn.{target}.{half}.weight": (
            "BF16",
            shape,
            hashlib.shake_128(f"{says}\0{target}{half}".encode()).digest(2 * shape[0] * shape[1]),
        )
        for target in ("q_proj", "v_proj")
        for half, shape in shapes.items()
    }
    return {
        "adapter_config.json": (json.dumps(adapter_config, indent=2) + "\n").encode(),
        "adapter_model.safetensors": safetensors.encode(tensors, {"format": "pt", SPEECH_KEY: says}),
    }
