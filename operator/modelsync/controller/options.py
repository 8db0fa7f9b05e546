"""The options of an operator process, and its identity and address. Reads the environment, and nothing else."""

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
    """Where to listen for the registry's webhooks, and the token and secret that they must have."""

    host: str
    port: int
    token: str
    secret: str = ""
    certificate: Certificate | None = None
    """Without a certificate the receiver serves plain HTTP; a proxy in front of it must terminate TLS."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `modelsync run`."""

    settings: OperatorSettings
    lease_namespace: str
    kubeconfig: Path | None = None
    namespaces: Sequence[str] = ()
    webhook: Webhook | None = None
    health_port: int | None = None
    metrics_port: int | None = None


def identity() -> str:
    """Return the pod's name, or the host name outside of a pod."""
    return os.environ.get("POD_NAME") or socket.gethostname()


def address(options: Options) -> str | None:
    """Return the address to which other replicas relay webhooks. Only a pod knows its address; elsewhere it is None."""
    host = os.environ.get("POD_IP")
    if not host or options.webhook is None:
        return None
    return f"[{host}]:{options.webhook.port}" if ":" in host else f"{host}:{options.webhook.port}"
