"""How somebody goes on looking at ModelDeployments: by watches that end and break, or by looking again and again.

What comes over a watch is never taken for the whole: after each end the whole is read anew.
"""

import time
from collections.abc import Iterator
from typing import Protocol

from modelsync.kubectl.cluster.objects import Key, Look, Object, Path, model_deployments
from modelsync.kubectl.errors import ForbiddenError, KindMissingError, NotThereError, PluginError, UnavailableError

TICK_SECONDS = 1.0
"""How often whoever follows an object gets to look at the clock."""
POLL_SECONDS = 2.0
"""How often is looked where the user may read and not watch."""
PATIENCE = 5
"""How many times in a row a first answer may fail to come."""

_EVENTS = {"ADDED", "MODIFIED", "DELETED"}


class Source(Protocol):
    """What can be asked for objects."""

    def get(self, path: Path) -> Object:
        """One object. Raises PluginErrors."""

    def list(self, path: Path, *, labels: str = "", fields: str = "") -> Object:
        """A list. Raises PluginErrors."""

    def watch(self, path: Path, *, fields: str, version: str) -> Iterator[Object | None]:
        """Events after a version; None is a look at the clock. Raises PluginErrors."""


def follow(source: Source, namespace: str | None, name: str | None) -> Iterator[Look]:
    """ModelDeployments of `namespace` (None: of all), or the one called `name`; never ends by itself.

    An API server that has answered once may be away for as long as it likes: whoever looks is told, and has a clock.
    Raised is that there is no first answer, and what the API server refuses.
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
            # kubectl has many words for a connection that breaks. Who has seen one answer may wait for the next.
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
                    break  # too old a version: begin again
                _apply(now, event)
                yield dict(now)
                shown = dict(now)
            yield from _pause(TICK_SECONDS)
        except ForbiddenError:
            may_watch = False
        except PluginError:
            # Cut off, in whatever words kubectl has for it. If it is more than that, the next look says so.
            yield from _pause(TICK_SECONDS)


def _one(source: Source, path: Path) -> dict[Key, Object]:
    try:
        item = source.get(path)
    except NotThereError:
        return {}  # as a list would have it
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
