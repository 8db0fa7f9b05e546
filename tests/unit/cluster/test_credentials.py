"""What is read by name for a ModelDeployment does not show its author what else the namespace contains."""

from typing import Any

import pytest

from modelsync.api.kinds import CONFIG_MAP, SECRET, Key, Kind
from modelsync.api.registry import Registry
from modelsync.cluster.credentials import RegistryConfigError, RegistryCredentials
from modelsync.cluster.errors import NotFoundError
from modelsync.registry.errors import DeniedError
from modelsync.registry.model import Question

REGISTRY = Registry.model_validate(
    {
        "baseURL": "https://wandb.example.com",
        "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
        "caBundle": {"configMapKeyRef": {"name": "corp-ca", "key": "ca.crt"}},
    }
)
KEY = Key("prod", "chat")


class Objects:
    """Answers `get` from memory, as the API server would."""

    def __init__(self, **data: dict[str, str]) -> None:
        self.data = data

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        assert kind in (CONFIG_MAP, SECRET)
        if name not in self.data:
            raise NotFoundError(f"{kind} {namespace}/{name} not found")
        return {"metadata": {"namespace": namespace, "name": name}, "data": self.data[name]}


def credentials(**data: dict[str, str]) -> RegistryCredentials:
    cluster: Any = Objects(**data)
    return RegistryCredentials(cluster, own_namespace="modelsync-system")


async def test_a_config_map_that_is_missing_looks_like_one_without_the_key() -> None:
    messages = []
    for found in (credentials(), credentials(**{"corp-ca": {"admins-password": "x"}})):
        with pytest.raises(RegistryConfigError) as caught:
            await found.subscription(KEY, REGISTRY, Question(frozenset()))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "admins-password" not in messages[1]
    assert messages[0].startswith(
        "spec.registry.caBundle.configMapKeyRef: ConfigMap prod/corp-ca does not exist, or has no key 'ca.crt'; "
    )


async def test_a_secret_that_is_missing_looks_like_one_without_consent() -> None:
    messages = []
    for found in (credentials(), credentials(wandb={"admins-password": "x"})):
        subscription = await found.subscription(
            KEY, REGISTRY.model_copy(update={"ca_bundle": None}), Question(frozenset())
        )
        with pytest.raises(DeniedError) as caught:
            await subscription.credential()
        messages.append((str(caught.value), found.credential_problem(KEY, REGISTRY)))
    assert messages[0] == messages[1]
    assert "admins-password" not in str(messages[1])
