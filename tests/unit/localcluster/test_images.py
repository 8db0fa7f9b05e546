"""The content of the images is determined by this checkout."""

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from image.__main__ import BuildError, build_command, working_builder
from localcluster.images import (
    LAUNCHER,
    MODELSYNC_ENVIRONMENT,
    MODELSYNC_FOLDER,
    MODELSYNC_USER,
    VLLM_STANDIN_REQUIREMENTS,
)
from localcluster.paths import repository


def third_party_imports(package: Path) -> set[str]:
    found: set[str] = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(name.name.partition(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - {package.name} - sys.stdlib_module_names


def test_the_vllm_stand_ins_image_has_all_that_the_stand_in_imports() -> None:
    distributions = packages_distributions()
    imported = third_party_imports(repository() / "hack" / "vllm_standin")
    assert {distributions[module][0].replace("_", "-") for module in imported} == set(VLLM_STANDIN_REQUIREMENTS)


# -- the Dockerfile builds the image that the local cluster runs


def final_stage() -> list[str]:
    """The instructions of the image itself, each on one line."""
    text = (repository() / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    return lines[last:]


def test_the_dockerfile_starts_the_same_program_as_the_same_user_in_the_same_environment() -> None:
    stage = final_stage()
    assert dict(line.removeprefix("ENV ").split("=", 1) for line in stage if line.startswith("ENV ")) == (
        MODELSYNC_ENVIRONMENT
    )
    assert f"USER {MODELSYNC_USER}:{MODELSYNC_USER}" in stage
    assert 'ENTRYPOINT ["modelsync"]' in stage


def test_the_dockerfile_puts_packages_and_launcher_where_the_local_cluster_has_them() -> None:
    text = (repository() / "Dockerfile").read_text()
    assert f"COPY --from=build /{MODELSYNC_FOLDER} /{MODELSYNC_FOLDER}" in final_stage()
    assert f"COPY operator/modelsync /{MODELSYNC_FOLDER}/modelsync" in text
    assert f"COPY {LAUNCHER} /usr/local/bin/modelsync" in text
    assert f'"/{MODELSYNC_FOLDER}"' in (repository() / LAUNCHER).read_text()


def test_the_dockerfile_leaves_no_tool_in_the_image_that_installs_or_compiles() -> None:
    text = "\n".join(final_stage())
    assert "apt-get" not in text
    assert "/uv" not in text
    assert "-name pip" in text


def test_the_build_trusts_the_certificates_of_its_base() -> None:
    # uv brings its own certificates, with which a site with its own CA for a proxy or mirror could not build.
    assert "uv pip install --quiet --no-cache --system-certs" in (repository() / "Dockerfile").read_text()


def test_what_the_dockerfile_copies_is_not_ignored() -> None:
    allowed = [line[1:] for line in (repository() / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    text = (repository() / "Dockerfile").read_text()
    copied = [part for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line
              for part in line.split()[1:-1]]  # fmt: skip
    assert sorted(copied) == sorted(allowed)
    assert all((repository() / part).exists() for part in copied)


def test_a_base_and_a_network_reach_the_builder() -> None:
    command = build_command("buildah", "registry.example.com/modelsync:v1", base="our/python:3.13", network="host")
    assert command[:4] == ["buildah", "build", "--tag", "registry.example.com/modelsync:v1"]
    assert {"BASE=our/python:3.13", "VERSION=v1", "host"} <= set(command)


def test_without_a_builder_the_error_lists_the_tried_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BuildError, match="docker is not on PATH; podman is not on PATH; buildah is not on PATH"):
        working_builder()
