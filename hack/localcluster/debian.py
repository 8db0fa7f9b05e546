"""Installs a node's Debian packages, such as runc and nftables, by apt-get and only if they are missing."""

import os
import shutil
import subprocess
from collections.abc import Iterable

from localcluster.errors import ClusterError
from localcluster.progress import Progress

# program -> Debian package
CONTROL_PLANE_PROGRAMS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "setpriv": "util-linux",
    "openssl": "openssl",
}
NODE_PROGRAMS = {
    "runc": "runc",  # Debian's build has seccomp, without which the CRI refuses pods
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "mount": "mount",
}
IMAGE_PROGRAMS = {"debootstrap": "debootstrap", "unshare": "util-linux"}

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def which(program: str) -> str | None:
    """The path of a system program; users' PATHs often lack the sbin folders."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def require(programs: dict[str, str], progress: Progress) -> None:
    """Install the packages of missing `programs`; raise ClusterError if that fails."""
    missing = sorted({package for program, package in programs.items() if which(program) is None})
    if not missing:
        return
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if which("apt-get") is None:
        raise ClusterError(f"missing system packages: {', '.join(missing)}; install them with your package manager")
    if os.geteuid() != 0:
        raise ClusterError(f"missing system packages: run `sudo {command}`")
    with progress.step(f"Debian packages {', '.join(missing)}"):
        if _apt_get("install", missing).returncode:
            _apt_get("update", [])
            if (failed := _apt_get("install", missing)).returncode:
                raise ClusterError(f"`{command}` failed:\n{failed.stdout[-2000:]}")


def _apt_get(action: str, packages: Iterable[str]) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=180", "-y"]
    command += ["--no-install-recommends", action, *packages]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
