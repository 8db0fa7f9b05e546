"""What a process of the operator was told, and how others know it. Reads the environment, and nothing else."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelsync.api.settings import OperatorSettings
from modelsync.registry.certificate import Certificate


class StartError(Exception):
    """The operator cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to listen for the registry's webhooks, and what they must know."""

    host: str
    port: int
    token: str
    secret: str = ""
    certificate: Certificate | None = None
    """Without one calls come in the clear: something before us must end TLS."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `modelsync run` was told."""

    settings: OperatorSettings
    lease_namespace: str
    kubeconfig: Path | None = None
    namespaces: Sequence[str] = ()
    webhook: Webhook | None = None
    health_port: int | None = None
    metrics_port: int | None = None


def identity() -> str:
    """The pod's name, or the machine's."""
    return os.environ.get("POD_NAME") or socket.gethostname()


def address(options: Options) -> str | None:
    """Where other processes pass webhooks on to us; only a pod knows by which address it is reached."""
    host = os.environ.get("POD_IP")
    if not host or options.webhook is None:
        return None
    return f"[{host}]:{options.webhook.port}" if ":" in host else f"{host}:{options.webhook.port}"
