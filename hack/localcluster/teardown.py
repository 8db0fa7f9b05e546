"""Removes everything that a cluster has on this machine, and nothing else; from any state, any number of times.

It relies on no running component: after a crash the kubelet has ended, but its mounts remain. Order matters: first
processes that start others, then containers, then mounts, then names.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from localcluster import network
from localcluster.debian import which
from localcluster.errors import ClusterError
from localcluster.paths import Layout
from localcluster.processes import Processes, Record, end, identify

# Paths of the kubelet that are not configurable.
_CONTAINER_LOG_LINKS = Path("/var/log/containers")
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")


def tear_down(layout: Layout) -> None:
    """End the cluster's processes and containers, unmount, delete its namespace, control groups and folders.

    Raises ClusterError if something could not be removed; calling it again continues.
    """
    Processes(layout.records).close()  # first the processes that start others
    _end_containers(layout)
    _unmount_below(layout.state, layout.runtime)
    network.delete(layout.network_namespace)
    _remove_control_groups(layout)
    _remove_shared_leftovers(layout)
    for folder in (layout.runtime, layout.state):
        _remove(folder)
    layout.lock.unlink(missing_ok=True)
    _remove_if_empty(layout.runtime.parent)


def leftovers(layout: Layout) -> list[str]:
    """Descriptions of what the cluster still has on this machine; empty after a complete teardown."""
    found = [f"process {record.pid} ({record.name})" for record in Processes(layout.records) if record.alive]
    found += [f"container shim {record.pid}" for record in _shims(layout)]
    found += [f"process {record.pid} in a container" for record in _in_control_groups(layout)]
    found += [f"mount {point}" for point in _mounts_below(layout.state, layout.runtime)]
    found += [f"control group {group}" for group in _control_groups(layout)]
    found += [
        f"path {path}" for path in (layout.network_namespace, layout.runtime, layout.state) if os.path.lexists(path)
    ]
    return found


def _end_containers(layout: Layout) -> None:
    """Kill shims and all processes in containers, repeatedly until no new ones appear."""
    for _ in range(10):
        shims = list(_shims(layout))
        found = [*shims, *_descendants(shims), *_in_control_groups(layout)]
        if not found:
            return
        end(found, grace=timedelta())  # anything they would still write is about to be removed
    raise ClusterError(f"processes that cannot be killed: {', '.join(str(record.pid) for record in found)}")


def _shims(layout: Layout) -> Iterator[Record]:
    """containerd's shims of this cluster, identified by the socket in their command line."""
    for pid, arguments in _command_lines():
        ours = Path(arguments[0]).name == "containerd-shim-runc-v2" and str(layout.containerd_socket) in arguments
        if ours and (record := identify(pid, "containerd-shim-runc-v2")):
            yield record


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if line:
                yield int(folder.name), line.decode(errors="replace").rstrip("\0").split("\0")


def _descendants(roots: list[Record]) -> list[Record]:
    """Every process below `roots`: a shim adopts all processes of its container."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found: list[Record] = []
    waiting = [record.pid for record in roots]
    while waiting:
        for pid in children.get(waiting.pop(), []):
            waiting.append(pid)
            if record := identify(pid, "container"):
                found.append(record)
    return found


def _bundles(layout: Layout) -> list[Path]:
    """containerd's folder for each container of the cluster that was not removed properly."""
    return list((layout.runtime / "containerd").glob("io.containerd.runtime.v2.task/*/*"))


def _control_groups(layout: Layout) -> list[Path]:
    """The containers' control groups, in each mounted hierarchy, v1 or v2."""
    hierarchies = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[0] in ("cgroup", "cgroup2"):
            hierarchies.append(Path(_unescape(fields.split()[4])))
    groups = []
    for bundle in _bundles(layout):
        try:
            path = str(json.loads((bundle / "config.json").read_text())["linux"]["cgroupsPath"])
        except (OSError, ValueError, KeyError):  # interrupted before the container was created
            continue
        if bundle.name in path:  # never a shared group
            groups += [group for root in hierarchies if (group := root / path.lstrip("/")).is_dir()]
    return groups


