"""`modelsync run`: runs the operator, in a pod or outside the cluster."""

import asyncio
import os
import sys
from pathlib import Path

import click
import structlog

from modelsync.api import settings as operator_settings
from modelsync.api.settings import OperatorSettings, SettingsError
from modelsync.controller import logs
from modelsync.controller.options import Options, StartError, Webhook
from modelsync.controller.run import run
from modelsync.registry.certificate import Certificate, CertificateError
from modelsync.registry.webhook import MIN_TOKEN_LENGTH

WEBHOOK_TOKEN = "MODELSYNC_WEBHOOK_TOKEN"  # noqa: S105 the name of a variable
WEBHOOK_SECRET = "MODELSYNC_WEBHOOK_SECRET"  # noqa: S105 the name of a variable
SYSTEM_NAMESPACE = "modelsync-system"
POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_EPILOG = f"""\b
Environment:
  KUBECONFIG               used without --kubeconfig and outside a pod
  {WEBHOOK_TOKEN}  the access token that webhooks must carry, unless --webhook-token-file is given
  {WEBHOOK_SECRET} the secret that webhooks must be signed with, if the automation has one
  POD_IP                   address to which standby replicas forward webhooks while this one is the leader
  POD_NAME                 this replica's name in the lease and in events; default: the host name

\b
Exit codes:
  0  stopped by a signal
  1  cannot run, see the message; or the lease was lost
  70 a defect in modelsync
"""

EXIT_DEFECT = 70

_FILE = click.Path(path_type=Path)


@click.command(epilog=_EPILOG)
@click.option("--kubeconfig", type=_FILE, help="The cluster; default: the pod's own, KUBECONFIG, ~/.kube/config.")
@click.option(
    "--namespace", "namespaces", multiple=True, help="Watch only this namespace; may be repeated. Default: all."
)
@click.option("--config", type=_FILE, help="The administrator's settings, in YAML.")
@click.option(
    "--webhook-port", type=click.IntRange(1, 65535), help="Listen for the registry's webhooks, POST /webhook."
)
@click.option("--webhook-host", default="", help="Address to listen on for webhooks. Default: all.")
@click.option("--webhook-token-file", type=_FILE, help="File with the access token that webhooks must carry.")
@click.option(
    "--webhook-tls-cert-file", type=_FILE, help="PEM file with the receiver's certificate; reloaded when it changes."
)
@click.option("--webhook-tls-key-file", type=_FILE, help="PEM file with the certificate's key.")
@click.option("--health-port", type=click.IntRange(1, 65535), help="Serve the liveness probe, GET /healthz.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve Prometheus metrics, GET /metrics.")
@click.option(
    "--lease-namespace",
    help=f"Namespace of the lease. Default: the pod's own namespace, or {SYSTEM_NAMESPACE} outside a pod.",
)
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    help="Default: console on a terminal, otherwise json.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning"]), default="info", show_default=True)
def command(
    kubeconfig: Path | None,
    namespaces: tuple[str, ...],
    config: Path | None,
    webhook_port: int | None,
    webhook_host: str,
    webhook_token_file: Path | None,
    webhook_tls_cert_file: Path | None,
    webhook_tls_key_file: Path | None,
    health_port: int | None,
    metrics_port: int | None,
    lease_namespace: str | None,
    log_format: logs.Format | None,
    log_level: str,
) -> None:
    """Run the operator: serve the versions that the aliases of all ModelDeployments name."""
    logs.configure(log_format or ("console" if sys.stderr.isatty() else "json"), log_level)
    try:
        options = Options(
            settings=operator_settings.load(config) if config is not None else OperatorSettings(),
            lease_namespace=lease_namespace or _own_namespace(),
            kubeconfig=kubeconfig,
            namespaces=namespaces,
            webhook=_webhook(
                webhook_host,
                webhook_port,
                webhook_token_file,
                _certificate(webhook_port, webhook_tls_cert_file, webhook_tls_key_file),
            ),
            health_port=health_port,
            metrics_port=metrics_port,
        )
        code = asyncio.run(run(options))
    except (StartError, SettingsError) as error:
        raise click.ClickException(str(error)) from None
    except click.ClickException:
        raise
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        structlog.get_logger(__name__).error("operator.defect", exc_info=True)
        click.echo(
            f"Error: a defect in modelsync: {type(error).__name__}: {error}; --log-level debug shows where", err=True
        )
        code = EXIT_DEFECT
    sys.stderr.flush()
    # Nothing is left to do, and a watch blocked in its thread must not keep the process alive.
    os._exit(code)


def _own_namespace() -> str:
    """The pod's namespace; outside a pod, that of deploy/install.yaml."""
    try:
        return POD_NAMESPACE_FILE.read_text().strip() or SYSTEM_NAMESPACE
    except OSError:
        return SYSTEM_NAMESPACE


def _certificate(port: int | None, chain: Path | None, key: Path | None) -> Certificate | None:
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        raise click.UsageError("--webhook-tls-cert-file and --webhook-tls-key-file go together: pass both or neither")
    if port is None:
        raise click.UsageError("--webhook-tls-cert-file requires --webhook-port")
    try:
        return Certificate(chain, key)
    except CertificateError as error:
        raise click.ClickException(f"--webhook-tls-cert-file, --webhook-tls-key-file: {error}") from None


def _webhook(host: str, port: int | None, token_file: Path | None, certificate: Certificate | None) -> Webhook | None:
    if port is None:
        if token_file is not None:
            raise click.UsageError("--webhook-token-file requires --webhook-port")
        return None
    if token_file is not None:
        try:
            token, source = token_file.read_text().strip(), f"--webhook-token-file {token_file}"
        except OSError as error:
            raise click.ClickException(
                f"--webhook-token-file {token_file}: cannot be read ({error.strerror}); pass a file with the token"
            ) from None
    else:
        token, source = os.environ.get(WEBHOOK_TOKEN, "").strip(), WEBHOOK_TOKEN
    if len(token) < MIN_TOKEN_LENGTH:
        raise click.ClickException(
            f"--webhook-port requires an access token of at least {MIN_TOKEN_LENGTH} characters, {source} has "
            f"{len(token)}; create one with `openssl rand -hex 32` and put it into the W&B automation too"
        )
    return Webhook(host, port, token, os.environ.get(WEBHOOK_SECRET, ""), certificate)
