"""Where a pod keeps the model's files, and what vLLM compiles: on the node, or on a claim of the namespace.

On a claim the puller's folders lie side by side, one for each digest, so that pods, revisions and ModelDeployments
share what is the same. vLLM may write to its compile cache there, if it is to be kept, and to nothing else.
"""

import hashlib
import json

from modelsync.api.pod_contract import MODELS_DIR
from modelsync.api.serving import Serving
from modelsync.resources.objects import Object
from modelsync.resources.revision import RevisionInputs

COMPILE_CACHE_DIR = "/compile-cache"
_COMPILE_CACHES = ".modelsync-compile-cache"
_VOLUME = "model"


def volume(serving: Serving) -> Object:
    """The volume of the model's files."""
    storage = serving.storage
    if storage.claim_name is not None:
        return {"name": _VOLUME, "persistentVolumeClaim": {"claimName": storage.claim_name}}
    return {"name": _VOLUME, "emptyDir": {"sizeLimit": storage.size} if storage.size else {}}


def pull_arguments(inputs: RevisionInputs) -> list[str]:
    """What the puller does beside pulling: kubelet would make the folder as root, and vLLM could not write to it."""
    if not inputs.serving.storage.compile_cache:
        return []
    return [f"--make-dir={MODELS_DIR}/{_compile_cache(inputs)}"]


def serve_mounts(inputs: RevisionInputs) -> list[Object]:
    """What vLLM sees of the volume."""
    mounts: list[Object] = [{"name": _VOLUME, "mountPath": MODELS_DIR, "readOnly": True}]
    if inputs.serving.storage.compile_cache:
        mounts.append({"name": _VOLUME, "mountPath": COMPILE_CACHE_DIR, "subPath": _compile_cache(inputs)})
    return mounts


def cache_dir(inputs: RevisionInputs, scratch: str) -> str:
    """Where vLLM, Inductor and Triton keep what they compile; `scratch` is the pod's own cache."""
    return COMPILE_CACHE_DIR if inputs.serving.storage.compile_cache else scratch


def _compile_cache(inputs: RevisionInputs) -> str:
    """A folder for each image, arguments, environment and devices.

    vLLM's own keys within it tell models, GPUs and versions apart; this one keeps unlike servers from running what
    another has written, and lets the folders of an image that is not used any more be removed.
    """
    serving = inputs.serving
    devices = {name: amount for name, amount in (serving.resources.limits or {}).items() if "/" in name}
    key = [inputs.image, serving.args, sorted((each.name, each.value) for each in serving.env), devices]
    return f"{_COMPILE_CACHES}/{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]}"
