"""How much each address, and all of them together, may ask of the webhook receiver: token buckets.

Behind a proxy all callers have one address, so there is a bucket over all of them too. Two budgets are kept apart: one
of callers with the right token, one of strangers, so that a flood without the token cannot use up what W&B needs.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

MAX_ADDRESSES = 1024
"""Whose buckets are remembered; the one that has asked nothing for longest is forgotten first."""

_ROUNDING = 1e-6
"""Seconds; a caller that waits for exactly as long as it was told finds the amount there."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many at once, and how many per second after that."""

    burst: float
    per_second: float


@dataclass(slots=True)
class _Bucket:
    rate: Rate
    left: float
    at: float

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there; an amount larger than the burst is there when the bucket is full."""
        self.left = min(self.rate.burst, self.left + (now - self.at) * self.rate.per_second)
        self.at = now
        return max(0.0, min(amount, self.rate.burst) - self.left) / self.rate.per_second


@dataclass(slots=True)
class Budget:
    """`each`: of one address. `together`: of all of them."""

    each: Rate
    together: Rate
    clock: Callable[[], float] = time.monotonic
    _all: _Bucket = field(init=False)
    _of: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict, init=False)

    def __post_init__(self) -> None:
        self._all = self._full(self.together)

    def take(self, source: str | None, amount: float = 1.0) -> float:
        """Take `amount` for an address and return 0.0; or take nothing, and return the seconds until it would be there.

        Without a `source`, only the bucket over all counts.
        """
        now = self.clock()
        buckets = [self._all] if source is None else [self._all, self._bucket(_network(source))]
        if (wait := max(bucket.wait(amount, now) for bucket in buckets)) > _ROUNDING:
            return wait
        for bucket in buckets:
            bucket.left -= min(amount, bucket.rate.burst)
        return 0.0

    def _bucket(self, network: str) -> _Bucket:
        bucket = self._of.get(network)
        if bucket is None:
            bucket = self._of[network] = self._full(self.each)
            if len(self._of) > MAX_ADDRESSES:
                self._of.popitem(last=False)
        self._of.move_to_end(network)
        return bucket

    def _full(self, rate: Rate) -> _Bucket:
        return _Bucket(rate, rate.burst, self.clock())


def _network(source: str) -> str:
    """An IPv4 address; of an IPv6 address the first 64 bits, since whoever has one address has all of those."""
    try:
        address = ip_address(source.partition("%")[0])
    except ValueError:
        return ""
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped) if address.ipv4_mapped else address.packed[:8].hex()
