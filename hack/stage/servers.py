"""The two servers beside the cluster: the W&B stand-in, and the operator with the permissions from the chart.

Both are recorded as processes of the cluster, so that they outlive the demo (its user can keep using them) and end with
`make cluster-down`. With MODELSYNC_E2E_OPERATOR=chart, the operator runs in pods instead, as a release of the chart.
Runs inside the cluster's network namespace.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from localcluster import Cluster
from stage.manifests import namespace, registry
from stage.release import Release

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEM_NAMESPACE = "modelsync-system"
REGISTRY_PORT = 8080
WEBHOOK_PORT = 9443
WEBHOOK_SECRET = "modelsync-webhook"  # noqa: S105 the name of the object
WEBHOOK_TOKEN = "local-webhook-token"  # noqa: S105 valid only inside the namespace


class Servers:
    """Starts, stops and restarts the servers."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._processes = cluster.processes
        self.folder = cluster.state / "stage"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.release = Release(cluster, name="modelsync", namespace=SYSTEM_NAMESPACE) if _by_chart() else None
        """The operator's release, if it runs in pods."""

    @property
    def registry_url(self) -> str:
        """The URL of the W&B stand-in for pods and the operator."""
        return f"http://{self._cluster.node_address}:{REGISTRY_PORT}"

    @property
    def webhook_url(self) -> str:
        """The URL of the operator's webhook receiver."""
        if self.release is not None:
            return self.release.webhook_url()
        return f"http://{self._cluster.node_address}:{WEBHOOK_PORT}/webhook"

    @property
    def operator_log(self) -> Path:
        """The operator's log, across restarts."""
        return self._cluster.logs / "modelsync.log"

    def start_registry(self) -> None:
        """Start the W&B stand-in unless it runs."""
        host = self._cluster.node_address
        blobs = self.folder / "blobs"
        command = ["-m", "wandb_standin", "--host", host, "--port", str(REGISTRY_PORT), "--blobs", str(blobs)]
        self._start("wandb-standin", command)

    def start_operator(self, *, puller_image: str, settings: Mapping[str, Any] | None = None) -> None:
        """Start the operator, or restart it if its settings changed."""
        config = self.settings(puller_image, settings)
        if self.release is not None:
            self._release(self.release, puller_image, config)
            return
        text = yaml.safe_dump(config)
        # Named by its content: new settings change the command line, and so cause a restart.
        path = self.folder / f"settings-{sha256(text.encode()).hexdigest()[:12]}.yaml"
        path.write_text(text)
        token = self.folder / "webhook-token"
        token.write_text(WEBHOOK_TOKEN)
        kubeconfig = self._service_account_kubeconfig()
        command = ["-m", "modelsync", "run", "--kubeconfig", str(kubeconfig), "--config", str(path)]
        command += ["--webhook-port", str(WEBHOOK_PORT), "--webhook-token-file", str(token)]
        self._start("modelsync", command)

    def settings(self, puller_image: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The administrator's settings for this cluster."""
        return {
            "registry": registry(self.registry_url),
            "allowedRegistries": [self.registry_url],
            "allowedImages": ["docker.io/library/vllm-standin"],
            "servingImage": "docker.io/library/vllm-standin:v0.32.0",
            "pullerImage": puller_image,
            **(more or {}),
        }

    def chart_values(self, image: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The chart's values for this cluster; the webhook Secret must be in the release's namespace."""
        repository, _, tag = image.rpartition(":")
        return {
            "image": {"repository": repository, "tag": tag},
            "settings": dict(settings),
            "webhook": {"enabled": True, "secret": {"name": WEBHOOK_SECRET}},
            "resources": {"requests": {"cpu": "10m"}},
        }

    def kill_operator(self) -> None:
        """Kill the operator, like a crash: at once and without cleanup. In pods it is restarted automatically."""
        if self.release is not None:
            for pod in self.release.pods():
                self.release.kill(pod["metadata"]["name"])
            return
        self._processes.kill("modelsync")

    def end_operator(self) -> None:
        """Stop the operator as a rolling update does: SIGTERM, then wait."""
        if self.release is not None:
            self.release.scale_to_zero()
            return
        self._processes.end("modelsync")

    def forget_operator(self) -> None:
        """Stop the operator and drop its account, which is about to be deleted; in pods, uninstall the release."""
        if self.release is not None:
            self.release.uninstall()
            return
        self.end_operator()
        (self.folder / "operator.kubeconfig").unlink(missing_ok=True)

    def end(self) -> None:
        """End both."""
        if self.release is not None:
            self.release.uninstall()
            self._processes.end("modelsync-log")
        self._processes.end("modelsync", "wandb-standin")

    def _release(self, release: Release, image: str, settings: Mapping[str, Any]) -> None:
        self._cluster.apply(namespace(release.namespace), webhook_secret(release.namespace))
        release.install(self.chart_values(image, settings))
        # From here on, the log of the pods replaces that of the process.
        self._processes.end("modelsync-log")
        command = ["kubectl", "logs", "--follow", "--ignore-errors", "--prefix", "--max-log-requests=20", "--since=1s"]
        command += ["--namespace", release.namespace, f"--selector={release.selector}"]
        environment = {**os.environ, "KUBECONFIG": str(self._cluster.kubeconfig)}
        self._processes.start("modelsync-log", command, environment=environment, log=self.operator_log)

    def _start(self, name: str, arguments: Sequence[str]) -> None:
        source = os.pathsep.join(str(REPOSITORY / part) for part in ("operator", "hack"))
        environment = {**os.environ, "PYTHONPATH": source, "PYTHONUNBUFFERED": "1"}
        log = self._cluster.logs / f"{name}.log"
        self._processes.start(name, [sys.executable, *arguments], environment=environment, log=log)

    def _service_account_kubeconfig(self) -> Path:
        """A kubeconfig for the operator's service account, with exactly the permissions from the chart."""
        path = self.folder / "operator.kubeconfig"
        if path.exists():
            return path
        self._cluster.apply(*operator_account())
        duration = "--duration=24h"
        token = self._cluster.kubectl("create", "token", "modelsync", f"--namespace={SYSTEM_NAMESPACE}", duration)
        config = yaml.safe_load(self._cluster.kubeconfig.read_text())
        config["users"] = [{"name": user["name"], "user": {"token": token.strip()}} for user in config["users"]]
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path


def operator_account() -> list[dict[str, Any]]:
    """The operator's namespace, account, permissions and their bound, from the manifests generated from the chart.

    Without the policy for users: it lets only one operator's stamps through.
    """
    wanted = {"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    bound = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    documents = yaml.safe_load_all((REPOSITORY / "deploy" / "install.yaml").read_text())
    return [
        document
        for document in documents
        if document["kind"] in wanted
        or (document["kind"] in bound and document["metadata"]["name"] == "modelsync-operator")
    ]


def webhook_secret(name_space: str) -> dict[str, Any]:
    """The Secret with the token of the registry's webhooks."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": WEBHOOK_SECRET, "namespace": name_space},
        "stringData": {"token": WEBHOOK_TOKEN},
    }


def _by_chart() -> bool:
    return os.environ.get("MODELSYNC_E2E_OPERATOR") == "chart"
