"""Which of vLLM's fast loaders its own images have. A loader that is not there is found out by a crash after the pull.

Only for vLLM's own images for NVIDIA: what others hold, whoever made them knows.
"""

from collections.abc import Iterator, Sequence

from modelsync.api.problems import FieldProblem
from modelsync.policy import images
from modelsync.policy.vllm_flags import parse_version

IMAGES = "vllm/vllm-openai"
FLAG = "--load-format"

SINCE: dict[str, tuple[int, int, int]] = {
    "fastsafetensors": (0, 20, 0),
    "instanttensor": (0, 29, 0),
}
"""Loader → first version whose image holds its package: since then the metadata of the `vllm` wheel require it, before
it was an extra. `runai_streamer` is installed by the Dockerfile of every version that modelsync takes."""


def loader_problems(args: Sequence[str], image: str) -> Iterator[FieldProblem]:
    """What is wrong between `--load-format` in `spec.serving.args` and the image of vLLM."""
    version = parse_version(images.tag(image))
    if version is None or images.repository(image) != images.repository(IMAGES):
        return
    for index, arg in enumerate(args):
        flag, _, value = arg.partition("=")
        since = SINCE.get(value)
        if flag == FLAG and since is not None and version < since:
            oldest = ".".join(map(str, since))
            yield FieldProblem(
                f"spec.serving.args[{index}]",
                f"{arg} is refused: {image} does not hold {value}; use v{oldest} or newer, {FLAG}=runai_streamer, "
                "or an image of your own that holds it",
            )
