"""What every child of a ModelDeployment has: an owner, a name, labels. Objects are plain JSON dicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from modelsync.api import names

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object as a JSON dict."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The ModelDeployment that a child belongs to."""

    name: str
    namespace: str
    uid: str

    @classmethod
    def of(cls, model_deployment: Mapping[str, Any]) -> Self:
        """The owner for a live ModelDeployment."""
        metadata = model_deployment["metadata"]
        return cls(name=metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])

    @property
    def reference(self) -> Object:
        """The controller owner reference; Kubernetes deletes the children together with the ModelDeployment."""
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


def metadata(owner: Owner, name: str, revision: str | None = None) -> Object:
    """`metadata` of the child `name`. With `revision`, the child belongs to that revision."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": names.labels(owner.name, revision),
        "ownerReferences": [owner.reference],
    }
