"""Follows ModelDeployments by watch, or by polling if the user may not watch.

A watch may end or break at any time and lose events; after each end, everything is listed again.
"""

import time
from collections.abc import Iterator
from typing import Protocol

from modelsync.kubectl.cluster.objects import Key, Object, Path, Update, model_deployments
from modelsync.kubectl.errors import ForbiddenError, KindMissingError, NotFoundError, PluginError, UnavailableError

TICK_SECONDS = 1.0
"""How often a follower is called, at least, so that it can check the time."""
POLL_SECONDS = 2.0
"""Poll interval when the user may get but not watch."""
PATIENCE = 5
"""How many times in a row the first request may fail."""

_EVENTS = {"ADDED", "MODIFIED", "DELETED"}


class Source(Protocol):
    """Reads and watches objects."""

    def get(self, path: Path) -> Object:
        """One object. Raises PluginErrors."""

    def list(self, path: Path, *, labels: str = "", fields: str = "") -> Object:
        """A list. Raises PluginErrors."""

    def watch(self, path: Path, *, fields: str, version: str) -> Iterator[Object | None]:
        """Events after a version; None when there was none for a while. Raises PluginErrors."""


def follow(source: Source, namespace: str | None, name: str | None) -> Iterator[Update]:
    """Follow the ModelDeployments of `namespace` (None: of all), or the one called `name`; never ends.

    Once the API server has answered, an outage may last any time: it is yielded as an UnavailableError. Raises when
    there is no first answer, and when the API server refuses.
    """
    path, fields = model_deployments(namespace), f"metadata.name={name}" if name else ""
    failures, may_watch = 0, True
    shown: dict[Key, Object] | None = None
    while True:
        try:
            if name and not may_watch:
                now, version = _one(source, model_deployments(namespace, name)), ""
            else:
                found = source.list(path, fields=fields)
                now, version = {_key(item): item for item in found["items"]}, str(found["metadata"]["resourceVersion"])
        except ForbiddenError:
            if not name or not may_watch:
                raise
            may_watch = False  # `get` without `list`
            continue
        except KindMissingError:
            raise
        except PluginError as error:
            # kubectl has many messages for a broken connection, so after a first answer any error counts as an outage.
            failures += 1
            if shown is None and (failures >= PATIENCE or not isinstance(error, UnavailableError)):
                raise
            time.sleep(TICK_SECONDS)
            yield None if shown is None else UnavailableError(error.message)
            continue
        if now != shown:
            yield dict(now)
            shown = dict(now)
        if not may_watch:
            yield from _pause(POLL_SECONDS)
            continue
        try:
            for event in source.watch(path, fields=fields, version=version):
                if event is None:
                    yield None
                    continue
                if event.get("type") not in _EVENTS:
                    break  # the version is too old: list again
                _apply(now, event)
                yield dict(now)
                shown = dict(now)
            yield from _pause(TICK_SECONDS)
        except ForbiddenError:
            may_watch = False
        except PluginError:
            # A broken connection, whatever kubectl's message is. If it is anything worse, the next list fails, too.
            yield from _pause(TICK_SECONDS)


def _one(source: Source, path: Path) -> dict[Key, Object]:
    try:
        item = source.get(path)
    except NotFoundError:
        return {}  # as a list would be
    return {_key(item): item}


def _apply(now: dict[Key, Object], event: Object) -> None:
    item: Object = event["object"]
    if event["type"] == "DELETED":
        now.pop(_key(item), None)
    else:
        now[_key(item)] = item


def _pause(seconds: float) -> Iterator[None]:
    time.sleep(seconds)
    yield None


def _key(item: Object) -> Key:
    return item["metadata"]["namespace"], item["metadata"]["name"]
