"""The demo takes kind only where kind can work, and `demo-down` removes only what the demo made."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from localcluster import kind
from localcluster.errors import ClusterError
from localcluster.progress import Progress

Programs = Callable[..., Path]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Puts shell scripts on PATH, alone; returns the file that lists how they were called."""
    folder, calls = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("MODELSYNC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kind.os, "geteuid", lambda: 0)  # type: ignore[attr-defined]
    monkeypatch.setattr(kind.sys, "platform", "linux")  # type: ignore[attr-defined]

    def put(**scripts: str) -> Path:
        for name, script in scripts.items():
            (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\n{script}\n')
            (folder / name).chmod(0o755)
        return calls

    return put


def test_kind_is_taken_where_a_docker_engine_answers(programs: Programs) -> None:
    programs(docker="exit 0", kind="", kubectl="", ip="")
    assert kind.choose("") == kind.Choice(True, "a Docker engine answers `docker info`")


def test_a_docker_client_without_an_engine_is_not_enough(programs: Programs) -> None:
    programs(docker="exit 1", kind="", kubectl="", ip="")
    assert kind.choose("") == kind.Choice(False, "no Docker engine answers `docker info`")


def test_an_engine_that_hangs_is_given_up(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "_DOCKER_SECONDS", 0.05)
    programs(docker="exec /bin/sleep 60", kind="", kubectl="", ip="")
    assert not kind.choose("").kind


def test_without_a_kind_program_docker_is_not_asked(programs: Programs) -> None:
    calls = programs(docker="exit 0", kubectl="", ip="")
    assert kind.choose("") == kind.Choice(False, "not on PATH: kind")
    assert not calls.exists()


def test_a_user_who_may_not_add_a_route_gets_the_other_cluster(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(docker="exit 0", kind="", kubectl="", ip="")
    monkeypatch.setattr(kind.os, "geteuid", lambda: 1000)  # type: ignore[attr-defined]
    assert not kind.choose("").kind


@pytest.mark.parametrize("wanted", ["kind", "own"])
def test_a_word_of_the_user_decides_alone(programs: Programs, wanted: str) -> None:
    programs()
    assert kind.choose(wanted) == kind.Choice(wanted == "kind", f"CLUSTER_KIND={wanted}")


def test_another_word_is_refused(programs: Programs) -> None:
    with pytest.raises(ClusterError, match="it must be `kind` or `own`"):
        kind.choose("k3s")


def test_the_demos_cluster_is_described_as_an_existing_one_and_taken_down_whole(programs: Programs) -> None:
    network = {"kind": {"IPAddress": "172.18.0.2", "Gateway": "172.18.0.1"}}
    inspected = json.dumps([{"NetworkSettings": {"Networks": network}}])
    calls = programs(
        docker=f"echo '{inspected}'",
        kind="echo '{}'",
        ip="",
        kubectl='case "$*" in *podCIDR*) echo 10.244.0.0/24;; esac',
    )
    environment = kind.demo_up(Progress(quiet=True))
    assert environment["EXISTING"] == "1"
    assert environment["MODELSYNC_NODE_ADDRESS"] == "172.18.0.1"
    assert "ip route add 10.244.0.0/24 via 172.18.0.2" in calls.read_text()
    assert Path(environment["KUBECONFIG"]).read_text() == "{}\n"

    kind.demo_down(Progress(quiet=True))
    assert "ip route del 10.244.0.0/24 via 172.18.0.2" in calls.read_text()
    assert "kind delete cluster --name modelsync-demo" in calls.read_text()
    assert not kind.demo_is_there()


def test_a_route_that_is_there_already_is_left_alone(programs: Programs) -> None:
    network = {"kind": {"IPAddress": "172.18.0.2", "Gateway": "172.18.0.1"}}
    inspected = json.dumps([{"NetworkSettings": {"Networks": network}}])
    calls = programs(
        docker=f"echo '{inspected}'",
        kind="",
        ip="echo '10.244.0.0/24 via 172.18.0.2 dev br-1'",
        kubectl='case "$*" in *podCIDR*) echo 10.244.0.0/24;; esac',
    )
    kind.demo_up(Progress(quiet=True))
    kind.demo_down(Progress(quiet=True))
    assert "route add" not in calls.read_text()
    assert "route del" not in calls.read_text()


def test_a_kind_cluster_that_came_to_be_by_halves_is_taken_down(programs: Programs) -> None:
    calls = programs(docker="", kind='case "$*" in create*) exit 1;; esac', kubectl="", ip="")
    with pytest.raises(ClusterError, match="kind create cluster"):
        kind.demo_up(Progress(quiet=True))
    kind.demo_down(Progress(quiet=True))
    assert "kind delete cluster --name modelsync-demo" in calls.read_text()


def test_where_the_demo_made_no_kind_cluster_nothing_is_called(programs: Programs) -> None:
    calls = programs(docker="", kind="", kubectl="", ip="")
    kind.demo_down(Progress(quiet=True))
    assert not calls.exists()
