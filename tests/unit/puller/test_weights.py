"""Weights that vLLM could only unpickle are refused; pickled files beside safetensors are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.api.pod_contract import EXIT_CONTENT
from modelsync.puller.errors import PickledWeightsError
from modelsync.puller.weights import PICKLED, check_weights

ANY = "*.safetensors"
MISTRAL = "consolidated*.safetensors"


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["config.json", "model.safetensors"], ANY),
        (["model-00001-of-00002.safetensors", "pytorch_model.bin", "training_args.bin"], ANY),
        (["model.safetensors", "original/consolidated.00.pth"], ANY),
        (["consolidated.safetensors", "x.pt"], MISTRAL),
        (["config.json", "tokenizer.json"], ANY),
        (["prompt.jinja"], ANY),
        (["model.gguf", "training_args.bin", "optimizer.pt", "rng_state_0.pth"], ANY),
        (["modules.json", "model.safetensors", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"], ANY),
        (["modules.json", "model.safetensors", "original/x.pth"], ANY),
        (["pytorch_model.bin"], ""),
        ([], ANY),
    ],
)
def test_what_vllm_loads_without_unpickling_may_be_pulled(names: list[str], pattern: str) -> None:
    check_weights(names, pattern)


@pytest.mark.parametrize(
    ("names", "pattern", "named"),
    [
        (["config.json", "pytorch_model.bin"], ANY, "pytorch_model.bin"),
        (["model.pt"], ANY, "model.pt"),
        (["model.PTH"], ANY, "model.PTH"),
        (["a.ckpt", "model.gguf"], ANY, "a.ckpt"),
        (["weights.pkl"], ANY, "weights.pkl"),
        (["pytorch_model.bin", "onnx/model.safetensors"], ANY, "pytorch_model.bin"),
        (["pytorch_model.bin", ".hidden.safetensors"], ANY, "pytorch_model.bin"),
        (["pytorch_model.bin", "MODEL.SAFETENSORS"], ANY, "pytorch_model.bin"),
        (["x.pt", "model.safetensors"], MISTRAL, "x.pt"),
        (["x.pt", "model.safetensors", "consolidated/x.safetensors"], ANY, "x.pt"),
        (["modules.json", "model.safetensors", "2_Dense/pytorch_model.bin"], ANY, "2_Dense/pytorch_model.bin"),
        (["modules.json", "other.safetensors", "pytorch_model.bin"], ANY, "pytorch_model.bin"),
    ],
)
def test_weights_that_would_be_unpickled_are_refused_by_name(names: list[str], pattern: str, named: str) -> None:
    with pytest.raises(PickledWeightsError, match="loading a pickle can run code") as caught:
        check_weights(names, pattern)
    assert caught.value.file == named
    assert named in str(caught.value)
    assert caught.value.exit_code == EXIT_CONTENT


def test_many_files_are_not_all_named() -> None:
    with pytest.raises(PickledWeightsError, match=r"00\.bin, 01\.bin, 02\.bin, and 97 more\)"):
        check_weights([f"{number:02}.bin" for number in range(100)], ANY)


FOLDERS = st.sampled_from(["", "a/", "consolidated/", "2_Dense/"])
FILES = st.sampled_from(
    ["model.safetensors", "consolidated.safetensors", "config.json", *(f"x{end}" for end in PICKLED)]
)


@given(st.sets(st.builds(str.__add__, FOLDERS, FILES), max_size=6), st.sampled_from([ANY, MISTRAL]))
def test_what_is_allowed_never_makes_a_loader_fall_back(names: set[str], pattern: str) -> None:
    """vLLM's default loader: the first pattern that matches at the top of the folder."""
    try:
        check_weights(names, pattern)
    except PickledWeightsError:
        return
    top = [name for name in names if "/" not in name]
    format_is_mistral = pattern == MISTRAL or any(
        name.startswith("consolidated") and name.endswith(".safetensors") for name in names
    )
    first = [name for name in top if name.endswith(".safetensors") and (name[:4] == "cons" or not format_is_mistral)]
    assert first or not any(name.endswith((".bin", ".pt")) for name in top)
