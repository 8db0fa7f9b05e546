"""The model folders of tests and the demo: small, complete, and the same in every run."""

import json
import struct
from pathlib import Path

import pytest

from vllm_standin.artifact import make_model
from vllm_standin.faults import FaultsError
from vllm_standin.model import load_model


def test_the_stand_in_loads_the_folder(tmp_path: Path) -> None:
    make_model(tmp_path, "chat", "I am version 7.")

    model = load_model(tmp_path)

    assert model.architecture == "LlamaForCausalLM"
    assert model.generates
    assert model.says == "I am version 7."
    assert model.max_model_len == 4096


def test_the_returned_files_equal_the_written_ones(tmp_path: Path) -> None:
    files = make_model(tmp_path, "chat", "v1", {"error_rate": 0.5}, shards=3)

    assert files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert make_model(None, "chat", "v1", {"error_rate": 0.5}, shards=3) == files


def test_two_versions_of_a_name_share_all_but_their_weights() -> None:
    one, two = make_model(None, "chat", "v1"), make_model(None, "chat", "v2")

    assert {path for path in one if one[path] != two[path]} == {"model.safetensors"}


def test_two_names_differ_in_config_and_tokenizer() -> None:
    one, two = make_model(None, "chat", "v1"), make_model(None, "code", "v1")

    assert {path for path in one if one[path] != two[path]} == {"config.json", "tokenizer.json"}


def test_the_weights_are_safetensors_by_the_formats_own_definition() -> None:
    content = make_model(None, "chat", "hello", size_bytes=100_000)["model.safetensors"]

    [length] = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__")
    [tensor] = header.values()
    assert metadata == {"format": "pt", "says": "hello"}
    assert tensor["dtype"] == "BF16"
    assert tensor["data_offsets"] == [0, len(content) - 8 - length]
    assert tensor["shape"][0] * tensor["shape"][1] * 2 == tensor["data_offsets"][1]
    assert (8 + length) % 8 == 0


@pytest.mark.parametrize(("size", "shards"), [(4096, 1), (1_000_000, 1), (1_000_000, 4)])
def test_the_weights_have_about_the_size_that_was_asked_for(size: int, shards: int) -> None:
    files = make_model(None, "chat", "v1", size_bytes=size, shards=shards)

    weights = [content for path, content in files.items() if path.endswith(".safetensors")]
    assert len(weights) == shards
    assert abs(sum(map(len, weights)) - size) < 1024 * shards


def test_shards_come_with_an_index_that_names_each_tensor_where_it_is(tmp_path: Path) -> None:
    files = make_model(tmp_path, "chat", "v1", shards=3)

    weight_map = json.loads(files["model.safetensors.index.json"])["weight_map"]
    assert len(weight_map) == 3
    assert set(weight_map.values()) == {f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
    load_model(tmp_path)


def test_an_embedding_model_does_not_generate(tmp_path: Path) -> None:
    make_model(tmp_path, "embed", "v1", task="embed")

    assert not load_model(tmp_path).generates


def test_invalid_faults_are_refused_when_the_folder_is_created() -> None:
    with pytest.raises(FaultsError, match="error_rat"):
        make_model(None, "chat", "v1", {"error_rat": 1})


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 256 bytes"):
        make_model(None, "chat", "v1", size_bytes=300, shards=2)
