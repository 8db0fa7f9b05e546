"""Who may do what to a ModelDeployment: the rights that the admission policy checks with RBAC, and the roles.

Most rights are virtual verbs: Kubernetes itself never checks them, but RBAC grants them like any other (`promote` on
`modeldeployments.modelsync.dev`). The admission policy, the roles and the reference page are generated from these
tables. A right is listed only if it allows something.
"""

from dataclasses import dataclass

from modelsync.api.requests import VERBS

UPDATE = "update"
"""Kubernetes' own verb, for every change that no other right covers."""


@dataclass(frozen=True, slots=True)
class Right:
    """A verb. `does` completes "may not …" in messages; `annotation` is the key of its request, if it is for one."""

    verb: str
    does: str
    annotation: str | None = None
    names_a_revision: bool = True


REQUESTS = tuple(Right(verb.name, verb.does, verb.annotation, verb.names_a_revision) for verb in VERBS)
"""One right for each kind of request."""

SUSPEND = Right("suspend", "suspend rollouts (spec.suspend: true)")
RESUME = Right("resume", "resume rollouts (spec.suspend: false)")
RELEASE = Right("release", "weaken spec.hold (fewer tags or aliases, Fallback instead of Block, a longer maxStaleness)")

STEERING = (*REQUESTS, SUSPEND, RESUME, RELEASE)
"""Every virtual right. Each covers its own part of the object; `update` covers the rest."""


@dataclass(frozen=True, slots=True)
class Role:
    """A ClusterRole with `verbs` on modeldeployments. `scales`: may write the scale subresource, which all may read.

    `within` are the Kubernetes roles that this role is aggregated to when the chart aggregates (`rbac.aggregate`).
    """

    name: str
    purpose: str
    verbs: tuple[str, ...]
    scales: bool = False
    within: tuple[str, ...] = ("admin",)


_READ = ("get", "list", "watch")


def _requests_of(role: str) -> tuple[str, ...]:
    return tuple(verb.name for verb in VERBS if role in verb.roles)


ROLES = (
    Role("viewer", "sees everything, changes nothing", _READ, within=("view", "edit", "admin")),
    Role(
        "editor",
        "writes ModelDeployments; controls no rollout",
        (*_READ, "create", UPDATE, "patch", "delete", "deletecollection", *_requests_of("editor")),
        scales=True,
        within=("edit", "admin"),
    ),
    Role(
        "responder",
        "on call: rolls versions back and suspends rollouts; promotes nothing",
        (*_READ, "patch", *_requests_of("responder"), "suspend"),
    ),
    Role(
        "approver",
        "promotes versions and rolls them back; writes no spec",
        (*_READ, "patch", *_requests_of("approver"), "suspend", "resume"),
    ),
    Role("releaser", "weakens spec.hold; does nothing else", (*_READ, "patch", "release")),
)
"""`patch` lets a request reach the admission policy, which checks what it changes."""


def roles_with(verb: str) -> tuple[str, ...]:
    """Names of the roles that grant `verb`, the one with the fewest verbs first."""
    return tuple(role.name for role in sorted(ROLES, key=lambda role: len(role.verbs)) if verb in role.verbs)
