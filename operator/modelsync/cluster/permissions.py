"""RBAC rules of the operator's service account, with the reason for each: the chart's roles are generated from them.

The table must contain exactly what the operator calls: the end-to-end tests run with these rights. It must never
contain `list` or `watch` on Secrets, nor a wildcard.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modelsync.api.kinds import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    EVENT,
    HTTP_ROUTE,
    LEASE,
    MODEL_DEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    Kind,
)


@dataclass(frozen=True, slots=True)
class Right:
    """Verbs on a kind or one of its subresources; `why` is for the administrator who grants it."""

    kind: Kind
    verbs: Sequence[str]
    why: str
    subresource: str = ""
    only_this_lease: bool = False
    """Limited to the Lease that the operator uses for leader election."""

    @property
    def resource(self) -> str:
        """The resource in RBAC notation, such as `modeldeployments/status`."""
        return self.kind.plural + (f"/{self.subresource}" if self.subresource else "")


_WATCHED = ("get", "list", "watch")

WORK: tuple[Right, ...] = (
    Right(
        MODEL_DEPLOYMENT,
        (*_WATCHED, "patch"),
        "read the resource; a new leader patches an annotation in its metadata, never its spec",
    ),
    Right(MODEL_DEPLOYMENT, ("update",), "write the status", subresource="status"),
    Right(
        MODEL_DEPLOYMENT,
        ("update",),
        "set blockOwnerDeletion on children, where the admission plugin OwnerReferencesPermissionEnforcement is on",
        subresource="finalizers",
    ),
    Right(
        DEPLOYMENT,
        (*_WATCHED, "create", "patch", "delete"),
        "one for each revision; server-side apply needs `patch`, and `create` when the object does not exist yet",
    ),
    Right(
        CONTROLLER_REVISION,
        (*_WATCHED, "create", "patch", "delete"),
        "the immutable record of each revision; `patch` adopts one that has lost its owner",
    ),
    Right(
        SERVICE,
        (*_WATCHED, "create", "patch", "delete"),
        "the ModelDeployment's own Service, one for each revision, and one without endpoints for blocked traffic",
    ),
    Right(POD_DISRUPTION_BUDGET, (*_WATCHED, "create", "patch"), "the disruption budget of the stable revision"),
    Right(
        HTTP_ROUTE,
        (*_WATCHED, "create", "patch", "delete"),
        "set traffic weights; all routes are read to find other routes for the same host names",
    ),
    Right(
        POD,
        ("list", "watch", "delete"),
        "read pod states; pods of a held revision are deleted with a short grace period",
    ),
    Right(ENDPOINT_SLICE, _WATCHED, "check that a Service has ready endpoints before it gets traffic"),
    Right(
        SECRET,
        ("get", "create", "delete"),
        "read the W&B API key by name, if its owner labelled the Secret; each revision has a Secret with the token of "
        "its fuse",
    ),
    Right(CONFIG_MAP, ("get",), "read a registry's CA bundle by name"),
    Right(EVENT, ("create", "patch"), "write Events; `patch` counts repetitions of an Event"),
)
"""Needed in each namespace whose ModelDeployments the operator manages."""

LEADING: tuple[Right, ...] = (
    Right(LEASE, ("create",), "create the Lease at the first start; RBAC cannot restrict `create` to a name"),
    Right(LEASE, ("get", "update"), "leader election", only_this_lease=True),
)
"""Needed in the operator's own namespace."""
