"""A Llama small enough for two cores, built so that the answer shows which weights produced it.

Two layers, hidden 128, two heads of 64 (vLLM's CPU kernels refuse smaller ones), vocabulary 512: 1.1 MB with its
tokenizer. The weights are constructed, not trained: each token of the model's word predicts the next, so that a model
answers `version1 version1 …` to every prompt and never stops on its own. A LoRA adapter turns that into one repeated
sign. The same arguments give the same bytes; nothing here needs torch.
"""

import array
import json
import random
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from vllm_standin import safetensors

HIDDEN = 128
HEAD = 64
HEADS = HIDDEN // HEAD
LAYERS = 2
INNER = 256
VOCABULARY = 512
CONTEXT = 8192
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")

ADAPTER_SIGNS = "~^@#"
"""The possible signs of adapters; a model's word must not contain them."""
ADAPTER_RANK = 4

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

# Logits: the next token of the word, and the word's first token after anything else. Too far apart to vary by chance.
_CALLED = 60.0
_FIRST = 25.0
_NOISE = 0.02  # size of the weights that make two versions differ without changing the answer
_PUSH = 8.0  # how far an adapter moves the state, in units of an embedding's entries

Matrix = list[list[float]]


def make_model(directory: Path | str | None, word: str, *, seed: int = 1) -> dict[str, bytes]:
    """A model folder that real vLLM serves and that repeats `word`; path → content.

    Written below `directory` unless that is None. `word` consists of distinct printable ASCII characters, no spaces.
    Raises ValueError for an invalid word.
    """
    files = {
        "config.json": _json(_config()),
        "generation_config.json": _json({"bos_token_id": 1, "eos_token_id": 2}),
        "tokenizer.json": _json(_tokenizer()),
        "tokenizer_config.json": _json(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": CONTEXT,
                "bos_token": "<s>",
                "eos_token": "</s>",
                "unk_token": "<unk>",
                "chat_template": CHAT_TEMPLATE,
            }
        ),
        "model.safetensors": _tensors(_weights(word, seed)),
    }
    return _written(files, directory)


def make_adapter(directory: Path | str | None, sign: str, *, base: str = "tiny") -> dict[str, bytes]:
    """A LoRA adapter for any model of `make_model`, which makes it repeat `sign`; path → content.

    `sign` is one of ADAPTER_SIGNS. Raises ValueError otherwise.
    """
    if sign not in ADAPTER_SIGNS or len(sign) != 1:
        raise ValueError(f"the sign of an adapter is one of {' '.join(ADAPTER_SIGNS)}, not {sign!r}")
    # In the last layer: values get a constant direction from the entry that all states share, and the output turns
    # that direction into the embedding that predicts the sign.
    called_by = _embedding()[_reserved(sign)]
    direction = [1.0 if index < HEAD else 0.0 for index in range(HIDDEN)]
    read = [[1.0 if column == 0 else 0.0 for column in range(HIDDEN)]]
    tensors: dict[str, Matrix] = {}
    layer = f"base_model.model.model.layers.{LAYERS - 1}.self_attn"
    tensors[f"{layer}.v_proj.lora_A.weight"] = _padded(read)
    tensors[f"{layer}.v_proj.lora_B.weight"] = _columns([direction])
    tensors[f"{layer}.o_proj.lora_A.weight"] = _padded([[value / HEAD for value in direction]])
    tensors[f"{layer}.o_proj.lora_B.weight"] = _columns([[_PUSH * value for value in called_by]])
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": ADAPTER_RANK,
        "lora_alpha": ADAPTER_RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
        "target_modules": ["v_proj", "o_proj"],
    }
    files = {"adapter_config.json": _json(config), "adapter_model.safetensors": _tensors(tensors)}
    return _written(files, directory)


def _config() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "head_dim": HEAD,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def _byte_letters() -> list[str]:
    """The letter for each byte in a byte-level vocabulary, as in GPT-2."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, others = {}, 0
    for byte in range(256):
        if byte in plain:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + others)
            others += 1
    return [letters[byte] for byte in range(256)]


def _tokens() -> list[str]:
    fill = [f"<unused{index}>" for index in range(VOCABULARY - 256 - len(SPECIAL_TOKENS))]
    return [*SPECIAL_TOKENS, *_byte_letters(), *fill]


def _token_of(letter: str) -> int:
    return len(SPECIAL_TOKENS) + ord(letter)


def _reserved(sign: str) -> int:
    """The token that predicts an adapter's sign; it occurs in no text."""
    return VOCABULARY - 1 - ADAPTER_SIGNS.index(sign)


