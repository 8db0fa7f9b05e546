"""A real API server accepts each good sample, and rejects each bad one with the message in its first line."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from apiserver import ApiServer, RefusedError
from modelsync.api import names
from modelsync.api.problems import SpecError
from modelsync.api.settings import OperatorSettings, load
from modelsync.policy.validation import problems, read_spec

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parents[2] / "samples"
BAD = sorted((HERE / "bad").glob("*.yaml"))
GOOD = [
    path for path in sorted(SAMPLES.glob("*.yaml")) if f"\nkind: {names.KIND}\n" in path.read_text(encoding="utf-8")
]

# Not checked by the API server: the administrator's settings are not an object, and KEDA's CRD is not installed.
NOT_JUDGED = {"settings", "autoscaling-keda"}

# A name is not part of the spec, and its Secrets and Gateways are looked up later.
REFUSED_BY_THE_APISERVER_ONLY = {path.stem for path in BAD if path.stem.startswith("name-")}


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def expected(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith("# expect: "), f"{path.name} does not have the message of the API server"
    return first.removeprefix("# expect: ")


@pytest.mark.usefixtures("definition")
@pytest.mark.parametrize("path", GOOD, ids=[path.stem for path in GOOD])
def test_a_good_sample_is_taken(api: ApiServer, namespace: str, path: Path) -> None:
    api.create(namespace, read(path), dry_run=True)


@pytest.mark.usefixtures("definition")
def test_kubectl_applies_every_file_of_the_samples_and_the_apiserver_knows_every_field(namespace: str) -> None:
    files = [path for path in sorted(SAMPLES.iterdir()) if path.stem not in NOT_JUDGED]
    command = ["kubectl", "apply", "--dry-run=server", "--validate=strict", "-n", namespace]
    result = subprocess.run(
        [*command, *(f"--filename={path}" for path in files)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(files)


@pytest.mark.parametrize("path", GOOD, ids=[path.stem for path in GOOD])
def test_a_good_sample_has_no_problem_under_the_sample_settings(path: Path) -> None:
    settings = load(SAMPLES / "settings.yaml")
    settings = settings.model_copy(
        update={"allowed_registries": settings.allowed_registries + OperatorSettings().allowed_registries}
    )
    assert problems(read_spec(read(path)), settings) == []


@pytest.mark.usefixtures("definition")
@pytest.mark.parametrize("path", BAD, ids=[path.stem for path in BAD])
def test_a_bad_sample_is_refused_with_its_sentence(api: ApiServer, namespace: str, path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        api.create(namespace, read(path), dry_run=True)
    assert without_value(expected(path)) in without_value(refused.value.message)


@pytest.mark.parametrize("path", BAD, ids=[path.stem for path in BAD])
def test_the_operator_refuses_what_the_apiserver_refuses(path: Path) -> None:
    """An invalid object that was stored under an older definition must be rejected too."""
    if path.stem in REFUSED_BY_THE_APISERVER_ONLY:
        read_spec(read(path))
        return
    with pytest.raises(SpecError):
        read_spec(read(path))


def without_value(message: str) -> str:
    """Depending on its version, the API server shows the value or its type."""
    return re.sub(r'Invalid value: "(?:[^"\\]|\\.)*": ', "Invalid value: ", message)
