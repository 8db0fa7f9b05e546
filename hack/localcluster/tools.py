"""The programs of a cluster, with their Go modules and versions.

Only the table and the lookup; building is in `build`. The versions are here and in `hack/tools/<module>/go.mod`; a test
keeps them in sync.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.paths import cache_folder

KUBERNETES_VERSION = "v1.36.3"
GATEWAY_API_MODULE = "sigs.k8s.io/gateway-api"
GATEWAY_API_VERSION = "v1.4.0"


@dataclass(frozen=True)
class Tool:
    """A set of programs built by one `go build` from one module.

    `programs` maps the name of each program to its package. `probe` contains the arguments that print a program's
    version, if it has any. `usual_seconds` is for a cold build on two cores.
    """

    name: str
    module: str
    version: str
    programs: dict[str, str]
    usual_seconds: int
    probe: dict[str, tuple[str, ...]] = field(default_factory=dict)
    link_flags: str = ""
    tags: tuple[str, ...] = ()

    def folder(self) -> Path:
        """The folder of the built programs."""
        return cache_folder() / "tools" / self.name / self.version


def _commands(prefix: str, *names: str) -> dict[str, str]:
    return {name: f"{prefix}/{name}" for name in names}


_MAJOR, _MINOR, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
# Without a version, the server reports v0.0.0-master+$Format:%H$, which clients cannot parse.
_KUBERNETES_LINK_FLAGS = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in (("gitVersion", KUBERNETES_VERSION), ("gitMajor", _MAJOR), ("gitMinor", _MINOR))
)

ETCD = Tool(
    name="etcd",
    module="etcd",
    version="v3.7.3",
    programs={"etcd": "go.etcd.io/etcd/server/v3"},
    probe={"etcd": ("--version",)},
    usual_seconds=40,
)
KUBERNETES = Tool(
    name="kubernetes",
    module="kubernetes",
    version=KUBERNETES_VERSION,
    programs=_commands(
        "k8s.io/kubernetes/cmd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"
    ),
    probe={
        "kube-apiserver": ("--version",),
        "kube-controller-manager": ("--version",),
        "kube-scheduler": ("--version",),
        "kubectl": ("version", "--client"),
    },
    usual_seconds=270,
    link_flags=_KUBERNETES_LINK_FLAGS,
)
KUBERNETES_NODE = Tool(
    name="kubernetes-node",
    module="kubernetes",
    version=KUBERNETES_VERSION,
    programs=_commands("k8s.io/kubernetes/cmd", "kubelet", "kube-proxy"),
    probe={"kubelet": ("--version",), "kube-proxy": ("--version",)},
    usual_seconds=30,
    link_flags=_KUBERNETES_LINK_FLAGS,
)
CONTAINERD = Tool(
    name="containerd",
    module="containerd",
    version="v2.2.1",
    programs=_commands("github.com/containerd/containerd/v2/cmd", "containerd", "containerd-shim-runc-v2", "ctr"),
    probe={"containerd": ("--version",), "containerd-shim-runc-v2": ("-v",), "ctr": ("--version",)},
    usual_seconds=60,
    link_flags="-X github.com/containerd/containerd/v2/version.Version=v2.2.1",
)
CNI_PLUGINS = Tool(
    name="cni-plugins",
    module="cni-plugins",
    version="v1.9.1",
    programs={
        "ptp": "github.com/containernetworking/plugins/plugins/main/ptp",
        "loopback": "github.com/containernetworking/plugins/plugins/main/loopback",
        "host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
        "portmap": "github.com/containernetworking/plugins/plugins/meta/portmap",
    },
    usual_seconds=10,
)
TRAEFIK = Tool(
    name="traefik",
    module="traefik",
    version="v3.6.6",
    programs={"traefik": "github.com/traefik/traefik/v3/cmd/traefik"},
    probe={"traefik": ("version",)},
    usual_seconds=300,
    link_flags="-X github.com/traefik/traefik/v3/pkg/version.Version=v3.6.6",
)
CONTOUR = Tool(
    name="contour",
    module="contour",
    version="v1.33.8",
    programs={"contour": "github.com/projectcontour/contour/cmd/contour"},
    usual_seconds=180,
    link_flags="-X github.com/projectcontour/contour/internal/build.Version=v1.33.8",
)
HELM = Tool(
    name="helm",
    module="helm",
    version="v4.3.1",
    programs={"helm": "helm.sh/helm/v4/cmd/helm"},
    probe={"helm": ("version", "--short")},
    usual_seconds=100,
    link_flags="-X helm.sh/helm/v4/internal/version.version=v4.3.1",
)
GITOPS = Tool(
    name="gitops",
    module="gitops",
    version="v1",
    programs={"gitops-judge": "modelsync.dev/hack/tools/gitops"},
    usual_seconds=60,
)
PROMTOOL = Tool(
    name="promtool",
    module="promtool",
    version="v0.315.0",  # Prometheus 3.15: its Go module is versioned separately
    programs={"promtool": "github.com/prometheus/prometheus/cmd/promtool"},
    usual_seconds=120,
    # Without cloud service discovery, whose clients are most of the build, and which rules do not need.
    tags=("remove_all_sd",),
)
PAUSE = Tool(
    name="pause",
    module="pause",
    version="v1",
    programs={"pause": "modelsync.dev/hack/tools/pause"},
    usual_seconds=2,
)

CONTROL_PLANE = (ETCD, KUBERNETES)
NODE = (PAUSE, CNI_PLUGINS, CONTAINERD, KUBERNETES_NODE, TRAEFIK)
EVERYTHING = CONTROL_PLANE + NODE
OTHERS = (CONTOUR, HELM, GITOPS, PROMTOOL)
"""Not part of a cluster: other programs for benchmarks, installation, tests and monitoring."""


def present(tool: Tool) -> bool:
    """Whether all programs of `tool` are at hand, built by us or installed in the right version."""
    return all((tool.folder() / program).exists() for program in tool.programs) or _installed(tool) is not None


def program(name: str) -> Path:
    """The path of a program of the cluster; raise ClusterError if it has not been built."""
    tool = next(tool for tool in EVERYTHING + OTHERS if name in tool.programs)
    if (built := tool.folder() / name).exists():
        return built
    if installed := _installed(tool):
        return installed[name]
    how = f"tool {tool.name}" if tool in OTHERS else "build"
    raise ClusterError(f"{name} {tool.version} is missing: run `python -m localcluster {how}`")


_installed_cache: dict[tuple[str, str], dict[str, Path] | None] = {}


def _installed(tool: Tool) -> dict[str, Path] | None:
    """The programs of `tool` from `$KUBEBUILDER_ASSETS` or PATH, if all of them exist there in our version."""
    if not tool.probe.keys() >= tool.programs.keys():
        return None  # a program that cannot report its version cannot replace ours
    places = os.pathsep.join(filter(None, (os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH"))))
    key = (tool.name, places)
    if key not in _installed_cache:
        found: dict[str, Path] = {}
        for name, arguments in tool.probe.items():
            path = shutil.which(name, path=places)
            if path is None or not has_version(tool.version, _reported_version(path, arguments)):
                break
            found[name] = Path(path)
        _installed_cache[key] = found if len(found) == len(tool.programs) else None
    return _installed_cache[key]


def has_version(wanted: str, output: str) -> bool:
    """Whether a program's version output contains exactly `wanted` (with or without the `v`)."""
    return re.search(rf"(?<![\w.])v?{re.escape(wanted.removeprefix('v'))}(?![\w.-])", output) is not None


def _reported_version(path: str, arguments: Sequence[str]) -> str:
    try:
        answer = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout + answer.stderr
