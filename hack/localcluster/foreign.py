"""An existing cluster, in place of the local one, for the demo and the e2e tests.

KUBECONFIG selects it; environment variables contain what only its owner can know. Nothing in the cluster itself is
started or stopped, only the servers beside it (W&B stand-in, operator), which `localcluster down --name existing` ends.
"""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from localcluster.cluster import Cluster
from localcluster.debian import which
from localcluster.errors import ClusterError
from localcluster.oci import Image, write_archive

NAME = "existing"

_NEEDED = {
    "MODELSYNC_NODE_ADDRESS": "the address by which the cluster's pods reach this machine",
    "MODELSYNC_GATEWAY_URL": "the URL by which this machine reaches the Gateway `models` in namespace `gateways`",
    "MODELSYNC_LOAD_IMAGES": "a command that loads an OCI archive, its last argument, onto the nodes, for example "
    "`kind load image-archive --name modelsync`",
}


class ExistingCluster(Cluster):
    """The cluster of KUBECONFIG. Raises ClusterError when required environment variables are missing."""

    def __init__(self) -> None:
        super().__init__(NAME)
        if missing := [name for name in _NEEDED if not os.environ.get(name)]:
            lines = "\n".join(f"  {name}: {_NEEDED[name]}" for name in missing)
            raise ClusterError(f"KUBECONFIG selects an existing cluster; set also\n{lines}")
        self._kubectl_program = which("kubectl")
        if self._kubectl_program is None:
            raise ClusterError("kubectl is not on PATH: https://kubernetes.io/docs/tasks/tools/")

    @property
    def kubeconfig(self) -> Path:
        """The first file of KUBECONFIG."""
        return Path(os.environ["KUBECONFIG"].split(os.pathsep)[0])

    @property
    def node_address(self) -> str:
        """The address by which pods reach this machine."""
        return os.environ["MODELSYNC_NODE_ADDRESS"]

    @property
    def gateway_url(self) -> str:
        """The URL by which this machine reaches the gateway."""
        return os.environ["MODELSYNC_GATEWAY_URL"].rstrip("/")

    def kubectl(self, *arguments: str | Path, input: str | None = None) -> str:
        """Run kubectl; returns its output. Raises ClusterError with its error."""
        command = [str(self._kubectl_program), *(str(part) for part in arguments)]
        answer = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise ClusterError(f"`{shlex.join(command)}` failed: {(answer.stderr or answer.stdout).strip()}")
        return answer.stdout

    def load_images(self, *images: Image) -> None:
        """Pass the images to the owner's command."""
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "images.tar"
            with archive.open("wb") as output:
                write_archive(images, output)
            command = [*shlex.split(os.environ["MODELSYNC_LOAD_IMAGES"]), str(archive)]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise ClusterError(f"MODELSYNC_LOAD_IMAGES: `{shlex.join(command)}` failed: {answer.stderr.strip()}")


def current_cluster() -> Cluster:
    """The local cluster in which this was started by `exec`, else that of KUBECONFIG. Raises ClusterError."""
    if os.environ.get("MODELSYNC_CLUSTER") or not os.environ.get("KUBECONFIG"):
        return Cluster.current()
    return ExistingCluster()
