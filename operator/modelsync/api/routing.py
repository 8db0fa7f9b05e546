"""The content of our HTTPRoute in the planner's terms: weights, and rules that take precedence over them.

The planner decides a `Routing`; the renderer writes it as an HTTPRoute and reads a live HTTPRoute back as a `Routing`,
so that the wanted and the live one can be compared. Nothing here may name a Kubernetes object.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

Weights: TypeAlias = tuple[tuple[str, int], ...]
"""Backends in order, each a revision or `blocked`, with its weight in percent. Weight 0: listed, but no traffic."""


class RuleKind(StrEnum):
    """The purpose of a rule."""

    SEGMENT = "Segment"  # a rollout step's `match`: these requests go to the canary
    TEST = "Test"  # `traffic.testHeader` names the revision
    SESSION = "Session"  # `traffic.sessionAffinity`: a client that the revision has answered before


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A request header with this exact value or, with `regex`, a value that matches this anchored expression."""

    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """Sends certain requests to one revision, whatever the weights. A segment takes requests that fit any entry of
    `match`; for the other kinds, the kind determines the requests."""

    revision: str
    kind: RuleKind
    match: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Routing:
    """The rules in order of precedence; `weights` divides the requests that no rule takes."""

    weights: Weights
    rules: tuple[Rule, ...] = ()

    def weight(self, revision: str) -> int:
        """The weight of a revision; 0 if it is not listed."""
        return next((weight for backend, weight in self.weights if backend == revision), 0)

    def lists(self, revision: str) -> bool:
        """Whether the revision's Service is a backend, possibly with weight 0."""
        return any(backend == revision for backend, _ in self.weights)

    def rules_to(self, revision: str) -> tuple[Rule, ...]:
        """The rules that send requests to a revision."""
        return tuple(rule for rule in self.rules if rule.revision == revision)
