"""The pod of a revision: init containers that pull and verify the artifacts, then vLLM with only verified files.

The pod satisfies Pod Security `restricted`. vLLM gets the model read-only and no token, makes no network requests of
its own (offline mode, no usage statistics) and, unless an NVIDIA driver is injected, has a read-only root file system.
Tenants' settings were validated before and must never override what is set here. `storage` decides where files are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from modelsync.api import names
from modelsync.api import pod_contract as contract
from modelsync.api.parts import MODEL, side_artifact_name
from modelsync.api.registry import Registry
from modelsync.policy import images
from modelsync.policy.vllm_flags import table_for, weights_pattern
from modelsync.resources import storage
from modelsync.resources.lora import Lora, adapter_keys, arguments, lora
from modelsync.resources.objects import Object
from modelsync.resources.revision import NO_OTHERS, Artifact, RevisionInputs

HEALTH_PATH = "/health"
SCRATCH_DIR = "/scratch"
CA_DIR = "/etc/modelsync/ca"
CA_FILE = "ca.crt"

VLLM_USER = 2000
"""The user `vllm` of vLLM's own images (vllm-project/vllm#40275). Torch fails for a user without a name."""

SHORTEST_PRE_STOP = timedelta(seconds=5)
"""kube-proxy and gateways may need this long to remove an endpoint, even if `settle` is shorter."""

GRACE_MARGIN = timedelta(seconds=15)
"""Time for vLLM to exit after its drain."""

KEEP_ALIVE = timedelta(seconds=3900)
"""Longer than any gateway keeps an idle connection (Traefik 90 s, Envoy 1 h). With vLLM's default of 5 s the server
closes connections that a gateway is about to reuse, and that request gets a 502."""

LONGEST_LOAD = timedelta(hours=3)
"""Maximum time to load a model before the container is restarted; the rollout's deadline is shorter."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The inputs of a pod template."""

    name: str
    """Name of the ModelDeployment."""
    revision: str
    inputs: RevisionInputs
    artifact: Artifact
    registry: Registry
    settle: timedelta
    puller_image: str
    fuse_sha256: str
    others: Mapping[str, Artifact] = field(default_factory=lambda: NO_OTHERS)
    """What is pulled in addition to the model, by key (`api.parts`)."""
    user: int | None = VLLM_USER
    """User ID of the pod; with None, the cluster chooses it."""
    lora_rank: int | None = None
    """`--max-lora-rank`; None without adapters."""

    @property
    def pre_stop(self) -> timedelta:
        """In whole seconds, at least `settle`: a pod must run until the data plane has removed it."""
        needed = max(self.settle, SHORTEST_PRE_STOP)
        return timedelta(seconds=-(-needed // timedelta(seconds=1)))

    @property
    def grace(self) -> timedelta:
        """Longer than pre_stop and the drain together, or requests in progress would be cut off."""
        return self.pre_stop + self.inputs.serving.shutdown_timeout + GRACE_MARGIN

    @property
    def served_names(self) -> tuple[str, str]:
        """The name with the revision, which vLLM puts into each response, then the name that clients request."""
        name = self.inputs.serving.served_model_name or self.name
        return f"{name}@{self.revision}", name

    @property
    def lora(self) -> Lora | None:
        """The LoRA adapters; None without any."""
        return lora(self.inputs.serving, self.served_names[1], self.revision)

    @property
    def model_dir(self) -> str:
        """Folder of the model's verified files."""
        return self.folder(self.artifact)

    @property
    def folders(self) -> dict[str, str]:
        """Folder of each part, by key."""
        return {key: self.folder(artifact) for key, artifact in {MODEL: self.artifact, **self.others}.items()}

    def folder(self, artifact: Artifact) -> str:
        """Folder of an artifact's verified files, named after its digest."""
        return f"{contract.MODELS_DIR}/{artifact.digest}"

    @property
    def pulls(self) -> list[Artifact]:
        """The artifacts to pull, the model first, each digest once."""
        return list({each.digest: each for each in (self.artifact, *self.others.values())}.values())


def pod_template(pod: Pod) -> Object:
    """`spec.template` of the revision's Deployment."""
    serving = pod.inputs.serving
    metadata = serving.pod_metadata
    template: Object = {
        "metadata": {
            "labels": {**(metadata.labels or {}), **names.labels(pod.name, pod.revision)},
        },
        "spec": {
            "automountServiceAccountToken": False,
            # Service links set variables for every Service in the namespace; vLLM reads all that start with VLLM_.
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _seconds(pod.grace),
            "securityContext": _pod_security(pod.user),
            "initContainers": [_pull(pod, number) for number in range(len(pod.pulls))],
            "containers": [_serve(pod)],
            "volumes": _volumes(pod),
            **serving.scheduling.wire(),
        },
    }
    if metadata.annotations:
        template["metadata"]["annotations"] = dict(metadata.annotations)
    if serving.service_account_name:
        template["spec"]["serviceAccountName"] = serving.service_account_name
    if serving.image_pull_secrets:
        template["spec"]["imagePullSecrets"] = [secret.wire() for secret in serving.image_pull_secrets]
    return template


def _pull(pod: Pod, number: int) -> Object:
    """One container for each artifact, so that each failure is reported, retried and counted separately."""
    artifact = pod.pulls[number]
    secret = pod.registry.auth.secret_key_ref
    env: list[Object] = [
        {"name": "WANDB_BASE_URL", "value": _literal(pod.registry.base_url.rstrip("/"))},
        {"name": "WANDB_API_KEY", "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}},
        {"name": "HOME", "value": "/tmp"},  # noqa: S108  an emptyDir of the pod's own
        {
            "name": contract.POD_UID_VARIABLE,
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}},
        },
    ]
    mounts: list[Object] = [
        {"name": "model", "mountPath": contract.MODELS_DIR},
        *([{"name": "middleware", "mountPath": contract.MIDDLEWARE_DIR}] if number == 0 else []),
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
    ]
    authorities = []
    if pod.registry.ca_bundle is not None:
        authorities = [f"--ca-file={CA_DIR}/{CA_FILE}"]
        mounts.append({"name": "ca", "mountPath": CA_DIR, "readOnly": True})
    return {
        "name": f"{contract.PULL_CONTAINER}-{number}" if number else contract.PULL_CONTAINER,
        "image": pod.puller_image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "pull",
            f"--artifact-id={_literal(artifact.artifact_id)}",
            f"--digest={artifact.digest}",
            f"--ref={_literal(artifact.ref)}",
            *([f"--middleware-dir={contract.MIDDLEWARE_DIR}"] if number == 0 else []),
            f"--result={contract.RESULT_FILE}",
            "--repair",
            *_weights(pod, artifact),
            *(storage.pull_arguments(pod.inputs) if number == 0 else []),
            *authorities,
            pod.folder(artifact),
        ],
        "env": env,
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            # The puller needs less than 200 MiB; page cache of written files counts too, but can be reclaimed.
            "limits": {"memory": "512Mi"},
        },
        "terminationMessagePath": contract.RESULT_FILE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": _container_security(),
        "volumeMounts": mounts,
    }


