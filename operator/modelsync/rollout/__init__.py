"""PURE. Turns an `Observed` into a `Plan`. No I/O, no clock, no randomness; imports only `modelsync.api`."""

from modelsync.rollout.plan import plan

__all__ = ["plan"]
