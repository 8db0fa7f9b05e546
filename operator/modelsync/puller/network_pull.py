"""The part of a pull that needs the network: query the registry, verify the manifest, fetch, publish.

One coroutine coordinates; blocking calls run in daemon threads, so that a signal ends the pull at once and not when the
last socket has timed out.
"""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from modelsync.api.model_ref import ModelRef
from modelsync.api.pod_contract import PULLED
from modelsync.puller import lease
from modelsync.puller.catalog import PAGE_FILES, ArtifactInfo, Catalog, FileURLs
from modelsync.puller.display import line
from modelsync.puller.errors import (
    BadManifestError,
    DeniedError,
    InterruptedPullError,
    InvalidInputError,
    ManifestMismatchError,
    NoSpaceError,
    NotFoundError,
    PublishedChangedError,
    StorageFailedError,
    TargetUnusableError,
    UnreachableError,
)
from modelsync.puller.file_names import shown
from modelsync.puller.manifest import MAX_MANIFEST_BYTES, Entry, Manifest, read_manifest
from modelsync.puller.object_store import AttemptError, ObjectStore, TransientError, WrongLengthError
from modelsync.puller.progress import Progress
from modelsync.puller.request import Effort, PullRequest, Registry, already
from modelsync.puller.result import PullResult
from modelsync.puller.retry import Backoff
from modelsync.puller.staging import Staging
from modelsync.puller.target import Published, find_published
from modelsync.puller.transfer import URL_TRIES, Transfer
from modelsync.puller.weights import check_weights
from modelsync.registry.graphql import GraphQL, InvalidBaseURLError, InvalidCABundleError, tls, user_agent

Answer = TypeVar("Answer")

STOP_SECONDS = 2.0
"""How long threads have to save their state when a signal ends the pull."""
_POLL_SECONDS = 0.2


class _LeaseLostError(Exception):
    """Another pull has taken over the staging folder."""


