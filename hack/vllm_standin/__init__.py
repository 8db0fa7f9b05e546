"""A stand-in for `vllm serve` that needs neither a GPU nor vLLM and does no inference.

It accepts vLLM's command line, loads (and checks) a pulled model folder, answers the OpenAI API with streaming,
publishes vLLM's metrics and drains on SIGTERM as vLLM 0.32 does. It must never misbehave on its own: every fault comes
from `standin.json` in the model's folder, so that a bad version is bad because of its content.
"""

VLLM_VERSION = "0.32.0"
"""The version of vLLM whose behaviour and flags are imitated."""
