"""LoRA in a pod: which adapters vLLM loads under which names, and the resulting arguments. Pure.

vLLM's model names contain the revision (`legal@v7-3fa9c1d2`), since vLLM copies the requested name into each response.
The middleware lets clients request `legal`.
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
    """The base model and the adapters of a revision, with their names."""

    base: str
    """The key of the part that vLLM loads as its model."""
    base_names: tuple[str, str]
    """The names under which vLLM serves the base: with the revision, and without."""
    adapters: Mapping[str, str]
    """Model name of an adapter in vLLM → the key of its part. An adapter in modelRef comes first."""


def lora(serving: Serving, served: str, revision: str) -> Lora | None:
    """The adapters of `serving`; None if it has none. `served` is the model name that clients request."""
    if not serving.lora:
        return None
    adapters = {f"{each}@{revision}": key for key in serving.references if (each := adapter_name(key)) is not None}
    if serving.base_model_ref is None:
        return Lora(MODEL, (f"{served}@{revision}", served), adapters)
    base = served + BASE_SUFFIX
    return Lora(BASE, (f"{base}@{revision}", base), {f"{served}@{revision}": MODEL, **adapters})


def adapter_keys(serving: Serving) -> list[str]:
    """The keys of the parts that are LoRA adapters."""
    own = [MODEL] if serving.base_model_ref is not None else []
    return own + [key for key in serving.references if adapter_name(key) is not None]


def max_rank(ranks: Iterable[int], image: str) -> int:
    """The smallest `--max-lora-rank` of this vLLM that fits all `ranks`. Raises AdapterRefusedError if none does."""
    highest = max(ranks, default=1)
    flag = table_for(images.tag(image)).flags.get(_RANK_FLAG)
    allowed = sorted(int(choice) for choice in (flag.choices if flag is not None else ()))
    fitting = [choice for choice in allowed if choice >= highest]
    if allowed and not fitting:
        raise AdapterRefusedError(
            f"its rank is {highest}, but vLLM accepts at most {allowed[-1]}; train it with a smaller rank"
        )
    return fitting[0] if fitting else highest


def arguments(how: Lora, folders: Mapping[str, str], rank: int) -> list[str]:
    """vLLM's arguments for LoRA. `folders` has the folder of each part. All adapters fit into one batch, so that no
    request waits for those of another adapter."""
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
