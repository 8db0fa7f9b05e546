"""ModelDeployments as the API server would return them, one for each row of the truth table.

`python tests/gitops/recorded.py` rewrites those that are stored in Argo CD's layout.
"""

from pathlib import Path
from typing import Any

import yaml

from modelsync.api import names
from modelsync.api.status import ModelDeploymentStatus, ResolvedStatus
from modelsync.report.report import report
from modelsync.rollout import plan
from unit.report.test_truth_table import ROWS, Row
from unit.rollout.worlds import LONG_AGO

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "gitops" / "argocd" / "resource_customizations" / "modelsync.dev" / "ModelDeployment"

KEPT = {
    "healthy": "what the alias names serves fully",
    "progressing_first_version": "the first version is pulled",
    "progressing_timed_pause": "a canary is in a timed pause",
    "progressing_going_back": "going back",
    "suspended_waits_for_promote": "a canary waits for a person",
    "suspended_by_spec": "suspended in mid-canary",
    "degraded_taken_back": "the canary was taken back and is still named",
    "degraded_held": "held, and a fallback serves",
    "degraded_blocked": "held and blocked",
    "degraded_spec": "the spec needs a person",
}
"""Name of the file in testdata -> row."""


def recorded(row: str) -> dict[str, Any]:
    """The complete object of a row of the truth table."""
    observed = ROWS[row].observed
    spec = yaml.safe_load((ROOT / "samples" / "canary.yaml").read_text())["spec"]
    spec["replicas"] = observed.policy.replicas
    if observed.policy.suspend:
        spec["suspend"] = True
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {
            "name": "chat",
            "namespace": "prod",
            "uid": "7a1f0c52-53a6-4b7e-9f5e-1d1c2f0a9e11",
            "generation": observed.generation,
            "resourceVersion": "4711",
            "creationTimestamp": LONG_AGO.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "annotations": {names.LEADER_EPOCH_ANNOTATION: "1"},
        },
        "spec": spec,
        "status": _status(ROWS[row]).wire(),
    }


def _status(row: Row) -> ModelDeploymentStatus:
    observed = row.observed
    candidate = observed.registry.candidate
    resolved = (
        None
        if candidate is None
        else ResolvedStatus(
            alias="production",
            collection="acme/wandb-registry-model/chat llm",
            version=candidate.version,
            artifact_id="QXJ0aWZhY3Q6MQ==",
            digest=candidate.digests[0],
            first_seen=LONG_AGO,
            revision=candidate.revision,
            content=candidate.content,
        )
    )
    return report(observed, plan(observed), row.before, name="chat", resolved=resolved).status


def kept() -> dict[Path, str]:
    """Path -> text of the stored objects."""
    return {
        SCRIPTS / "testdata" / f"{name}.yaml": yaml.safe_dump(recorded(row), sort_keys=False, width=120)
        for name, row in KEPT.items()
    }


def main() -> None:
    """Write them."""
    for path, text in kept().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
