"""Reads the W&B credential and the CA bundle of a registry, from the ModelDeployment's namespace or the operator's.

A Secret is read by name for each request and dropped after it. It must carry the label by which its owner consents.
This module must never keep an API key, nor put one into a log line or an error.
"""

import time
from collections.abc import Callable
from datetime import timedelta

from modelsync.api.kinds import CONFIG_MAP, SECRET, Key
from modelsync.api.registry import ConfigMapKeyRef, Registry, SecretKeyRef
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import ClusterError, ForbiddenError, NotFoundError
from modelsync.observe.credential import credential_of, denied, without_consent
from modelsync.registry.credential import Credential
from modelsync.registry.errors import DeniedError, UnreachableError
from modelsync.registry.graphql import InvalidCABundleError, tls
from modelsync.registry.model import Question
from modelsync.registry.poller import CredentialProvider, Server, Subscription

CA_BUNDLE_TTL = timedelta(seconds=60)
"""How long a CA bundle is cached; ConfigMaps are not watched."""

_Identity = tuple[str, str, str]
"""Namespace, name of the Secret or ConfigMap, and key in it."""


class RegistryConfigError(Exception):
    """The registry cannot be queried because the CA bundle is missing or invalid; the message says what to fix."""


class RegistryCredentials:
    """Reads credentials and CA bundles, and remembers why a credential could not be read."""

    def __init__(self, cluster: Cluster, *, own_namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._own_namespace = own_namespace
        self._clock = clock
        self._credential_problems: dict[_Identity, str] = {}
        self._bundles: dict[_Identity, tuple[float, str]] = {}

    async def subscription(
        self, key: Key, registry: Registry, question: Question, *, own: bool = False
    ) -> Subscription:
        """Return what the poller has to query for `key`. Raises RegistryConfigError and ClusterErrors.

        With `own`, Secret and CA bundle are in the operator's namespace instead of that of `key`.
        """
        namespace = self._own_namespace if own else key.namespace
        pem = None
        if registry.ca_bundle is not None:
            pem = await self._bundle(namespace, registry.ca_bundle.config_map_key_ref)
        identity = _identity(namespace, registry.auth.secret_key_ref)
        return Subscription(
            server=Server(registry.base_url.rstrip("/"), pem),
            identity=identity,
            credential=self._provider(identity),
            question=question,
            interval=registry.poll_interval,
        )

    def credential_problem(self, key: Key, registry: Registry, *, own: bool = False) -> str | None:
        """Return why the credential could not be read the last time, or None."""
        namespace = self._own_namespace if own else key.namespace
        return self._credential_problems.get(_identity(namespace, registry.auth.secret_key_ref))

    def _provider(self, identity: _Identity) -> CredentialProvider:
        async def provide() -> Credential:
            try:
                credential = await self._credential(identity)
            except DeniedError as error:
                self._credential_problems[identity] = str(error)
                raise
            self._credential_problems.pop(identity, None)
            return credential

        return provide

    async def _credential(self, identity: _Identity) -> Credential:
        """Raises DeniedError when a user has to fix something, and UnreachableError when a retry may help."""
        namespace, name, key = identity
        where = f"Secret {namespace}/{name}"
        try:
            secret = await self._cluster.get(SECRET, namespace, name)
        except NotFoundError:
            raise without_consent(namespace, name, key) from None
        except ForbiddenError:
            raise denied(f"the operator may not read {where}; grant its account `get` on it") from None
        except ClusterError as error:
            raise UnreachableError(f"{where} cannot be read: {error}") from None
        return credential_of(secret, key)

    async def _bundle(self, namespace: str, ref: ConfigMapKeyRef) -> str:
        identity = (namespace, ref.name, ref.key)
        read_at, pem = self._bundles.get(identity, (float("-inf"), ""))
        if self._clock() - read_at < CA_BUNDLE_TTL.total_seconds():
            return pem
        field = "spec.registry.caBundle.configMapKeyRef"
        where = f"ConfigMap {namespace}/{ref.name}"
        try:
            data = (await self._cluster.get(CONFIG_MAP, namespace, ref.name)).get("data") or {}
        except NotFoundError:
            data = {}
        except ForbiddenError:
            raise RegistryConfigError(
                f"{field}: the operator may not read {where}; grant its account `get` on it"
            ) from None
        if ref.key not in data:
            # Who reads this may not be allowed to read ConfigMaps: not whether it exists, nor which keys it has.
            raise RegistryConfigError(
                f"{field}: {where} does not exist, or has no key {ref.key!r}; create it, with PEM certificates under "
                "that key"
            )
        pem = str(data[ref.key])
        try:
            tls(ca_pem=pem, source=f"{where} key {ref.key}")
        except InvalidCABundleError as error:
            raise RegistryConfigError(f"{field}: {error}") from None
        self._bundles[identity] = (self._clock(), pem)
        return pem


def _identity(namespace: str, ref: SecretKeyRef) -> _Identity:
    return namespace, ref.name, ref.key
