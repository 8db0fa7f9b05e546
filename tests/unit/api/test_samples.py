"""The samples are what a user copies first: each is taken by the API as it stands."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelsync.api import names
from modelsync.api.spec import ModelDeploymentSpec

SAMPLES = Path(__file__).parents[3] / "samples"
OBJECTS = [
    pytest.param(obj, id=f"{path.name}-{obj['kind']}")
    for path in sorted(SAMPLES.glob("*.yaml"))
    for obj in yaml.safe_load_all(path.read_text())
    if obj and "kind" in obj
]


@pytest.mark.parametrize("sample", OBJECTS)
def test_a_sample_is_a_valid_spec_or_scales_one(sample: dict[str, Any]) -> None:
    target = sample.get("spec", {}).get("scaleTargetRef")
    if sample["kind"] == names.KIND:
        ModelDeploymentSpec.model_validate(sample["spec"])
    elif target is not None:
        assert (target["apiVersion"], target["kind"]) == (names.API_VERSION, names.KIND)
        known = {path.stem: path for path in SAMPLES.glob("*.yaml")}
        deployments = [yaml.safe_load(known[name].read_text())["metadata"]["name"] for name in ("minimal", "canary")]
        assert target["name"] in deployments