def _in_control_groups(layout: Layout) -> list[Record]:
    pids: set[int] = set()
    for group in _control_groups(layout):
        for members in group.rglob("cgroup.procs"):
            try:
                pids.update(int(pid) for pid in members.read_text().split())
            except OSError:  # removed, or a threaded group whose processes are listed by its parent
                continue
    return [record for pid in sorted(pids) if (record := identify(pid, "container"))]


def _remove_control_groups(layout: Layout) -> None:
    for group in _control_groups(layout):
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            _remove_control_group(folder)
        _remove_control_group(group)
        _remove_if_empty(group.parent)


def _remove_control_group(folder: Path) -> None:
    for attempt in range(50):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:  # the kernel still counts a process that just ended
            time.sleep(0.02 * (attempt < 49))
        else:
            return
    raise ClusterError(f"control group {folder} cannot be removed: its cgroup.procs lists what still runs in it")


def _remove_shared_leftovers(layout: Layout) -> None:
    """Leftovers of killed components in folders that are not configurable and that others may use, too."""
    for bundle in _bundles(layout):
        with contextlib.suppress(OSError, ValueError, KeyError):
            address = str(json.loads((bundle / "bootstrap.json").read_text())["address"])
            if address.startswith("unix:///run/containerd/s/"):
                Path(address.removeprefix("unix://")).unlink(missing_ok=True)
        for result in Path("/var/lib/cni/results").glob(f"*-{bundle.name}-*"):
            result.unlink(missing_ok=True)
    if _CONTAINER_LOG_LINKS.is_dir():
        for link in _CONTAINER_LOG_LINKS.iterdir():
            if link.is_symlink() and Path(os.readlink(link)).is_relative_to(layout.pod_logs):
                link.unlink(missing_ok=True)
    _remove_device_plugins()
    for folder in (
        Path("/run/containerd/s"),
        Path("/run/containerd"),
        Path("/var/lib/cni/results"),
        Path("/var/lib/cni"),
    ):
        _remove_if_empty(folder)
    _remove_if_empty(_CONTAINER_LOG_LINKS)


def _remove_device_plugins() -> None:
    """The kubelet's socket for device plugins, unless it belongs to a running kubelet, of this or another cluster."""
    socket_path = _DEVICE_PLUGINS / "kubelet.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket_path))
        except ConnectionRefusedError:
            for name in ("kubelet.sock", "kubelet_internal_checkpoint", "DEPRECATION"):
                (_DEVICE_PLUGINS / name).unlink(missing_ok=True)
        except OSError:
            return
    _remove_if_empty(_DEVICE_PLUGINS)
    _remove_if_empty(_DEVICE_PLUGINS.parent)


def _mounts_below(*folders: Path) -> list[Path]:
    """Mount points in or at `folders`, the latest mounted first."""
    points = [
        Path(_unescape(line.split()[4])) for line in Path("/proc/self/mountinfo").read_text().splitlines() if line
    ]
    return [point for point in reversed(points) if any(point.is_relative_to(folder) for folder in folders)]


def _unmount_below(*folders: Path) -> None:
    while points := _mounts_below(*folders):
        for point in points:
            answer = subprocess.run(
                [which("umount") or "umount", "--lazy", str(point)], capture_output=True, text=True, check=False
            )
            if answer.returncode and point in _mounts_below(*folders):
                raise ClusterError(f"cannot unmount {point}: {answer.stderr.strip()}")


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise ClusterError(f"cannot remove {folder}: {problem}") from problem


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return


def _unescape(path: str) -> str:
    """mountinfo writes blanks and similar characters as octal escapes."""
    return path.encode().decode("unicode_escape").encode("latin-1").decode() if "\\" in path else path
