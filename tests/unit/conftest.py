"""A valid spec, for tests to break one field at a time."""

from copy import deepcopy
from typing import Any

import pytest

MINIMAL: dict[str, Any] = {
    "modelRef": "acme/wandb-registry-model/chat llm:production",
    "registry": {
        "baseURL": "https://wandb.example.com",
        "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
    },
}


@pytest.fixture
def minimal() -> dict[str, Any]:
    return deepcopy(MINIMAL)
