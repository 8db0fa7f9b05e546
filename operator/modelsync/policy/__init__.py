"""PURE. What a spec may contain: vLLM flags, environment variables, images, GPUs, validation."""
