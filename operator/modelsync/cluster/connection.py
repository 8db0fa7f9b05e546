"""Finds the API server: `--kubeconfig`, `KUBECONFIG`, the pod's service account, or `~/.kube/config`.

It must never print a credential.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import ApiClient, Configuration

from modelsync.cluster.errors import ConnectionConfigError

DEFAULT_KUBECONFIG = "~/.kube/config"
CONNECTIONS = 100
"""Concurrent connections; the API server's priority and fairness limits us long before that."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What another HTTP client needs to talk to the same API server (the watches of the kopf shell)."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    insecure: bool
    proxy: str | None
    authorization: str | None
    """The value of the Authorization header; read again at each login, since tokens are rotated."""

    def __repr__(self) -> str:
        return f"Credentials(server={self.server!r})"


class Connection:
    """An API server and the account to use there."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def client(self) -> ApiClient:
        """Open a client; the caller closes it."""
        return ApiClient(configuration=self._configuration)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._configuration.host)

    async def credentials(self) -> Credentials:
        """Return the account's current credentials, with a fresh token where tokens are rotated."""
        configuration = self._configuration
        headers: dict[str, str] = {}
        async with self.client() as api:
            await api.update_params_for_auth(headers, [], ["BearerToken"], "/", "GET", None)
        return Credentials(
            server=self.server,
            ca_path=configuration.ssl_ca_cert,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            insecure=not configuration.verify_ssl,
            proxy=configuration.proxy,
            authorization=headers.get("authorization") or headers.get("Authorization"),
        )


async def connect(kubeconfig: Path | None = None) -> Connection:
    """Find the API server. Raises ConnectionConfigError, which says what was tried and what to do."""
    configuration = Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    configuration.retries = None
    # Proxies are looked up once, here: aiohttp would start a thread for the lookup at each request.
    configuration.client_session_kwargs = {"trust_env": False}
    if kubeconfig is None and "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        try:
            kubernetes_config.load_incluster_config(client_configuration=configuration)
        except kubernetes_config.ConfigException as error:
            raise ConnectionConfigError(
                f"the pod's service account cannot be used: {error}; mount its token, or pass --kubeconfig"
            ) from None
        return Connection(_with_proxy(configuration))
    path = _kubeconfig_path(kubeconfig)
    try:
        await kubernetes_config.load_kube_config(config_file=path, client_configuration=configuration)
    except Exception as error:  # the loader raises whatever YAML, base64 and exec plugins do
        text = " ".join(str(error).split()) or type(error).__name__
        raise ConnectionConfigError(f"the kubeconfig {path} cannot be used: {text}") from None
    return Connection(_with_proxy(configuration))


def _with_proxy(configuration: Configuration) -> Configuration:
    """Apply HTTPS_PROXY, HTTP_PROXY and NO_PROXY unless the kubeconfig sets a proxy."""
    server = urlsplit(str(configuration.host))
    if configuration.proxy is None and not proxy_bypass(server.hostname or ""):
        configuration.proxy = getproxies().get(server.scheme)
    return configuration


def _kubeconfig_path(given: Path | None) -> str:
    """Return the kubeconfig path, or several paths from KUBECONFIG. Raises ConnectionConfigError when none exists."""
    if given is not None:
        if not given.expanduser().is_file():
            raise ConnectionConfigError(f"--kubeconfig {given}: there is no such file")
        return str(given.expanduser())
    path = os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    if not any(Path(part).expanduser().exists() for part in path.split(os.pathsep) if part):
        raise ConnectionConfigError(
            f"no cluster: {path} does not exist and this is not a pod; pass --kubeconfig FILE or set KUBECONFIG"
        )
    return path
