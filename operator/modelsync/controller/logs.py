"""Configures logging: one line per event on standard error, as text or JSON.

Tracebacks are only logged at level debug: the message contains what a user can act on. docs/reference/logs.md lists
every event.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

from modelsync.controller.log_filters import RepeatFilter, without_secrets

Format = Literal["console", "json"]


def configure(form: Format, level: str = "info") -> None:
    """Set up structlog, and route the logs of libraries through it."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_traceback if threshold > logging.DEBUG else structlog.processors.format_exc_info,
        without_secrets,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
    )
    structlog.configure(
        processors=[*shared, RepeatFilter(), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(threshold, logging.WARNING))


def _without_traceback(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event.setdefault("problem", f"{type(error).__name__}: {' '.join(str(error).split())}")
    return event
