"""One local cluster: bringing it up, using it, and taking it down.

Ordered as a cluster comes up. Processes are started in `processes`, ended in `teardown`, and configured in `settings`.
"""

import base64
import contextlib
import fcntl
import json
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

from localcluster import debian, network, settings
from localcluster.build import build, gateway_api_manifests
from localcluster.definitions import wait_established
from localcluster.errors import ClusterError
from localcluster.network import NODE_ADDRESS
from localcluster.oci import Entry, Image, write_archive, write_layer
from localcluster.paths import Layout, cache_folder, clusters_folder
from localcluster.processes import Processes, boot_id, tied
from localcluster.progress import Progress
from localcluster.teardown import leftovers, tear_down
from localcluster.tools import CONTAINERD, CONTROL_PLANE, KUBERNETES, NODE, program

_PROXIES = {name for base in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (base, base.upper())}


@dataclass(frozen=True)
class ClusterStatus:
    """The state of a cluster: its processes (name -> whether it runs); whether it has a node and a gateway."""

    name: str
    processes: Mapping[str, bool]
    node: bool
    gateway: bool

    @property
    def running(self) -> bool:
        """Whether it was brought up and all its processes still run."""
        return bool(self.processes) and all(self.processes.values())


class Cluster:
    """A Kubernetes cluster of one node in its own network namespace. All methods need root.

    `name` is unique within the state folder (`$MODELSYNC_STATE`); clusters with different names or state folders run
    side by side, with the same addresses, isolated from each other.
    """

    def __init__(self, name: str = "default") -> None:
        self._layout = Layout.named(name)
        self._processes = Processes(self._layout.records)

    @classmethod
    def current(cls) -> "Cluster":
        """The cluster in whose namespace this process was started by `exec`; raise ClusterError if there is none."""
        name = os.environ.get("MODELSYNC_CLUSTER")
        if not name:
            raise ClusterError("not inside a local cluster: start this with `python -m localcluster exec -- …`")
        return cls(name)

    @property
    def name(self) -> str:
        return self._layout.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._layout.kubeconfig

    @property
    def logs(self) -> Path:
        """The folder with a log file for each component."""
        return self._layout.logs

    @property
    def audit_log(self) -> Path:
        """The audit log of requests by pods' service accounts; None for a foreign cluster."""
        return self._layout.audit_log

    @property
    def state(self) -> Path:
        """The cluster's folder; its content is deleted with the cluster."""
        return self._layout.state

    @property
    def processes(self) -> Processes:
        """The cluster's processes. Start processes here that should live as long as the cluster: `down` ends them."""
        return self._processes

    @property
    def node_address(self) -> str:
        """The node's address: servers started inside listen here, and pods can reach them."""
        return NODE_ADDRESS

    @property
    def gateway_url(self) -> str:
        """The URL of the Gateway `models` in namespace `gateways`, from inside the cluster's network."""
        return f"http://{NODE_ADDRESS}:{settings.GATEWAY_PORT}"

    def up(
        self, *, control_plane_only: bool = False, gateway_api: bool = True, progress: Progress | None = None
    ) -> None:
        """Start what does not run yet; build what is missing first.

        `control_plane_only`: no node and no workload controllers (a test simulates them). `gateway_api=False`:
        neither the CRDs nor Traefik; `install_gateway_api` adds them later. Raises ClusterError, with the end of the
        failed component's log; a cluster that did not exist before is then torn down again.
        """
        progress = progress or Progress(quiet=True)
        _require_linux_root()
        tools = CONTROL_PLANE if control_plane_only else CONTROL_PLANE + NODE
        programs = debian.CONTROL_PLANE_PROGRAMS | ({} if control_plane_only else debian.NODE_PROGRAMS)
        debian.require(programs, progress)
        build(tools, progress)
        if gateway_api:
            gateway_api_manifests(progress)
        with self._locked():
            if self._layout.state.exists() and not self._of_this_boot():
                progress.info(
                    f"cluster {self.name}: left over from before the machine was restarted; starting from scratch"
                )
                tear_down(self._layout)
            existed = self._layout.state.exists()
            try:
                self._bring_up(progress, node=not control_plane_only, gateway_api=gateway_api)
            except BaseException:
                if not existed:
                    with progress.step("taking down what was started"):
                        tear_down(self._layout)
                raise

    def down(self, *, progress: Progress | None = None) -> None:
        """Tear everything down; no-op if there is nothing. Raises ClusterError if something cannot be removed."""
        _require_linux_root()
        with self._locked(), (progress or Progress(quiet=True)).step(f"cluster {self.name} down"):
            tear_down(self._layout)

    def status(self) -> ClusterStatus:
        """The current state."""
        running = {record.name: record.alive for record in self._processes}
        return ClusterStatus(self.name, running, node="kubelet" in running, gateway="traefik" in running)

    def leftovers(self) -> list[str]:
        """Descriptions of what the cluster has on this machine; empty after `down`."""
        return leftovers(self._layout)

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """The command line that runs `arguments` inside the cluster's network; see `environment`."""
        if not self._layout.network_namespace.exists():
            raise ClusterError(f"cluster {self.name} is not up: run `python -m localcluster up --name {self.name}`")
        return [*network.enter(self._layout.network_namespace), *(str(part) for part in arguments)]

    def environment(self) -> dict[str, str]:
        """The environment for programs inside: this process's, with KUBECONFIG, kubectl on PATH, and no proxies."""
        inside = {name: value for name, value in os.environ.items() if name not in _PROXIES}
        return inside | {
            "KUBECONFIG": str(self.kubeconfig),
            "MODELSYNC_CACHE": str(cache_folder()),
            "MODELSYNC_STATE": str(clusters_folder()),
            "MODELSYNC_CLUSTER": self.name,
            "MODELSYNC_NODE_ADDRESS": self.node_address,
            "MODELSYNC_GATEWAY_URL": self.gateway_url,
            "PATH": os.pathsep.join(
                (str(program("kubectl").parent), os.environ.get("PATH", ""), debian.SYSTEM_PATH),
            ),
        }

    def exec(self, arguments: Sequence[str | Path]) -> int:
        """Run a command inside and return its exit code."""
        return subprocess.run(self.command(arguments), env=self.environment(), check=False).returncode

    def kubectl(self, *arguments: str | Path, input: str | None = None) -> str:
        """Run kubectl as the administrator; returns its output. Raises ClusterError with its error."""
        answer = self._kubectl(*arguments, input=input)
        if answer.returncode:
            shown = " ".join(str(part) for part in arguments)
            raise ClusterError(f"`kubectl {shown}` failed: {(answer.stderr or answer.stdout).strip()}")
        return answer.stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects by server-side apply, as the administrator."""
        documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=documents)

    def load_images(self, *images: Image) -> None:
        """Import images into the node; layers that it already has are not sent again. Raises ClusterError."""
        if not self.status().node:
            raise ClusterError(f"cluster {self.name} has no node: run `python -m localcluster up --name {self.name}`")
        self._import(*images)

    def install_gateway_api(self, *, progress: Progress | None = None) -> None:
        """Add the Gateway API's CRDs and, if there is a node, Traefik with Gateway `gateways/models`."""
        progress = progress or Progress(quiet=True)
        with self._locked():
            self._install_gateway_crds(progress)
            if self.status().node:
                self._start_traefik(progress)

    # -- bringing up, in order -------------------------------------------------------------------------------------

    @property
    def gateway_kubeconfig(self) -> Path:
        """Traefik's kubeconfig."""
        return self._layout.component_kubeconfig("traefik")

    def restart_gateway(self, *, kubeconfig: Path | None = None) -> None:
        """Restart Traefik, from inside the cluster's network; its connections are cut.

        With `kubeconfig`, it uses that instead of its own, for example to go through a proxy that delays events.
        """
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig or self.gateway_kubeconfig)}
        self._processes.end("traefik")
        log = self._layout.logs / "traefik.log"
        self._processes.start("traefik", settings.traefik(self._layout), environment=environment, log=log)

    def _bring_up(self, progress: Progress, *, node: bool, gateway_api: bool) -> None:
        started = time.monotonic()
        node = node or self.status().node  # a cluster that has a node keeps it
        with progress.step("network namespace, keys, configuration"):
            self._prepare()
            network.create(self._layout.network_namespace)
        with progress.step("etcd and kube-apiserver"):
            self._start("etcd", settings.etcd(self._layout))
            self._start("kube-apiserver", settings.apiserver(self._layout))
            if node:
                self._start("containerd", settings.containerd(self._layout))
            self._wait_for_apiserver()
        with progress.step("kube-controller-manager and kube-scheduler"):
            self._start("kube-controller-manager", settings.controller_manager(self._layout, workloads=node))
            if node:
                self._start("kube-scheduler", settings.scheduler(self._layout))
        if node:
            with progress.step("kubelet and kube-proxy"):
                self._start_node()
        if gateway_api:
            self._install_gateway_crds(progress)
            if node:
                self._start_traefik(progress)
        with progress.step("waiting until pods can be created"):
            self._wait("service account `default`", "kube-controller-manager", self._no_service_account)
            if node:
                self._wait("the node to be ready", "kubelet", self._node_unready)
        progress.info(f"cluster {self.name} is up after {time.monotonic() - started:.1f} s")

    def _prepare(self) -> None:
        layout = self._layout
        layout.state.mkdir(parents=True, exist_ok=True)
        layout.state.chmod(0o700)
        for folder in (layout.config / "cni", layout.certificates, layout.logs, layout.pod_logs, layout.runtime):
            folder.mkdir(parents=True, exist_ok=True)
        _write(layout.state / "boot", boot_id())
        _write(layout.config / "tokens.csv", settings.tokens(self._secrets()))
        _write(layout.config / "audit-policy.json", settings.audit_policy())
        _write(layout.config / "containerd.toml", settings.containerd_config(layout))
        _write(layout.config / "cni" / "10-pods.conflist", settings.pod_network(layout))
        _write(layout.config / "kubelet.json", settings.kubelet_config(layout))
        _write(layout.config / "kube-proxy.json", settings.kube_proxy_config(layout))
        if not (layout.certificates / "service-account.key").exists():
            _openssl("genrsa", "-out", layout.certificates / "service-account.key", "2048")
        if not (layout.certificates / "kubelet-client.crt").exists():
            # One self-signed certificate is both the apiserver's client certificate and the kubelet's CA for it.
            _openssl(
                *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650"),
                *("-subj", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
                *("-addext", "extendedKeyUsage=clientAuth"),
                *("-keyout", layout.certificates / "kubelet-client.key"),
                *("-out", layout.certificates / "kubelet-client.crt"),
            )

    def _secrets(self) -> dict[str, str]:
        """A random token for each component, created once per cluster."""
        path = self._layout.config / "secrets.json"
        if not path.exists():
            _write(path, json.dumps({component: secrets.token_urlsafe(32) for component in settings.IDENTITIES}))
        found: dict[str, str] = json.loads(path.read_text())
        return found

    def _wait_for_apiserver(self) -> None:
        certificate = self._layout.certificates / "apiserver.crt"

        def unwritten() -> str:
            # It contains the server's certificate and its CA's, and is not written atomically; a kubeconfig built from
            # half of it would never work.
            written = certificate.read_text() if certificate.exists() else ""
            return "" if written.count("-----END CERTIFICATE-----") == 2 else f"{certificate.name} is not complete"

        self._wait("the apiserver's certificate", "kube-apiserver", unwritten)
        authority = base64.b64encode(certificate.read_bytes()).decode()
        for component, token in self._secrets().items():
            path = self.kubeconfig if component == "admin" else self._layout.component_kubeconfig(component)
            _write(path, settings.kubeconfig(self._layout, token, authority))
        self._wait(
            "the apiserver", "kube-apiserver", lambda: self._refusal("get", "--raw", "/readyz?verbose"), also=("etcd",)
        )

    def _start_node(self) -> None:
        self._wait("containerd", "containerd", lambda: self._ctr_refusal("version"))
        with _pause_image(self._layout) as pause:
            self._import(pause)
        self._start("kubelet", settings.kubelet(self._layout))
        self._start("kube-proxy", settings.kube_proxy(self._layout))

    def _install_gateway_crds(self, progress: Progress) -> None:
        manifests = gateway_api_manifests(progress)
        with progress.step("Gateway API CRDs"):
            self.kubectl("apply", "--server-side", "--force-conflicts", "-f", manifests)
            kinds = ("gatewayclasses", "gateways", "httproutes")
            names = [f"crd/{kind}.gateway.networking.k8s.io" for kind in kinds]
            wait_established(self.kubectl, *names)

    def _start_traefik(self, progress: Progress) -> None:
        with progress.step("Traefik and Gateway `models`"):
            self.apply(*settings.traefik_access(), *settings.gateway())
            kubeconfig = {"KUBECONFIG": str(self._layout.component_kubeconfig("traefik"))}
            self._start("traefik", settings.traefik(self._layout), kubeconfig)
            self._wait("the Gateway to be programmed", "traefik", self._gateway_unready)

    # -- questions and helpers -------------------------------------------------------------------------------------

    def _start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        folders = (str(CONTAINERD.folder()), str(KUBERNETES.folder()), debian.SYSTEM_PATH)
        base = {"PATH": os.pathsep.join(folders), "HOME": str(self._layout.state), "LANG": "C.UTF-8"}
        self._processes.start(
            name,
            [*network.enter(self._layout.network_namespace), *command],
            environment=base | dict(environment or {}),
            log=self._layout.logs / f"{name}.log",
        )

    def _wait(
        self,
        what: str,
        component: str,
        obstacle: Callable[[], str],
        *,
        also: Sequence[str] = (),
        timeout: timedelta = timedelta(seconds=90),
    ) -> None:
        """Poll until there is no `obstacle`; raise ClusterError with a log's end if `component` dies or on timeout."""
        deadline = time.monotonic() + timeout.total_seconds()
        while found := obstacle():
            for name in (component, *also):
                if not ((record := self._processes.get(name)) and record.alive):
                    raise ClusterError(f"{name} ended while waiting for {what}:\n{self._end_of_log(name)}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"waited {timeout.total_seconds():.0f} s for {what}: {found}\n{self._end_of_log(component)}"
                )
            time.sleep(0.05)

    def _end_of_log(self, component: str) -> str:
        try:
            lines = (self._layout.logs / f"{component}.log").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(f"  {line[:300]}" for line in lines[-20:])

    def _kubectl(self, *arguments: str | Path, input: str | None = None) -> subprocess.CompletedProcess[str]:
        command = tied(self.command([program("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]))
        environment = {"PATH": debian.SYSTEM_PATH, "HOME": str(self._layout.state)}
        return subprocess.run(command, env=environment, input=input, capture_output=True, text=True, check=False)

    def _refusal(self, *arguments: str) -> str:
        """Why kubectl fails; empty if it succeeds."""
        answer = self._kubectl("--request-timeout=5s", *arguments)
        return (answer.stderr or answer.stdout or "no answer").strip() if answer.returncode else ""

    def _no_service_account(self) -> str:
        return self._refusal("get", "serviceaccount", "default", "--namespace=default")

    def _node_unready(self) -> str:
        return self._refusal("wait", f"node/{settings.NODE_NAME}", "--for=condition=Ready", "--timeout=1s")

    def _gateway_unready(self) -> str:
        gateway = ("gateway/models", "--namespace=gateways", "--for=condition=Programmed", "--timeout=1s")
        return self._refusal("wait", *gateway)

    def _ctr_command(self, *arguments: str) -> list[str]:
        address = f"--address={self._layout.containerd_socket}"
        return tied([program("ctr"), address, "--namespace=k8s.io", *arguments])

    def _ctr_refusal(self, *arguments: str) -> str:
        answer = subprocess.run(self._ctr_command(*arguments), capture_output=True, text=True, check=False)
        return answer.stderr.strip() or "no answer" if answer.returncode else ""

    def _ctr(self, *arguments: str, input: bytes | None = None) -> bytes:
        answer = subprocess.run(self._ctr_command(*arguments), input=input, capture_output=True, check=False)
        if answer.returncode:
            raise ClusterError(f"`ctr {' '.join(arguments)}` failed: {answer.stderr.decode(errors='replace').strip()}")
        return answer.stdout

    def _import(self, *images: Image) -> None:
        present = set(self._ctr("content", "ls", "--quiet").decode().split())
        with tempfile.TemporaryFile() as output:
            importing = subprocess.Popen(
                self._ctr_command("images", "import", "-"), stdin=subprocess.PIPE, stdout=output, stderr=output
            )
            with importing, contextlib.suppress(BrokenPipeError):  # ctr prints itself why it stopped reading
                write_archive(images, cast(BinaryIO, importing.stdin), present=present)
            if importing.returncode:
                output.seek(0)
                names = ", ".join(image.name for image in images)
                raise ClusterError(f"importing {names} failed: {output.read().decode(errors='replace').strip()}")

    def _of_this_boot(self) -> bool:
        try:
            return (self._layout.state / "boot").read_text() == boot_id()
        except FileNotFoundError:  # `up` was stopped before its first file, so nothing was started
            return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock against concurrent `up` and `down`; the kernel releases it when the holder ends, in any way."""
        path = self._layout.lock
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    yield
                    return
            # `down` removed the file while we waited; lock the new one


def _require_linux_root() -> None:
    if os.uname().sysname != "Linux":
        raise ClusterError("the local cluster needs Linux; elsewhere use `python -m localcluster kind-up` (Docker)")
    if os.geteuid() != 0:
        raise ClusterError(
            "the local cluster needs root (network namespaces, containers): use sudo, "
            "or `python -m localcluster kind-up` where Docker works"
        )


@contextmanager
def _pause_image(layout: Layout) -> Iterator[Image]:
    """The image of every pod's sandbox container, which keeps the pod's namespaces open."""
    path = layout.runtime / "pause.tar"
    layer = write_layer([Entry("pause", program("pause"), mode=0o755)], path)
    yield Image(settings.PAUSE_IMAGE, (layer,), entrypoint=("/pause",), user="65535:65535")
    path.unlink()


def _write(path: Path, text: str) -> None:
    """Write a file that only the owner may read, atomically."""
    staging = path.with_name(f".{path.name}.new")
    staging.unlink(missing_ok=True)
    staging.touch(mode=0o600)
    staging.write_text(text)
    staging.rename(path)


def _openssl(*arguments: str | Path) -> None:
    answer = subprocess.run(
        [debian.which("openssl") or "openssl", *arguments], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise ClusterError(f"openssl {arguments[0]} failed: {answer.stderr.strip()}")
