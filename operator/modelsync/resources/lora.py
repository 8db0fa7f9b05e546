"""LoRA in a pod: which adapters vLLM loads under which names, and the arguments that follow from them.

The names that vLLM knows carry the revision (`legal@v7-3fa9c1d2`), since it puts the name that it was asked for into
each answer; that clients may ask for `legal` is the middleware's doing. Pure.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modelsync.api.parts import BASE, MODEL, adapter_name
from modelsync.api.serving import BASE_SUFFIX, Serving
from modelsync.policy import images
from modelsync.policy.vllm_flags import table_for
from modelsync.resources.adapter_config import AdapterRefusedError

_RANK_FLAG = "--max-lora-rank"


@dataclass(frozen=True, slots=True)
class Lora:
    """How a revision serves adapters."""

    base: str
    """The key of the part that vLLM loads as its model."""
    base_names: tuple[str, str]
    """Under which vLLM serves the base: with the revision, and without."""
    adapters: Mapping[str, str]
    """The name that vLLM serves an adapter under → the key of its part, the deployment's own first."""


def lora(serving: Serving, served: str, revision: str) -> Lora | None:
    """How `serving` serves adapters; None where there are none. `served` is the name that clients ask for."""
    if not serving.lora:
        return None
    adapters = {f"{each}@{revision}": key for key in serving.references if (each := adapter_name(key)) is not None}
    if serving.base_model_ref is None:
        return Lora(MODEL, (f"{served}@{revision}", served), adapters)
    base = served + BASE_SUFFIX
    return Lora(BASE, (f"{base}@{revision}", base), {f"{served}@{revision}": MODEL, **adapters})


def adapter_keys(serving: Serving) -> list[str]:
    """The parts that are LoRA adapters."""
    own = [MODEL] if serving.base_model_ref is not None else []
    return own + [key for key in serving.references if adapter_name(key) is not None]


def max_rank(ranks: Iterable[int], image: str) -> int:
    """The smallest rank that this vLLM can be started with and that all `ranks` fit. Raises AdapterRefusedError."""
    highest = max(ranks, default=1)
    flag = table_for(images.tag(image)).flags.get(_RANK_FLAG)
    allowed = sorted(int(choice) for choice in (flag.choices if flag is not None else ()))
    fitting = [choice for choice in allowed if choice >= highest]
    if allowed and not fitting:
        raise AdapterRefusedError(
            f"its rank is {highest}, and vLLM takes at most {allowed[-1]}; train it with a smaller rank"
        )
    return fitting[0] if fitting else highest


def arguments(how: Lora, folders: Mapping[str, str], rank: int) -> list[str]:
    """vLLM's arguments. `folders` says where each part lies. All adapters fit into one batch, so none waits for
    another's requests to end."""
    modules = [
        json.dumps({"name": name, "path": folders[key], "base_model_name": how.base_names[0]}, separators=(",", ":"))
        for name, key in how.adapters.items()
    ]
    count = len(modules)
    return [
        "--enable-lora",
        f"--max-loras={count}",
        f"--max-cpu-loras={count}",
        f"{_RANK_FLAG}={rank}",
        "--lora-modules",
        *modules,
    ]
