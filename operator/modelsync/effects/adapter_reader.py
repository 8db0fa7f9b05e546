"""Reads what a LoRA adapter says of itself, once for each content, and says when it is known.

Answers stay with the (server, credential) pair that they were read with, as the registry's do. A credential is asked
for at each reading and dropped after it. Nothing is judged here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

import structlog

from modelsync.api.kinds import Key
from modelsync.api.model_ref import CollectionRef
from modelsync.api.pod_contract import EXIT_CONTENT
from modelsync.observe.adapters import Failing, Known, Refused
from modelsync.puller.errors import PullError
from modelsync.puller.inspect_artifact import InspectedArtifact, inspect_artifact
from modelsync.registry.credential import InvalidCredentialError
from modelsync.registry.errors import RegistryError
from modelsync.registry.graphql import GraphQL, InvalidBaseURLError, InvalidCABundleError, tls
from modelsync.registry.poller import Server, Subscription
from modelsync.resources.adapter_config import CONFIG_FILE, AdapterConfig, AdapterRefusedError, read_adapter
from modelsync.resources.revision import Artifact

PARALLEL = 4
LONGEST = timedelta(seconds=60)
BACKOFF = (timedelta(seconds=1), timedelta(minutes=1))
"""Before an adapter that could not be read is tried again: first, and at most."""
MOST_KNOWN = 4096

log = structlog.get_logger(__name__)

_Pair: TypeAlias = tuple[Server, Hashable]
_Entry: TypeAlias = tuple[_Pair, str]
Look: TypeAlias = Callable[[Subscription, Artifact], Awaitable[InspectedArtifact]]


@dataclass(slots=True)
class _Trouble:
    """How often an adapter could not be read in a row, and when it may be tried again (the event loop's clock)."""

    count: int = 0
    until: float = 0.0


@dataclass(slots=True)
class AdapterReader:
    """`on_change(key)` is called in the event loop when something that `key` wanted has been read, or may be again."""

    on_change: Callable[[Key], None]
    look: Look = field(default_factory=lambda: look_into)
    _known: dict[_Entry, AdapterConfig | Refused | Failing] = field(default_factory=dict)
    _trouble: dict[_Entry, _Trouble] = field(default_factory=dict)
    _tasks: dict[_Entry, asyncio.Task[None]] = field(default_factory=dict)
    _waiting: dict[_Entry, set[Key]] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARALLEL))

    def known(self, subscription: Subscription) -> Known:
        """What was read as this subscription's pair."""
        pair = _pair(subscription)
        return {digest: verdict for (asked, digest), verdict in self._known.items() if asked == pair}

    def want(self, key: Key, subscription: Subscription, artifact: Artifact) -> None:
        """Read it, unless it is being read or has just failed. `on_change(key)` follows."""
        entry = (_pair(subscription), artifact.digest)
        self._waiting.setdefault(entry, set()).add(key)
        trouble = self._trouble.get(entry)
        loop = asyncio.get_running_loop()
        if entry in self._tasks or (trouble is not None and loop.time() < trouble.until):
            return
        self._tasks[entry] = loop.create_task(self._read(entry, subscription, artifact))

    async def stop(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, entry: _Entry, subscription: Subscription, artifact: Artifact) -> None:
        try:
            async with self._slots:
                verdict = await self._verdict(subscription, artifact)
        finally:
            del self._tasks[entry]
        self._known[entry] = verdict
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        if isinstance(verdict, Failing):
            self._try_again_later(entry)
            log.warning("adapter.unreadable", artifact=artifact.ref, problem=verdict.message)
        else:
            self._trouble.pop(entry, None)
        self._tell(entry)

    async def _verdict(self, subscription: Subscription, artifact: Artifact) -> AdapterConfig | Refused | Failing:
        try:
            async with asyncio.timeout(LONGEST.total_seconds()):
                seen = await self.look(subscription, artifact)
            if CONFIG_FILE not in seen.contents:
                return Refused(f"it has no {CONFIG_FILE}; log the folder that PEFT's save_pretrained writes")
            return read_adapter(seen.files, seen.contents[CONFIG_FILE])
        except AdapterRefusedError as error:
            return Refused(str(error))
        except TimeoutError:
            return Failing(f"not within {LONGEST.total_seconds():.0f} s")
        except PullError as error:
            return Refused(str(error)) if error.exit_code == EXIT_CONTENT else Failing(str(error))
        except (RegistryError, InvalidCredentialError, InvalidBaseURLError, InvalidCABundleError) as error:
            return Failing(str(error))
        except Exception as error:  # whatever it is, the others must be read, and this one tried again
            log.exception("adapter.failed", artifact=artifact.ref)
            return Failing(f"{type(error).__name__}: {error}")

    def _try_again_later(self, entry: _Entry) -> None:
        trouble = self._trouble.setdefault(entry, _Trouble())
        first, most = (bound.total_seconds() for bound in BACKOFF)
        delay = min(first * 2 ** min(trouble.count, 30), most)
        trouble.count += 1
        loop = asyncio.get_running_loop()
        trouble.until = loop.time() + delay
        keys = frozenset(self._waiting.get(entry, ()))
        loop.call_later(delay, self._tell_all, keys)

    def _tell(self, entry: _Entry) -> None:
        self._tell_all(self._waiting.pop(entry, set()))

    def _tell_all(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.on_change(key)


async def look_into(subscription: Subscription, artifact: Artifact) -> InspectedArtifact:
    """Ask the registry and its object store. Raises PullError, RegistryError and what a bad setting raises."""
    server = subscription.server
    context = tls(ca_pem=server.ca_pem) if server.ca_pem is not None else None
    credential = await subscription.credential()
    async with GraphQL(server.base_url, credential, ssl_context=context) as api:
        return await inspect_artifact(
            api,
            artifact_id=artifact.artifact_id,
            digest=artifact.digest,
            ref=CollectionRef(artifact.entity, artifact.project, artifact.collection).at(artifact.version),
            names=[CONFIG_FILE],
            ssl_context=context,
        )


def _pair(subscription: Subscription) -> _Pair:
    return subscription.server, subscription.identity
