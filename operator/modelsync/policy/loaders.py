"""Which of vLLM's fast loaders its own images contain. A missing loader would crash vLLM, but only after the pull.

Checks only vLLM's own images for NVIDIA: the contents of other images are not known.
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
"""Loader → first version whose image contains its package: since then the `vllm` wheel requires it; before, it was an
extra. The Dockerfile of every version that modelsync supports installs `runai_streamer`."""


def loader_problems(args: Sequence[str], image: str) -> Iterator[FieldProblem]:
    """Conflicts between `--load-format` in `spec.serving.args` and the vLLM image."""
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
                f"{arg} is not supported: {image} does not contain {value}; use v{oldest} or newer, "
                f"{FLAG}=runai_streamer, or your own image that contains it",
            )
