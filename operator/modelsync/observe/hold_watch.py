"""Where what serves is watched for holds, whatever the spec says now. Pure.

A spec can be edited, by mistake or on purpose, so that its registry cannot be queried or has no mark of what serves: an
invalid reference, another server, a Secret without a valid key. So the revisions in play are also watched at the server
that their record was pulled from: with the operator's own credential for that server if it has one, and with the Secret
of the record as long as the administrator allows the server. A watch with that Secret is needed only where it differs
from what the spec asks for.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeAlias

from modelsync.api.hold import HoldMark
from modelsync.api.registry import Registry
from modelsync.api.settings import OperatorSettings, same_server
from modelsync.observe.question import administrator_names, hold_names, served, server_of
from modelsync.observe.spec_status import Read
from modelsync.observe.unplanned import Content, Unplanned
from modelsync.policy.effective import capped, is_allowed_server, registry_of
from modelsync.registry.model import Answers, HoldNames, Question
from modelsync.resources.revision import Artifact
from modelsync.rollout.model import Hold, HoldRead

MAX_WATCHED = 256
"""Artifacts of one ModelDeployment that are asked for with one credential, what runs first."""

CLOCK_STEP = timedelta(seconds=10)
"""A clock that differs by less from the one that cannot be set was not set."""

PREFERENCE = timedelta(seconds=60)
"""A read by the spec's registry that is older than one by a watch by this much no longer counts."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One registry to query, and about which versions."""

    registry: Registry
    question: Question
    own: bool = False
    """Whether Secret and CA bundle are those of the operator, in its own namespace."""

    @property
    def name(self) -> str:
        """Tells the watches of one ModelDeployment apart."""
        secret, bundle = self.registry.auth.secret_key_ref, self.registry.ca_bundle
        ca = f"{bundle.config_map_key_ref.name}/{bundle.config_map_key_ref.key}" if bundle is not None else ""
        return f"{'operator ' if self.own else ''}{self.registry.base_url} {secret.name}/{secret.key} {ca}"


Place: TypeAlias = tuple[str, str]
"""The base URL of a server, and a digest."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What is known of the marks on some digests, whichever credential and ModelDeployment saw them."""

    shown: tuple[Hold, ...] = ()
    gone: frozenset[HoldMark] = frozenset()
    """Latched marks that a newer read shows to be gone."""


NO_MARKS = Marks()


def places(found: Read, answers: Answers | None) -> frozenset[Place]:
    """The digests in play, where they were pulled from and where the spec asks, and those that the aliases name."""
    server = server_of(found.registry)
    asked = {kept.positive.digest for kept in answers.refs.values() if kept.positive} if answers is not None else set()
    found_at = set()
    for record in found.in_play:
        digests = record.digests
        asked.update(digests)
        if (registry := record.registry) is not None:
            found_at |= {(server_of(registry), digest) for digest in digests}
    return frozenset(found_at | ({(server, digest) for digest in asked} if server else set()))


def unplanned_places(found: Unplanned) -> frozenset[Place]:
    """The digests of what serves without a plan, where it was pulled from."""
    return frozenset(
        (server_of(content.registry), digest)
        for content in found.contents.values()
        if content.registry is not None
        for digest in content.digests
    )


def watches(found: Read, settings: OperatorSettings) -> tuple[Watch, ...]:
    """The watches that the revisions in play need beside the spec's own registry."""
    contents = [Content(tuple(record.parts.values()), record.registry) for record in found.in_play]
    asked = registry_of(found.spec, settings)
    interval = capped(asked, settings).poll_interval if asked is not None else None
    names = hold_names(found.spec, settings)
    # With the operator's own credential, nobody asks with the one that the registry names.
    by = found.registry if found.own is None else None
    return _watches(contents, found.state.holds, names, settings, asked=by, interval=interval)


def unplanned_watches(found: Unplanned, settings: OperatorSettings) -> tuple[Watch, ...]:
    """The watches of what serves without a plan: only the administrator's hold names count."""
    return _watches(found.contents.values(), found.latched, administrator_names(settings), settings)


