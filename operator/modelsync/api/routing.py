"""What an HTTPRoute of ours says, in the planner's words: shares, and rules that come before them.

The planner decides a `Routing`, the renderer writes it as an HTTPRoute and reads a live one back into the same words,
so that wanted and live can be compared whole. Nothing here may name a Kubernetes object.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

Weights: TypeAlias = tuple[tuple[str, int], ...]
"""Backends in order, each a revision or `blocked`, with whole per cent; zero is a backend that is only listed."""


class RuleKind(StrEnum):
    """Why a rule is there."""

    SEGMENT = "Segment"  # a rollout's `match`: these requests go to the canary
    TEST = "Test"  # `traffic.testHeader` names the revision
    SESSION = "Session"  # `traffic.sessionAffinity`: a client that it has answered before


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A request header with this value; with `regex`, one whose value the anchored expression matches."""

    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests of one kind go to one revision, whatever the shares. Of a segment, any one `match` is enough; what the
    others match follows from the kind."""

    revision: str
    kind: RuleKind
    match: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Routing:
    """Rules first, in this order; what none of them takes is shared by `weights`."""

    weights: Weights
    rules: tuple[Rule, ...] = ()

    def weight(self, revision: str) -> int:
        """The share of a revision; 0 also when it is not listed."""
        return next((weight for backend, weight in self.weights if backend == revision), 0)

    def lists(self, revision: str) -> bool:
        """The data plane knows the revision's Service, if only with weight 0."""
        return any(backend == revision for backend, _ in self.weights)

    def rules_to(self, revision: str) -> tuple[Rule, ...]:
        """The rules that lead to a revision."""
        return tuple(rule for rule in self.rules if rule.revision == revision)
