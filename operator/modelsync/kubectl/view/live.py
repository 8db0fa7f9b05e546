"""`get --watch`: on a terminal, one picture that is redrawn; through a pipe, each change is appended.

It survives lost connections, and ends on ^C or when the named objects are deleted.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from modelsync.kubectl.cluster.lookup import deleted, not_found
from modelsync.kubectl.cluster.objects import Cluster, Key, Object, Update
from modelsync.kubectl.errors import UnavailableError
from modelsync.kubectl.view import text
from modelsync.kubectl.view.changes import Outage
from modelsync.kubectl.view.deployment import View, records, view
from modelsync.kubectl.view.listing import listed, trees

if TYPE_CHECKING:
    from modelsync.resources.record import Record


def watch(api: Cluster, namespace: str | None, names: tuple[str, ...], *, as_trees: bool, wide: bool) -> None:
    """Show the ModelDeployments of `namespace` (None: of all), or only the named ones, until interrupted."""
    renderer = _Renderer(api, as_trees=as_trees, everywhere=namespace is None, wide=wide)
    updates = _wanted(api, namespace, names)
    console = text.terminal()
    if console is not None:
        _picture(console, updates, renderer)
    else:
        _lines(updates, renderer)


class _Renderer:
    """Renders ModelDeployments as trees or in a list."""

    def __init__(self, api: Cluster, *, as_trees: bool, everywhere: bool, wide: bool) -> None:
        self._api = api
        self.as_trees = as_trees
        self._everywhere = everywhere
        self._wide = wide
        self._records: dict[Key, dict[str, Record]] = {}
        self._widths: list[int] = []

    def view(self, raw: Object) -> View:
        """Parse an object. Records never change, so they are listed again only when there is a new revision."""
        each = view(raw)
        key = (each.namespace, each.name)
        if not self.as_trees:
            return each
        if any(revision not in self._records.get(key, {}) for revision in each.revisions):
            self._records[key] = records(self._api, *key)
        return View(each.raw, each.status, self._records.get(key, {}))

    def content(self, views: list[View], now: datetime, *, header: bool = True) -> RenderableType:
        """All views. Columns never get narrower, so that later lines stay aligned with earlier ones."""
        if self.as_trees:
            return trees(views, now)
        return listed(views, now, everywhere=self._everywhere, wide=self._wide, header=header, widths=self._widths)

    def fingerprint(self, each: View) -> str:
        """The rendering at a fixed time: ages and countdowns alone do not count as a change."""
        return text.plain(self.content([each], each.created))


def _picture(console: Console, updates: Iterator[Update], renderer: _Renderer) -> None:
    views: list[View] = []
    outage: tuple[datetime, str] | None = None
    with Live(console=console, auto_refresh=False) as live:
        for update in updates:
            if isinstance(update, UnavailableError):
                outage = (outage[0] if outage else text.now(), update.message)
            else:
                outage = None
                if update is not None:
                    views = [renderer.view(raw) for _, raw in sorted(update.items())]
            now = text.now()
            content = renderer.content(views, now) if views else Text("No ModelDeployments yet.")
            if outage is not None:
                since = f"the API server has not answered for {text.age(now - outage[0])}, still trying: {outage[1]}"
                content = Group(content, Text(), text.styled(since, "yellow"))
            live.update(content, refresh=True)


def _lines(updates: Iterator[Update], renderer: _Renderer) -> None:
    before: Mapping[Key, str] = {}
    resources: dict[Key, str] = {}
    outage, header = Outage(), True
    for update in updates:
        if outage.report(update) or isinstance(update, UnavailableError | None):
            continue
        views = {key: renderer.view(raw) for key, raw in sorted(update.items())}
        resources |= {key: each.resource for key, each in views.items()}
        for key in sorted(before.keys() - views.keys()):
            text.print_line(f"{resources[key]} deleted")
        after = {key: renderer.fingerprint(each) for key, each in views.items()}
        changed = [views[key] for key in after if before.get(key) != after[key]]
        before = after
        if changed:
            text.show(renderer.content(changed, text.now(), header=header))
            header = False
            if renderer.as_trees:
                text.print_line("")


def _wanted(api: Cluster, namespace: str | None, names: tuple[str, ...]) -> Iterator[Update]:
    """Updates with all objects, or only the named ones. Raises NotFoundError when a named one does not exist, and once
    all of them were deleted."""
    wanted = {(namespace or "", name) for name in names}
    seen = False
    for update in api.follow(namespace, names[0] if len(names) == 1 else None):
        if isinstance(update, UnavailableError | None) or not wanted:
            yield update
            continue
        found = {key: raw for key, raw in update.items() if key in wanted}
        if not seen and (missing := sorted(wanted - found.keys())):
            raise not_found(api, *missing[0])
        yield found
        if not found:
            raise deleted(" ".join(sorted(name for _, name in wanted)))
        seen = True
