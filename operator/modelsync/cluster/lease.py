"""Leader election by a Lease, modelled on client-go's, and the fence that every write has to pass.

A Lease alone does not fence: a leader that was paused can still send a write that it had planned. So a write is refused
unless the lease outlasts the longest request (`Elector.fence`), and a new leader stamps the objects that it is about to
change, which makes every resourceVersion that the old leader knows stale (`epoch`). All durations are measured on the
monotonic clock; the times in the Lease only inform users and show other processes that the Lease is being renewed.
"""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from modelsync.api import names
from modelsync.api.kinds import LEASE, Object, annotations_of
from modelsync.cluster.client import WRITE_TIMEOUT, Cluster
from modelsync.cluster.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    NotLeadingError,
)

DURATION = timedelta(seconds=15)
RENEW_DEADLINE = timedelta(seconds=10)
RETRY = timedelta(seconds=2)
JITTER = 0.2

log = structlog.get_logger(__name__)


class Elector:
    """Holds one Lease as `identity`, or waits for it.

    `acquire` returns when this process leads; from then on a background task renews the lease. `lost` is set when
    renewal failed for `RENEW_DEADLINE`. After that nothing may be written, and the process should exit.

    `address` is where other replicas reach this process while it leads; it is written to an annotation of the Lease.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        name: str,
        identity: str,
        address: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        duration: timedelta = DURATION,
        renew_deadline: timedelta = RENEW_DEADLINE,
        retry: timedelta = RETRY,
    ) -> None:
        if duration - renew_deadline < WRITE_TIMEOUT:
            raise ValueError("the lease duration must exceed the renew deadline by at least the write timeout")
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._address = address
        self._clock = clock
        self._duration = duration
        self._renew_deadline = renew_deadline
        self._retry = retry
        self._lease: Object | None = None
        self._seen: tuple[str, float] | None = None
        """The resourceVersion of another holder's Lease, and when we first saw it."""
        self._valid_until = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()

    @property
    def epoch(self) -> str:
        """A unique identifier of this term of leadership.

        The Lease counts its transitions, but a Lease that was deleted and recreated starts from 0 again. It therefore
        includes the uid, so that a leader cannot mistake the stamps of a much earlier one for its own.
        """
        lease = self._lease or {}
        uid = str((lease.get("metadata") or {}).get("uid") or "")
        return f"{uid.partition('-')[0]}-{int((lease.get('spec') or {}).get('leaseTransitions') or 0)}"

    @property
    def leader_address(self) -> str | None:
        """The address that the current holder published in the Lease, as of our last read."""
        lease = self._lease or {}
        held = (lease.get("spec") or {}).get("holderIdentity")
        return annotations_of(lease).get(names.LEADER_ADDRESS_ANNOTATION) if held else None

    @property
    def remaining(self) -> timedelta:
        """How long it is certain that no other process can take the lease."""
        return timedelta(seconds=max(0.0, self._valid_until - self._clock()))

    def fence(self) -> None:
        """Raise NotLeadingError unless a write sent now ends before another process can lead."""
        if self.remaining <= WRITE_TIMEOUT:
            raise NotLeadingError(
                f"the lease {self._namespace}/{self._name} has expired or is about to; nothing is written"
            )

    async def acquire(self) -> None:
        """Wait until this process leads. Keeps waiting while the API server is unavailable.

        Raises NotFoundError when the namespace does not exist, and ForbiddenError.
        """
        waiting_for = ""
        while True:
            try:
                holder = await self._take_or_renew()
            except (NotFoundError, ForbiddenError):
                raise
            except ClusterError as error:
                log.warning("lease.unavailable", lease=f"{self._namespace}/{self._name}", problem=str(error))
                holder = ""
            if holder == self._identity:
                break
            if holder and holder != waiting_for:
                waiting_for = holder
                log.info("lease.waiting", holder=holder, lease=f"{self._namespace}/{self._name}")
            await asyncio.sleep(self._pause())
        log.info("lease.acquired", lease=f"{self._namespace}/{self._name}", identity=self._identity, epoch=self.epoch)
        self._task = asyncio.create_task(self._renew_until_lost(), name="lease")

    async def release(self) -> None:
        """Stop renewing. A lease that is still ours is released, so that the next leader need not wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        lease, held = self._lease, self.remaining > timedelta(0)
        self._valid_until = float("-inf")
        if lease is None or not held:
            return
        spec = lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time()}
        try:
            await self._cluster.replace(LEASE, self._namespace, lease | {"spec": spec})
        except ClusterError as error:
            log.info("lease.not_released", problem=str(error))

    async def _renew_until_lost(self) -> None:
        while self.remaining > self._duration - self._renew_deadline:
            await asyncio.sleep(self._pause())
            try:
                holder = await self._take_or_renew()
            except ConflictError:
                continue  # another process wrote it; the next attempt uses the new version
            except ClusterError as error:
                log.warning("lease.not_renewed", problem=str(error), remaining=self.remaining.total_seconds())
                continue
            if holder != self._identity:
                break
        self._valid_until = float("-inf")
        log.error("lease.lost", lease=f"{self._namespace}/{self._name}")
        self.lost.set()

    async def _take_or_renew(self) -> str:
        """Take or renew the lease if it is ours or free. Returns the identity of its holder."""
        sent_at = self._clock()
        if self._lease is None or self._valid_until <= sent_at:
            found = await self._read()
            if found is None:
                return await self._write(None, transitions=0, sent_at=sent_at)
            self._lease = found
        lease = self._lease
        spec = lease.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        transitions = int(spec.get("leaseTransitions") or 0)
        if holder == self._identity and self._valid_until > sent_at:
            try:
                return await self._write(lease, transitions=transitions, sent_at=sent_at)
            except (ConflictError, NotFoundError):
                self._lease = await self._read()
                raise
        if holder and not self._expired(lease, sent_at):
            return holder
        # Our own identity from before a restart also counts as a new term: that process may still have a write in
        # flight.
        return await self._write(lease, transitions=transitions + 1, sent_at=sent_at)

    def _expired(self, lease: Object, now: float) -> bool:
        """Whether the holder has not renewed within its lease duration, measured on our clock (clocks may differ)."""
        version = str(lease["metadata"]["resourceVersion"])
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
            return False
        spec = lease.get("spec") or {}
        seconds = float(spec.get("leaseDurationSeconds") or self._duration.total_seconds())
        return now - self._seen[1] > seconds

    async def _read(self) -> Object | None:
        return await self._cluster.find(LEASE, self._namespace, self._name)

    async def _write(self, lease: Object | None, *, transitions: int, sent_at: float) -> str:
        """Make this process the holder. The lease is valid from `sent_at`, the time before the request was sent."""
        renewal = lease is not None and (lease.get("spec") or {}).get("leaseTransitions") == transitions
        now = _micro_time()
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._duration.total_seconds()),
            "acquireTime": (lease or {}).get("spec", {}).get("acquireTime", now) if renewal else now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        if lease is None:
            body: Object = {
                "apiVersion": LEASE.api_version,
                "kind": LEASE.kind,
                "metadata": self._with_our_address({"name": self._name, "namespace": self._namespace}),
                "spec": spec,
            }
            self._lease = await self._cluster.create(LEASE, self._namespace, body)
        else:
            body = lease | {"metadata": self._with_our_address(lease["metadata"]), "spec": spec}
            self._lease = await self._cluster.replace(LEASE, self._namespace, body)
        self._valid_until = sent_at + self._duration.total_seconds()
        return self._identity

    def _with_our_address(self, metadata: Object) -> Object:
        """Return `metadata` with our address; without one, the previous leader's is removed."""
        annotations = dict(metadata.get("annotations") or {})
        annotations.pop(names.LEADER_ADDRESS_ANNOTATION, None)
        if self._address is not None:
            annotations[names.LEADER_ADDRESS_ANNOTATION] = self._address
        return {**metadata, "annotations": annotations}

    def _pause(self) -> float:
        return self._retry.total_seconds() * (1 + JITTER * random.random())  # noqa: S311 - spreads load, no secret


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
