"""Real vLLM on the CPU: its packages, an image for the local cluster, and models small enough to be served.

Used by `make e2e-vllm`. Everything else uses the stand-in (`vllm_standin`); `make test` must not need anything here.
"""

VERSION = "0.32.0"
"""The version of vLLM to install: the one that the stand-in imitates, and the first in the table of flags."""
