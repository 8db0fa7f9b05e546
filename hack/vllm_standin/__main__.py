"""`python -m vllm_standin serve DIR …`, in place of `vllm serve DIR …`."""

import sys

from vllm_standin.cli import main

sys.exit(main())
