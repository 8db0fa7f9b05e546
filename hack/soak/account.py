"""The result of a soak: accounts for every request, and compares the shares of all steps with their weights. Pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table

from soak.route import Wanted
from soak.story import SETTLE, Held, Record
from traffic import Answer, Outcome
from traffic.shares import FALSE_ALARM, Window, doubt

HELD_SECONDS = 2.0
"""How long after a hold was set in the registry a request may still reach the held version, and be refused or cut."""
SETTLED_SECONDS = 2 * SETTLE.total_seconds()
"""How long after its write a weight counts as in force: `settle` starts when the route is accepted, not written."""
GUARD_SECONDS = 0.3
"""Maximum time by which the gateway applies a weight before the watch reports it."""


@dataclass(frozen=True, slots=True)
class Account:
    """The result. `failures`: requests that failed without a reason; `cut`: those that a hold cut, as it must."""

    failures: Sequence[Answer]
    cut: Sequence[Answer]
    doubt: float
    numbers: dict[str, Any]

    @property
    def problems(self) -> list[str]:
        """The problems, as messages."""
        numbers, found = self.numbers, []
        if self.failures:
            found.append(f"{len(self.failures)} requests were lost")
        if self.doubt < FALSE_ALARM:
            found.append(
                f"the measured shares do not match the weights (probability of chance: at most {self.doubt:.2g})"
            )
        for what, least in numbers["planned"].items():
            if numbers["done"][what] < least:
                found.append(f"{numbers['done'][what]} {what} instead of {least}")
        if numbers["rate"] < 0.95 * numbers["planned_rate"]:
            found.append(f"only {numbers['rate']:.0f} requests a second were sent")
        return found

    def table(self) -> Group:
        """For people."""
        numbers = self.numbers
        done = Table(title=f"{numbers['seconds']:.0f} s, {numbers['rate']:.0f} requests a second")
        for column in ("", "done", "asked for"):
            done.add_column(column, justify="left" if not column else "right")
        for what, count in numbers["done"].items():
            done.add_row(what, str(count), str(numbers["planned"][what]))
        requests = Table(title="requests")
        columns = ("", "sent", "ok", "held version: refused or cut", "resent", "lost")
        for column in columns:
            requests.add_column(column, justify="left" if not column else "right")
        for name, row in numbers["requests"].items():
            requests.add_row(name, *(str(row[key]) for key in ("sent", "ok", "held", "retried", "lost")))
        shares = Table(
            title=f"shares: probability that they are chance at most {self.doubt:.2g}, alarm below {FALSE_ALARM}"
        )
        for column in ("wanted", "measured", "requests", "steps"):
            shares.add_column(column, justify="right")
        for row in numbers["shares"]:
            shares.add_row(f"{row['wanted']} %", f"{row['measured']:.2f} %", str(row["requests"]), str(row["steps"]))
        client = numbers["client"]
        client_lag = (
            f"the client itself: {client['cpu_share']:.0%} of a core, requests sent late by p50 "
            f"{client['late_p50_ms']:.1f} ms, p99 {client['late_p99_ms']:.1f} ms"
        )
        return Group(done, requests, shares, client_lag)


def account(record: Record) -> Account:
    """Account for every request of a soak."""
    answers = record.traffic.answers
    held = [answer for answer in answers if answer.outcome is not Outcome.OK and _by_hold(answer, record.holds)]
    excused = {id(answer) for answer in held}
    failures = [a for a in answers if a.outcome is not Outcome.OK and id(a) not in excused]
    windows = steps(record.route.wanted, answers, SETTLED_SECONDS)
    seconds = record.ended - record.started
    late = sorted(answer.late for answer in answers) or [0.0]
    sending = (answers[-1].sent - answers[0].sent) if len(answers) > 1 else 0.0
    plan = record.plan
    deletions = plan.promotions + plan.aborts + plan.canary_drains
    return Account(
        failures=failures,
        cut=held,
        doubt=doubt(windows),
        numbers={
            "seconds": seconds,
            "rate": len(answers) / sending if sending else 0.0,
            "planned_rate": plan.rate,
            "planned": {
                "weight changes": plan.weight_changes,
                "promotions": plan.promotions,
                "aborts": plan.aborts,
                "hold fallbacks": plan.holds,
                "pods deleted gracefully": deletions,
            },
            "done": {
                "weight changes": record.route.changes,
                "promotions": record.promotions,
                "aborts": record.aborts,
                "hold fallbacks": len(record.holds),
                "pods deleted gracefully": record.deletions,
            },
            "requests": _requests(answers, excused),
            "shares": _shares(windows),
            "doubt": doubt(windows),
            "client": {
                "cpu_share": record.cpu_seconds / seconds if seconds else 0.0,
                "late_p50_ms": late[len(late) // 2] * 1000,
                "late_p99_ms": late[len(late) * 99 // 100] * 1000,
            },
        },
    )


def steps(wanted: Sequence[Wanted], answers: Sequence[Answer], settled: float) -> list[Window]:
    """For each backend of each step, its share of the requests that were sent while the step was settled.

    Requests between the write of a weight and its settling may have been routed by either weight, so they belong to no
    step. (This applies to shares only: every request is checked for loss.) Of two backends only one is a window, since
    the other's count follows from it; a backend with all the weight is a window, too.
    """
    windows = []
    for at, now in enumerate(wanted):
        until = wanted[at + 1].since - GUARD_SECONDS if at + 1 < len(wanted) else float("inf")
        sent = [a for a in answers if now.since + settled <= a.sent < until and a.revision is not None]
        total = sum(now.weights.values())
        ordered = sorted(now.weights.items(), key=lambda part: part[1])
        for revision, weight in ordered[: max(1, len(ordered) - 1)]:
            windows.append(Window(weight / total, len(sent), sum(a.revision == revision for a in sent)))
    return [window for window in windows if window.asked]


def _by_hold(answer: Answer, holds: Sequence[Held]) -> bool:
    """Whether it was refused or cut by the held version, and sent before the hold could be in force everywhere."""
    return any(
        answer.revision == hold.revision
        and answer.sent <= hold.at + HELD_SECONDS
        and (answer.done or float("inf")) >= hold.at
        for hold in holds
    )


def _requests(answers: Sequence[Answer], excused: set[int]) -> dict[str, dict[str, int]]:
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for answer in answers:
        kind = "streams" if answer.stream else "answers"
        for name in (f"{answer.way}, {kind}", "all"):
            row = rows[name]
            row["sent"] += 1
            row["retried"] += answer.retries
            row["ok"] += answer.outcome is Outcome.OK
            row["held"] += id(answer) in excused
            row["lost"] += answer.outcome is not Outcome.OK and id(answer) not in excused
    return {
        name: {key: rows[name][key] for key in ("sent", "ok", "held", "retried", "lost")}
        for name in (*sorted(set(rows) - {"all"}), "all")
    }


def _shares(windows: Sequence[Window]) -> list[dict[str, Any]]:
    found: dict[float, list[Window]] = defaultdict(list)
    for window in windows:
        found[window.wanted].append(window)
    return [
        {
            "wanted": round(100 * wanted),
            "measured": 100 * sum(w.got for w in group) / sum(w.asked for w in group),
            "requests": sum(w.asked for w in group),
            "steps": len(group),
        }
        for wanted, group in sorted(found.items())
    ]
