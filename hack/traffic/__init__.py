"""A client that asks a model all the time and keeps an honest account of every answer, for demo and e2e tests."""

from traffic.client import Answer, Outcome, Traffic

__all__ = ["Answer", "Outcome", "Traffic"]
