"""The network namespace of a cluster: its traffic never leaves the addresses that it created itself.

Entered with `nsenter --net=…`, not with `ip netns exec`, which mounts a new /sys over the control groups, so that the
kubelet fails with "failed to find cgroup mounts".
"""

import subprocess
from pathlib import Path

from localcluster.debian import which
from localcluster.errors import ClusterError

NODE_ADDRESS = "10.250.0.1"
POD_RANGE = "10.64.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
SERVICE_OF_KUBERNETES = "10.96.0.1"

# A bridge without ports serves as the node's network device: not every kernel has `dummy` devices.
_SETUP = f"""set -e
ip link set lo up
ip link show eth0 >/dev/null 2>&1 || ip link add eth0 type bridge
ip addr replace {NODE_ADDRESS}/24 dev eth0
ip link set eth0 up
ip route replace default dev eth0
echo 1 > /proc/sys/net/ipv4/ip_forward
"""


def create(namespace: Path) -> None:
    """Create the namespace and the node's address in it, unless they exist."""
    if not namespace.exists():
        _run([which("ip") or "ip", "netns", "add", namespace.name])
    _run([*enter(namespace), "sh", "-c", _SETUP])


def delete(namespace: Path) -> None:
    """Delete the namespace with everything in it, including nftables rules; no-op if there is none."""
    if namespace.exists():
        _run([which("ip") or "ip", "netns", "delete", namespace.name])


def enter(namespace: Path) -> list[str]:
    """Command prefix that runs a command in the namespace, with the same pid."""
    return [which("nsenter") or "nsenter", f"--net={namespace}"]


def _run(command: list[str]) -> None:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ClusterError(f"`{' '.join(command[:4])}` failed: {answer.stderr.strip()}")
