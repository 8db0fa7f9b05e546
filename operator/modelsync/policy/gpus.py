"""How many GPUs a vLLM with these arguments uses, against how many its pod gets.

vLLM finds out minutes after the pod was scheduled, with a crash or a wait for nodes that never come; GPUs that it does
not use stay idle without a word. Must never judge a pod without GPUs: there vLLM divides the CPU's cores.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from math import prod

from modelsync.api import quantity
from modelsync.api.problems import FieldProblem

GPUS = (
    "nvidia.com/gpu",
    "nvidia.com/gpu.shared",
    "nvidia.com/mig-*",
    "amd.com/gpu",
    "gpu.intel.com/i915",
    "gpu.intel.com/xe",
)
"""Extended resources of which one is one device for vLLM, `*` for any characters."""

_TENSOR = "--tensor-parallel-size"
_WITHIN_A_RANK = (_TENSOR, "--pipeline-parallel-size", "--prefill-context-parallel-size")
"""They multiply (vllm/config/parallel.py: world_size). Decode context parallelism uses the GPUs of the tensor's."""
_RANKS, _LOCAL_RANKS = "--data-parallel-size", "--data-parallel-size-local"
_ONE_RANK = ("--data-parallel-rank", "--data-parallel-external-lb")
"""With these, each pod is one rank of the many."""


def gpu_problems(args: Sequence[str], limits: Mapping[str, str]) -> Iterator[FieldProblem]:
    """What is wrong between `spec.serving.args` and `spec.serving.resources.limits`; nothing when there are no GPUs."""
    given = {name: amount for name, amount in limits.items() if any(fnmatchcase(name, kind) for kind in GPUS)}
    count = sum(map(quantity.parse, given.values()))
    sizes = _sizes(args)
    if not given or sizes is None or count.denominator != 1:  # the latter two are told where each is looked at
        return
    needed = prod(sizes.values())
    if needed == count:
        return
    why = " × ".join(f"{flag}={size}" for flag, size in sizes.items()) or "without --tensor-parallel-size, one GPU"
    others = needed // sizes.get(_TENSOR, 1)
    instead = f", or {_TENSOR}={count // others}" if count and count % others == 0 else ""
    yield FieldProblem(
        f"spec.serving.resources.limits[{next(iter(given))}]",
        f"{count} in all, and vLLM would use {needed} ({why}); set the limit to {needed}{instead}",
    )


def _sizes(args: Sequence[str]) -> dict[str, int] | None:
    """The factors that the arguments give; None if one is no number, which `vllm_flags` tells about."""
    given = {flag: value for flag, _, value in (arg.partition("=") for arg in args)}
    found = {flag: given[flag] for flag in _WITHIN_A_RANK if flag in given}
    if _LOCAL_RANKS in given:
        found[_LOCAL_RANKS] = given[_LOCAL_RANKS]
    elif _RANKS in given and not any(flag in given for flag in _ONE_RANK):
        found[_RANKS] = given[_RANKS]
    if not all(value.isascii() and value.isdigit() and int(value) for value in found.values()):
        return None
    return {flag: int(value) for flag, value in found.items()}
