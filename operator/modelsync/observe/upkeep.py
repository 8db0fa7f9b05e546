"""Finds children that are not as they should be and that no plan covers. Pure; `apply` writes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelsync.api import names, quantity
from modelsync.api.kinds import (
    DEPLOYMENT,
    HTTP_ROUTE,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Kind,
    Object,
    annotations_of,
)
from modelsync.observe.gather import Gathered
from modelsync.resources.children import blocked_service, deployment, disruption_budget, plain_service, revision_service
from modelsync.rollout.model import (
    BLOCKED,
    State,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """An object that must be written; `live` is None if it does not exist."""

    kind: Kind
    wanted: Object
    live: Object | None


def upkeep(gathered: Gathered, state: State) -> list[Piece]:
    """The objects to write: manual edits to revert, the PodDisruptionBudget, the blocked Service. Empty if all are as
    wanted."""
    read, observed = gathered.read, gathered.observed
    family, owner = read.family, read.owner
    pieces: list[Piece] = []
    for revision, each in read.records.items():
        child = names.child(owner.name, revision)
        live = family.deployments.get(child)
        if live is not None and observed.revisions[revision].deployed:
            replicas = observed.revisions[revision].replicas
            pieces.append(Piece(DEPLOYMENT, deployment(each, replicas), live))
            pieces.append(Piece(SERVICE, revision_service(owner, revision), family.services.get(child)))
    if observed.service is not None:
        pieces.append(Piece(SERVICE, plain_service(owner, observed.service), family.services.get(owner.name)))
        # Created before a hold needs it: the data plane must know a Service before it gets traffic.
        blocked = family.services.get(names.child(owner.name, BLOCKED))
        pieces.append(Piece(SERVICE, blocked_service(owner), blocked))
    if state.stable is not None:
        budget = disruption_budget(owner, state.stable)
        pieces.append(Piece(POD_DISRUPTION_BUDGET, budget, family.budgets.get(owner.name)))
    return [piece for piece in pieces if not is_as_wanted(piece.kind, piece.live, piece.wanted)]


def is_as_wanted(kind: Kind, live: Object | None, wanted: Object) -> bool:
    """Whether `live` exists and does not need to be written."""
    if live is None or not covers(live, wanted):
        return False
    # What decides where requests go must be equal, without additional selector keys or rules.
    if kind == SERVICE:
        return bool((live.get("spec") or {}).get("selector") == wanted["spec"]["selector"])
    if kind == HTTP_ROUTE:
        hold = names.HOLD_ANNOTATION
        same_hold = annotations_of(live).get(hold) == annotations_of(wanted).get(hold)
        return same_hold and live.get("spec") == wanted["spec"]
    return True


def covers(live: Any, wanted: Any, within: tuple[str, ...] = ()) -> bool:
    """Whether `live` contains everything in `wanted`. It may contain more: defaults, status, fields of others.

    Lists must have the same length. Missing and empty values are equal. Only fields that are quantities in Kubernetes
    are compared as numbers; an argument `--x=1` and an environment value `1` are text. `within` is the path of fields
    to this value.
    """
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping | None) and all(
            covers((live or {}).get(key), value, (*within, key)) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        found = live or []
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(covers(one, other, within) for one, other in zip(found, wanted, strict=True))
        )
    if live == wanted or (not live and not wanted):
        return True
    return _is_quantity(within) and isinstance(live, str) and isinstance(wanted, str) and _same_quantity(live, wanted)


def _is_quantity(within: tuple[str, ...]) -> bool:
    return within[-3:-1] in (("resources", "limits"), ("resources", "requests")) or within[-2:] == (
        "emptyDir",
        "sizeLimit",
    )


def _same_quantity(one: str, other: str) -> bool:
    try:
        return quantity.canonical(one) == quantity.canonical(other)
    except ValueError:
        return False
