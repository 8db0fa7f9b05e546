"""The samples of autoscalers refer to a ModelDeployment of another sample."""

from pathlib import Path

import pytest
import yaml

from modelsync.api import names

SAMPLES = Path(__file__).parents[3] / "samples"
AUTOSCALERS = sorted(SAMPLES.glob("autoscaling-*.yaml"))


@pytest.mark.parametrize("path", AUTOSCALERS, ids=[path.stem for path in AUTOSCALERS])
def test_a_sample_of_an_autoscaler_scales_a_sample(path: Path) -> None:
    target = yaml.safe_load(path.read_text())["spec"]["scaleTargetRef"]
    made = yaml.safe_load((SAMPLES / "canary.yaml").read_text())
    assert target == {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": made["metadata"]["name"]}
