"""Foreign clusters: kind's is set up like the local one, any other is only checked."""

from typing import Any

import pytest
import yaml

from localcluster import kind, settings
from localcluster.errors import ClusterError
from localcluster.existing import findings
from localcluster.paths import Layout, repository
from localcluster.progress import Progress


def condition(name: str, status: str = "True") -> dict[str, Any]:
    return {"conditions": [{"type": name, "status": status}]}


def cluster(**changed: Any) -> dict[str, Any]:
    """Answers of kubectl, by the resource in the command line."""
    crd = {
        "metadata": {"name": "httproutes.gateway.networking.k8s.io"},
        "spec": {"versions": [{"name": "v1", "served": True}]},
    }
    answers: dict[str, Any] = {
        "version": {"serverVersion": {"major": "1", "minor": "34+", "gitVersion": "v1.34.1-eks-1"}},
        "nodes": {"items": [{"metadata": {"name": "a"}, "status": condition("Ready")}]},
        "customresourcedefinitions": {"items": [crd]},
        "gatewayclasses": {"items": [{"metadata": {"name": "envoy"}, "status": condition("Accepted")}]},
        "gateways": {"items": [{"metadata": {"name": "web", "namespace": "infra"}, "status": condition("Programmed")}]},
    }
    return answers | changed


def missing(**changed: Any) -> list[str]:
    answers = cluster(**changed)
    found = findings(lambda *question: answers[question[1] if question[0] == "get" else question[0]])
    return [f"{finding.what}: {finding.next_step}" for finding in found if not finding.fine]


def test_nothing_is_missing_in_a_cluster_that_has_all() -> None:
    assert missing() == []


def test_an_old_cluster_is_reported_with_the_needed_version() -> None:
    version = {"serverVersion": {"major": "1", "minor": "27", "gitVersion": "v1.27.3"}}
    assert missing(version=version) == [
        "Kubernetes v1.27.3: modelsync needs Kubernetes 1.30 or later: upgrade the cluster"
    ]


def test_missing_gateway_crds_are_reported_with_the_command_that_installs_them() -> None:
    (problem,) = missing(customresourcedefinitions={"items": []})
    assert problem.startswith("Gateway API CRDs: install them: kubectl apply --server-side -f https://")
    assert "/v1.4.0/standard-install.yaml" in problem


def test_a_gateway_that_is_not_programmed_does_not_count() -> None:
    gateway = {"metadata": {"name": "web", "namespace": "infra"}, "status": condition("Programmed", "False")}
    assert missing(gateways={"items": [gateway]})[0].startswith("no programmed Gateway: create a Gateway")


def test_programs_that_kind_needs_are_named_with_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterError, match=r"docker \(https://docs\.docker\.com.*kind \(https://kind\.sigs"):
        kind.kind_up("modelsync", Progress(quiet=True))


def test_traefik_in_kind_is_started_as_traefik_in_the_local_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "program", lambda name: name)
    documents = list(yaml.safe_load_all((repository() / "hack/kind/traefik.yaml").read_text()))
    (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    # The address for probes and the address in a Gateway's status depend on the environment.
    own = ("--entrypoints.traefik.address", "--providers.kubernetesgateway.statusaddress.ip")

    def shared(arguments: list[Any]) -> set[str]:
        return {argument for argument in arguments if not argument.startswith(own)}

    assert shared(container["args"]) == shared(settings.traefik(Layout.named("default"))[1:])
    (role,) = [document for document in documents if document["kind"] == "ClusterRole"]
    assert role["rules"] == settings.traefik_access()[0]["rules"]
