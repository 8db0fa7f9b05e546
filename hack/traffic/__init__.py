"""A client that sends steady load to a model and records every answer, for the demo, the e2e tests and the soak."""

from traffic.answer import Answer, Outcome, Way
from traffic.client import Traffic

__all__ = ["Answer", "Outcome", "Traffic", "Way"]
