"""What the operator's account may do, and why: the one table from which the chart's roles are made.

Nothing may be in it that the operator does not call, and nothing may be called that is not in it: the end-to-end tests
run with exactly these rights. It must never hold a list or watch of Secrets, nor a wildcard.
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
    """Verbs on a kind or one of its subresources; `why` is for the person who has to grant it."""

    kind: Kind
    verbs: Sequence[str]
    why: str
    subresource: str = ""
    only_this_lease: bool = False
    """Only on the one object by which the operator's processes agree who leads."""

    @property
    def resource(self) -> str:
        """As RBAC spells it, such as `modeldeployments/status`."""
        return self.kind.plural + (f"/{self.subresource}" if self.subresource else "")


_WATCHED = ("get", "list", "watch")

WORK: tuple[Right, ...] = (
    Right(
        MODEL_DEPLOYMENT,
        (*_WATCHED, "patch"),
        "the resource; `patch` is the stamp of a new leader on its metadata, never on its spec",
    ),
    Right(MODEL_DEPLOYMENT, ("update",), "what it has come to", subresource="status"),
    Right(
        MODEL_DEPLOYMENT,
        ("update",),
        "children that block their owner's deletion, where OwnerReferencesPermissionEnforcement asks for it",
        subresource="finalizers",
    ),
    Right(
        DEPLOYMENT,
        (*_WATCHED, "create", "patch", "delete"),
        "one for each revision; server-side apply is `patch`, and `create` where there is none yet",
    ),
    Right(CONTROLLER_REVISION, (*_WATCHED, "create", "delete"), "the record of each revision, written once"),
    Right(
        SERVICE, (*_WATCHED, "create", "patch", "delete"), "the plain Service, one for each revision, the blocked one"
    ),
    Right(POD_DISRUPTION_BUDGET, (*_WATCHED, "create", "patch"), "the guard of the stable revision"),
    Right(HTTP_ROUTE, (*_WATCHED, "create", "patch", "delete"), "the weights; others' routes may claim the same hosts"),
    Right(POD, ("list", "watch", "delete"), "their states; pods of a held revision are deleted with a short grace"),
    Right(ENDPOINT_SLICE, _WATCHED, "whether a Service has endpoints before it gets weight"),
    Right(SECRET, ("get", "create", "delete"), "W&B's key by name, if its owner labelled it; each revision's fuse"),
    Right(CONFIG_MAP, ("get",), "a registry's CA bundle by name"),
    Right(EVENT, ("create", "patch"), "what happened, for people; `patch` counts what comes again"),
)
"""In each namespace whose ModelDeployments are served."""

LEADING: tuple[Right, ...] = (
    Right(LEASE, ("create",), "the first process to run makes it; a name cannot be asked for at a creation"),
    Right(LEASE, ("get", "update"), "who leads", only_this_lease=True),
)
"""In the operator's own namespace."""
