"""A ModelDeployment in a namespace that enforces Pod Security `restricted`, and its record."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apiserver import ApiServer
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.resources.objects import Object, Owner
from modelsync.resources.record import record
from modelsync.resources.revision import Artifact, inputs_of

SPEC: dict[str, Any] = {
    "modelRef": "acme/models/chat:production",
    "registry": {
        "baseURL": "https://wandb.example.com",
        "auth": {"secretKeyRef": {"name": "wandb", "key": "WANDB_API_KEY"}},
        "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
    },
    "serving": {
        "args": ["--max-model-len=8192"],
        "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
        "resources": {"limits": {"memory": "1Gi", "nvidia.com/gpu": 1}},
        "scheduling": {
            "nodeSelector": {"gpu": "h100"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 1,
                            "preference": {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}]},
                        }
                    ]
                },
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"team": "x"}}}
                    ]
                },
            },
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"modelsync.dev/name": "chat"}},
                }
            ],
        },
        "podMetadata": {"labels": {"team": "search"}, "annotations": {"acme.dev/note": "x"}},
        "imagePullSecrets": [{"name": "corp"}],
        "storage": {"type": "EmptyDir", "size": "10Gi"},
    },
    "traffic": {
        "gateway": {
            "parentRefs": [{"name": "models", "namespace": "gateways", "sectionName": "web"}],
            "hostnames": ["chat.example.com"],
        }
    },
}


@pytest.fixture(scope="session")
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture(scope="session")
def namespace(api: ApiServer) -> Iterator[str]:
    api.install_definition()
    name = api.make_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
    yield name
    api.delete_namespace(name)


@pytest.fixture(scope="session")
def owner(api: ApiServer, namespace: str) -> Owner:
    return Owner.of(api.create_owner(namespace, "chat", SPEC))


@pytest.fixture(scope="session")
def spec() -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate(SPEC)


@pytest.fixture(scope="session")
def make_record(owner: Owner, spec: ModelDeploymentSpec) -> Callable[[str], Object]:
    """The ControllerRevision of version `v7`."""

    def make(version: str) -> Object:
        artifact = Artifact(
            entity="acme",
            project="models",
            collection="chat",
            version=version,
            artifact_id="QXJ0aWZhY3Q6MQ==",
            digest="d41d8cd98f00b204e9800998ecf8427e",
            size=1234,
        )
        settings = OperatorSettings(puller_image="modelsync:1")
        inputs = inputs_of(owner.name, spec, artifact, settings, [])
        return record(owner, inputs, artifact, spec, settings, fuse_sha256="5f" * 32)

    return make
