"""Regular expressions of a spec, checked by RE2, which gateways match with.

A tenant writes them. Python's `re` takes minutes to compile some, raises other errors than its own for others, and
accepts what no gateway reads; RE2 compiles in linear time within `MAX_MEMORY`.
"""

from functools import lru_cache

import re2

MAX_MEMORY = 256 << 10
"""Bytes that RE2 may use for one compiled expression. A header value of 1,024 characters needs a few KiB."""


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    return options


_OPTIONS = _options()


@lru_cache(maxsize=4096)
def pattern_problem(pattern: str) -> str | None:
    """Say what keeps gateways from matching with `pattern`; None if nothing does. The same pattern is compiled once."""
    try:
        re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        reason = error.args[0]
        return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    return None
