"""A ModelDeployment with all its objects, as raw JSON.

`cluster.families` fills it from the cache or from the API server, in the same form for both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelsync.api.kinds import Key, Kind, Object, uid_of


@dataclass(frozen=True, slots=True)
class Family:
    """Children are indexed by name and controlled by `owner` (by uid); pods and EndpointSlices are found by label."""

    key: Key
    owner: Object
    records: Mapping[str, Object] = field(default_factory=dict)
    deployments: Mapping[str, Object] = field(default_factory=dict)
    services: Mapping[str, Object] = field(default_factory=dict)
    budgets: Mapping[str, Object] = field(default_factory=dict)
    pods: tuple[Object, ...] = ()
    slices: tuple[Object, ...] = ()
    route: Object | None = None
    gateway_api: bool = True
    """Whether the cluster has the HTTPRoute API."""
    rival_routes: tuple[Object, ...] = ()
    """Other HTTPRoutes with one of our host names."""
    rival_owners: tuple[Object, ...] = ()
    """Other ModelDeployments with one of our host names."""

    foreign: Mapping[Kind, tuple[Object, ...]] = field(default_factory=dict)
    """Children by their label that `owner` does not control: orphans, and what others made. Cached families only."""
    foreign_route: Object | None = None
    """The HTTPRoute with our name, if `owner` does not control it."""

    @property
    def uid(self) -> str:
        """The uid of the ModelDeployment."""
        return uid_of(self.owner)
