"""A complete cluster with the operator's image for these tests: the one in which they were started, else a new one.

tests/e2e can do the same: `make e2e` starts pytest inside the cluster, and `Cluster.current()` is its handle.
"""

import os
from collections.abc import Iterator

import pytest

from integration.localcluster.workspace import Workspace, wait_for
from localcluster import Cluster
from localcluster.images import modelsync_image


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if os.environ.get("MODELSYNC_CLUSTER"):
        found = Cluster.current()
        found.up()  # adds a node if it has none yet
        found.load_images(modelsync_image("localcluster-tests"))
        yield found
        return
    own = Cluster("localcluster-tests")
    try:
        own.up()
        own.load_images(modelsync_image("localcluster-tests"))
        yield own
    finally:
        own.down()


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A Kubernetes namespace for one test."""
    name = f"localcluster-{os.getpid()}-{abs(hash(request.node.name)) % 10**6}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = ("get", "serviceaccount", "default", f"--namespace={name}", "--ignore-not-found", "-o", "name")
    wait_for("the namespace's service account", lambda: cluster.kubectl(*account))
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def workspace(cluster: Cluster, namespace: str) -> Workspace:
    return Workspace(cluster, namespace)
