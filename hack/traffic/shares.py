"""Tests whether measured shares agree with the wanted weights, over all steps together. Pure.

Each step is a `Window`: of `asked` requests, `got` went to a backend whose wanted share is `wanted`. If each request is
routed at random with that share, `got` is binomial; gateways that take turns (Traefik's weighted round robin) vary
less, and so raise fewer alarms. The statistic is the sum of n·KL(got/n ‖ wanted), half the likelihood-ratio statistic
G, which Pearson's chi-square approximates (Wilks 1938). Its tail is not taken from the chi-square distribution, which
is wrong for small shares, but bounded by Chernoff's inequality with the exact moment generating function of each
binomial window:

    P(S ≥ s) ≤ min over λ > 0 of exp(-λ s) · Π E[exp(λ Sᵢ)]

so `doubt` is at least the true probability, and failing at `doubt < 0.001` is a false alarm in fewer than 1 of 1,000
runs. A request to a backend of weight 0 makes it 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

FALSE_ALARM = 1e-3
_STEPS = 24


@dataclass(frozen=True, slots=True)
class Window:
    """One step's requests. `wanted` is a share from 0 to 1."""

    wanted: float
    asked: int
    got: int


def doubt(windows: Sequence[Window]) -> float:
    """An upper bound on the probability that shares at least this far from the wanted ones are due to chance."""
    statistic = sum(_divergence(window.got, window.asked, window.wanted) for window in windows)
    if math.isinf(statistic):
        return 0.0
    spread = [_outcomes(window) for window in windows if 0 < window.wanted < 1 and window.asked]

    def exponent(tilt: float) -> float:
        return sum(_log_moment(outcomes, tilt) for outcomes in spread) - tilt * statistic

    # Convex in the tilt (a cumulant generating function minus a line), so thirds find its least value.
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if exponent(left) < exponent(right):
            high = right
        else:
            low = left
    return min(1.0, math.exp(min(0.0, exponent(low))))


def _divergence(got: int, asked: int, wanted: float) -> float:
    """n·KL(got/n ‖ wanted) in nats; infinite for an impossible observation."""
    total = 0.0
    for count, share in ((got, wanted), (asked - got, 1 - wanted)):
        if count:
            if share <= 0:
                return math.inf
            total += count * math.log(count / (asked * share))
    return max(0.0, total)


def _outcomes(window: Window) -> list[tuple[float, float]]:
    """(log probability, divergence) of every possible count, however rare."""
    n, p = window.asked, window.wanted
    return [
        (
            math.lgamma(n + 1)
            - math.lgamma(k + 1)
            - math.lgamma(n - k + 1)
            + k * math.log(p)
            + (n - k) * math.log1p(-p),
            _divergence(k, n, p),
        )
        for k in range(n + 1)
    ]


def _log_moment(outcomes: list[tuple[float, float]], tilt: float) -> float:
    """log E[exp(tilt · divergence)]."""
    return math.log(math.fsum(math.exp(log_p + tilt * far) for log_p, far in outcomes))
