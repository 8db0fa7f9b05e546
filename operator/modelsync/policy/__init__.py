"""PURE. What a spec may ask for: vLLM's flags, environment variables, images, GPUs, validation."""
