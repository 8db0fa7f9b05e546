"""A ModelDeployment with everything that is its own, as raw objects.

`cluster.families` fills it from the cache or from the API server; both come in this shape, so that one translation
serves both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelsync.api.kinds import Key, Object, uid_of


@dataclass(frozen=True, slots=True)
class Family:
    """Children are by name, and controlled by `owner` (by uid, not by label); pods and EndpointSlices are by label."""

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
    """Whether the API server knows HTTPRoute."""
    rival_routes: tuple[Object, ...] = ()
    """HTTPRoutes of others for one of our host names."""
    rival_owners: tuple[Object, ...] = ()
    """Other ModelDeployments that claim one of our host names."""

    @property
    def uid(self) -> str:
        """The uid of the ModelDeployment."""
        return uid_of(self.owner)
