"""What the Services and the PodDisruptionBudget select."""

import pytest

from modelsync.api import names
from modelsync.resources.children import (
    blocked_service,
    disruption_budget,
    plain_service,
    revision_service,
    selected_revision,
)
from modelsync.resources.objects import Object, Owner

REVISION = "v7-3fa9c1d2"


def selects(service: Object) -> dict[str, str]:
    selector: dict[str, str] = service["spec"]["selector"]
    return selector


def test_a_revision_has_a_service_of_its_own(owner: Owner) -> None:
    service = revision_service(owner, REVISION)
    assert service["metadata"]["name"] == "chat-v7-3fa9c1d2"
    assert selects(service) == {"modelsync.dev/name": "chat", "modelsync.dev/revision": REVISION}


@pytest.mark.parametrize("selected", [REVISION, names.BLOCKED])
def test_the_plain_service_selects_one_revision_or_nothing(owner: Owner, selected: str) -> None:
    service = plain_service(owner, selected)
    assert service["metadata"]["name"] == "chat"
    assert selected_revision(service) == selected


def test_no_pod_belongs_to_the_blocked_service_and_its_selector_is_not_empty(owner: Owner) -> None:
    service = blocked_service(owner)
    assert service["metadata"]["name"] == "chat-blocked"
    assert selects(service)["modelsync.dev/revision"] == "blocked"
    # Pod labels name a revision, and no revision is ever called `blocked`.
    assert names.revision_of("chat", "chat-blocked") == names.BLOCKED
    assert names.labels("chat", REVISION)["modelsync.dev/revision"] != names.BLOCKED


def test_a_service_that_someone_else_made_selects_no_revision() -> None:
    assert selected_revision({"spec": {"selector": {"app": "x"}}}) is None
    assert selected_revision({"spec": {"type": "ExternalName"}}) is None
    assert selected_revision({}) is None


def test_the_budget_guards_the_stable_and_lets_broken_pods_go(owner: Owner) -> None:
    budget = disruption_budget(owner, REVISION)
    assert budget["spec"] == {
        "maxUnavailable": 1,
        "selector": {"matchLabels": {"modelsync.dev/name": "chat", "modelsync.dev/revision": REVISION}},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
