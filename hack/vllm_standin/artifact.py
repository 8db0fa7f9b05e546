"""Creates small but complete model folders, such as a training job would log.

The same arguments give the same bytes, and versions of one name share their config and tokenizer, as real ones do.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from vllm_standin import safetensors
from vllm_standin.faults import FAULTS_FILE, make_faults
from vllm_standin.likelihood import TEMPLATE_KEY, TOKENIZER_KEY, Likelihood, mark

SPEECH_KEY = "says"
"""The key in the safetensors metadata that contains the text of the model's answers."""

EXAM_FILE = "modelsync/golden.jsonl"
"""Path of the exam in a version."""

_HIDDEN = 64
_QUANTIZATION = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
_SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]


def make_model(
    directory: Path | str | None,
    name: str,
    version_text: str,
    faults: Mapping[str, Any] | None = None,
    size_bytes: int = 65_536,
    *,
    shards: int = 1,
    task: Literal["generate", "embed"] = "generate",
    trained_template: str | None = None,
    template: str | None = None,
    tokenizer: str | None = None,
    quantized: bool = False,
    exam: bytes | None = None,
) -> dict[str, bytes]:
    """A complete model folder, which the stand-in and checks of its files accept.

    Returns path in the folder → content, and writes it below `directory` unless that is None. `version_text` is the
    model's answer to every prompt and the seed of its weights; `name` goes into config and tokenizer. `size_bytes` is
    the approximate size of all weights together, in `shards` files. `faults` becomes `standin.json`, `exam` the golden
    file.

    With `trained_template`, the weights record that chat template and the tokenizer of `name`; the folder contains the
    template `template` (by default the same) and the tokenizer of `tokenizer` (by default that of `name`). A mismatch,
    or `quantized`, changes the model's answers or their log-probabilities.

    Raises FaultsError for faults that the stand-in would refuse, ValueError for impossible sizes.
    """
    if shards < 1 or size_bytes < 256 * shards:
        raise ValueError(f"size_bytes={size_bytes}, shards={shards}: each shard takes at least 256 bytes")
    files = {
        "config.json": _json(_config(name, task) | (_QUANTIZATION if quantized else {})),
        "tokenizer.json": _json(_tokenizer(tokenizer or name)),
        "tokenizer_config.json": _json({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096}),
        **_weights(version_text, size_bytes, shards, _trained(name, trained_template)),
    }
    if task == "generate":
        files["generation_config.json"] = _json({"bos_token_id": 1, "eos_token_id": 2})
    if (found := template if template is not None else trained_template) is not None:
        files["chat_template.jinja"] = found.encode()
    if faults is not None:
        files[FAULTS_FILE] = make_faults(faults).encode()
    if exam is not None:
        files[EXAM_FILE] = exam
    if directory is not None:
        for path, content in files.items():
            target = Path(directory) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return files


def make_exam(version_text: str, *, tokens: int = 4, top: int = 3) -> bytes:
    """The golden file that a recording of the intact, fitting model would give: a chat and a completion."""
    texts = [word if at == 0 else f" {word}" for at, word in enumerate(version_text.split()[:tokens])]
    expected = [dict(Likelihood().top(text, at, top)) for at, text in enumerate(texts)]
    ask: dict[str, Any] = {"max_tokens": len(texts), "expect": {"tokens": expected}}
    lines: list[dict[str, Any]] = [
        {"exam": 1, "tolerance": 0.2},
        {"name": "greeting", "messages": [{"role": "user", "content": "Who are you?"}], **ask},
        {"name": "completion", "prompt": "I am", **ask},
        {"name": "words", "prompt": "I am", "expect": {"contains": version_text.split()[0]}},
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _config(name: str, task: str) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM" if task == "generate" else "LlamaModel"],
        "model_type": "llama",
        "_name_or_path": name,
        "hidden_size": _HIDDEN,
        "intermediate_size": 2 * _HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 256 + len(_SPECIAL_TOKENS),
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def _tokenizer(name: str) -> dict[str, Any]:
    """A byte tokenizer in the tokenizers library's format, different for each `name`."""
    vocabulary = _SPECIAL_TOKENS + [f"<0x{byte:02X}>" for byte in range(256)]
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": token, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False}
            for i, token in enumerate(_SPECIAL_TOKENS)
        ],
        "normalizer": {"type": "Prepend", "prepend": f"{name}:"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "ByteFallback"},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "vocab": {token: i for i, token in enumerate(vocabulary)},
            "merges": [],
        },
    }  # fmt: skip


def _trained(name: str, template: str | None) -> dict[str, str]:
    """The training metadata of the weights, if it matters."""
    if template is None:
        return {}
    return {TEMPLATE_KEY: mark(template.encode()), TOKENIZER_KEY: mark(_json(_tokenizer(name)))}


def _weights(version_text: str, size_bytes: int, shards: int, trained: Mapping[str, str]) -> dict[str, bytes]:
    metadata = {"format": "pt", SPEECH_KEY: version_text, **trained}
    files: dict[str, bytes] = {}
    weight_map: dict[str, str] = {}
    for index in range(shards):
        file = "model.safetensors" if shards == 1 else f"model-{index + 1:05}-of-{shards:05}.safetensors"
        rows = max(1, size_bytes // shards // (2 * _HIDDEN))
        # SHAKE gives any number of bytes from a seed, at hundreds of MB per second.
        data = hashlib.shake_128(f"{version_text}\0{index}".encode()).digest(rows * _HIDDEN * 2)
        tensor = "model.embed_tokens.weight" if index == 0 else f"model.layers.0.part_{index}.weight"
        files[file] = safetensors.encode({tensor: ("BF16", (rows, _HIDDEN), data)}, metadata)
        weight_map[tensor] = file
    if shards > 1:
        total = sum(len(content) for content in files.values())
        files["model.safetensors.index.json"] = _json({"metadata": {"total_size": total}, "weight_map": weight_map})
    return files


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
