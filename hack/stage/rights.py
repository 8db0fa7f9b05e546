"""Compares the operator's requests, from the API server's audit log, with the table of its permissions.

Requests that the policy for its account refused are missing, too: it must never refuse what the operator needs.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from generate.operator_policy import SAYS
from modelsync.cluster.permissions import LEADING, WORK


class Use(NamedTuple):
    """One verb on one resource, as RBAC spells them."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}"


GRANTED = frozenset(Use(right.kind.group, right.resource, verb) for right in WORK + LEADING for verb in right.verbs)
NEVER_ASKED = frozenset({Use("modelsync.dev", "modeldeployments/finalizers", "update")})
"""Granted, but checked by an admission plugin instead of used in a request."""
SELDOM = frozenset(
    {
        Use("", "configmaps", "get"),  # a registry with a private authority: tests/integration/controller
        Use("", "secrets", "delete"),  # with the record of a pruned revision
        Use("apps", "controllerrevisions", "delete"),  # beyond spec.revisionHistoryLimit
        Use("apps", "controllerrevisions", "patch"),  # adoption of an orphan
        Use("apps", "controllerrevisions", "get"),  # a record that a killed leader created unnoticed
        Use("events.k8s.io", "events", "patch"),  # the same event again within minutes
        Use("gateway.networking.k8s.io", "httproutes", "delete"),  # spec.traffic.gateway removed
    }
)
"""Used only in cases that take too long with real pods; the integration and unit tests cover them."""


@dataclass(frozen=True, slots=True)
class Uses:
    """The requests of the operator's accounts, and which of them RBAC or the policy for the account refused."""

    asked: frozenset[Use]
    refused: frozenset[Use]

    @property
    def unused(self) -> frozenset[Use]:
        """Permissions that were granted but not used in a full run of the end-to-end tests."""
        return GRANTED - self.asked - NEVER_ASKED - SELDOM

    @property
    def missing(self) -> frozenset[Use]:
        """Requests without permission, or without permission for that object, even if they had no consequence."""
        return (self.asked - GRANTED) | self.refused


def uses(audit_log: Path) -> Uses:
    """Read an API server's audit log."""
    asked: set[Use] = set()
    allowed: set[tuple[str | None, ...]] = set()
    refused: set[Use] = set()
    for event in _events(audit_log.read_text(errors="replace").splitlines()):
        target = event["objectRef"]
        use = _use(target, event["verb"])
        asked.add(use)
        about = (event["user"]["username"], use.group, use.resource, target.get("namespace"), target.get("name"))
        # Not by status 403, which requests in a terminating namespace get, too.
        response = event.get("responseStatus") or {}
        if f"denied request: {SAYS}" in (response.get("message") or ""):
            refused.add(use)
        elif (event.get("annotations") or {}).get("authorization.k8s.io/decision") != "forbid":
            allowed.add(about)
        elif (
            about not in allowed
        ):  # otherwise an uninstallation removed the permissions while the operator was still running
            refused.add(use)
        if use.verb == "patch" and response.get("code") == 201:
            asked.add(use._replace(verb="create"))  # server-side apply of a new object needs both
    return Uses(frozenset(asked), frozenset(refused))


def _events(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # the last line, half written
            continue
        # Without an object: discovery or the version, which anybody may request.
        if event.get("objectRef") and _is_the_operators(event["user"]["username"]):
            yield event


def _is_the_operators(user: str) -> bool:
    """Whether it is the service account of a release of the chart, in any namespace."""
    kind, _, name = user.rpartition(":")
    return kind.startswith("system:serviceaccount:") and (name == "modelsync" or name.endswith("-modelsync"))


def _use(reference: Mapping[str, str], verb: str) -> Use:
    subresource = reference.get("subresource")
    resource = reference["resource"] + (f"/{subresource}" if subresource else "")
    return Use(reference.get("apiGroup", ""), resource, verb)
