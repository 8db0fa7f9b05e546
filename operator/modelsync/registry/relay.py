"""Passes a webhook on to the process that works, when it reached one that only waits for the lease.

A Service spreads webhooks over all processes, W&B sends each only once, and only the leader looks. What is passed on is
where to look, nothing else of the call; it carries the same token and signature, since both processes know them.
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
PATIENCE = timedelta(seconds=2)

Look = Callable[[str, str, str], None]
"""Called with entity, project and collection to look at; an empty name stands for any. Must not block."""

log = structlog.get_logger(__name__)


class Relay:
    """Looks itself once `lead` was called; until then it tells the leader, whose host and port `leader` gives."""

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
        """From now on webhooks are for us."""
        self._look = look

    async def take(self, entity: str, project: str, collection: str, *, relayed: bool) -> bool:
        """Look, or tell the leader; whether somebody looks. What was relayed already is not relayed again."""
        if self._look is not None:
            self._look(entity, project, collection)
            return True
        leader = self._leader()
        if relayed or leader is None:
            log.warning("registry.webhook_not_relayed", why="nobody is known to lead")
            return False
        body = json.dumps(
            {"entity_name": entity, "project_name": project, "artifact_collection_name": collection}
        ).encode()
        headers = {"Authorization": f"Bearer {self._token}", RELAYED_HEADER: "true", "Content-Type": "application/json"}
        if self._secret:
            headers["X-Wandb-Signature"] = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
        scheme, pin = "http", None
        if self._certificate is not None:
            # The leader has the same files, so it must show exactly this certificate, whatever names stand in it.
            scheme, pin = "https", aiohttp.Fingerprint(self._certificate.fingerprint)
        try:
            timeout = aiohttp.ClientTimeout(total=PATIENCE.total_seconds())
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
