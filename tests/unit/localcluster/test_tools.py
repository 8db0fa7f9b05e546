"""The table of programs agrees with their Go modules, and finds installed programs."""

import re
from pathlib import Path

import pytest

from localcluster import tools
from localcluster.build import _binary_name
from localcluster.errors import ClusterError
from localcluster.paths import tools_source
from localcluster.tools import EVERYTHING, GITOPS, KUBERNETES, OTHERS, PAUSE, Tool, has_version, present, program

BUILT = [tool for tool in EVERYTHING + OTHERS if tool not in (PAUSE, GITOPS)]  # these two are our own


def go_mod(module: str) -> str:
    return (tools_source() / module / "go.mod").read_text()


@pytest.mark.parametrize("tool", BUILT, ids=lambda tool: tool.name)
def test_a_tools_version_is_the_one_that_its_module_requires(tool: Tool) -> None:
    text = go_mod(tool.module)
    for package in tool.programs.values():
        required = [line.split() for line in re.findall(r"^\s*(?:require )?(\S+ v\S+)(?: // indirect)?$", text, re.M)]
        version = max((part for part in required if package.startswith(part[0])), key=lambda part: len(part[0]))[1]
        assert version == tool.version


@pytest.mark.parametrize("tool", BUILT, ids=lambda tool: tool.name)
def test_a_module_keeps_its_programs_by_tool_directives(tool: Tool) -> None:
    text = go_mod(tool.module)
    for package in tool.programs.values():
        assert re.search(rf"^\s*(tool )?{re.escape(package)}$", text, re.M)


def test_the_gateway_api_is_the_one_that_traefik_is_built_with() -> None:
    assert f"{tools.GATEWAY_API_MODULE} {tools.GATEWAY_API_VERSION}" in go_mod("traefik")


def test_the_staging_modules_of_kubernetes_have_its_version() -> None:
    minor = KUBERNETES.version.removeprefix("v1.")
    staging = re.findall(r"(k8s\.io/\S+) => (k8s\.io/\S+) v0\.(\S+)", go_mod("kubernetes"))
    assert len(staging) > 25
    assert {(name == target, version) for name, target, version in staging} == {(True, minor)}


@pytest.mark.parametrize(
    ("version_output", "found"),
    [
        ("Kubernetes v1.36.3", True),
        ("etcd Version: 1.36.3\nGit SHA: 1", True),
        ("Kubernetes v1.36.30", False),
        ("Kubernetes v1.36.3-rc.1", False),
        ("Kubernetes v11.36.3", False),
        ("", False),
    ],
)
def test_only_exactly_the_wanted_version_counts(version_output: str, found: bool) -> None:
    assert has_version("v1.36.3", version_output) is found


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("go.etcd.io/etcd/server/v3", "server"),
        ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ("github.com/traefik/traefik/v3/cmd/traefik", "traefik"),
    ],
)
def test_go_names_a_program_by_the_last_part_that_is_not_a_major_version(package: str, name: str) -> None:
    assert _binary_name(package) == name


def install(folder: Path, version: str) -> None:
    for name in KUBERNETES.programs:
        (folder / name).write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
        (folder / name).chmod(0o755)


def test_installed_programs_of_the_right_version_are_used_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSYNC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for version, used in (("v1.36.3", True), ("v1.35.0", False)):
        assets = tmp_path / version
        assets.mkdir()
        install(assets, version)
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
        assert present(KUBERNETES) is used
        if used:
            assert program("kube-apiserver") == assets / "kube-apiserver"
        else:
            with pytest.raises(ClusterError, match=r"kube-apiserver v1\.36\.3 is missing: run `python -m localcluster"):
                program("kube-apiserver")
