"""Many rollouts, aborts, holds and pod deletions under one client's steady load, and an account of every request.

`tests/bench/soak.py` runs it whole, `tests/e2e/test_soak.py` short. It acts as users do and reads what they can read.
"""

from soak.account import Account, account
from soak.story import FULL, SHORT, Plan, Record, run

__all__ = ["FULL", "SHORT", "Account", "Plan", "Record", "account", "run"]
