"""`get --watch`: on a terminal one picture that changes; through a pipe what has changed, below what was before.

It goes on by itself whatever becomes of the connection, and ends by ^C, or when what it was asked for is deleted.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from modelsync.kubectl.cluster.lookup import gone, not_there
from modelsync.kubectl.cluster.objects import Cluster, Key, Look, Object
from modelsync.kubectl.errors import UnavailableError
from modelsync.kubectl.view import text
from modelsync.kubectl.view.changes import Outage
from modelsync.kubectl.view.deployment import View, records, view
from modelsync.kubectl.view.listing import listed, trees

if TYPE_CHECKING:
    from modelsync.resources.record import Record


def watch(api: Cluster, namespace: str | None, names: tuple[str, ...], *, as_trees: bool, wide: bool) -> None:
    """Show those of `namespace` (None: of all), or those that are named in it, until somebody interrupts."""
    shown = _Shown(api, as_trees=as_trees, everywhere=namespace is None, wide=wide)
    looks = _wanted(api, namespace, names)
    console = text.terminal()
    if console is not None:
        _picture(console, looks, shown)
    else:
        _lines(looks, shown)


class _Shown:
    """How ModelDeployments are shown, as trees or in a list."""

    def __init__(self, api: Cluster, *, as_trees: bool, everywhere: bool, wide: bool) -> None:
        self._api = api
        self.as_trees = as_trees
        self._everywhere = everywhere
        self._wide = wide
        self._records: dict[Key, dict[str, Record]] = {}
        self._widths: list[int] = []

    def view(self, raw: Object) -> View:
        """Read it. Records never change, so they are read again only for a revision that is new."""
        each = view(raw)
        key = (each.namespace, each.name)
        if not self.as_trees:
            return each
        if any(revision not in self._records.get(key, {}) for revision in each.revisions):
            self._records[key] = records(self._api, *key)
        return View(each.raw, each.status, self._records.get(key, {}))

    def content(self, views: list[View], now: datetime, *, header: bool = True) -> RenderableType:
        """All of them. Columns get wider and never narrower, so that lines that follow stand below one another."""
        if self.as_trees:
            return trees(views, now)
        return listed(views, now, everywhere=self._everywhere, wide=self._wide, header=header, widths=self._widths)

    def looks(self, each: View) -> str:
        """What somebody sees of it, but for the time: what a moment changes is no change."""
        return text.plain(self.content([each], each.created))


def _picture(console: Console, looks: Iterator[Look], shown: _Shown) -> None:
    views: list[View] = []
    away: tuple[datetime, str] | None = None
    with Live(console=console, auto_refresh=False) as live:
        for look in looks:
            if isinstance(look, UnavailableError):
                away = (away[0] if away else text.now(), look.message)
            else:
                away = None
                if look is not None:
                    views = [shown.view(raw) for _, raw in sorted(look.items())]
            now = text.now()
            content = shown.content(views, now) if views else Text("No ModelDeployments yet.")
            if away is not None:
                since = f"no answer of the API server for {text.age(now - away[0])}, still asking: {away[1]}"
                content = Group(content, Text(), text.styled(since, "yellow"))
            live.update(content, refresh=True)


def _lines(looks: Iterator[Look], shown: _Shown) -> None:
    before: Mapping[Key, str] = {}
    resources: dict[Key, str] = {}
    outage, header = Outage(), True
    for look in looks:
        if outage.tell(look) or isinstance(look, UnavailableError | None):
            continue
        views = {key: shown.view(raw) for key, raw in sorted(look.items())}
        resources |= {key: each.resource for key, each in views.items()}
        for key in sorted(before.keys() - views.keys()):
            text.say(f"{resources[key]} deleted")
        after = {key: shown.looks(each) for key, each in views.items()}
        changed = [views[key] for key in after if before.get(key) != after[key]]
        before = after
        if changed:
            text.show(shown.content(changed, text.now(), header=header))
            header = False
            if shown.as_trees:
                text.say("")


def _wanted(api: Cluster, namespace: str | None, names: tuple[str, ...]) -> Iterator[Look]:
    """All, or those that are named. Raises NotThereError when a named one is not there, and when all were deleted."""
    wanted = {(namespace or "", name) for name in names}
    seen = False
    for look in api.follow(namespace, names[0] if len(names) == 1 else None):
        if isinstance(look, UnavailableError | None) or not wanted:
            yield look
            continue
        found = {key: raw for key, raw in look.items() if key in wanted}
        if not seen and (missing := sorted(wanted - found.keys())):
            raise not_there(api, *missing[0])
        yield found
        if not found:
            raise gone(" ".join(sorted(name for _, name in wanted)))
        seen = True
