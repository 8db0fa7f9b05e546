"""Forwards a webhook from a standby replica to the leader.

The Service sends webhooks to any replica, W&B sends each only once, and only the leader polls. Only the collection's
names are forwarded, nothing else of the request; both replicas know the token and the secret, so the forwarded request
is authenticated and signed in the same way.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta

import aiohttp
import structlog

from modelsync.registry.certificate import Certificate

RELAYED_HEADER = "X-Modelsync-Relayed"
TIMEOUT = timedelta(seconds=2)

Look = Callable[[str, str, str], None]
"""Called with the entity, project and collection to read; an empty name matches any. Must not block."""

log = structlog.get_logger(__name__)


class Relay:
    """Handles webhooks itself once `lead` was called; until then it forwards them to the leader.

    `leader` returns the leader's host and port, or None when there is none.
    """

    def __init__(
        self,
        leader: Callable[[], str | None],
        *,
        token: str,
        secret: str = "",
        path: str = "/webhook",
        certificate: Certificate | None = None,
    ) -> None:
        self._leader = leader
        self._token = token
        self._secret = secret
        self._path = path
        self._certificate = certificate
        self._look: Look | None = None

    def lead(self, look: Look) -> None:
        """Handle webhooks in this replica from now on, with `look`."""
        self._look = look

    async def handle(self, entity: str, project: str, collection: str, *, relayed: bool) -> bool:
        """Call `look`, or forward to the leader unless already relayed; return whether the leader handles it."""
        if self._look is not None:
            self._look(entity, project, collection)
            return True
        leader = self._leader()
        if relayed or leader is None:
            log.warning("registry.webhook_not_relayed", why="no leader is known")
            return False
        body = json.dumps(
            {"entity_name": entity, "project_name": project, "artifact_collection_name": collection}
        ).encode()
        headers = {"Authorization": f"Bearer {self._token}", RELAYED_HEADER: "true", "Content-Type": "application/json"}
        if self._secret:
            headers["X-Wandb-Signature"] = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
        scheme, pin = "http", None
        if self._certificate is not None:
            # The leader has the same files, so it must present exactly this certificate, whatever its host names.
            scheme, pin = "https", aiohttp.Fingerprint(self._certificate.fingerprint)
        try:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT.total_seconds())
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.post(
                    f"{scheme}://{leader}{self._path}",
                    data=body,
                    headers=headers,
                    ssl=True if pin is None else pin,
                    allow_redirects=False,
                ) as response,
            ):
                if response.status != 202:
                    log.warning("registry.webhook_not_relayed", why=f"{leader} answered {response.status}")
                return response.status == 202
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("registry.webhook_not_relayed", why=f"{leader}: {error or type(error).__name__}")
            return False
