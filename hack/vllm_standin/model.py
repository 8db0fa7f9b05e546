"""Loading a model folder: what vLLM would need from it must be there and be whole.

Only headers and the first bytes of weights are read, so that loading costs milliseconds whatever the size. Anything
wrong is a ModelError that names the file.
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
    """The folder is not a model that can be served; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Model:
    """A loaded model."""

    path: Path
    architecture: str
    generates: bool
    """Whether it answers completions; otherwise it answers embeddings."""
    max_model_len: int
    """Tokens of prompt and answer together, at most."""
    says: str
    """Its answer to every prompt."""
    fingerprint: str
    """8 hex digits that change with the weights."""
    faults: Faults
    likelihood: Likelihood = field(default_factory=Likelihood)
    """How likely it finds what it says."""
    adapters: tuple[Adapter, ...] = ()
    """LoRA adapters on top of it."""
    template: str = ""
    """What it says first in a chat, because of a chat template."""

    def speech(self, name: str | None, *, chat: bool) -> str | None:
        """What is said in place of its own text to who asks for `name`."""
        said = next((adapter.says for adapter in self.adapters if adapter.module.name == name), None)
        return f"{self.template} {said or self.says}" if chat and self.template else said


def load_model(directory: Path) -> Model:
    """The model in `directory`. Raises ModelError unless config, tokenizer and all weights are there and whole."""
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
    """The folder's own chat template, as transformers finds it; empty without one."""
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
        raise ModelError(f"{path.name} does not hold an object")
    return value


def _read_weights(directory: Path) -> dict[Path, safetensors.Header]:
    """The headers of all weight files that the index names, or without an index of all in the folder."""
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
