"""Assembles a Family from raw objects, and lists the children of a ModelDeployment that must be read by name. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from modelsync.api import names
from modelsync.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Key,
    Kind,
    Object,
    by_name,
    is_controlled_by,
    labels_of,
    mapping,
    name_of,
    uid_of,
)
from modelsync.observe.family import Family
from modelsync.observe.shape import all_shaped

MAX_SLICES = 512
"""EndpointSlices that are read live in one pass; each holds up to 100 endpoints, and anybody can label more."""

CONTROLLED_KINDS = (CONTROLLER_REVISION, DEPLOYMENT, SERVICE, POD_DISRUPTION_BUDGET)
"""Kinds of children that count only when the ModelDeployment is their controller, whatever their labels say."""


@dataclass(frozen=True, slots=True)
class Rivals:
    """Other objects that claim host names of a ModelDeployment."""

    routes: tuple[Object, ...] = ()
    owners: tuple[Object, ...] = ()


def assemble(
    key: Key,
    owner: Object,
    children: Mapping[Kind, list[Object]],
    *,
    pods: list[Object],
    slices: list[Object],
    route: Object | None,
    gateway_api: bool,
    rivals: Rivals,
    cached: bool = False,
) -> Family:
    """Return the family of `owner`, without children and a route that it does not control. `owner` has name and uid.

    With `cached`, all objects are from the cache, which has given them their shape.
    """

    def shape(kind: Kind, objects: Iterable[Object]) -> list[Object]:
        return list(objects) if cached else all_shaped(kind, objects)

    (owner,) = shape(MODEL_DEPLOYMENT, (owner,)) or (owner,)
    uid = uid_of(owner)
    found_by_kind = {kind: shape(kind, found) for kind, found in children.items()}
    own = {kind: by_name(obj for obj in found if is_controlled_by(obj, uid)) for kind, found in found_by_kind.items()}
    foreign = {
        kind: tuple(obj for obj in found if not is_controlled_by(obj, uid)) for kind, found in found_by_kind.items()
    }
    route = next(iter(shape(HTTP_ROUTE, () if route is None else (route,))), None)
    foreign_route = route is not None and not is_controlled_by(route, uid)
    return Family(
        key=key,
        owner=owner,
        records=own[CONTROLLER_REVISION],
        deployments=own[DEPLOYMENT],
        services=own[SERVICE],
        budgets=own[POD_DISRUPTION_BUDGET],
        pods=tuple(shape(POD, pods)),
        slices=tuple(shape(ENDPOINT_SLICE, slices)),
        route=None if foreign_route else route,
        gateway_api=gateway_api,
        rival_routes=tuple(shape(HTTP_ROUTE, rivals.routes)),
        rival_owners=tuple(shape(MODEL_DEPLOYMENT, rivals.owners)),
        foreign={kind: found for kind, found in foreign.items() if found},
        foreign_route=route if foreign_route else None,
    )


def all_children(family: Family) -> Mapping[Kind, tuple[Object, ...]]:
    """The children of a cached family by their label, those that it controls and the others."""
    own = {
        CONTROLLER_REVISION: family.records,
        DEPLOYMENT: family.deployments,
        SERVICE: family.services,
        POD_DISRUPTION_BUDGET: family.budgets,
    }
    return {kind: (*found.values(), *family.foreign.get(kind, ())) for kind, found in own.items()}


def children_to_read(known: Family) -> list[tuple[Kind, str]]:
    """Return kind and name of the children that are known, and of those of the revisions that the status mentions."""
    name = known.key.name
    children = {*known.deployments, *known.services} - {name, names.child(name, names.BLOCKED)}
    children |= {names.child(name, revision) for revision in _revisions_in_status(known.owner)}
    services = {name, *children} | ({*known.services} & {names.child(name, names.BLOCKED)})
    slices = (each for each in known.slices if labels_of(each).get(names.SERVICE_NAME_LABEL) in services)
    return [
        *((DEPLOYMENT, child) for child in sorted(children)),
        *((SERVICE, child) for child in sorted(services)),
        *((ENDPOINT_SLICE, name_of(each)) for each in islice(slices, MAX_SLICES)),
    ]


def _revisions_in_status(owner: Object) -> set[str]:
    """Return the stable revision, the ones being rolled out and the one kept warm. Never raises, whatever the status
    contains."""
    status = mapping(owner.get("status"))
    moves = [status.get(part) for part in ("target", "canary", "previous")]
    found = [move.get("revision") for move in moves if isinstance(move, Mapping)]
    promoted = status.get("promoted")
    if isinstance(promoted, list):
        found += promoted[-1:]
    return {revision for revision in found if isinstance(revision, str)}