class NetworkPull:
    """One pull into `target`. Call `run` once."""

    def __init__(
        self,
        request: PullRequest,
        registry: Registry,
        target: Path,
        *,
        effort: Effort,
        progress: Progress,
        started: float,
    ) -> None:
        """`started`: when the pull started, from time.monotonic. Raises InvalidInputError."""
        if not registry.base_url:
            raise InvalidInputError(
                "the W&B server is not set; set WANDB_BASE_URL, for example WANDB_BASE_URL=https://api.wandb.ai"
            )
        if registry.credential is None:
            raise InvalidInputError("the W&B API key is not set; set WANDB_API_KEY to a key from the W&B user settings")
        try:
            self._ssl = tls(ca_file=registry.ca_file)
            self._api = GraphQL(registry.base_url, registry.credential, ssl_context=self._ssl)
        except (InvalidBaseURLError, InvalidCABundleError) as error:
            raise InvalidInputError(str(error)) from None
        self._request = request
        self._target = target
        self._effort = effort
        self._progress = progress
        self._started = started
        self._staging = Staging(target, pod=request.pod)
        self._damage: Published | None = None
        self._damaged_place: int | None = None
        self._catalog = Catalog(self._api, retry_for=effort.retry_for, note=progress.note)
        self._store = ObjectStore(ssl_context=self._ssl, connections=effort.connections, user_agent=user_agent())

    def run(self) -> PullResult:
        """Pull. Raises PullError."""
        # Not asyncio.run: at its end it waits for pending host name lookups, however long the DNS does not answer.
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(self._run())
        finally:
            loop.run_until_complete(_end_other_tasks())
            loop.close()

    async def _run(self) -> PullResult:
        received: list[signal.Signals] = []
        task = asyncio.ensure_future(self._pull())

        def end(signum: signal.Signals) -> None:
            received.append(signum)
            task.cancel()

        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, end, signum)
        try:
            return await task
        except asyncio.CancelledError:
            if not received:
                raise
            raise InterruptedPullError(
                f"ended by {received[0].name}; nothing was published; the fetched bytes are kept in "
                f"{self._staging.folder}, and the next pull resumes from there",
                signum=received[0],
            ) from None
        finally:
            await self._api.close()
            self._store.close()

    async def _pull(self) -> PullResult:
        request = self._request
        self._progress.enter("querying the registry")
        artifact_id, version = request.artifact_id, request.ref
        if not artifact_id and version is not None:
            artifact_id, version = await self._catalog.resolve(version)
        info = await self._catalog.artifact(artifact_id)
        if request.digest and info.digest != request.digest:
            raise ManifestMismatchError(
                f"artifact {artifact_id} has the digest {info.digest} at {self._api.base_url}, but {request.digest} "
                "was requested; nothing was published; check that both belong to the same version and server"
            )
        resolved = str(version) if version is not None else ""
        while True:
            if published := await self._own_staging(info.digest):
                check_weights({entry.path for entry in published.entries}, request.weights)
                return already(published, verify=request.verify, started=self._started, ref=resolved)
            try:
                return await self._fill(info, artifact_id, version, resolved)
            except _LeaseLostError:
                self._progress.note(f"another pull has taken over {self._target}; waiting for it")
            except (StorageFailedError, TargetUnusableError):
                # A pull that has taken over may have published, and then removes the files of this one.
                if not self._published(info.digest):
                    raise
            self._progress.start_over()
            self._staging = Staging(self._target, pod=request.pod)

    async def _own_staging(self, digest: str) -> Published | None:
        """Wait for the staging folder's lease; return what another pull has published meanwhile, if anything."""
        noted = False
        while not (published := self._published(digest)) and not self._staging.try_lock():
            if not noted:
                self._progress.note(f"another pull is working on {self._target}; waiting for it")
                noted = True
            self._progress.enter(f"waiting for the pull of {self._staging.owner or 'another'}")
            await asyncio.sleep(_POLL_SECONDS)
        if published:
            return published
        try:
            published = self._published(digest)
        except BaseException:
            self._staging.unlock()
            raise
        if published:
            self._staging.unlock()
        return published

    def _published(self, digest: str) -> Published | None:
        """The published folder at the target; None if there is none, or with `repair` a damaged one.

        Raises PullError.
        """
        published = find_published(self._target, digest=digest)
        if published is None or not self._request.repair:
            return published
        place = published.folder.stat().st_ino
        if place == self._damaged_place:  # do not read all of it again and again while waiting
            return None
        try:
            published.check(content=self._request.verify)
        except PublishedChangedError as error:
            if self._damage is None:
                self._progress.note(f"{error.what}; damaged files are fetched again")
            self._damage, self._damaged_place = published, place
            return None
        return published

    async def _fill(self, info: ArtifactInfo, artifact_id: str, version: ModelRef | None, resolved: str) -> PullResult:
        """Fetch and publish, with the lease. Raises PullError, _LeaseLostError."""
        beating = asyncio.ensure_future(self._beat(self._staging))
        filling = asyncio.ensure_future(self._fetch_and_publish(info, artifact_id, version, resolved))
        try:
            await asyncio.wait((beating, filling), return_when=asyncio.FIRST_COMPLETED)
            if filling.done():
                return filling.result()
            raise _LeaseLostError
        finally:
            for task in (beating, filling):
                task.cancel()
            await asyncio.gather(beating, filling, return_exceptions=True)
            self._staging.unlock()

    async def _beat(self, staging: Staging) -> None:
        """Renew the lease; return when another pull has taken over."""
        alive = True
        while alive:
            await asyncio.sleep(lease.BEAT_SECONDS)
            progress = line(self._progress.snapshot(), 0.0)
            alive = await _in_thread(lambda now=progress: staging.beat(now))  # type: ignore[misc]

    async def _fetch_and_publish(
        self, info: ArtifactInfo, artifact_id: str, version: ModelRef | None, resolved: str
    ) -> PullResult:
        manifest = await self._manifest(info)
        check_weights({entry.path for entry in manifest.entries}, self._request.weights)
        await self._fetch(manifest, artifact_id, version)
        self._progress.enter("publishing")
        size = await _in_thread(
            lambda: self._staging.publish(manifest, artifact_id=artifact_id, instead_of=self._damage)
        )
        return PullResult(
            PULLED,
            self._target,
            manifest.digest,
            files=len(manifest.entries),
            bytes=size,
            reused_bytes=self._progress.snapshot().reused,
            seconds=time.monotonic() - self._started,
            ref=resolved,
        )

    async def _manifest(self, info: ArtifactInfo) -> Manifest:
        """Fetch the manifest, with fresh URLs if needed, and verify it. Raises PullError."""
        self._progress.enter("verifying the manifest")
        backoff, strikes, url = Backoff(self._effort.retry_for), 0, info.manifest_url
        while True:
            try:
                content = await _in_thread(lambda at=url: self._store.read_all(at, most=MAX_MANIFEST_BYTES))  # type: ignore[misc]
                return read_manifest(content, digest=info.digest, algorithm=info.algorithm)
            except WrongLengthError as error:
                raise BadManifestError(
                    f"the manifest cannot be used: {error}; split the artifact into smaller ones"
                ) from None
            except TransientError as error:
                wait = backoff.failed(retry_after=error.retry_after)
                if wait is None:
                    raise UnreachableError(
                        f"the manifest: {error}; gave up after {backoff.failures} attempts; check the network from "
                        "here to the object store, and pull again"
                    ) from None
                self._progress.note(f"the manifest: {error}; retrying in {wait:.1f} s")
                await asyncio.sleep(wait)
            except AttemptError as error:
                strikes += 1
                if strikes > URL_TRIES:
                    raise DeniedError(
                        f"the manifest: {error}, for {URL_TRIES} fresh URLs in a row; check this machine's clock and "
                        "the object store's permissions, and pull again"
                    ) from None
                self._progress.note(f"the manifest: {error}; requesting a fresh URL")
                url = (await self._catalog.artifact(info.artifact_id)).manifest_url

    async def _fetch(self, manifest: Manifest, artifact_id: str, version: ModelRef | None) -> None:
        """Fetch every file of the manifest into the staging folder. Raises PullError."""
        self._progress.expect(files=len(manifest.entries), size=manifest.size)
        self._progress.enter("fetching")
        wanted: dict[str, Entry] = {}
        for entry in manifest.entries:
            # The same content under two names is fetched once.
            first = wanted.setdefault(entry.content_key, entry)
            if first is not entry or self._staging.object_path(entry).exists():
                if first is entry:
                    del wanted[entry.content_key]
                self._progress.reuse(entry.size or 0)
                self._progress.finish_file()
        if not wanted:
            return
        neighbours = await _in_thread(self._neighbours)
        self._check_space([entry for key, entry in wanted.items() if key not in neighbours])
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        urls = FileURLs(self._catalog, artifact_id, version)

        def fresh_url(name: str, stale: str) -> str:
            asked = asyncio.run_coroutine_threadsafe(urls.refresh(name, stale), loop)
            return _await_in_thread(asked, give_up=lambda: transfer.is_stopping)

        transfer = Transfer(
            self._staging,
            self._store,
            fresh_url=fresh_url,
            neighbours=neighbours,
            progress=self._progress,
            connections=self._effort.connections,
            retry_for=self._effort.retry_for,
            on_done=lambda: _set(done, loop),
        )
        transfer.start()
        handing_out = asyncio.ensure_future(
            self._hand_out({entry.path: entry for entry in wanted.values()}, urls, transfer)
        )
        ending = asyncio.ensure_future(done.wait())
        try:
            await asyncio.wait((handing_out, ending), return_when=asyncio.FIRST_COMPLETED)
            if handing_out.done():
                handing_out.result()
                transfer.no_more_files()
                await ending
        except BaseException as error:
            transfer.stop(error)
            raise
        finally:
            handing_out.cancel()
            ending.cancel()
            await _in_thread(lambda: transfer.close(wait=STOP_SECONDS))
        if transfer.error is not None:
            raise transfer.error

    async def _hand_out(self, wanted: dict[str, Entry], urls: FileURLs, transfer: Transfer) -> None:
        """Pass every file with its URL to the threads, one page ahead of them. Raises NotFoundError."""
        left = dict(wanted)
        async for page in urls.pages():
            transfer.add((left.pop(name), url) for name, url in page.items() if name in left)
            if not left:
                return
            await _in_thread(lambda: transfer.wait_until_backlog(PAGE_FILES))
        if left:
            missing = next(iter(left))
            raise NotFoundError(
                f"{shown(missing)}: the manifest lists the file, but {self._api.base_url} returned no URL for it"
                f"{f' (nor for {len(left) - 1} others)' if len(left) > 1 else ''}; log the artifact again, or choose "
                "another version",
                file=missing,
            )

    def _neighbours(self) -> Mapping[str, Path]:
        return {neighbour.entry.content_key: neighbour.path for neighbour in self._staging.neighbours()}

    def _check_space(self, entries: list[Entry]) -> None:
        need = sum(entry.size or 0 for entry in entries) - self._staging.partial_bytes(entries)
        free = self._staging.free_bytes()
        if need > free:
            raise NoSpaceError(
                f"{self._target.parent} has {free / 2**20:,.0f} MiB free, but {need / 2**20:,.0f} MiB are still to be "
                "fetched; nothing was fetched; enlarge the volume (storage.size) and pull again"
            )


async def _end_other_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _set(event: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    with suppress(RuntimeError):  # the loop is closed when a thread wakes up after a signal ended the pull
        loop.call_soon_threadsafe(event.set)


def _in_thread(call: Callable[[], Answer]) -> "asyncio.Future[Answer]":
    """Run a blocking call in a daemon thread, which does not keep the process alive."""
    future: Future[Answer] = Future()
    # Otherwise cancelling the pull would cancel the future, and the thread could not set its result.
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return asyncio.wrap_future(future)


def _await_in_thread(asked: "Future[Answer]", *, give_up: Callable[[], bool]) -> Answer:
    """Wait, in a thread, for a coroutine submitted to the loop, unless the pull ends meanwhile."""
    while True:
        try:
            return asked.result(timeout=_POLL_SECONDS)
        except TimeoutError:
            if asked.done():
                raise
            if give_up():
                asked.cancel()
                raise InterruptedPullError("another file ended the pull") from None
