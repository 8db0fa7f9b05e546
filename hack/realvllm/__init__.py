"""Real vLLM on the CPU: its packages, an image of it for the local cluster, and models so small that it serves them.

What `make e2e-vllm` stands on. The stand-in (`vllm_standin`) takes vLLM's place everywhere else; nothing here may be
needed by `make test`.
"""

VERSION = "0.32.0"
"""The vLLM that is installed: the one that the stand-in imitates and that the table of flags begins with."""
