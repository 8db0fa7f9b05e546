"""The admin API below `/standin/`: seeds data, moves aliases, injects faults. Not part of W&B; it has its own key.

Each command is a POST with a JSON object; its client, `Admin` (module `admin`), documents them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final

from aiohttp import hdrs, web

from wandb_standin.blobs import Blob
from wandb_standin.errors import RefusedError
from wandb_standin.faults import Fault
from wandb_standin.graphql_endpoint import build
from wandb_standin.model import REGISTRY_PREFIX, Artifact, Collection, Entity, Membership, Organization, Project, Role
from wandb_standin.paging import PageSizes
from wandb_standin.state import ServerState
from wandb_standin.storage import receive

CONTENT_KEY_PREFIX: Final = "admin/"


class AdminApi:
    """The admin commands of one server."""

    def __init__(self, server: ServerState, refuse_connections: Callable[[float], Awaitable[None]]) -> None:
        self._server = server
        self._close_port = refuse_connections
        self._store = server.store
        self._commands: dict[str, Callable[..., Any]] = {
            name: method for name, method in inspect.getmembers(self, inspect.ismethod) if not name.startswith("_")
        }
        del self._commands["routes"]

    def routes(self) -> list[web.RouteDef]:
        """The routes for the application's router."""
        return [
            web.put("/standin/content/{md5}", self._receive_content),
            web.get("/standin/log", self._read_log),
            web.post("/standin/{command}", self._run),
        ]

    def missing_content(self, files: dict[str, dict[str, Any]]) -> list[str]:
        """Names of the files whose content must be uploaded first."""
        return [name for name, f in files.items() if not self._adopt(Blob(f["md5"], f["size"]))]

    def log_artifact(
        self,
        entity: str,
        project: str,
        name: str,
        files: dict[str, dict[str, Any]],
        type: str = "model",
        algorithm: str = "MD5",
        references: dict[str, str] | None = None,
        aliases: list[str] | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        description: str | None = None,
    ) -> dict[str, Any]:
        if algorithm not in ("MD5", "XXH128"):
            raise RefusedError(f"algorithm {algorithm!r} is none of MD5, XXH128")
        self._ensure_entity(entity, project)
        membership = self._store.log_artifact(
            entity,
            project,
            name,
            {n: Blob(f["md5"], f["size"]) for n, f in files.items()},
            type_name=type,
            digest_algorithm="MANIFEST_XXH128" if algorithm == "XXH128" else "MANIFEST_MD5",
            digests={n: f["digest"] for n, f in files.items() if "digest" in f},
            references=references,
            aliases=aliases or [],
            tags=tags or [],
            metadata=json.dumps(metadata) if metadata is not None else None,
            description=description,
            user=next(iter(self._store.users.values())),
        )
        return _shown(membership)

    def link(self, source: str, target: str, aliases: list[str] | None = None) -> dict[str, Any]:
        parts = target.split("/")
        if len(parts) != 3 or ":" in target:
            raise RefusedError(f"{target!r} is not entity/project/collection")
        membership = self._store.resolve(source)
        self._ensure_entity(parts[0], parts[1])
        project = self._store.ensure_project(parts[0], parts[1])
        return _shown(self._store.link_artifact(membership.artifact, project, parts[2], aliases or []))

    def unlink(self, path: str) -> None:
        membership = self._store.resolve(path)
        self._store.unlink_artifact(membership.artifact, membership.artifact_collection)

    def delete_version(self, path: str, keep_membership: bool = False) -> None:
        artifact = self._store.resolve(path).artifact
        self._store.delete_artifact(artifact, delete_aliases=True, keep_membership=keep_membership)

    def delete_collection(self, path: str) -> None:
        self._store.delete_collection(self._store.resolve_collection(path))

    def set_alias(self, path: str, alias: str) -> dict[str, Any]:
        membership = self._store.resolve(path)
        self._store.set_aliases(membership, [alias])
        return _shown(membership)

    def remove_alias(self, path: str, alias: str) -> None:
        membership = self._store.resolve(f"{path}:{alias}")
        self._store.remove_alias(membership, alias)

    def tag_version(self, path: str, add: list[str] | None = None, remove: list[str] | None = None) -> None:
        self._store.change_tags(self._store.resolve(path).artifact, add=add or [], remove=remove or [])

    def tag_collection(self, path: str, add: list[str] | None = None, remove: list[str] | None = None) -> None:
        self._store.change_collection_tags(self._store.resolve_collection(path), add=add or [], remove=remove or [])

    def set_metadata(self, path: str, metadata: dict[str, Any]) -> None:
        self._store.resolve(path).artifact.metadata = json.dumps(metadata)

    def show(self, path: str) -> dict[str, Any]:
        return _shown(self._store.resolve(path))

    def list_collections(self) -> list[dict[str, Any]]:
        return [
            {
                "path": collection.path,
                "kind": collection.kind,
                "tags": [t.name for t in collection.tags],
                "versions": [_shown(m) for m in collection.memberships],
            }
            for entity in self._store.entities.values()
            for project in entity.projects_by_name.values()
            for collection in project.collections.values()
        ]

    def add_user(self, username: str, api_key: str, roles: dict[str, str], entity: str | None = None) -> None:
        try:
            parsed = {place: Role[role.upper()] for place, role in roles.items()}
        except KeyError as unknown:
            raise RefusedError(f"no role {unknown}; there are {', '.join(r.name.lower() for r in Role)}") from None
        self._store.add_user(username, api_key, entity=entity, roles=parsed)

    def protect_alias(self, entity: str, project: str, alias: str) -> None:
        self._store.ensure_project(entity, project).protected_aliases.add(alias)

    def configure(
        self,
        features: dict[str, bool] | None = None,
        xxhash_digests: dict[str, bool] | None = None,
        url_expiry_seconds: float | None = None,
        registry_tag_events: bool | None = None,
        page_sizes: tuple[int, int] | None = None,
        lacking: list[str] | None = None,
    ) -> None:
        self._server.features |= features or {}
        for entity, on in (xxhash_digests or {}).items():
            self._ensure_entity(entity, "")
            self._store.entities[entity].xxhash_digests_enabled = on
        if url_expiry_seconds is not None:
            self._server.signer.expiry_seconds = url_expiry_seconds
        if registry_tag_events is not None:
            self._server.automations.registry_tag_events = registry_tag_events
        if page_sizes is not None:
            self._server.page_sizes = PageSizes(*page_sizes)
        if lacking is not None:
            try:
                build(frozenset(lacking))
            except LookupError as error:
                raise RefusedError(str(error)) from None
            self._server.lacking = frozenset(lacking)

    def rate_limit(self, limit: int | None, window_seconds: float = 60.0, send_retry_after: bool = False) -> None:
        self._server.rate_limiter.configure(limit, window_seconds, send_retry_after=send_retry_after)

    def add_automation(
        self,
        name: str,
        url: str,
        scope: str,
        event: str,
        filter: dict[str, Any] | None = None,
        payload: dict[str, Any] | None = None,
        access_token: str | None = None,
        secret: str | None = None,
    ) -> str:
        target = self._scope(scope)
        entity = target if isinstance(target, Entity) else _project_of(target).entity
        automations = self._server.automations
        for suffix, value in (("token", access_token), ("secret", secret)):
            if value is not None:
                automations.secrets[entity.name, f"{name}-{suffix}"] = value
        integration = automations.add_integration(
            entity, name, url, f"{name}-token" if access_token else None, f"{name}-secret" if secret else None
        )
        return automations.add_trigger(
            name=name,
            scope=target,
            event_type="LINK_MODEL" if event == "LINK_ARTIFACT" else event,
            event_filter=json.dumps(filter or {}),
            integration=integration,
            request_payload=json.dumps(payload) if payload is not None else None,
        ).id

    def remove_automation(self, id: str) -> None:
        del self._server.automations.triggers[self._server.automations.trigger(id).id]

    def deliveries(self) -> list[dict[str, Any]]:
        return [asdict(d) for d in self._server.automations.deliveries]

    def add_fault(self, **fault: Any) -> str:
        return self._server.faults.add(Fault.from_json(fault))

    def lift_fault(self, id: str | None = None) -> None:
        self._server.faults.lift(id)

    def list_faults(self) -> list[dict[str, Any]]:
        return [fault.to_json() for fault in self._server.faults.list()]

    async def refuse_connections(self, seconds: float) -> None:
        await self._close_port(seconds)

    def expire_urls(self) -> None:
        self._server.signer.revoke()

    def last_request(self) -> int:
        return self._server.log.last

    async def _run(self, request: web.Request) -> web.Response:
        try:
            self._authorize(request)
            name = request.match_info["command"].replace("-", "_")
            command = self._commands.get(name)
            if command is None:
                raise RefusedError(f"no command {name!r}; there are {', '.join(sorted(self._commands))}", "NOT_FOUND")
            arguments = json.loads(await request.read() or b"{}")
            try:
                inspect.signature(command).bind(**arguments)
            except TypeError as error:
                raise RefusedError(f"{name}: {error}; it takes {inspect.signature(command)}") from None
            result = command(**arguments)
            if inspect.isawaitable(result):
                result = await result
            return web.json_response({"result": result})
        except RefusedError as refusal:
            return web.json_response({"error": refusal.message}, status=refusal.status)
        except (ValueError, TypeError) as error:
            return web.json_response({"error": f"bad arguments: {error}"}, status=400)

    async def _receive_content(self, request: web.Request) -> web.StreamResponse:
        try:
            self._authorize(request)
        except RefusedError as refusal:
            return web.json_response({"error": refusal.message}, status=refusal.status)
        return await receive(request, self._store, CONTENT_KEY_PREFIX + request.match_info["md5"])

    async def _read_log(self, request: web.Request) -> web.Response:
        try:
            self._authorize(request)
            query = request.query
            entries = await self._server.log.wait(
                since=int(query.get("since", "0")),
                operation=query.get("operation", "*"),
                ref=query.get("ref", "*"),
                count=int(query.get("count", "0")),
                seconds=float(query.get("seconds", "0")),
            )
            return web.json_response({"result": entries})
        except RefusedError as refusal:
            return web.json_response({"error": refusal.message}, status=refusal.status)
        except ValueError as error:
            return web.json_response({"error": f"bad arguments: {error}"}, status=400)

    def _authorize(self, request: web.Request) -> None:
        if request.headers.get(hdrs.AUTHORIZATION) != f"Bearer {self._server.settings.admin_key}":
            raise RefusedError("the admin API wants its own key: Authorization: Bearer <admin key>", "UNAUTHENTICATED")

    def _adopt(self, blob: Blob) -> bool:
        return self._store.blobs.alias(CONTENT_KEY_PREFIX + blob.md5_hex, blob) is not None

    def _ensure_entity(self, entity: str, project: str) -> None:
        """Create a missing entity: a team of the first organization or, for a registry, its own organization."""
        if entity in self._store.entities:
            return
        if project.startswith(REGISTRY_PREFIX):
            self._store.add_organization(entity, entity)
        else:
            self._store.add_team(entity, self._first_organization())

    def _first_organization(self) -> Organization:
        return next(iter(self._store.organizations.values()))

    def _scope(self, path: str) -> Collection | Project | Entity:
        parts = path.split("/")
        if len(parts) == 3:
            return self._store.resolve_collection(path)
        if parts[0] not in self._store.entities:
            raise RefusedError(f"no entity {parts[0]!r}; there are {', '.join(self._store.entities)}", "NOT_FOUND")
        return self._store.ensure_project(parts[0], parts[1]) if len(parts) == 2 else self._store.entities[parts[0]]


def _project_of(scope: Collection | Project) -> Project:
    return scope.project if isinstance(scope, Collection) else scope


def _shown(membership: Membership) -> dict[str, Any]:
    artifact: Artifact = membership.artifact
    source = artifact.artifact_sequence
    return {
        "path": membership.path,
        "version": f"v{membership.version_index}",
        "source": f"{source.path}:v{artifact.version_index}",
        "artifact_id": artifact.id,
        "digest": artifact.digest,
        "size": artifact.size,
        "file_count": artifact.file_count,
        "state": artifact.state,
        "aliases": [a.alias for a in membership.aliases],
        "tags": [t.name for t in artifact.tags],
        "metadata": artifact.metadata_object,
    }
