"""The NetworkPolicies for the pods of models: who reaches them, and what they reach.

The local cluster's network enforces no NetworkPolicies, so what they admit is worked out here as the API defines it.
"""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from chart.conftest import Objects, Render, one
from modelsync.api import names

GATEWAYS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}
PROMETHEUS = {"podSelector": {"matchLabels": {"app": "prometheus"}}}
VALUES: dict[str, Any] = {
    "enabled": True,
    "namespaces": ["prod", "dev", "prod"],
    "trafficFrom": [GATEWAYS],
    "metricsFrom": [PROMETHEUS],
}


def policies(objects: Objects) -> dict[str, dict[str, Any]]:
    """Namespace -> spec."""
    return {
        each["metadata"]["namespace"]: each["spec"]
        for each in objects
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "modelsync-models"
    }


def lets_out(spec: dict[str, Any], address: str, port: int) -> bool:
    """Whether a TCP connection to the address is admitted by a rule of the egress."""
    target = ip_address(address)
    for rule in spec["egress"]:
        if not any(each["port"] == port and each["protocol"] == "TCP" for each in rule["ports"]):
            continue
        blocks = [each["ipBlock"] for each in rule.get("to", [{"ipBlock": {"cidr": "0.0.0.0/0"}}])]
        for block in blocks:
            if target in ip_network(block["cidr"]) and not any(
                target in ip_network(hole) for hole in block.get("except", ())
            ):
                return True
    return False


def test_there_is_none_unless_it_is_asked_for(render: Render) -> None:
    assert policies(render()) == {}


def test_each_namespace_gets_one_for_the_pods_of_models(render: Render) -> None:
    found = policies(render(modelNetworkPolicy=VALUES))
    assert sorted(found) == ["dev", "prod"]
    assert found["dev"] == found["prod"]
    assert found["prod"]["podSelector"] == {"matchExpressions": [{"key": names.NAME_LABEL, "operator": "Exists"}]}
    assert names.NAME_LABEL in names.labels("chat", "v7-3fa9c1d2"), "which each of them carries"
    assert found["prod"]["policyTypes"] == ["Ingress", "Egress"]


def test_gateways_prometheus_and_the_operator_come_in_and_only_to_the_port_that_serves(render: Render) -> None:
    objects = render(modelNetworkPolicy=VALUES)
    (rule,) = policies(objects)["prod"]["ingress"]
    assert rule["ports"] == [{"port": names.PORT, "protocol": "TCP"}]
    operator, *others = rule["from"]
    assert others == [GATEWAYS, PROMETHEUS]
    pods = one(objects, "Deployment")
    home = operator["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert home == pods["metadata"]["namespace"]
    labels = pods["spec"]["template"]["metadata"]["labels"]
    assert operator["podSelector"]["matchLabels"].items() <= labels.items(), "or a hold could not silence a pod"


@pytest.mark.parametrize(
    ("address", "port", "out"),
    [
        ("34.107.200.1", 443, True),
        ("2600:1901::1", 443, True),
        ("34.107.200.1", 80, False),
        ("169.254.169.254", 443, False),
        ("169.254.169.254", 80, False),
        ("168.63.129.16", 443, False),
        ("100.100.100.200", 443, False),
        ("10.96.0.1", 443, False),
        ("172.20.0.1", 443, False),
        ("192.168.1.1", 443, False),
        ("fd00:ec2::254", 443, False),
        ("fe80::1", 443, False),
        ("10.96.0.10", 53, True),
    ],
)
def test_by_default_pods_reach_public_servers_by_https_and_dns(
    address: str, port: int, out: bool, render: Render
) -> None:
    """Neither the cluster and the network around it, nor a metadata service, whose answers are credentials."""
    assert lets_out(policies(render(modelNetworkPolicy=VALUES))["prod"], address, port) is out


def test_named_destinations_replace_the_default(render: Render) -> None:
    own = [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"port": 8443, "protocol": "TCP"}]}]
    spec = policies(render(modelNetworkPolicy=VALUES | {"egress": own}))["prod"]
    assert lets_out(spec, "10.1.2.3", 8443)
    assert not lets_out(spec, "34.107.200.1", 443)
    nothing = policies(render(modelNetworkPolicy=VALUES | {"egress": []}))["prod"]
    assert [port["port"] for rule in nothing["egress"] for port in rule["ports"]] == [53, 53]
