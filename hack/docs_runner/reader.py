"""Provides what a page expects its reader to have: a shell environment, a kubeconfig, and folders with models.

The local cluster and its gateway replace the reader's, the W&B stand-in replaces W&B, vLLM's stand-in replaces the
operator's default image, and the node pretends to have GPUs. The commands are the page's own.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from localcluster import Cluster
from localcluster.tools import program
from modelsync.api import names
from stage import Stage
from stage.manifests import API_KEY
from stage.stage import ENTITY, REGISTRY
from vllm_standin.artifact import make_model

ROOT = Path(__file__).resolve().parents[2]
GPUS = "64"
RELEASE, SYSTEM_NAMESPACE = "modelsync", "modelsync-system"
_NAMESPACE = "docs-"
"""Prefix of the readers' namespaces."""


def prepare(stage: Stage) -> None:
    """Set up what all readers share: GPUs on the node, a registry that has been used before, and no operator yet."""
    remove_operator(stage)
    _offer_gpus(stage.cluster)
    stage.log_version("Another Model", "I am not of any page")


def remove_operator(stage: Stage) -> None:
    """Remove what the quickstart installs, readers create, or earlier tests left, including all models."""
    kubectl = stage.cluster.kubectl
    stage.servers.forget_operator()
    # Everything else that the chart created, above all its admission policy.
    uninstall = ["uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--ignore-not-found", "--wait"]
    subprocess.run([program("helm"), *uninstall], env={**os.environ, **stage.cluster.environment()}, check=True)
    kubectl("delete", "crd", names.CRD_NAME, "--ignore-not-found", "--timeout=120s")
    for kind, beginnings in (
        ("namespace", (SYSTEM_NAMESPACE, _NAMESPACE)),
        ("clusterrole", (RELEASE,)),
        ("clusterrolebinding", (RELEASE,)),
    ):
        found = kubectl("get", kind, "-o", "name").split()
        if ours := [name for name in found if name.partition("/")[2].startswith(beginnings)]:
            kubectl("delete", *ours, "--timeout=120s")


def reader(stage: Stage, name: str, folder: Path) -> Mapping[str, str]:
    """The environment of one reader, with its own collection and host name; writes into `folder`."""
    home = folder / "home"
    home.mkdir(parents=True)
    (folder / "helm").symlink_to(ROOT / "helm")
    (folder / "values.yaml").write_text(yaml.safe_dump(_values(stage)))
    kubeconfig = folder / "kubeconfig"
    shutil.copy(stage.cluster.kubeconfig, kubeconfig)
    for number, text in enumerate(("I am the first version", "I am the second version", "I am the third"), 1):
        # Slow enough that a request may be running when something happens to its version.
        make_model(folder / f"model-{number}", name, text, {"ttft_seconds": 0.05, "token_seconds": 0.02, "tokens": 20})
    programs = [
        _vllm(folder),
        Path(sys.executable).parent,
        program("helm").parent,
        *map(Path, os.environ["PATH"].split(os.pathsep)),
    ]
    return {
        "PATH": os.pathsep.join(map(str, programs)),
        "HOME": str(home),
        "KUBECONFIG": str(kubeconfig),
        "WANDB_BASE_URL": stage.servers.registry_url,
        "WANDB_API_KEY": API_KEY,
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "MODEL": f"{ENTITY}/{REGISTRY}/Chat LLM of {name}",
        "NAMESPACE": _NAMESPACE + name,
        "HOST": f"{name}.example.com",
        "GATEWAY_URL": stage.cluster.gateway_url,
    }


def _vllm(folder: Path) -> Path:
    """A folder with a `vllm` command, which runs the stand-in."""
    script = folder / "bin" / "vllm"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT / "hack"} exec {sys.executable} -m vllm_standin "$@"\n')
    script.chmod(0o755)
    return script.parent


def _values(stage: Stage) -> Mapping[str, object]:
    """The chart's values for this cluster, in the form that the page asks for."""
    repository, _, tag = stage.load_puller("dev").rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag},
        "settings": {
            "allowedRegistries": [stage.servers.registry_url],
            "allowedImages": ["docker.io/library/vllm-standin"],
            "servingImage": "docker.io/library/vllm-standin:v0.32.0",
        },
    }


def _offer_gpus(cluster: Cluster) -> None:
    """Make every node advertise GPUs: pods that request one are scheduled, but get none.

    https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/
    """
    changes = [
        {"op": "add", "path": f"/status/{part}/nvidia.com~1gpu", "value": GPUS} for part in ("capacity", "allocatable")
    ]
    for node in cluster.kubectl("get", "nodes", "-o", "name").split():
        cluster.kubectl("patch", node, "--subresource=status", "--type=json", "-p", json.dumps(changes))
