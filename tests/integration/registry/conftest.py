"""A W&B server for all tests here; each test has its own project."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry.credential import Credential
from wandb_standin import Admin, StandIn
from wandb_standin.admin import LoggedRequest, Version

ENTITY = "acme-ml"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def admin(standin: StandIn) -> Iterator[Admin]:
    """The server's admin API; faults are removed after each test."""
    client = standin.admin
    yield client
    client.lift_fault()
    client.rate_limit(None)
    client.configure(features={"ARTIFACT_DIGEST_ALGORITHM": True})


@pytest.fixture
def credential(standin: StandIn) -> Credential:
    return Credential(standin.api_key)


class Requests:
    """The requests since this fixture was created, without those left in flight by earlier tests."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._since = admin.last_request()
        self._began = time.time()

    def __call__(self) -> list[LoggedRequest]:
        return [entry for entry in self._admin.requests(since=self._since) if entry.at >= self._began]


@dataclass
class Project:
    """A project that no other test uses."""

    admin: Admin
    name: str
    counter: Iterator[int]

    def log(self, collection: str = "chat", **options: Any) -> Version:
        """Log a version with unique content."""
        content = f"{self.name}/{collection}/{next(self.counter)}".encode()
        return self.admin.log_artifact(ENTITY, self.name, collection, {"model.safetensors": content}, **options)

    def home(self, collection: str = "chat") -> CollectionRef:
        return CollectionRef(ENTITY, self.name, collection)

    def ref(self, alias: str, collection: str = "chat") -> ModelRef:
        return self.home(collection).at(alias)


@pytest.fixture
def project(admin: Admin) -> Project:
    return Project(admin, f"llms-{next(_numbers)}", itertools.count())


@pytest.fixture
def registry(project: Project) -> str:
    """`organization/registry` that no other test uses; a registry exists once something is linked into it."""
    return f"acme/wandb-registry-{project.name}"
