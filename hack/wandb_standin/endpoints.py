"""W&B's endpoints: GraphQL, the object store, file streams; each applies the faults that are set on it."""

from __future__ import annotations

import base64
import json
from typing import Final

from aiohttp import hdrs, web

from wandb_standin import storage
from wandb_standin.context import Context
from wandb_standin.errors import RefusedError, not_found, not_logged_in, permission_denied
from wandb_standin.faults import CODES, Fault
from wandb_standin.graphql_endpoint import Answer, GraphQL
from wandb_standin.model import Role, User
from wandb_standin.presign import STORAGE_PATH
from wandb_standin.request_log import ENTRY, Entry
from wandb_standin.state import ServerState

COMPRESS_FROM_BYTES: Final = 4096


class Endpoints:
    """The endpoints of one server."""

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._by_schema: dict[frozenset[str], GraphQL] = {}

    def routes(self) -> list[web.RouteDef]:
        """The routes for the application's router."""
        return [
            web.post("/graphql", self._serve_graphql),
            web.get(f"{STORAGE_PATH}{{key:.+}}", self._download),
            web.put(f"{STORAGE_PATH}{{key:.+}}", self._upload),
            web.get("/artifactsV2/{region}/{entity}/{project}/{collection}/{rest:.+}", self._download_by_handler),
            web.post("/files/{entity}/{project}/{run}/file_stream", self._file_stream),
            web.post("/sdk/otel/v1/{signal}", self._telemetry),
            web.get("/healthz", self._healthy),
        ]

    @property
    def _graphql(self) -> GraphQL:
        lacking = self._server.lacking
        if lacking not in self._by_schema:
            self._by_schema[lacking] = GraphQL(lacking)
        return self._by_schema[lacking]

    async def _fault_of(
        self, request: web.Request, operation: str, file: str | None = None
    ) -> web.StreamResponse | None:
        """The answer of a fault, instead of the real one; also waits here if the fault is a delay."""
        entry = request[ENTRY]
        entry.operation = operation
        user = entry.user or ""
        slow = self._server.faults.hit("slow", operation=operation, user=user, file=file)
        if slow is not None:
            entry.faults.append(slow.id)
            await slow.delayed()
        fault = self._server.faults.hit("reset", "status", "html", operation=operation, user=user, file=file)
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
        """The calling user; None without credentials.

        Raises:
            RefusedError: invalid credentials.
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
        user = self._server.store.user_by_key(value) if value else None
        if user is None:
            raise not_logged_in()
        request[ENTRY].user = user.username
        return user

    async def _serve_graphql(self, request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        graphql = self._graphql
        parsed = graphql.read(body)
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
        verdict = self._server.rate_limiter.take(user.username if user else request.remote or "")
        if verdict.refused:
            body = {"errors": [{"message": "Rate limit exceeded"}]}
            return web.json_response(body, status=429, headers=verdict.headers)
        if isinstance(parsed, Answer):
            return _json(parsed, verdict.headers)
        batch = self._server.faults.hit(
            "refuse-batch", operation=parsed.operation, user=entry.user or "", lookups=parsed.lookups
        )
        if batch is not None:
            entry.faults.append(batch.id)
            message = batch.message or f"query is too complex: {parsed.lookups} lookups, at most {batch.limit}"
            status = batch.status or 400
            return web.json_response({"errors": [{"message": message}]}, status=status, headers=verdict.headers)
        context = Context(
            store=self._server.store,
            automations=self._server.automations,
            signer=self._server.signer,
            base_url=_base_url(request),
            user=user,
            features=self._server.features,
            page_sizes=self._server.page_sizes,
            check_ref=lambda ref: self._check_ref(entry, parsed.operation, ref),
        )
        answer = graphql.run(parsed, context)
        entry.refs = context.refs
        return _json(answer, verdict.headers)

    def _check_ref(self, entry: Entry, operation: str, ref: str) -> None:
        fault = self._server.faults.hit("error", operation=operation, user=entry.user or "", ref=ref)
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
        return faulty or await storage.receive(request, self._server.store, key)

    async def _refusal(self, request: web.Request, operation: str, method: str, key: str) -> web.StreamResponse | None:
        name = _file_name(key)
        faulty = await self._fault_of(request, operation, file=name)
        if faulty is not None:
            return faulty
        code = self._server.signer.refusal(method, key, request.query)
        expired = self._server.faults.hit("expired", operation=operation, user="", file=name)
        if expired is not None:
            request[ENTRY].faults.append(expired.id)
            code = "AccessDenied"
        if code == "AccessDenied":
            return storage.s3_error(403, code, "Request has expired")
        return storage.s3_error(403, code, "The request signature does not match.") if code else None

    async def _send(self, request: web.Request, key: str) -> web.StreamResponse:
        blob = self._server.store.blobs.get(key)
        if blob is None:
            return storage.s3_error(404, "NoSuchKey", "The specified key does not exist.")
        entry, name = request[ENTRY], _file_name(key)
        entry.refs.append(name)
        path = self._server.store.blobs.path(blob)
        manifest = self._server.store.manifest_by_key.get(key)
        if manifest is not None:
            version = f"v{manifest.artifact.version_index}"
            ref = f"{manifest.artifact.artifact_sequence.path}:{version}"
            fault = self._server.faults.hit("manifest", operation="download", user=entry.user or "", ref=ref)
            if fault is not None:
                entry.faults.append(fault.id)
                return web.Response(body=storage.altered_manifest(path.read_bytes()))
        if request.method == hdrs.METH_GET:
            fault = self._server.faults.hit(*storage.BODY_FAULTS, operation="download", user="", file=name)
            if fault is not None:
                entry.faults.append(fault.id)
                return await storage.send_wrong(request, path, blob.size, fault)
        return storage.send(self._server.store, blob)

    async def _download_by_handler(self, request: web.Request) -> web.StreamResponse:
        """Download with the API key by a URL built from the manifest; the SDK does this when a presigned URL fails."""
        user = self._user_of(request)
        found = request.match_info
        faulty = await self._fault_of(request, "download", file=found["rest"].rsplit("/", 1)[-1])
        if faulty is not None:
            return faulty
        project = self._server.store.find_project(found["entity"], found["project"])
        if user is None or project is None or user.role_in(project) < Role.VIEWER:
            raise permission_denied()
        key = self._key_of(found["rest"].split("/"))
        if key is None:
            raise not_found("file")
        return await self._send(request, key)

    def _key_of(self, parts: list[str]) -> str | None:
        """`…/<id of the version that first had it>/<digest in hex>/<name>` -> storage key."""
        try:
            birth_id, digest_hex = parts[-3:-1]
            digest = base64.b64encode(bytes.fromhex(digest_hex)).decode()
        except ValueError:
            return None
        return self._server.store.upload_key(birth_id, digest)

    async def _file_stream(self, request: web.Request) -> web.StreamResponse:
        user = self._user_of(request)
        faulty = await self._fault_of(request, "file_stream")
        if faulty is not None:
            return faulty
        found = request.match_info
        project = self._server.store.find_project(found["entity"], found["project"])
        run = project.runs.get(found["run"]) if project else None
        if project is None or run is None:
            raise not_found("run")
        if user is None or user.role_in(project) < Role.MEMBER:
            raise permission_denied()
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


def _base_url(request: web.Request) -> str:
    """The address that this client used, so that URLs given to it work for it."""
    return f"{request.scheme}://{request.host}"


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
