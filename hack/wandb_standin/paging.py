"""Relay connections over plain lists."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from wandb_standin.errors import RefusedError

T = TypeVar("T")


@dataclass
class PageSizes:
    """How many items a page has when the client does not say, and at most."""

    default: int = 50
    most: int = 10_000


def connection(
    items: Sequence[T],
    after: str | None = None,
    first: int | None = None,
    *,
    show: Callable[[T], Any] | None = None,
    sizes: PageSizes | None = None,
) -> dict[str, Any]:
    """One page of the items as edges with cursors.

    Args:
        items: everything, in a stable order.
        after: cursor of the last item of the previous page.
        first: maximum number of items.
        show: converts an item; the identity if not given.
        sizes: the server's own limits.

    Raises:
        RefusedError: an invalid cursor, or a negative size.
    """
    start = _position(after) + 1 if after else 0
    sizes = sizes or PageSizes()
    size = min(sizes.default if first is None else first, sizes.most)
    if size < 0:
        raise RefusedError("first must not be negative")
    page = items[start : start + size]
    edges = [{"cursor": _cursor(start + i), "node": show(item) if show else item} for i, item in enumerate(page)]
    more = start + len(page) < len(items)
    return {
        "totalCount": len(items),
        "pageInfo": {"endCursor": edges[-1]["cursor"] if edges else None, "hasNextPage": more},
        "edges": edges,
    }


def _cursor(position: int) -> str:
    return base64.b64encode(f"cursor:{position}".encode()).decode()


def _position(cursor: str) -> int:
    try:
        return int(base64.b64decode(cursor).decode().removeprefix("cursor:"))
    except ValueError:
        raise RefusedError(f"invalid cursor {cursor!r}") from None
