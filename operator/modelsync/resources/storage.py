"""Where a pod keeps the model's files and vLLM's compiled code: on the node, or on a claim in the namespace.

On a claim the puller creates one folder for each digest, so that pods, revisions and ModelDeployments share equal
content. vLLM may write to its compile cache on the claim, if it is enabled, and to nothing else.
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
    """The volume for the model's files."""
    storage = serving.storage
    if storage.claim_name is not None:
        return {"name": _VOLUME, "persistentVolumeClaim": {"claimName": storage.claim_name}}
    return {"name": _VOLUME, "emptyDir": {"sizeLimit": storage.size} if storage.size else {}}


def pull_arguments(inputs: RevisionInputs) -> list[str]:
    """Extra arguments of the puller, to create the cache folder: the kubelet would create it as root, not writable."""
    if not inputs.serving.storage.compile_cache:
        return []
    return [f"--make-dir={MODELS_DIR}/{_compile_cache(inputs)}"]


def serve_mounts(inputs: RevisionInputs) -> list[Object]:
    """The volume mounts of vLLM's container."""
    mounts: list[Object] = [{"name": _VOLUME, "mountPath": MODELS_DIR, "readOnly": True}]
    if inputs.serving.storage.compile_cache:
        mounts.append({"name": _VOLUME, "mountPath": COMPILE_CACHE_DIR, "subPath": _compile_cache(inputs)})
    return mounts


def cache_dir(inputs: RevisionInputs, scratch: str) -> str:
    """Cache folder of vLLM, Inductor and Triton; `scratch` is the pod's own."""
    return COMPILE_CACHE_DIR if inputs.serving.storage.compile_cache else scratch


def _compile_cache(inputs: RevisionInputs) -> str:
    """The folder for this combination of image, arguments, environment and devices.

    Inside it, vLLM's own keys distinguish models, GPUs and versions. Separate folders keep different servers from
    running code that another one wrote, and allow the folders of unused images to be removed.
    """
    serving = inputs.serving
    devices = {name: amount for name, amount in (serving.resources.limits or {}).items() if "/" in name}
    key = [inputs.image, serving.args, sorted((each.name, each.value) for each in serving.env), devices]
    return f"{_COMPILE_CACHES}/{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]}"
