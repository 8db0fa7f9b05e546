"""Many rollouts, aborts, holds and pod deletions under steady load, with every request accounted for.

`tests/bench/soak.py` runs it in full, `tests/e2e/test_soak.py` a short version. It only does what users can do.
"""

from soak.account import Account, account
from soak.story import FULL, SHORT, Plan, Record, run

__all__ = ["FULL", "SHORT", "Account", "Plan", "Record", "account", "run"]
