"""The PodDisruptionBudget of the stable revision."""

from modelsync.api import names
from modelsync.resources.objects import Object, Owner, metadata


def disruption_budget(owner: Owner, stable: str) -> Object:
    """Lets node drains evict one pod of `stable` at a time. A broken pod never blocks a drain."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": names.selector(owner.name, stable)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
