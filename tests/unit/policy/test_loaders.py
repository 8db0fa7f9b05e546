"""Fast loaders are allowed if the image has them."""

import pytest

from modelsync.policy.loaders import FLAG, SINCE, loader_problems
from modelsync.policy.vllm_flags import check_args


@pytest.mark.parametrize(
    ("load_format", "image"),
    [
        ("auto", "vllm/vllm-openai:v0.18.0"),
        ("runai_streamer", "vllm/vllm-openai:v0.18.0"),
        ("fastsafetensors", "vllm/vllm-openai:v0.20.0"),
        ("fastsafetensors", "docker.io/vllm/vllm-openai:v0.32.0-cu129"),
        ("instanttensor", "vllm/vllm-openai:v0.29.0"),
        ("instanttensor", "vllm/vllm-openai:latest"),
        ("instanttensor", "acme/vllm:v0.18.0"),
    ],
)
def test_a_loader_that_the_image_may_have_is_fine(load_format: str, image: str) -> None:
    assert list(loader_problems([f"{FLAG}={load_format}"], image)) == []


@pytest.mark.parametrize(("load_format", "version"), [("fastsafetensors", "v0.19.1"), ("instanttensor", "v0.28.0")])
def test_a_loader_that_the_image_lacks_is_refused_with_the_ways_out(load_format: str, version: str) -> None:
    args = ["--max-model-len=8192", f"{FLAG}={load_format}"]
    (problem,) = loader_problems(args, f"vllm/vllm-openai:{version}")
    assert problem.field == "spec.serving.args[1]"
    assert problem.message.startswith(
        f"--load-format={load_format} is not supported: vllm/vllm-openai:{version} does not"
    )
    assert "or newer, --load-format=runai_streamer, or your own image" in problem.message


def test_every_loader_of_the_table_is_one_that_the_policy_allows() -> None:
    assert [problem for name in SINCE for problem in check_args([f"{FLAG}={name}"], "0.32.0")] == []


def test_a_format_that_is_no_safetensors_is_refused_with_those_that_are() -> None:
    (problem,) = check_args([f"{FLAG}=tensorizer"], "0.32.0")
    assert "allowed values: auto, safetensors, fastsafetensors" in problem.message
