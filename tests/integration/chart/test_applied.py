"""A real apiserver, with the real definitions of prometheus-operator, takes what the chart and `deploy/` make.

By kubectl and as dry runs: what is asked here is whether each object is one, and that nothing has to be warned of in a
namespace at the restricted level.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from chart.conftest import CHART, LOADER, helm
from chart.test_chart import EVERYTHING
from generate.chart import NAMESPACE
from localcluster import Cluster, current_cluster
from localcluster.definitions import wait_established
from localcluster.errors import ClusterError
from stage.manifests import namespace as namespace_object

DEFINITIONS = Path(__file__).parent / "prometheus-operator"
MONITORED = {name: {"enabled": True} for name in ("podMonitor", "prometheusRule", "dashboards")}

Take = Callable[[str], str]


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return current_cluster()


@pytest.fixture(scope="module")
def take(cluster: Cluster) -> Iterator[Take]:
    """Show manifests to the apiserver; what it refuses or warns of is raised as ClusterError."""
    name = f"test-{uuid4().hex[:8]}"
    cluster.apply(namespace_object(name))

    def dry_run(manifests: str) -> str:
        command = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--warnings-as-errors", "-f", "-")
        return cluster.kubectl(*command, input=manifests.replace(NAMESPACE, name))

    yield dry_run
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def monitoring(cluster: Cluster) -> Iterator[None]:
    """The kinds of prometheus-operator; taken away again if they were not there before."""
    names = [f"crd/{path.stem}.monitoring.coreos.com" for path in DEFINITIONS.glob("*.yaml")]
    there = cluster.kubectl("get", *names, "--ignore-not-found", "-o", "name")
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", DEFINITIONS)
    wait_established(cluster.kubectl, *names)
    yield
    if not there:
        cluster.kubectl("delete", "--wait=false", *names)


def test_the_kustomize_base_is_taken_as_it_is(cluster: Cluster, take: Take) -> None:
    told = take(cluster.kubectl("kustomize", CHART.parents[1] / "deploy"))
    assert "deployment.apps/modelsync serverside-applied (server dry run)" in told


@pytest.mark.parametrize(
    "values",
    [
        EVERYTHING | {"watchNamespaces": [NAMESPACE]},
        EVERYTHING | {"metrics": MONITORED, "affinity": {"nodeAffinity": {}}},
    ],
    ids=["all with a ServiceMonitor, for one namespace", "all with a PodMonitor"],
)
@pytest.mark.usefixtures("monitoring")
def test_everything_that_the_chart_can_make_is_taken(take: Take, values: dict[str, Any]) -> None:
    rendered = helm("template", "modelsync", CHART, "--namespace", NAMESPACE, values=values)
    told = take(rendered)
    objects = [each for each in yaml.load_all(rendered, LOADER) if each]
    assert len(told.splitlines()) == len(objects)
    assert {"ServiceMonitor", "PodMonitor"} & {each["kind"] for each in objects}


@pytest.mark.usefixtures("monitoring")
def test_a_field_that_a_monitor_does_not_have_would_be_seen(take: Take) -> None:
    rendered = helm("template", "modelsync", CHART, "--namespace", NAMESPACE, values={"metrics": MONITORED})
    with pytest.raises(ClusterError, match=r"honourLabels: field not declared in schema"):
        take(rendered.replace("honorLabels", "honourLabels"))
