"""The PodDisruptionBudget of what serves."""

from modelsync.api import names
from modelsync.resources.objects import Object, Owner, metadata


def disruption_budget(owner: Owner, stable: str) -> Object:
    """Lets a drained node take one pod of `stable` at a time. A broken pod never stands in a drain's way."""
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
