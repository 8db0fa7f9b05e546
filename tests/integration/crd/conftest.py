"""The API server of the cluster that the tests run in, with the committed definition installed."""

from collections.abc import Iterator
from typing import Any

import pytest

from apiserver import ApiServer


@pytest.fixture(scope="session")
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture(scope="session")
def definition(api: ApiServer) -> dict[str, Any]:
    """The definition in the API server."""
    return api.install_definition()


@pytest.fixture(scope="session")
def namespace(api: ApiServer) -> Iterator[str]:
    name = api.make_namespace()
    yield name
    api.delete_namespace(name)
