"""The live HTTPRoute as the planner sees it, with times that it does not contain. Pure except for `Sightings`."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from modelsync.api import names
from modelsync.api.kinds import Object, annotations_of, uid_of
from modelsync.observe.fields import parse_time
from modelsync.observe.sightings import Sightings
from modelsync.observe.spec_status import Read
from modelsync.resources.route import read_route
from modelsync.rollout.model import Hold, RouteView


def route_view(found: Read, sightings: Sightings, now: datetime) -> RouteView | None:
    """The live HTTPRoute; None if there is none."""
    route, uid = found.family.route, found.family.uid
    if route is None:
        return None
    live = read_route(route, found.owner, found.spec.traffic)
    if found.spec.traffic.gateway is None:
        # It is no longer wanted, and the planner will remove it; until then it has traffic.
        return RouteView(weights=live.routing.weights, accepted=None, drifted=True, rules=live.routing.rules)
    accepted_since = None
    seen = ("accepted", uid_of(route), str(route["metadata"].get("generation")))
    # A route that was accepted before this process started has been settling since then.
    before = None if sightings.has(uid, ("route", uid_of(route))) else _accepted_before(route)
    sightings.since(uid, ("route", uid_of(route)), now)
    if live.accepted:
        accepted_since = sightings.since(uid, seen, min(before or now, now))
    else:
        sightings.ended(uid, seen)
    refused_since = None
    if live.accepted is False:
        refused_since = sightings.since(uid, ("refused", uid_of(route)), now)
    else:
        sightings.ended(uid, ("refused", uid_of(route)))
    hold = annotations_of(route).get(names.HOLD_ANNOTATION)
    return RouteView(
        weights=live.routing.weights,
        rules=live.routing.rules,
        accepted=live.accepted,
        accepted_since=accepted_since,
        refused_since=refused_since,
        message=live.message,
        drifted=live.drifted or hold != hold_annotation(found.state.holds),
    )


def hold_annotation(holds: Sequence[Hold]) -> str | None:
    """The holds in one line, for the annotation on the route; None if there are none."""
    shown = sorted({f"{hold.mark.name} on {hold.mark.collection}:{hold.mark.version}" for hold in holds})
    return "; ".join(shown) or None


def _accepted_before(route: Object) -> datetime | None:
    """When the gateway last wrote the status, by the API server's clock, rounded up to whole seconds."""
    written = [
        at
        for entry in route["metadata"].get("managedFields") or ()
        if entry.get("subresource") == "status" and (at := parse_time(entry.get("time"))) is not None
    ]
    return max(written) + timedelta(seconds=1) if written else None
