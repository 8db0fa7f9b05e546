"""Parses a scrape into values by name and labels."""

from prometheus_client.parser import text_string_to_metric_families

from modelsync.telemetry.metrics import Metrics

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(text: str) -> Series:
    """Return every sample of a scraped text."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(metrics: Metrics) -> Series:
    metrics.refresh()
    return series(metrics.render().decode())


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    """Return the value of one sample; None when there is none."""
    return scraped(metrics).get((name, frozenset(labels.items())))
