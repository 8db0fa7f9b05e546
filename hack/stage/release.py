"""The operator as users install it: a release of the chart, by the real Helm, at the restricted Pod Security level."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from localcluster import Cluster, ClusterError
from localcluster.tools import program
from stage.manifests import namespace

CHART = Path(__file__).resolve().parents[2] / "helm" / "modelsync"
PATIENCE_SECONDS = 90


class Release:
    """One release. Errors of Helm are raised as ClusterError, with its message."""

    def __init__(self, cluster: Cluster, *, name: str, namespace: str) -> None:
        self._cluster = cluster
        self.name = name
        self.namespace = namespace
        self.fullname = name if "modelsync" in name else f"{name}-modelsync"

    def install(self, values: Mapping[str, Any]) -> None:
        """Install it, or upgrade it to these values, and wait until everything runs."""
        self._cluster.apply(namespace(self.namespace))
        # The release takes over what another test created without Helm (the definition).
        flags = ["--install", "--wait", f"--timeout={PATIENCE_SECONDS}s", "--take-ownership", "--force-conflicts"]
        self.helm("upgrade", self.name, CHART, *flags, "--values", "-", values=values)

    def rollback(self, revision: int) -> None:
        """Roll back to an earlier revision of the release."""
        self.helm("rollback", self.name, str(revision), "--wait", f"--timeout={PATIENCE_SECONDS}s", "--force-conflicts")

    def uninstall(self) -> None:
        """Uninstall it; what remains depends on its values."""
        self.helm("uninstall", self.name, "--wait", "--ignore-not-found")

    def helm(self, *arguments: str | Path, values: Mapping[str, Any] | None = None) -> str:
        """Run helm in the release's namespace; returns its output."""
        homes = {f"HELM_{each}_HOME": str(self._cluster.state / "helm") for each in ("CACHE", "CONFIG", "DATA")}
        command = [str(program("helm")), *map(str, arguments), "--namespace", self.namespace]
        answer = subprocess.run(
            command,
            input=yaml.safe_dump(dict(values or {})),
            env={**os.environ, **homes, "KUBECONFIG": str(self._cluster.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise ClusterError(f"`helm {arguments[0]}` failed: {answer.stderr.strip()}\n{self.explain()}")
        return answer.stdout

    @property
    def selector(self) -> str:
        """The labels of its pods."""
        return f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component=operator"

    def pods(self) -> list[dict[str, Any]]:
        """Its pods, except those that are being deleted."""
        found = self._items("pods", f"--selector={self.selector}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def leader(self) -> str:
        """The name of the leading pod; empty if there is none."""
        (lease,) = self._items("leases", "--field-selector=metadata.name=modelsync") or [{}]
        holder: str = (lease.get("spec") or {}).get("holderIdentity") or ""
        return holder.rpartition("_")[0]

    def leases(self) -> list[dict[str, Any]]:
        """The Leases in its namespace."""
        return self._items("leases")

    def kill(self, pod: str) -> None:
        """Kill the operator in a pod, like a crash: at once and without cleanup."""
        if (process := _process_of(pod)) is not None:
            os.kill(process, signal.SIGKILL)
        else:  # on a node that is not this machine
            self._kubectl("delete", "pod", pod, "--grace-period=0", "--force")

    def scale_to_zero(self) -> None:
        """Scale the release down, as an administrator would, and wait until its processes have ended."""
        with suppress(ClusterError):  # it was never installed
            self._kubectl("scale", f"deployment/{self.fullname}", "--replicas=0")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._items("pods", f"--selector={self.selector}"):
            if time.monotonic() > deadline:
                raise ClusterError(f"the pods of {self.name} do not terminate\n{self.explain()}")
            time.sleep(0.2)

    def webhook_url(self, *, tls: bool = False) -> str:
        """The URL of its webhook receiver inside the cluster's network, by the Service's address."""
        (service,) = self._items("services", f"--field-selector=metadata.name={self.fullname}-webhook")
        return f"{'https' if tls else 'http'}://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}/webhook"

    def explain(self) -> str:
        """Its objects and logs, for the message of a failed test."""
        parts = []
        for question in (
            ("get", "deployments,replicasets,pods", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", f"--selector={self.selector}", "--tail=20", "--prefix", "--all-containers"),
        ):
            with suppress(ClusterError):
                parts.append(self._kubectl(*question))
        return "\n".join(parts)

    def _items(self, kind: str, *selectors: str) -> list[dict[str, Any]]:
        found = json.loads(self._kubectl("get", kind, *selectors, "-o", "json"))
        return list(found["items"])

    def _kubectl(self, *arguments: str) -> str:
        return self._cluster.kubectl(*arguments, "--namespace", self.namespace)


def _process_of(pod: str) -> int | None:
    """The operator's process in a pod of this machine's node, identified by its environment."""
    wanted = f"POD_NAME={pod}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    return int(folder.name)
    return None