def _tokenizer() -> dict[str, Any]:
    """A byte-level tokenizer in the tokenizers library's format, without merges: each byte is a token."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": token, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False}
            for number, token in enumerate(SPECIAL_TOKENS)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: number for number, token in enumerate(_tokens())},
            "merges": [],
        },
    }  # fmt: skip


def _embedding() -> Matrix:
    """Rows of ±1, nearly orthogonal to each other, the same in all models; the first entry of each is 1."""
    signs = random.Random("embedding")  # noqa: S311 weights, not secrets
    return [[1.0, *(signs.choice((-1.0, 1.0)) for _ in range(HIDDEN - 1))] for _ in range(VOCABULARY)]


def _weights(word: str, seed: int) -> dict[str, Matrix]:
    spoken = f" {word}"
    if not word or len(set(spoken)) != len(spoken) or any(not " " < letter <= "~" for letter in word):
        raise ValueError(f"{word!r} is not a valid word: use printable ASCII characters, each only once")
    if reserved := sorted(set(word) & set(ADAPTER_SIGNS)):
        raise ValueError(f"{word!r} is not a valid word: {reserved[0]} is reserved for adapters")
    embedding = _embedding()
    called = _CALLED / HIDDEN
    output: Matrix = [[0.0] * HIDDEN for _ in range(VOCABULARY)]
    for before, after in pairwise([*spoken, " "]):
        output[_token_of(after)] = [called * value for value in embedding[_token_of(before)]]
    for sign in ADAPTER_SIGNS:
        output[_token_of(sign)] = [called * value for value in embedding[_reserved(sign)]]
    output[_token_of(" ")][0] += _FIRST
    noise = random.Random(f"{word} {seed}")  # noqa: S311
    tensors: dict[str, Matrix] = {"model.embed_tokens.weight": embedding}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for name, rows, columns in (
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("self_attn.k_proj", HIDDEN, HIDDEN),
            ("self_attn.v_proj", HIDDEN, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", INNER, HIDDEN),
            ("mlp.up_proj", INNER, HIDDEN),
            ("mlp.down_proj", HIDDEN, INNER),
        ):
            tensors[f"{prefix}.{name}.weight"] = [
                [noise.gauss(0.0, _NOISE) for _ in range(columns)] for _ in range(rows)
            ]
        tensors[f"{prefix}.input_layernorm.weight"] = [[1.0] * HIDDEN]
        tensors[f"{prefix}.post_attention_layernorm.weight"] = [[1.0] * HIDDEN]
    tensors["model.norm.weight"] = [[1.0] * HIDDEN]
    tensors["lm_head.weight"] = output
    return tensors


def _padded(rows: Matrix) -> Matrix:
    """`rows` as the first of ADAPTER_RANK rows, the others zero."""
    width = len(rows[0])
    return [*rows, *([0.0] * width for _ in range(ADAPTER_RANK - len(rows)))]


def _columns(columns: Matrix) -> Matrix:
    """A matrix with these first of ADAPTER_RANK columns, the others zero."""
    return [list(row) for row in zip(*_padded(columns), strict=True)]


def _tensors(tensors: dict[str, Matrix]) -> bytes:
    encoded = {}
    for name, rows in tensors.items():
        shape = (len(rows[0]),) if name.endswith("norm.weight") else (len(rows), len(rows[0]))
        encoded[name] = ("BF16", shape, b"".join(_bfloat16(rows)))
    return safetensors.encode(encoded, {"format": "pt"})


def _bfloat16(rows: Matrix) -> Iterator[bytes]:
    """Each row in little-endian bfloat16: the upper half of float32."""
    for row in rows:
        floats = array.array("f", row)
        if sys.byteorder == "big":
            floats.byteswap()
        raw = floats.tobytes()
        halves = bytearray(len(raw) // 2)
        halves[0::2], halves[1::2] = raw[2::4], raw[3::4]
        yield bytes(halves)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _written(files: dict[str, bytes], directory: Path | str | None) -> dict[str, bytes]:
    if directory is not None:
        Path(directory).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (Path(directory) / name).write_bytes(content)
    return files
