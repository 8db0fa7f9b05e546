"""A client that asks a model all the time and keeps an honest account of every answer, for demo, e2e tests and soak."""

from traffic.answer import Answer, Outcome, Way
from traffic.client import Traffic

__all__ = ["Answer", "Outcome", "Traffic", "Way"]
