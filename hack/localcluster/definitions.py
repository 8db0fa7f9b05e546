"""Waits until the API server serves custom resources that were just defined."""

import time
from collections.abc import Callable
from datetime import timedelta

from localcluster.errors import ClusterError

PATIENCE = timedelta(seconds=30)


def wait_established(kubectl: Callable[..., str], *which: object, patience: timedelta = PATIENCE) -> None:
    """Wait for definitions, given as for `kubectl wait`. Raises ClusterError.

    A definition that was applied a moment ago has no conditions at all, and `kubectl wait` fails on that instead of
    waiting: "accessor error: <nil> is of the type <nil>, expected []interface{}".
    """
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        try:
            kubectl("wait", "--for=condition=Established", f"--timeout={patience.total_seconds():.0f}s", *which)
        except ClusterError as error:
            if "accessor error" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
