"""Automations: match events against the users' triggers, and post them to their webhooks.

As in W&B, the body is exactly the user's template, there is no retry, and removing an alias causes no event (W&B docs,
automations; payloads in wandb/docs#1803).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import aiohttp

from wandb_standin import filters
from wandb_standin.errors import not_found
from wandb_standin.model import Artifact, Collection, Entity, Project, global_id, now
from wandb_standin.store import Event, Store

DELIVERY_TIMEOUT_SECONDS: Final = 10.0
MAX_DELIVERIES_KEPT: Final = 1000
ADD_OR_REMOVE_VERSION_TAG: Final = ("ADD_ARTIFACT_TAG", "REMOVE_ARTIFACT_TAG")
SignatureEncoding = Literal["base64", "hex", "sha256=hex"]


@dataclass(eq=False)
class Integration:
    """A webhook of a team: where to post, and the names of the secrets that go with it."""

    id: str
    entity: Entity
    name: str
    url_endpoint: str
    created_at: datetime
    access_token_ref: str | None = None
    secret_ref: str | None = None
    graphql_type: str = "GenericWebhookIntegration"


@dataclass(eq=False)
class Trigger:
    """An automation. `event_type` is W&B's name on the wire, where LINK_ARTIFACT is called LINK_MODEL."""

    id: str
    name: str
    enabled: bool
    scope: Collection | Project | Entity
    event_type: str
    event_filter: str
    integration: Integration | None
    request_payload: str | None
    created_at: datetime
    description: str | None = None
    updated_at: datetime | None = None

    @property
    def project(self) -> Project | None:
        if isinstance(self.scope, Entity):
            return None
        return self.scope.project if isinstance(self.scope, Collection) else self.scope

    @property
    def entity(self) -> Entity:
        return self.scope if isinstance(self.scope, Entity) else self.project.entity  # type: ignore[union-attr]

    @property
    def triggering_condition(self) -> dict[str, str]:
        shown = json.dumps({"filter": self.event_filter})
        return {"__typename": "FilterEventTriggeringCondition", "eventType": self.event_type, "filter": shown}

    @property
    def triggered_action(self) -> dict[str, Any]:
        if self.integration is None:
            return {"__typename": "NoOpTriggeredAction", "noOp": True}
        return {
            "__typename": "GenericWebhookTriggeredAction",
            "integration": self.integration,
            "requestPayload": self.request_payload,
        }


@dataclass
class Delivery:
    """One webhook request and its answer (`status` None: no answer, for the reason in `error`)."""

    automation: str
    event: str
    url: str
    body: str
    at: float = field(default_factory=time.time)
    status: int | None = None
    error: str | None = None