def _watches(
    contents: Iterable[Content],
    latched: Sequence[Hold],
    names: HoldNames,
    settings: OperatorSettings,
    *,
    asked: Registry | None = None,
    interval: timedelta | None = None,
) -> tuple[Watch, ...]:
    """`asked` is the registry that the spec asks; `interval` is the spec's own, if it is shorter."""
    wanted: dict[tuple[bool, Registry], dict[Artifact, None]] = defaultdict(dict)
    for content in contents:
        if (registry := content.registry) is None:
            continue
        artifacts = dict.fromkeys(content.artifacts)
        for own in settings.registries:
            if same_server(own.base_url, registry.base_url):
                wanted[True, capped(own, settings)] |= artifacts
        if is_allowed_server(registry.base_url, settings) and (asked is None or not _same_access(registry, asked)):
            shortest = min(filter(None, (capped(registry, settings).poll_interval, interval)))
            wanted[False, registry.model_copy(update={"poll_interval": shortest})] |= artifacts
    return tuple(
        Watch(
            registry,
            Question(
                refs=frozenset(),
                served=frozenset(map(served, islice(artifacts, MAX_WATCHED))),
                # A tenant's own patterns must not make the operator's own credential ask for more.
                hold=administrator_names(settings) if own else names,
                latched=frozenset(
                    hold.mark for hold in latched if not hold.server or same_server(hold.server, registry.base_url)
                ),
            ),
            own,
        )
        for (own, registry), artifacts in wanted.items()
    )


def merge_reads(
    own: Mapping[str, HoldRead], watched: Iterable[Mapping[str, HoldRead]], latched: Iterable[Hold]
) -> Mapping[str, HoldRead]:
    """The reads that count, by digest: `own` are those of the spec's registry, `latched` the holds in force.

    No server can hide a mark that another one shows, and only the server that showed a latched mark can show it gone:
    the read by that server counts. Of one server the newer read counts; what its credential cannot see stays
    latched in it.
    """
    held_by: dict[str, set[str]] = defaultdict(set)
    for hold in latched:
        held_by[hold.mark.digest].add(hold.server)
    merged = dict(own)
    for reads in watched:
        for digest, read in reads.items():
            known = merged.get(digest)
            if known is None or _counts(read, known, held_by[digest]):
                merged[digest] = read
    return merged


def on_clock(reads: Mapping[str, HoldRead], now: datetime, instant: float | None) -> Mapping[str, HoldRead]:
    """The reads with times by the clock that says `now`, although it may have been set since.

    `instant` is now in seconds of the clock that orders reads, which nobody can set. Otherwise, an operator whose clock
    was set back would take old knowledge of marks for fresh, and one whose clock was set forward fresh knowledge for
    old. Differences of less than `CLOCK_STEP` are left: a quiet world must not make new times.
    """
    return {digest: _on_clock(read, now, instant) for digest, read in reads.items()} if instant is not None else reads


def _on_clock(read: HoldRead, now: datetime, instant: float) -> HoldRead:
    asked_at = now - timedelta(seconds=instant - read.asked)
    if not read.asked or abs(asked_at - read.asked_at) < CLOCK_STEP:
        return read
    # In whole seconds: a time that differs a little in each pass would be written to the status in each pass.
    return replace(read, asked_at=asked_at.replace(microsecond=0))


def _counts(read: HoldRead, known: HoldRead, held_by: Collection[str]) -> bool:
    """Whether `read`, by a watch, counts instead of `known`. `held_by`: the servers of latched holds on the digest."""
    if same_server(read.server, known.server):
        hides = not set(read.marks) <= set(known.marks) and read.asked >= known.asked
    else:
        hides = not set(read.marks) <= set(known.marks) or any(same_server(read.server, each) for each in held_by)
    return hides or known.asked + PREFERENCE.total_seconds() < read.asked


def _same_access(one: Registry, other: Registry) -> bool:
    return (
        one.base_url.rstrip("/") == other.base_url.rstrip("/")
        and one.auth == other.auth
        and one.ca_bundle == other.ca_bundle
    )
