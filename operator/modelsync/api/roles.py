"""Who may do what to a ModelDeployment: the rights that the admission policy asks RBAC for, and the roles with them.

Most are virtual: verbs that Kubernetes itself never asks for, given by RBAC like any other (`promote` on
`modeldeployments.modelsync.dev`). Here is the one table; the policy, the roles and the reference page are made of it. A
right is here only if there is something that it allows.
"""

from dataclasses import dataclass

from modelsync.api.requests import VERBS

UPDATE = "update"
"""Kubernetes' own verb: every change that no right of the table speaks of."""


@dataclass(frozen=True, slots=True)
class Right:
    """A verb. `does` completes "may not …" for a person; `annotation` is the request that it is for, if it is one."""

    verb: str
    does: str
    annotation: str | None = None
    names_a_revision: bool = True


REQUESTS = tuple(Right(verb.name, verb.does, verb.annotation, verb.names_a_revision) for verb in VERBS)
"""A right for each request that the planner answers."""

SUSPEND = Right("suspend", "stop forward moves (spec.suspend: true)")
RESUME = Right("resume", "let forward moves go on (spec.suspend: false)")
RELEASE = Right("release", "weaken spec.hold (fewer tags or aliases, or Fallback instead of Block)")

STEERING = (*REQUESTS, SUSPEND, RESUME, RELEASE)
"""Every virtual right. Each is for its own part of the object, and `update` is for the rest."""


@dataclass(frozen=True, slots=True)
class Role:
    """A ClusterRole. `verbs` on modeldeployments; `scales`: may write the scale sub-resource, which all may read.

    `within` are Kubernetes' own roles that hold what it holds, where the chart aggregates (`rbac.aggregate`).
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
        "writes ModelDeployments; steers no rollout",
        (*_READ, "create", UPDATE, "patch", "delete", "deletecollection", *_requests_of("editor")),
        scales=True,
        within=("edit", "admin"),
    ),
    Role(
        "responder",
        "on call: takes versions back and stops rollouts; brings nothing forward",
        (*_READ, "patch", *_requests_of("responder"), "suspend"),
    ),
    Role(
        "approver",
        "brings versions forward and takes them back; writes no spec",
        (*_READ, "patch", *_requests_of("approver"), "suspend", "resume"),
    ),
    Role("releaser", "weakens what spec.hold forbids; does nothing else", (*_READ, "patch", "release")),
)
"""`patch` lets a request reach the admission policy, which judges what may be in it."""


def roles_with(verb: str) -> tuple[str, ...]:
    """Names of the roles that hold `verb`, the one that holds least first."""
    return tuple(role.name for role in sorted(ROLES, key=lambda role: len(role.verbs)) if verb in role.verbs)