class Automations:
    """Webhooks, secrets and automations of one server; the store calls `on_event`.

    Args:
        registry_tag_events: whether tags of a version also fire automations of the registries that link it. W&B's docs
            list no tag events for registries; users should put the automation on the source project.
        signature: encoding of X-Wandb-Signature; the docs specify base64, real receivers expect hex.
    """

    def __init__(self, *, registry_tag_events: bool = False, signature: SignatureEncoding = "base64") -> None:
        self.integrations: dict[str, Integration] = {}
        self.triggers: dict[str, Trigger] = {}
        self.secrets: dict[tuple[str, str], str] = {}
        self.deliveries: deque[Delivery] = deque(maxlen=MAX_DELIVERIES_KEPT)
        self.registry_tag_events = registry_tag_events
        self.signature = signature
        self._numbers = iter(range(1, 1 << 62))
        self._queues: dict[str, asyncio.Queue[Delivery]] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Stop posting; queued requests are lost, as in W&B."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def add_integration(
        self, entity: Entity, name: str, url: str, access_token_ref: str | None, secret_ref: str | None
    ) -> Integration:
        """Add a webhook to the team; the refs name secrets of the same team."""
        new = Integration(self._id("Integration"), entity, name, url, now(), access_token_ref, secret_ref)
        self.integrations[new.id] = new
        return new

    def add_trigger(
        self,
        *,
        name: str,
        scope: Collection | Project | Entity,
        event_type: str,
        event_filter: str,
        integration: Integration | None,
        request_payload: str | None,
        enabled: bool = True,
        description: str | None = None,
    ) -> Trigger:
        """Add an automation.

        Raises:
            RefusedError: the filter is not a JSON object.
        """
        filters.parse(event_filter)
        new = Trigger(
            id=self._id("Trigger"),
            name=name,
            enabled=enabled,
            scope=scope,
            event_type=event_type,
            event_filter=event_filter,
            integration=integration,
            request_payload=request_payload,
            created_at=now(),
            description=description,
        )
        self.triggers[new.id] = new
        return new

    def trigger(self, trigger_id: str) -> Trigger:
        """The automation with this id.

        Raises:
            RefusedError: there is none.
        """
        if trigger_id not in self.triggers:
            raise not_found(f"automation {trigger_id!r}")
        return self.triggers[trigger_id]

    def integration(self, integration_id: str) -> Integration:
        """The webhook with this id.

        Raises:
            RefusedError: there is none.
        """
        if integration_id not in self.integrations:
            raise not_found(f"integration {integration_id!r}")
        return self.integrations[integration_id]

    def on_event(self, event: Event) -> None:
        """Queue a request for each automation that matches; never waits."""
        wire_type = "LINK_MODEL" if event.type == "LINK_ARTIFACT" else event.type
        facts = {"alias": event.alias, "tag": event.tag}
        for trigger in self.triggers.values():
            if (
                trigger.enabled
                and trigger.integration is not None
                and trigger.event_type == wire_type
                and self._in_scope(trigger.scope, event)
                and filters.matches(filters.parse(trigger.event_filter), facts)
            ):
                self._queue(trigger, trigger.integration, event)

    def _in_scope(self, scope: Collection | Project | Entity, event: Event) -> bool:
        places = [event.collection]
        if self.registry_tag_events and event.artifact and event.type in ADD_OR_REMOVE_VERSION_TAG:
            places += [m.artifact_collection for m in event.artifact.memberships]
        for place in places:
            entity = place.project.entity
            above = entity.organization.org_entity if entity.organization else None
            if scope in (place, place.project, entity, above):
                return True
        return False

    def _queue(self, trigger: Trigger, integration: Integration, event: Event) -> None:
        body = self._render(trigger.request_payload or "{}", integration, event)
        delivery = Delivery(trigger.name, event.type, integration.url_endpoint, body)
        self.deliveries.append(delivery)
        queue = self._queues.get(trigger.id)
        if queue is None:
            queue = self._queues[trigger.id] = asyncio.Queue()
            self._workers.append(asyncio.create_task(self._deliver(integration, queue)))
        queue.put_nowait(delivery)

    def _render(self, template: str, integration: Integration, event: Event) -> str:
        values = self._variables(event)
        for ref in (integration.access_token_ref, integration.secret_ref):
            if ref:
                secret = self.secrets.get((integration.entity.name, ref), "")
                values[ref] = secret
                if ref == integration.access_token_ref:
                    values["ACCESS_TOKEN"] = secret

        def value(match: re.Match[str]) -> str:
            return json.dumps(values[match[1]])[1:-1] if match[1] in values else match[0]

        return re.sub(r"\$\{([^}]+)\}", value, template)

    def _variables(self, event: Event) -> dict[str, str]:
        collection, artifact = event.collection, event.artifact
        values = {
            "event_type": event.type,
            "event_author": event.author,
            "artifact_collection_name": collection.name,
            "project_name": collection.project.name,
            "entity_name": collection.project.entity.name,
        }
        if event.alias is not None:
            values["alias"] = event.alias
        if event.tag is not None and event.type.startswith("ADD_"):
            values["tag"] = event.tag
        if artifact is not None:
            values |= self._artifact_variables(collection, artifact, event.version)
        return values

    def _artifact_variables(self, collection: Collection, artifact: Artifact, version: str | None) -> dict[str, str]:
        metadata = {
            f"artifact_metadata.{k}": v if isinstance(v, str) else json.dumps(v)
            for k, v in artifact.metadata_object.items()
        }
        return metadata | {
            "artifact_version": f"wandb-artifact://_id/{artifact.id}",
            "artifact_version_string": f"{collection.path}:{version or 'latest'}",
        }

    async def _deliver(self, integration: Integration, queue: asyncio.Queue[Delivery]) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT_SECONDS))
        while True:
            delivery = await queue.get()
            body = delivery.body.encode()
            try:
                async with self._session.post(
                    delivery.url, data=body, headers=self._headers(integration, body), allow_redirects=False
                ) as response:
                    delivery.status = response.status
            except (aiohttp.ClientError, TimeoutError) as error:
                delivery.error = f"{type(error).__name__}: {error}"

    def _headers(self, integration: Integration, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        token = self.secrets.get((integration.entity.name, integration.access_token_ref or ""))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        secret = self.secrets.get((integration.entity.name, integration.secret_ref or ""))
        if secret:
            signature = hmac.new(secret.encode(), body, hashlib.sha256)
            shown = {
                "base64": base64.b64encode(signature.digest()).decode(),
                "hex": signature.hexdigest(),
                "sha256=hex": f"sha256={signature.hexdigest()}",
            }
            headers["X-Wandb-Signature"] = shown[self.signature]
        return headers

    def _id(self, kind: str) -> str:
        return global_id(kind, next(self._numbers))


def scope_of(store: Store, scope_type: str, scope_id: str) -> Collection | Project | Entity:
    """The collection, project or entity that an automation is attached to.

    Raises:
        RefusedError: nothing of that type has the id.
    """
    kinds: dict[str, type[Collection] | type[Project] | type[Entity]] = {
        "ARTIFACT_COLLECTION": Collection,
        "PROJECT": Project,
        "ENTITY": Entity,
    }
    found = store.nodes.get(scope_id)
    if isinstance(found, Collection | Project | Entity) and isinstance(found, kinds[scope_type]):
        return found
    raise not_found(f"{scope_type.lower()} {scope_id!r}")
