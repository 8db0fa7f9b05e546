"""Up and down: idempotent, side by side, and without leftovers, however `up` ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.localcluster.workspace import Workspace, server, wait_for
from localcluster import Cluster, ClusterError, settings
from localcluster.images import modelsync_image
from localcluster.paths import Layout, repository

COMMAND = (sys.executable, "-m", "localcluster")

MakeCluster = Callable[[str], Cluster]


@pytest.fixture
def make_cluster() -> Iterator[MakeCluster]:
    """Handles for the clusters of one test; any remains are taken down."""
    made: list[Cluster] = []

    def make(name: str) -> Cluster:
        made.append(Cluster(f"{name}-{os.getpid()}"))
        return made[-1]

    yield make
    for cluster in made:
        cluster.down()


def environment() -> dict[str, str]:
    root = repository()
    return os.environ | {"PYTHONPATH": f"{root / 'operator'}:{root / 'hack'}"}


def start(*arguments: str) -> subprocess.Popen[str]:
    # As in a terminal: background jobs of a shell, such as these tests may be, ignore SIGINT.
    command = ["env", "--default-signal=INT", *COMMAND, *arguments]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)


def command_lines() -> dict[int, str]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
            except (FileNotFoundError, ProcessLookupError):
                continue
    return {pid: line for pid, line in found.items() if line}  # a zombie has none


def everything_named(text: str) -> list[str]:
    """Processes, mounts, network namespaces and folders that contain `text` in their names."""
    found = [line for pid, line in command_lines().items() if text in line and pid != os.getpid()]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if text in line]
    found += [str(path) for folder in ("/run/netns", "/run/modelsync") for path in Path(folder).glob(f"*{text}*")]
    return found


def test_down_leaves_nothing_of_a_node_with_pods(make_cluster: MakeCluster, cluster: Cluster) -> None:
    own = make_cluster("leaves")
    own.up(gateway_api=False)
    own.load_images(modelsync_image("localcluster-tests"))
    mark = f"mark-{os.getpid()}"
    Workspace(own, "default").create(server("one", mark), server("two", mark))
    Workspace(own, "default").wait_until_ready("one", "two")
    pods = [pid for pid, line in command_lines().items() if mark in line and "http.server" in line]
    assert len(pods) == 2

    own.down()

    assert own.leftovers() == []
    assert everything_named(own.name) == []
    assert everything_named(mark) == []
    own.down()  # and once more, with nothing to do


@pytest.mark.parametrize("reached", ["etcd", "kube-apiserver", "kubelet"])
def test_down_works_after_the_starter_was_killed(make_cluster: MakeCluster, reached: str) -> None:
    own = make_cluster(f"killed-{reached}"[:13])
    with start("up", "--name", own.name, "--without-gateway-crds") as starter:
        wait_for(f"{reached} to be started", lambda: reached in own.status().processes)
        starter.kill()
    assert own.leftovers() != []
    own.down()
    assert own.leftovers() == []
    assert everything_named(own.name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_takes_down_what_it_started(make_cluster: MakeCluster, number: signal.Signals) -> None:
    own = make_cluster("interrupted")
    with start("up", "--name", own.name, "--control-plane-only") as starter:
        wait_for("the apiserver to be started", lambda: "kube-apiserver" in own.status().processes)
        starter.send_signal(number)
        stderr = starter.communicate()[1]
    assert starter.returncode == 130, stderr
    assert own.leftovers() == []
    assert "Traceback" not in stderr


def test_a_second_up_changes_nothing_and_adds_what_is_asked_for(make_cluster: MakeCluster) -> None:
    own = make_cluster("twice")
    own.up(control_plane_only=True, gateway_api=False)
    first = {pid for pid, line in command_lines().items() if own.name in line}
    with pytest.raises(ClusterError, match="not found"):
        own.kubectl("get", "crd/httproutes.gateway.networking.k8s.io")

    own.up(control_plane_only=True, gateway_api=False)
    assert {pid for pid, line in command_lines().items() if own.name in line} == first

    own.install_gateway_api()
    own.kubectl("get", "crd/httproutes.gateway.networking.k8s.io")
    own.up()
    assert own.kubectl("get", "nodes", "-o", "name").split() == ["node/node-0"]
    assert own.status().running
    assert own.status().gateway


def test_clusters_of_other_names_do_not_see_each_other(make_cluster: MakeCluster, cluster: Cluster) -> None:
    own = make_cluster("beside")
    own.up(control_plane_only=True, gateway_api=False)
    own.kubectl("create", "namespace", "only-here")
    assert "only-here" in own.kubectl("get", "namespaces")
    assert "only-here" not in cluster.kubectl("get", "namespaces")
    own.down()
    assert cluster.status().running


def test_a_component_that_cannot_start_is_named_with_the_end_of_its_log(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_cluster("broken")
    monkeypatch.setattr(settings, "etcd", lambda layout: ["sh", "-c", "echo the disk is full; exit 1"])
    with pytest.raises(ClusterError, match=r"etcd ended while waiting for the apiserver(.|\n)*the disk is full"):
        own.up(control_plane_only=True, gateway_api=False)
    assert own.leftovers() == []


def test_a_certificate_that_is_still_being_written_is_waited_for(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = settings.apiserver

    def slow(layout: Layout) -> list[str | Path]:
        certificate = layout.certificates / "apiserver.crt"
        script = f'echo "-----BEGIN CERTIFICATE-----" > {certificate}; sleep 1; rm {certificate}; exec "$@"'
        return ["sh", "-c", script, "sh", *real(layout)]

    own = make_cluster("slow")
    monkeypatch.setattr(settings, "apiserver", slow)
    own.up(control_plane_only=True, gateway_api=False)
    assert own.kubectl("get", "--raw", "/readyz") == "ok"


def test_what_another_boot_left_is_replaced_by_a_fresh_cluster(make_cluster: MakeCluster) -> None:
    own = make_cluster("rebooted")
    own.up(control_plane_only=True, gateway_api=False)
    own.kubectl("create", "namespace", "before")
    boot = own.kubeconfig.with_name("boot")
    boot.write_text("11111111-2222-3333-4444-555555555555")
    own.up(control_plane_only=True, gateway_api=False)
    assert "before" not in own.kubectl("get", "namespaces")


def test_exec_passes_the_exit_code_and_the_kubeconfig_and_stays_inside(cluster: Cluster) -> None:
    script = f"kubectl get node node-0 -o name && ip -o -4 addr show eth0 | grep -q {cluster.node_address} && exit 7"
    with subprocess.Popen(
        [*COMMAND, "exec", "--name", cluster.name, "--", "sh", "-c", script],
        env=environment() | {"HTTP_PROXY": "http://192.0.2.1:1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as inside:
        assert inside.communicate()[0] == "node/node-0\n"
    assert inside.returncode == 7


def test_the_kubeconfig_is_the_owners_alone(cluster: Cluster) -> None:
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert cluster.kubeconfig.parent.stat().st_mode & 0o777 == 0o700


def test_exec_into_a_cluster_that_is_not_up_reports_how_to_bring_it_up() -> None:
    with start("exec", "--name", "nowhere", "--", "true") as command:
        stderr = command.communicate()[1]
    assert command.returncode == 1
    assert stderr == "Error: cluster nowhere is not up: run `python -m localcluster up --name nowhere`\n"
