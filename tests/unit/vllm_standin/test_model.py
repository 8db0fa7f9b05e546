"""An incomplete folder is refused with the file's name; complete ones are distinguished by their weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vllm_standin.artifact import make_model
from vllm_standin.model import ModelError, load_model

SHARD = "model-00002-of-00002.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_model(tmp_path, "chat", "v1", shards=2)
    return tmp_path


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def with_header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Rewrites a safetensors header, keeping the tensors' bytes."""

    def apply(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        change(header)
        raw = json.dumps(header).encode()
        return len(raw).to_bytes(8, "little") + raw + content[8 + length :]

    return apply


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "config.json is missing"),
        ("tokenizer.json", "no tokenizer in the folder"),
        (SHARD, f"{SHARD} is missing, though model.safetensors.index.json names it"),
    ],
)
def test_a_missing_file_is_named(folder: Path, file: str, message: str) -> None:
    (folder / file).unlink()

    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_missing_weights_are_reported_like_by_vllm(folder: Path) -> None:
    for path in folder.glob("*.safetensors*"):
        path.unlink()

    with pytest.raises(ModelError, match="Cannot find any model weights"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "MetadataIncompleteBuffer"),
        (lambda content: content + b"x", "MetadataIncompleteBuffer"),
        (lambda content: content[:5], "HeaderTooSmall"),
        (lambda content: content[:50], "InvalidHeaderLength"),
        (lambda content: b"\xff" * 8 + content[8:], "HeaderTooLarge"),
        (lambda content: content[:8] + b"x" + content[9:], "InvalidHeaderDeserialization"),
        (with_header(lambda header: header["model.layers.0.part_1.weight"].update(dtype="F7")), "unknown dtype 'F7'"),
        (with_header(lambda header: header["model.layers.0.part_1.weight"].update(shape=[1])), "InvalidOffset"),
        (with_header(lambda header: header.update(copy=header["model.layers.0.part_1.weight"])), "InvalidOffset"),
        (with_header(lambda header: header["model.layers.0.part_1.weight"].pop("shape")), "InvalidTensorInfo"),
        (
            with_header(lambda header: header.update(other=header.pop("model.layers.0.part_1.weight"))),
            "lacks the tensor",
        ),
    ],
    ids=[
        "cut",
        "longer",
        "empty",
        "header cut",
        "huge header",
        "no json",
        "dtype",
        "shape",
        "overlap",
        "no shape",
        "renamed",
    ],
)
def test_a_broken_weight_file_is_named(folder: Path, change: Callable[[bytes], bytes], message: str) -> None:
    edit(folder / SHARD, change)

    with pytest.raises(ModelError, match=f"{SHARD}.*{message}"):
        load_model(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{", "config.json is not JSON"),
        ("config.json", b"[]", "config.json does not contain an object"),
        ("config.json", b"{}", "config.json: no architectures"),
        ("config.json", b'{"architectures": ["A"], "max_position_embeddings": 0}', "max_position_embeddings is 0"),
        ("model.safetensors.index.json", b"{}", "no weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../x"}}', "'../x', which is not a file name"),
        ("standin.json", b'{"oom": 1}', "oom is 1; it must be true or false"),
    ],
)
def test_a_file_with_wrong_content_is_named(folder: Path, file: str, content: bytes, message: str) -> None:
    (folder / file).write_bytes(content)

    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_model(tmp_path / "gone")


def test_the_fingerprint_changes_with_the_weights_and_with_nothing_else(folder: Path) -> None:
    before = load_model(folder).fingerprint
    (folder / "generation_config.json").unlink()
    assert load_model(folder).fingerprint == before

    edit(folder / SHARD, lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    assert load_model(folder).fingerprint != before


def test_a_model_without_a_text_answers_with_its_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        edit(path, with_header(lambda header: header.pop("__metadata__")))

    model = load_model(folder)

    assert model.says == f"This is LlamaForCausalLM with weights {model.fingerprint}."
