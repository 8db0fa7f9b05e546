"""Compares the number of GPUs that vLLM uses with these arguments with the number that its pod gets.

Without this check, a mismatch shows only minutes after scheduling, as a crash or an endless wait for nodes, and unused
GPUs stay idle without any error. Must never reject a pod without GPUs: there, vLLM divides the CPU cores.
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
"""Extended resources of which each unit is one device for vLLM; `*` matches any characters."""

_TENSOR = "--tensor-parallel-size"
_WITHIN_A_RANK = (_TENSOR, "--pipeline-parallel-size", "--prefill-context-parallel-size")
"""Their values multiply (vllm/config/parallel.py: world_size). Decode context parallelism reuses the tensor GPUs."""
_RANKS, _LOCAL_RANKS = "--data-parallel-size", "--data-parallel-size-local"
_DIGITS = 9
"""Of a parallel size; no cluster has more GPUs."""
_ONE_RANK = ("--data-parallel-rank", "--data-parallel-external-lb")
"""With these, each pod is one data-parallel rank."""


def gpu_problems(args: Sequence[str], limits: Mapping[str, str]) -> Iterator[FieldProblem]:
    """Conflicts between `spec.serving.args` and `spec.serving.resources.limits`; none if there are no GPUs."""
    given = {name: amount for name, amount in limits.items() if any(fnmatchcase(name, kind) for kind in GPUS)}
    count = sum(map(quantity.parse, given.values()))
    sizes = _sizes(args)
    if not given or sizes is None or count.denominator != 1:  # other checks report invalid sizes and fractions
        return
    needed = prod(sizes.values())
    if needed == count:
        return
    why = " × ".join(f"{flag}={size}" for flag, size in sizes.items()) or "without --tensor-parallel-size, one GPU"
    others = needed // sizes.get(_TENSOR, 1)
    instead = f", or {_TENSOR}={count // others}" if count and count % others == 0 else ""
    yield FieldProblem(
        f"spec.serving.resources.limits[{next(iter(given))}]",
        f"{count} in total, but vLLM would use {needed} ({why}); set the limit to {needed}{instead}",
    )


def _sizes(args: Sequence[str]) -> dict[str, int] | None:
    """The parallel sizes in the arguments; None if one is not a number, which `vllm_flags` reports."""
    given = {flag: value for flag, _, value in (arg.partition("=") for arg in args)}
    found = {flag: given[flag] for flag in _WITHIN_A_RANK if flag in given}
    if _LOCAL_RANKS in given:
        found[_LOCAL_RANKS] = given[_LOCAL_RANKS]
    elif _RANKS in given and not any(flag in given for flag in _ONE_RANK):
        found[_RANKS] = given[_RANKS]
    # Python prints no number of thousands of digits.
    if not all(
        len(value) <= _DIGITS and value.isascii() and value.isdigit() and int(value) for value in found.values()
    ):
        return None
    return {flag: int(value) for flag, value in found.items()}
