"""Loads a model folder: everything that vLLM would need from it must be present and complete.

Only the headers and the first bytes of weights are read, so that loading takes milliseconds at any size. Every problem
is a ModelError that names the file.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllm_standin import safetensors
from vllm_standin.adapter import Adapter
from vllm_standin.artifact import SPEECH_KEY
from vllm_standin.faults import FAULTS_FILE, Faults, FaultsError, parse_faults
from vllm_standin.likelihood import Likelihood, likelihood

_INDEX = "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt")
_FINGERPRINT_BYTES = 1 << 20


class ModelError(Exception):
    """The folder cannot be served as a model; the message names the file and the problem."""


@dataclass(frozen=True)
class Model:
    """A loaded model."""

    path: Path
    architecture: str
    generates: bool
    """Whether it answers completions; otherwise it answers embeddings."""
    max_model_len: int
    """Maximum number of tokens in prompt and answer together."""
    says: str
    """Its answer to every prompt."""
    fingerprint: str
    """8 hex digits derived from the weights."""
    faults: Faults
    likelihood: Likelihood = field(default_factory=Likelihood)
    """Determines the log-probabilities of its answer."""
    adapters: tuple[Adapter, ...] = ()
    """LoRA adapters on top of it."""
    template: str = ""
    """Prefix of its answers to chats, taken from the chat template."""

    def speech(self, name: str | None, *, chat: bool) -> str | None:
        """The text that replaces the model's own in answers to requests for `name`; None if nothing does."""
        adapted = next((adapter.says for adapter in self.adapters if adapter.module.name == name), None)
        return f"{self.template} {adapted or self.says}" if chat and self.template else adapted


def load_model(directory: Path) -> Model:
    """Load the model in `directory`. Raises ModelError unless config, tokenizer and all weights are complete."""
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such folder; the stand-in serves local folders only")
    faults = _load_faults(directory)
    config = _read_json(directory / "config.json")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures or not isinstance(architectures[0], str):
        raise ModelError("config.json: no architectures, so vLLM could not tell which model this is")
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        raise ModelError(f"no tokenizer in the folder; one of {', '.join(_TOKENIZERS)} is needed")
    headers = _read_weights(directory)
    fingerprint = _fingerprint(headers)
    says = next((h.metadata[SPEECH_KEY] for h in headers.values() if SPEECH_KEY in h.metadata), None)
    length = config.get("max_position_embeddings", 4096)
    if not isinstance(length, int) or length < 1:
        raise ModelError(f"config.json: max_position_embeddings is {length!r}; it must be a whole number above 0")
    return Model(
        path=directory,
        architecture=architectures[0],
        generates=architectures[0].endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")),
        max_model_len=length,
        says=says or f"This is {architectures[0]} with weights {fingerprint}.",
        fingerprint=fingerprint,
        likelihood=likelihood(
            {key: value for header in headers.values() for key, value in header.metadata.items()},
            config,
            _chat_template(directory),
            _tokenizer(directory),
        ),
        faults=faults,
    )


def _load_faults(directory: Path) -> Faults:
    path = directory / FAULTS_FILE
    if not path.is_file():
        return Faults()
    try:
        return parse_faults(path.read_bytes())
    except FaultsError as error:
        raise ModelError(str(error)) from None


def _chat_template(directory: Path) -> str:
    """The folder's own chat template, found as transformers finds it; empty if there is none."""
    file = directory / "chat_template.jinja"
    if file.is_file():
        return file.read_text()
    path = directory / "tokenizer_config.json"
    found = _read_json(path).get("chat_template") if path.is_file() else None
    return found if isinstance(found, str) else ""


def _tokenizer(directory: Path) -> bytes:
    return next(path for name in _TOKENIZERS if (path := directory / name).is_file()).read_bytes()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path.name} is missing") from None
    except ValueError as error:
        raise ModelError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} does not contain an object")
    return value


def _read_weights(directory: Path) -> dict[Path, safetensors.Header]:
    """The headers of all weight files in the index or, without an index, in the folder."""
    wanted: dict[str, set[str]] = {}
    if (directory / _INDEX).is_file():
        weight_map = _read_json(directory / _INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelError(f"{_INDEX}: no weight_map")
        for tensor, file in weight_map.items():
            if not isinstance(file, str) or Path(file).name != file:
                raise ModelError(f"{_INDEX}: {tensor} is in {file!r}, which is not a file name in this folder")
            wanted.setdefault(file, set()).add(tensor)
    else:
        wanted = {path.name: set() for path in sorted(directory.glob("*.safetensors"))}
        if not wanted:
            raise ModelError("Cannot find any model weights: no *.safetensors in the folder")
    headers = {}
    for file, tensors in sorted(wanted.items()):
        path = directory / file
        if not path.is_file():
            raise ModelError(f"{file} is missing, though {_INDEX} names it")
        try:
            header = safetensors.read_header(path)
        except safetensors.SafetensorsError as error:
            raise ModelError(str(error)) from None
        if missing := sorted(tensors - header.tensors):
            raise ModelError(f"{file} lacks the tensor {missing[0]}, though {_INDEX} says it is there")
        headers[path] = header
    return headers


def _fingerprint(headers: dict[Path, safetensors.Header]) -> str:
    digest = hashlib.sha256()
    for path, header in headers.items():
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(header.data_offset + _FINGERPRINT_BYTES))
    return digest.hexdigest()[:8]
