"""Paths on the developer's machine: the cache that many checkouts share, and the state of each cluster.

Paths come from the environment only; this module must never create or remove anything.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import ClusterError


def cache_folder() -> Path:
    """`$MODELSYNC_CACHE`, or `modelsync` in the user's cache folder (XDG Base Directory Specification)."""
    if chosen := os.environ.get("MODELSYNC_CACHE"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "modelsync"


def clusters_folder() -> Path:
    """`$MODELSYNC_STATE`, or `clusters` in the cache folder; contains one folder per cluster."""
    if chosen := os.environ.get("MODELSYNC_STATE"):
        return Path(chosen).absolute()
    return cache_folder() / "clusters"


def tools_source() -> Path:
    """The folder with one Go module for each tool."""
    return Path(__file__).resolve().parent.parent / "tools"


def repository() -> Path:
    """The root of this checkout."""
    return Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Layout:
    """Every path and every name on the machine that one cluster uses.

    `identity` is unique on the machine: two checkouts with a cluster called `default` each must not collide in names
    that are global to the machine (network namespaces, control groups, /run).
    """

    name: str
    state: Path

    @classmethod
    def named(cls, name: str) -> "Layout":
        """Raise ClusterError unless `name` is a DNS label of at most 20 characters."""
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", name):
            raise ClusterError(
                f"cluster name {name!r}: use 1 to 20 lower-case letters, digits and dashes, "
                "beginning and ending with a letter or digit"
            )
        return cls(name=name, state=clusters_folder() / name)

    @property
    def identity(self) -> str:
        return f"modelsync-{self.name}-{hashlib.sha256(str(self.state).encode()).hexdigest()[:6]}"

    @property
    def runtime(self) -> Path:
        """Sockets and containerd's volatile state: a short path (sockets allow 107 bytes), cleared at reboot."""
        return Path("/run/modelsync") / self.identity

    @property
    def network_namespace(self) -> Path:
        return Path("/run/netns") / self.identity

    @property
    def lock(self) -> Path:
        return self.state.with_name(f".{self.state.name}.lock")

    @property
    def records(self) -> Path:
        return self.state / "processes"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def audit_log(self) -> Path:
        """The audit log of requests by pods' service accounts, one JSON object per line."""
        return self.logs / "audit.log"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def certificates(self) -> Path:
        return self.state / "certificates"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; only the owner may read it."""
        return self.state / "kubeconfig"

    @property
    def pod_logs(self) -> Path:
        return self.state / "pod-logs"

    @property
    def containerd_socket(self) -> Path:
        return self.runtime / "containerd.sock"

    def component_kubeconfig(self, component: str) -> Path:
        return self.config / f"{component}.kubeconfig"