def _weights(pod: Pod, artifact: Artifact) -> list[str]:
    """Keeps out weights that vLLM would have to unpickle. Side artifacts have none: vLLM opens only what args name."""
    serving = pod.inputs.serving
    parts = {MODEL: pod.artifact, **pod.others}
    keys = {key for key, part in parts.items() if part.digest == artifact.digest and side_artifact_name(key) is None}
    pattern = weights_pattern(serving.args)
    if not pattern or not keys:
        return []
    # The loader in args loads the model; adapters are always loaded from safetensors.
    return [f"--weights={pattern if keys - {*adapter_keys(serving)} else '*.safetensors'}"]


def _serve(pod: Pod) -> Object:
    serving, how = pod.inputs.serving, pod.lora
    container: Object = {
        "name": contract.SERVE_CONTAINER,
        "image": pod.inputs.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["vllm", "serve", pod.folders[how.base if how else MODEL]],
        "args": [
            "--host=0.0.0.0",
            f"--port={names.PORT}",
            "--served-model-name",
            *(how.base_names if how else pod.served_names),
            *map(_literal, arguments(how, pod.folders, pod.lora_rank or 1) if how else ()),
            f"--middleware={contract.MIDDLEWARE}",
            f"--shutdown-timeout={_seconds(serving.shutdown_timeout)}",
            *_fingerprint(pod),
            *map(_literal, serving.args),
        ],
        "env": [
            # The tenant's variables come first: of two with the same name, the last one wins.
            *({"name": variable.name, "value": _literal(variable.value)} for variable in serving.env),
            *({"name": name, "value": _literal(value)} for name, value in _environment(pod).items()),
        ],
        "ports": [{"name": names.PORT_NAME, "containerPort": names.PORT, "protocol": "TCP"}],
        "startupProbe": {
            **_probe(HEALTH_PATH),
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": _seconds(LONGEST_LOAD),
        },
        "readinessProbe": {
            **_probe(contract.READY_PATH),
            "periodSeconds": 1,
            # A long prompt can block vLLM's event loop for seconds; removing the pod would overload the others.
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        # Starts after the startup probe has succeeded, so it cannot kill a pod that loads slowly.
        "livenessProbe": {**_probe(HEALTH_PATH), "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
        # Settles and drains. vLLM's own drain loses requests if vLLM has several server processes.
        "lifecycle": {"preStop": _probe(contract.DRAIN_PATH)},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": _container_security(writable_root=_uses_nvidia(pod)),
        "volumeMounts": [
            *storage.serve_mounts(pod.inputs),
            *_side_artifacts(pod),
            {"name": "middleware", "mountPath": contract.MIDDLEWARE_DIR, "readOnly": True},
            {"name": "state", "mountPath": contract.STATE_DIR},
            {"name": "scratch", "mountPath": SCRATCH_DIR},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }
    resources = serving.resources.wire()
    if resources:
        container["resources"] = resources
    return container


def _fingerprint(pod: Pod) -> list[str]:
    """Arguments that put the revision into `system_fingerprint`, if this vLLM has them (v0.21.0 and newer)."""
    if "--fingerprint-mode" not in table_for(images.tag(pod.inputs.image)).flags:
        return []
    return ["--fingerprint-mode=custom", f"--fingerprint-value={pod.revision}"]


def _side_artifacts(pod: Pod) -> list[Object]:
    """Mounts each side artifact under its own name, so that args need no digest. They cannot be mounted below
    MODELS_DIR, which is read-only."""
    return [
        {"name": "model", "mountPath": f"{contract.ARTIFACTS_DIR}/{name}", "subPath": artifact.digest, "readOnly": True}
        for key, artifact in pod.others.items()
        if (name := side_artifact_name(key)) is not None
    ]


def _lora_environment(pod: Pod) -> dict[str, str]:
    """What the middleware needs to know about adapters; empty without any."""
    if (how := pod.lora) is None:
        return {}
    return {
        contract.ADAPTER_NAMES_VARIABLE: ",".join(how.adapters),
        contract.BASE_NAMES_VARIABLE: ",".join(how.base_names),
        contract.EXPOSE_BASE_VARIABLE: "true" if pod.inputs.serving.expose_base else "false",
        # A request without a model name gets the adapter in modelRef, if there is one.
        **({contract.DEFAULT_NAME_VARIABLE: pod.served_names[0]} if pod.served_names[0] in how.adapters else {}),
    }


def _environment(pod: Pod) -> dict[str, str]:
    """Variables that the operator sets for vLLM. `validation` rejects these names in spec.serving.env."""
    serving = pod.inputs.serving
    cache = f"{SCRATCH_DIR}/.cache"
    compiled = storage.cache_dir(pod.inputs, cache)
    return {
        **_lora_environment(pod),
        contract.REVISION_VARIABLE: pod.revision,
        contract.VERSION_VARIABLE: f"{pod.artifact.collection}:{pod.artifact.version}",
        contract.DIGEST_VARIABLE: pod.artifact.digest,
        contract.SERVED_NAMES_VARIABLE: ",".join(pod.served_names),
        contract.MODEL_DIR_VARIABLE: pod.model_dir,
        contract.FUSE_HASH_VARIABLE: pod.fuse_sha256,
        contract.STATE_DIR_VARIABLE: contract.STATE_DIR,
        contract.SETTLE_VARIABLE: str(_seconds(pod.pre_stop)),
        contract.DRAIN_VARIABLE: str(_seconds(serving.shutdown_timeout)),
        "PYTHONPATH": contract.MIDDLEWARE_DIR,
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(_seconds(KEEP_ALIVE)),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HOME": SCRATCH_DIR,
        "USER": "vllm",
        "LOGNAME": "vllm",
        "XDG_CACHE_HOME": cache,
        "XDG_CONFIG_HOME": f"{SCRATCH_DIR}/.config",
        "HF_HOME": f"{cache}/huggingface",
        "VLLM_CACHE_ROOT": f"{compiled}/vllm",
        "VLLM_CONFIG_ROOT": f"{SCRATCH_DIR}/.config/vllm",
        "TORCHINDUCTOR_CACHE_DIR": f"{compiled}/torchinductor",
        "TRITON_CACHE_DIR": f"{compiled}/triton",
        "TMPDIR": "/tmp",  # noqa: S108
    }


def _volumes(pod: Pod) -> list[Object]:
    serving = pod.inputs.serving
    volumes: list[Object] = [
        storage.volume(serving),
        {"name": "middleware", "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": "state", "emptyDir": {"sizeLimit": "16Mi"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": serving.shared_memory}},
    ]
    if pod.registry.ca_bundle is not None:
        bundle = pod.registry.ca_bundle.config_map_key_ref
        volumes.append(
            {"name": "ca", "configMap": {"name": bundle.name, "items": [{"key": bundle.key, "path": CA_FILE}]}}
        )
    return volumes


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": names.PORT_NAME, "scheme": "HTTP"}}


def _pod_security(user: int | None) -> Object:
    """Satisfies Pod Security `restricted` in any case; without `user` the cluster chooses it (OpenShift)."""
    security: Object = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if user is not None:
        # If the volume already has the group, the kubelet does not change all files at each start.
        security |= {
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
        }
    return security


def _uses_nvidia(pod: Pod) -> bool:
    return any(name.startswith("nvidia.com/") for name in pod.inputs.serving.resources.limits or {})


def _container_security(*, writable_root: bool = False) -> Object:
    """`writable_root`: nvidia-cdi-hook writes to the container's root file system when it injects the driver. If it is
    read-only, the container is never created (kserve/kserve#5711)."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": not writable_root,
        "runAsNonRoot": True,
    }


def _literal(text: str) -> str:
    """`text`, escaped so that Kubernetes does not expand `$(NAME)` in arguments and environment variables."""
    return text.replace("$", "$$")


def _seconds(value: timedelta) -> int:
    return int(value.total_seconds())
