"""A stand-in for `vllm serve` without a GPU, a model's arithmetic, or vLLM.

It takes vLLM's command line, loads (and checks) a pulled model folder, answers the OpenAI API with streaming, publishes
vLLM's metrics and drains on SIGTERM as vLLM 0.32 does. It must never misbehave by itself: every fault comes from
`standin.json` in the model's folder, so that a bad version is bad because of its content.
"""

VLLM_VERSION = "0.32.0"
"""The vLLM whose behaviour is imitated, and whose flags are taken."""
