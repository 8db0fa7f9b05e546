"""The definition, as committed and as printed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from modelsync.api.crd import crd
from modelsync.cli import main

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "crds" / "modelsync.dev_modeldeployments.yaml"


def version() -> dict[str, Any]:
    (only,) = crd()["spec"]["versions"]
    assert isinstance(only, dict)
    return only


def test_what_is_committed_is_what_the_types_say() -> None:
    assert yaml.safe_load(COMMITTED.read_text(encoding="utf-8")) == crd()


def test_modelsync_crds_prints_it() -> None:
    result = CliRunner().invoke(main, ["crds"])
    assert result.exit_code == 0
    assert yaml.safe_load(result.output) == crd()


def test_it_stays_far_below_what_kubectl_apply_can_carry() -> None:
    # Client-side apply keeps a copy in an annotation, and annotations are limited to 256 KiB.
    assert COMMITTED.stat().st_size < 200_000


def test_scale_and_status_are_subresources() -> None:
    assert version()["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }


def test_the_columns_are_those_of_the_design() -> None:
    columns = version()["additionalPrinterColumns"]
    narrow = [column["name"] for column in columns if not column.get("priority")]
    wide = [column["name"] for column in columns if column.get("priority")]
    assert narrow == ["Ready", "Phase", "Alias", "Version", "Target", "Weight", "Age"]
    assert wide == ["Digest", "Replicas", "Fallback", "Hold", "Status"]


def generate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "generate", "--root", root, *arguments],
        env={"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'hack'}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_check_fails_with_the_command_that_puts_it_right(tmp_path: Path) -> None:
    found = generate(tmp_path, "--check")
    assert found.returncode == 1
    assert "crds/modelsync.dev_modeldeployments.yaml" in found.stderr
    assert "run `make generate` and commit what it changes" in found.stderr
    assert not (tmp_path / "crds").exists()


@pytest.mark.slow
def test_check_is_content_after_generating(tmp_path: Path) -> None:
    assert generate(tmp_path).returncode == 0
    found = generate(tmp_path, "--check")
    assert (found.returncode, found.stderr) == (0, "")
