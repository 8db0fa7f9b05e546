"""Which environment variables a tenant may set for vLLM. An allow-list: other names are rejected.

The names are from vLLM v0.32.0 (`vllm/envs.py`). Variables that tune the speed, memory and logging of one server are
allowed. Variables that load code or libraries, name paths or hosts, open administrative endpoints, log users' prompts,
or change what the rollout measures are not. An administrator may allow more (`allowedEnv`), except variables that would
let a tenant break out of the pod.
"""

from collections.abc import Collection
from difflib import get_close_matches
from fnmatch import fnmatchcase

OPERATOR_SETS = frozenset(
    {
        "PYTHONPATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HOME", "USER",
        "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT",
        "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TMPDIR", "VLLM_HTTP_TIMEOUT_KEEP_ALIVE",
    }
)  # fmt: skip
"""Set in every pod. A second value would make the API server reject the pod, or let vLLM go online."""

NEVER = (
    "MODELSYNC_*",
    "LD_*",
    "PYTHON*",
    "PATH",
    "BASH_ENV",
    "ENV",
    "GLIBC_TUNABLES",
    "VLLM_SERVER_DEV_MODE",  # opens sleep, reset and RPC endpoints to any client
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",  # lets any client load unverified weights
    "VLLM_ALLOW_INSECURE_SERIALIZATION",
    "VLLM_API_KEY",  # probes and the gateway do not send a key
    "VLLM_PLUGINS",
    "VLLM_USE_RUST_FRONTEND",
    "VLLM_RUST_FRONTEND_PATH",
)
"""Rejected even if `allowedEnv` contains them."""

_RUST = "vLLM's Rust front end does not load the middleware, so a hold could not silence the pod"
_WHY = {"VLLM_USE_RUST_FRONTEND": _RUST, "VLLM_RUST_FRONTEND_PATH": _RUST}

ALLOWED = (
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "GLOO_SOCKET_IFNAME",
    "LANG",
    "LC_ALL",
    "MALLOC_ARENA_MAX",
    "MKL_NUM_THREADS",
    "NCCL_ALGO",
    "NCCL_BUFFSIZE",
    "NCCL_CUMEM_ENABLE",
    "NCCL_DEBUG",
    "NCCL_DEBUG_SUBSYS",
    "NCCL_IB_DISABLE",
    "NCCL_IB_GID_INDEX",
    "NCCL_IB_HCA",
    "NCCL_IB_TIMEOUT",
    "NCCL_MAX_NCHANNELS",
    "NCCL_MIN_NCHANNELS",
    "NCCL_NET_GDR_LEVEL",
    "NCCL_NVLS_ENABLE",
    "NCCL_P2P_DISABLE",
    "NCCL_P2P_LEVEL",
    "NCCL_PROTO",
    "NCCL_SHM_DISABLE",
    "NCCL_SOCKET_FAMILY",
    "NCCL_SOCKET_IFNAME",
    "NO_COLOR",
    "OMP_NUM_THREADS",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OPENBLAS_NUM_THREADS",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "RAYON_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
    "TORCHDYNAMO_DISABLE",
    "TZ",
    "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    "VLLM_ALLREDUCE_USE_FLASHINFER",
    "VLLM_ALLREDUCE_USE_SYMM_MEM",
    "VLLM_AUDIO_FETCH_TIMEOUT",
    "VLLM_BATCH_INVARIANT",
    "VLLM_CHAT_TEMPLATE_RENDER_TIMEOUT",
    "VLLM_COMPUTE_NANS_IN_LOGITS",
    "VLLM_CPU_KVCACHE_SPACE",
    "VLLM_CPU_NUM_OF_RESERVED_CPU",
    "VLLM_CPU_OMP_THREADS_BIND",
    "VLLM_DEEP_GEMM_WARMUP",
    "VLLM_DISABLE_COMPILE_CACHE",
    "VLLM_DISABLE_LOG_LOGO",
    "VLLM_DISABLE_PYNCCL",
    "VLLM_ENABLE_CUDAGRAPH_GC",
    "VLLM_ENABLE_INDUCTOR_COORDINATE_DESCENT_TUNING",
    "VLLM_ENABLE_INDUCTOR_MAX_AUTOTUNE",
    "VLLM_ENABLE_V1_MULTIPROCESSING",
    "VLLM_ENFORCE_STRICT_TOOL_CALLING",
    "VLLM_ENGINE_READY_TIMEOUT_S",
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS",
    "VLLM_FLASHINFER_ALLREDUCE_BACKEND",
    "VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE",
    "VLLM_FLOAT32_MATMUL_PRECISION",
    "VLLM_IMAGE_FETCH_TIMEOUT",
    "VLLM_KV_CACHE_LAYOUT",
    "VLLM_LOGGING_COLOR",
    "VLLM_LOGGING_LEVEL",
    "VLLM_LOGGING_PREFIX",
    "VLLM_LOG_STATS_INTERVAL",
    "VLLM_MARLIN_USE_ATOMIC_ADD",
    "VLLM_MAX_*",
    "VLLM_MEDIA_LOADING_THREAD_COUNT",
    "VLLM_MLA_DISABLE",
    "VLLM_MOE_USE_DEEP_GEMM",
    "VLLM_PP_LAYER_PARTITION",
    "VLLM_RAISE_ON_LOGIT_NANS",
    "VLLM_REGEX_COMPILATION_TIMEOUT_S",
    "VLLM_RINGBUFFER_WARNING_INTERVAL",
    "VLLM_ROCM_*",
    "VLLM_SKIP_P2P_CHECK",
    "VLLM_TOOL_PARSE_REGEX_TIMEOUT_SECONDS",
    "VLLM_USE_AOT_COMPILE",
    "VLLM_USE_DEEP_GEMM",
    "VLLM_USE_DEEP_GEMM_E8M0",
    "VLLM_USE_FLASHINFER_MOE_INT4",
    "VLLM_USE_FLASHINFER_SAMPLER",
    "VLLM_USE_NCCL_SYMM_MEM",
    "VLLM_USE_STANDALONE_COMPILE",
    "VLLM_USE_TRITON_AWQ",
    "VLLM_USE_V2_MODEL_RUNNER",
    "VLLM_V1_OUTPUT_PROC_CHUNK_SIZE",
    "VLLM_VIDEO_FETCH_TIMEOUT",
    "VLLM_WORKER_MULTIPROC_METHOD",
    "VLLM_XGRAMMAR_CACHE_MB",
)
"""Allowed names; `*` matches any characters."""


def refusal(name: str, allowed_by_administrator: Collection[str], *, hint: bool = True) -> str | None:
    """Why `name` may not be set, and what to do instead; None if it may. Without `hint` no similar name is searched."""
    if name in OPERATOR_SETS:
        return f"{name!r} is set by the operator; remove it"
    if _matches(name, NEVER):
        return f"{name!r} is never allowed, because {_WHY.get(name, 'it can do more than tune the server')}; remove it"
    if _matches(name, ALLOWED) or _matches(name, allowed_by_administrator):
        return None
    near = get_close_matches(name, _NAMES, n=1, cutoff=0.85) if hint else []
    fix = f"; did you mean {near[0]}?" if near else "; remove it, or ask the administrator to add it to allowedEnv"
    return f"{name!r} is not on the list of allowed names{fix}"


_NAMES = [name for name in ALLOWED if "*" not in name]


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
