"""One stage for all e2e tests: the local cluster that the tests run in, the W&B stand-in, the operator."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from localcluster import current_cluster
from stage import Deployment, Stage, model_deployment
from stage.rights import uses
from stage.stage import ENTITY, REGISTRY

_numbers = count(1)
_RUN = f"{int(time.time()):x}"
"""Part of every name, so that an earlier run's namespaces, which may still be terminating, do not interfere."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """The shared stage; its servers outlive the tests and end with the cluster."""
    opened = await Stage.open(current_cluster())
    yield opened
    opened.servers.end()
    await opened.close()
    _hold_against_rights(opened, request.session.items)


def _hold_against_rights(opened: Stage, items: Iterable[pytest.Item]) -> None:
    """Fail when the operator lacked a permission or, after a full run, when it has one that it never used."""
    if not opened.cluster.audit_log.exists():  # a foreign cluster
        return
    found = uses(opened.cluster.audit_log)
    assert not found.missing, f"not in cluster/rights.py: {', '.join(sorted(map(str, found.missing)))}"
    whole = {path.name for path in Path(__file__).parent.glob("test_*.py")} == {item.path.name for item in items}
    unused = ", ".join(sorted(map(str, found.unused)))
    assert not (whole and unused), f"in cluster/rights.py, but not used in any test: {unused}"


class Scene:
    """A test's own namespace and collection, and the ModelDeployment in it."""

    def __init__(self, stage: Stage, namespace: str, *, webhook: bool) -> None:
        self.stage = stage
        self._webhook_wanted = webhook
        self.namespace = namespace
        self.collection = f"Chat Model {namespace}"  # with spaces, like W&B's own examples

    @property
    def path(self) -> str:
        """entity/project/collection in the registry."""
        return f"{ENTITY}/{REGISTRY}/{self.collection}"

    def log(self, text: str, **options: Any) -> str:
        """Log a version; returns its name in the registry, `v0` first."""
        version = self.stage.log_version(self.collection, text, **options).version
        if self._webhook_wanted:
            self._webhook_wanted = False
            self.stage.add_webhook(self.collection)
        return version

    def point(self, version: str, alias: str = "production") -> None:
        """Move an alias."""
        self.stage.registry.set_alias(f"{self.path}:{version}", alias)

    def hold(self, version: str) -> None:
        """Set the regulatory hold."""
        self.stage.registry.add_tag(f"{self.path}:{version}", "regulatory-hold")

    def lift(self, version: str) -> None:
        """Remove the hold."""
        self.stage.registry.remove_tag(f"{self.path}:{version}", "regulatory-hold")

    async def deploy(self, **options: Any) -> Deployment:
        """Apply a ModelDeployment of the collection's `production`."""
        options = {"server": self.stage.servers.registry_url, "model_ref": f"{self.path}:production", **options}
        return await self.stage.deploy(model_deployment(self.namespace, "chat", **options))

    async def serving(self, **options: Any) -> Deployment:
        """Deploy a first version, `v0`, and wait until it serves."""
        self.log("I am the first version")
        self.point("v0")
        deployment = await self.deploy(**options)
        await deployment.until_serving("v0")
        return deployment


MakeScene = Callable[..., Awaitable[Scene]]


@pytest_asyncio.fixture(loop_scope="session")
async def scene(stage: Stage) -> AsyncIterator[Scene]:
    """A new namespace; deleted afterwards so that pods do not accumulate on the one node."""
    name = f"e2e-{_RUN}-{next(_numbers)}"
    await stage.namespace(name)
    yield Scene(stage, name, webhook=True)
    stage.registry.lift_fault()
    stage.cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def fresh_namespace(stage: Stage) -> Iterator[str]:
    """The name of a namespace that the test creates itself; deleted afterwards."""
    name = f"e2e-{_RUN}-{next(_numbers)}"
    yield name
    stage.cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def make_scene(stage: Stage) -> MakeScene:
    """For tests that need another kind of namespace, without webhooks."""

    async def make(**options: Any) -> Scene:
        name = f"e2e-{_RUN}-{next(_numbers)}"
        await stage.namespace(name, **options)
        return Scene(stage, name, webhook=False)

    return make
