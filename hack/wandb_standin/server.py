"""The HTTP server: W&B's endpoints in front of the store, with the faults and the request log around them.

It never reaches out but for webhooks, and keeps nothing in memory that grows with the size of files.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from wandb_standin import storage
from wandb_standin.admin_api import AdminApi
from wandb_standin.automations import Automations
from wandb_standin.blobs import Blobs
from wandb_standin.context import Context
from wandb_standin.errors import RefusedError
from wandb_standin.faults import CODES, Fault, Faults
from wandb_standin.graphql_endpoint import Answer, GraphQL
from wandb_standin.model import Role, User
from wandb_standin.presign import DEFAULT_EXPIRY_SECONDS, STORAGE_PATH, Signer
from wandb_standin.rate_limit import RateLimiter
from wandb_standin.request_log import Entry, RequestLog
from wandb_standin.store import Store

MAX_REQUEST_BYTES: Final = 64 << 20
COMPRESS_FROM_BYTES: Final = 4096
DEFAULT_API_KEY: Final = "5eed0000000000000000000000000000000000a1"
DEFAULT_ADMIN_KEY: Final = "standin-admin"
DEFAULT_USER: Final = "alice"
DEFAULT_ORGANIZATION: Final = ("Acme", "acme")
DEFAULT_TEAM: Final = "acme-ml"

FEATURES: Final = (
    "ARTIFACT_COLLECTIONS_FILTERING_SORTING",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILE_DOWNLOAD_HANDLER",
    "ARTIFACT_DIGEST_ALGORITHM",
    "ARTIFACT_MEMBERSHIP_IN_LINK_ARTIFACT_RESPONSE",
    "ARTIFACT_REGISTRY_SEARCH",
    "ARTIFACT_TAGS",
    "ARTIFACT_V2_DOWNLOAD_HANDLER_SUPPORTS_ARTIFACT_ID",
    "AUTOMATION_ACTION_NO_OP",
    "AUTOMATION_EVENT_ADD_ARTIFACT_TAG",
    "AUTOMATION_EVENT_ADD_COLLECTION_TAG",
    "AUTOMATION_EVENT_REMOVE_ARTIFACT_TAG",
    "AUTOMATION_EVENT_REMOVE_COLLECTION_TAG",
    "AUTOMATION_EVENT_UNLINK_ARTIFACT",
    "AUTOMATION_SCOPE_ENTITY",
    "CLIENT_IDS",
    "INCLUDE_ARTIFACT_TYPES_IN_REGISTRY_CREATION",
    "LARGE_FILENAMES",
    "MARK_RUN_FILES_UPLOADED",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "QUERY_AUTOMATIONS_ON_ENTITY",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
)

ENTRY: Final = web.RequestKey("entry", Entry)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Settings:
    """How a server is set up.

    Attributes:
        blobs: folder for the content of files.
        host: address to listen on.
        port: 0 takes a free one.
        api_key: the key of the first user, who may do everything in every project (a role of MEMBER).
        admin_key: bearer token of the admin API.
        url_expiry_seconds: how long presigned URLs hold.
        features: server features that differ from the default (all that the SDK 0.31 asks for are on).
        automations: webhooks and how they are signed.
    """

    blobs: Path
    host: str = "127.0.0.1"
    port: int = 0
    api_key: str = DEFAULT_API_KEY
    admin_key: str = DEFAULT_ADMIN_KEY
    url_expiry_seconds: float = DEFAULT_EXPIRY_SECONDS
    features: dict[str, bool] = field(default_factory=dict)
    automations: Automations = field(default_factory=Automations)


class Server:
    """One W&B server. `start` returns once it listens; `port` is then the real one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = settings.port
        self.automations = settings.automations
        self.store = Store(Blobs(settings.blobs), self.automations.on_event)
        self.faults = Faults()
        self.log = RequestLog()
        self.rate_limiter = RateLimiter()
        self.signer = Signer(settings.url_expiry_seconds)
        self.features = dict.fromkeys(FEATURES, True) | settings.features
        self._graphql = GraphQL()
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._admin_transports: set[asyncio.Transport | None] = set()
        self._seed()

    @property
    def url(self) -> str:
        """Base URL on the address that it listens on."""
        return f"http://{self.settings.host}:{self.port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours.
        """
        app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[self._observe])
        app.add_routes(
            [
                web.post("/graphql", self._serve_graphql),
                web.get(f"{STORAGE_PATH}{{key:.+}}", self._download),
                web.put(f"{STORAGE_PATH}{{key:.+}}", self._upload),
                web.get("/artifactsV2/{region}/{entity}/{project}/{collection}/{rest:.+}", self._download_by_handler),
                web.post("/files/{entity}/{project}/{run}/file_stream", self._file_stream),
                web.post("/sdk/otel/v1/{signal}", self._telemetry),
                web.get("/healthz", self._healthy),
            ]
        )
        app.add_routes(AdminApi(self).routes())
        app.on_response_prepare.append(self._log_answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await self._listen()

    async def stop(self) -> None:
        """End connections, webhooks and all."""
        if self._reopening is not None:
            self._reopening.cancel()
        await self.automations.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def refuse_connections(self, seconds: float) -> None:
        """Close the port, so that connecting is refused, and open it again after so many seconds.

        Open connections are reset, but not the one that asks for this.
        """
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self._drop_connections()
        self._reopening = asyncio.create_task(self._reopen_after(seconds))

    def base_url(self, request: web.Request) -> str:
        """The address by which this client came, so that URLs given to it lead back here."""
        return f"{request.scheme}://{request.host}"

    def _seed(self) -> None:
        organization = self.store.add_organization(*DEFAULT_ORGANIZATION)
        self.store.add_team(DEFAULT_TEAM, organization)
        self.store.add_user(DEFAULT_USER, self.settings.api_key, entity=DEFAULT_TEAM, roles={"*": Role.MEMBER})

    async def _listen(self) -> None:
        if self._runner is None:
            raise RuntimeError("the server was not started")
        self._site = web.TCPSite(self._runner, self.settings.host, self.port, backlog=1024)
        await self._site.start()
        if self.port == 0:
            self.port = self._runner.addresses[0][1]

    async def _reopen_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen()

    def _drop_connections(self) -> None:
        server = self._runner.server if self._runner else None
        for connection in server.connections if isinstance(server, web.Server) else []:
            if connection.transport is not None and connection.transport not in self._admin_transports:
                connection.transport.abort()

    @web.middleware
    async def _observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/standin/"):
            return await self._serve_admin(request, handler)
        request[ENTRY] = Entry(request.method, request.path, request.remote or "")
        try:
            return await handler(request)
        except RefusedError as refusal:
            return web.json_response({"errors": [refusal.as_json()]}, status=refusal.status)
        finally:
            if request.transport is None or request.transport.is_closing():
                await self._log_answer(request, None)

    async def _log_answer(self, request: web.BaseRequest, response: web.StreamResponse | None) -> None:
        """Log the request before the first byte of its answer, so that who has the answer finds it in the log."""
        entry = request.get(ENTRY)
        if entry is not None and not entry.seq:
            entry.status = response.status if response else None
            entry.seconds = time.time() - entry.at
            await self.log.add(entry)

    async def _serve_admin(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._admin_transports.add(request.transport)
        try:
            response = await handler(request)
            await response.prepare(request)
            await response.write_eof()
            return response
        finally:
            self._admin_transports.discard(request.transport)

    async def _fault_of(
        self, request: web.Request, operation: str, file: str | None = None
    ) -> web.StreamResponse | None:
        """The answer that a fault wants instead of the real one; slowness is served here."""
        entry = request[ENTRY]
        entry.operation = operation
        user = entry.user or ""
        slow = self.faults.hit("slow", operation=operation, user=user, file=file)
        if slow is not None:
            entry.faults.append(slow.id)
            await asyncio.sleep(slow.delay)
        fault = self.faults.hit("reset", "status", "html", operation=operation, user=user, file=file)
        if fault is None:
            return None
        entry.faults.append(fault.id)
        if fault.kind == "reset":
            return _reset(request)
        if fault.kind == "html":
            page = "<!doctype html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"
            return web.Response(text=page, content_type="text/html")
        status = fault.status or 503
        refusal = RefusedError(fault.message or _message_of(status), CODES.get(status), status)
        headers = _fault_headers(fault, status)
        if request.path.startswith(STORAGE_PATH):
            response = storage.s3_error(status, "InternalError" if status >= 500 else "AccessDenied", refusal.message)
            response.headers.update(headers)
            return response
        return web.json_response({"errors": [refusal.as_json()], "data": None}, status=status, headers=headers)

    def _user_of(self, request: web.Request) -> User | None:
        """The caller; None without credentials.

        Raises:
            RefusedError: credentials that are nobody's.
        """
        header = request.headers.get(hdrs.AUTHORIZATION)
        if not header:
            return None
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode().partition(":")[2]
            except ValueError:
                value = ""
        user = self.store.user_by_key(value) if value else None
        if user is None:
            raise RefusedError("user is not logged in", "UNAUTHENTICATED")
        request[ENTRY].user = user.username
        return user

    async def _serve_graphql(self, request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        parsed = self._graphql.read(body)
        entry = request[ENTRY]
        entry.operation = "invalid" if isinstance(parsed, Answer) else parsed.operation
        try:
            user = self._user_of(request)
        except RefusedError as refusal:
            faulty = await self._fault_of(request, entry.operation)
            return faulty or web.json_response({"errors": [refusal.as_json()]}, status=refusal.status)
        faulty = await self._fault_of(request, entry.operation)
        if faulty is not None:
            return faulty
        verdict = self.rate_limiter.take(user.username if user else request.remote or "")
        if verdict.refused:
            body = {"errors": [{"message": "Rate limit exceeded"}]}
            return web.json_response(body, status=429, headers=verdict.headers)
        if isinstance(parsed, Answer):
            return _json(parsed, verdict.headers)
        batch = self.faults.hit(
            "refuse-batch", operation=parsed.operation, user=entry.user or "", lookups=parsed.lookups
        )
        if batch is not None:
            entry.faults.append(batch.id)
            message = batch.message or f"query is too complex: {parsed.lookups} lookups, at most {batch.limit}"
            status = batch.status or 400
            return web.json_response({"errors": [{"message": message}]}, status=status, headers=verdict.headers)
        context = Context(
            store=self.store,
            automations=self.automations,
            signer=self.signer,
            base_url=self.base_url(request),
            user=user,
            features=self.features,
            check_ref=lambda ref: self._check_ref(entry, parsed.operation, ref),
        )
        answer = self._graphql.run(parsed, context)
        entry.refs = context.refs
        return _json(answer, verdict.headers)

    def _check_ref(self, entry: Entry, operation: str, ref: str) -> None:
        fault = self.faults.hit("error", operation=operation, user=entry.user or "", ref=ref)
        if fault is not None:
            entry.faults.append(fault.id)
            status = fault.status or 200
            raise RefusedError(fault.message or _message_of(status), CODES.get(status), status)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        faulty = await self._refusal(request, "download", "GET", key)
        return faulty or await self._send(request, key)

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        request[ENTRY].refs.append(_file_name(key))
        faulty = await self._refusal(request, "upload", "PUT", key)
        return faulty or await storage.receive(request, self.store, key)

    async def _refusal(self, request: web.Request, operation: str, method: str, key: str) -> web.StreamResponse | None:
        name = _file_name(key)
        faulty = await self._fault_of(request, operation, file=name)
        if faulty is not None:
            return faulty
        code = self.signer.refusal(method, key, request.query)
        expired = self.faults.hit("expired", operation=operation, user="", file=name)
        if expired is not None:
            request[ENTRY].faults.append(expired.id)
            code = "AccessDenied"
        if code == "AccessDenied":
            return storage.s3_error(403, code, "Request has expired")
        return storage.s3_error(403, code, "The request signature does not match.") if code else None

    async def _send(self, request: web.Request, key: str) -> web.StreamResponse:
        blob = self.store.blobs.get(key)
        if blob is None:
            return storage.s3_error(404, "NoSuchKey", "The specified key does not exist.")
        entry, name = request[ENTRY], _file_name(key)
        entry.refs.append(name)
        path = self.store.blobs.path(blob)
        manifest = self.store.manifest_by_key.get(key)
        if manifest is not None:
            version = f"v{manifest.artifact.version_index}"
            ref = f"{manifest.artifact.artifact_sequence.path}:{version}"
            fault = self.faults.hit("manifest", operation="download", user=entry.user or "", ref=ref)
            if fault is not None:
                entry.faults.append(fault.id)
                return web.Response(body=storage.altered_manifest(path.read_bytes()))
        if request.method == hdrs.METH_GET:
            fault = self.faults.hit(*storage.BODY_FAULTS, operation="download", user="", file=name)
            if fault is not None:
                entry.faults.append(fault.id)
                return await storage.send_wrong(request, path, blob.size, fault)
        return storage.send(self.store, blob)

    async def _download_by_handler(self, request: web.Request) -> web.StreamResponse:
        """The SDK's way when a presigned URL failed: an address made of the manifest's facts, with the API key."""
        user = self._user_of(request)
        found = request.match_info
        faulty = await self._fault_of(request, "download", file=found["rest"].rsplit("/", 1)[-1])
        if faulty is not None:
            return faulty
        birth_id, digest_hex, _ = found["rest"].split("/")[-3:]
        project = self.store.find_project(found["entity"], found["project"])
        if user is None or project is None or user.role_in(project) < Role.VIEWER:
            raise RefusedError("permission denied", "PERMISSION_ERROR")
        digest = base64.b64encode(bytes.fromhex(digest_hex)).decode()
        key = self.store.upload_key(birth_id, digest)
        if key is None:
            raise RefusedError("file not found", "NOT_FOUND")
        return await self._send(request, key)

    async def _file_stream(self, request: web.Request) -> web.StreamResponse:
        self._user_of(request)
        faulty = await self._fault_of(request, "file_stream")
        if faulty is not None:
            return faulty
        found = request.match_info
        project = self.store.find_project(found["entity"], found["project"])
        run = project.runs.get(found["run"]) if project else None
        if run is None:
            raise RefusedError("run not found", "NOT_FOUND")
        body = await request.json()
        summary = body.get("files", {}).get("wandb-summary.json")
        if summary and summary["content"]:
            run.summary_metrics = summary["content"][-1]
        history = body.get("files", {}).get("wandb-history.jsonl")
        if history:
            run.history_line_count = history["offset"] + len(history["content"])
        if body.get("complete"):
            run.state = "failed" if body.get("exitcode") else "finished"
        return web.json_response({"exitcode": None, "limits": {}})

    async def _telemetry(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        return await self._fault_of(request, "telemetry") or web.json_response({})

    async def _healthy(self, request: web.Request) -> web.StreamResponse:
        return await self._fault_of(request, "health") or web.Response(text="ok")


def _file_name(key: str) -> str:
    """The file's name in its artifact: `wandb_artifacts/<project>/<artifact>/<digest>/<name>`."""
    return key.split("/", 4)[-1].partition(".part-")[0]


def _json(answer: Answer, headers: dict[str, str]) -> web.Response:
    response = web.json_response(answer.body, status=answer.status, headers=headers)
    if isinstance(response.body, bytes) and len(response.body) >= COMPRESS_FROM_BYTES:
        response.enable_compression()
    return response


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _message_of(status: int) -> str:
    return {
        401: "user is not logged in",
        403: "permission denied",
        404: "not found",
        429: "Rate limit exceeded",
    }.get(status, "internal server error")


def _fault_headers(fault: Fault, status: int) -> dict[str, str]:
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = f"{fault.retry_after:g}"
    if status == 429:
        headers |= {"RateLimit-Limit": "1000", "RateLimit-Remaining": "0"}
    if fault.reset is not None:
        headers["RateLimit-Reset"] = f"{fault.reset:g}"
    return headers
