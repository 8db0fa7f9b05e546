"""Refuses an artifact whose weights vLLM could only unpickle, which may run code of whoever logged it.

vLLM's loaders take the safetensors at the top of the folder; where there are none, `--load-format=auto` falls back to
`*.bin`, and every loader to `*.pt` (vllm/model_executor/model_loader/default_loader.py). The layers of an embedding
model are loaded from the folders in modules.json, likewise (vllm/model_executor/models/adapters.py). Pickled files
beside safetensors are common, and are not loaded. Must never do I/O.
"""

from collections.abc import Collection
from fnmatch import fnmatchcase

from modelsync.puller.errors import PickledWeightsError
from modelsync.puller.file_names import shown

PICKLED = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth")
"""State of a training, which no loader reads."""
_CONSOLIDATED = "consolidated*.safetensors"
"""With such a file anywhere, `auto` reads only those, as `mistral` does."""
_MODULES, _LAYER, _PICKLED_LAYER = "modules.json", "model.safetensors", "pytorch_model.bin"
_MAX_SHOWN = 3


def check_weights(names: Collection[str], pattern: str) -> None:
    """Raise PickledWeightsError if the files `names` include pickled weights, and no file at the top matches `pattern`
    (what the loader reads, such as `*.safetensors`). With an empty pattern everything is allowed."""
    if not pattern:
        return
    if alone := _alone(names, pattern):
        several = f", and {len(alone) - _MAX_SHOWN} more" if len(alone) > _MAX_SHOWN else ""
        raise PickledWeightsError(
            f"the artifact has pickled weights ({', '.join(map(shown, alone[:_MAX_SHOWN]))}{several}) and no {pattern} "
            "beside them; loading a pickle can run code, so only safetensors are loaded; it was not pulled; "
            "convert the weights (`model.save_pretrained(folder)` of transformers writes safetensors) and log them as "
            "a new version, or ask the administrator to allow another --load-format",
            file=alone[0],
        )


def _alone(names: Collection[str], pattern: str) -> list[str]:
    pickled = sorted(name for name in names if _is_pickled(name))
    if not pickled:
        return []
    wanted = {pattern, _CONSOLIDATED} if any(fnmatchcase(name, _CONSOLIDATED) for name in names) else {pattern}
    # A loader's pattern leaves out hidden files, as in a shell.
    top = [name for name in names if "/" not in name and not name.startswith(".")]
    if not all(any(fnmatchcase(name, each) for name in top) for each in wanted):
        return pickled
    if _MODULES not in names:
        return []
    layers = ((name, name.removesuffix(_PICKLED_LAYER)) for name in pickled if name.endswith(_PICKLED_LAYER))
    return [name for name, folder in layers if f"{folder}{_LAYER}" not in names and (not folder or folder[-1] == "/")]


def _is_pickled(name: str) -> bool:
    file = name.rpartition("/")[2].lower()
    return file.endswith(PICKLED) and not any(fnmatchcase(file, each) for each in _NO_WEIGHTS)
