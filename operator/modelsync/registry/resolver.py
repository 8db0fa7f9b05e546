"""Answers questions about versions, aliases and hold marks from a W&B server.

One read is one request where possible: all references, and the tags and aliases of their collections. A second request
is sent only for what the first one showed to be missing: further pages of a list, versions that carry a hold alias,
served versions that their collection no longer lists. It must never retry or cache an answer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry import outcomes
from modelsync.registry.errors import NotGraphQLError, RegistryError, UnreachableError
from modelsync.registry.exchange import NoReply, Reply, ServerTraits, ask
from modelsync.registry.graphql import GraphQL
from modelsync.registry.holds import is_hold_alias
from modelsync.registry.lists import Lists
from modelsync.registry.model import (
    AliasedVersion,
    ArtifactOutcome,
    ArtifactRead,
    CollectionOutcome,
    CollectionRead,
    Denied,
    Missing,
    Outcome,
    Question,
    Reading,
    Resolved,
    ServedVersion,
)
from modelsync.registry.organizations import Organizations
from modelsync.registry.query import ArtifactById, CollectionPage, Unit
from modelsync.registry.wire import cut_of_artifact, cut_of_membership


class Resolver:
    """Reads from one server with one credential.

    Keeps what it learned about the server between reads (limits, organizations' names), never a credential and never
    an answer.
    """

    def __init__(self) -> None:
        self._traits = ServerTraits()
        self._organizations = Organizations()

    async def read(self, api: GraphQL, questions: Iterable[Question], *, hold_aliases: Iterable[str] = ()) -> Reading:
        """Query everything that `questions` need, each subject once. Never raises: each subject has its own outcome.

        `hold_aliases` are patterns to look for in addition to those of the questions. While the server has asked to
        wait, nothing is sent and every outcome is `Throttled`.
        """
        asked = list(questions)
        session = _ReadSession(api, self._traits, self._organizations)
        refs = {ref for question in asked for ref in question.all_refs}
        homes = {home for question in asked for home in question.collections}
        await session.read(refs, homes)
        if any(ref.is_registry and _no_project(session.refs[ref]) for ref in refs):
            await self._organizations.learn(api)
            renamed = {home for home in homes if self._organizations.actual(home) != home}
            renamed = {home for home in renamed if _no_project(session.collections[home])}
            if renamed:
                await session.read({ref for ref in refs if ref.in_collection in renamed}, renamed)
        patterns = {*hold_aliases, *(pattern for question in asked for pattern in question.hold.aliases)}
        await session.follow_up({served for question in asked for served in question.served}, patterns)
        return Reading(session.refs, session.collections, session.artifacts, silent=not session.answered)


def failed(questions: Iterable[Question], error: RegistryError, at: datetime, moment: float) -> Reading:
    """The result of a read that could not be started because of `error`; `moment` is `at` by `graphql.clock`."""
    reply = NoReply(error, at, at, moment)
    asked = list(questions)
    collections = {home: outcomes.of_collection(home, reply) for question in asked for home in question.collections}
    refs = {
        ref: outcomes.of_ref(ref, reply, collections[ref.in_collection])
        for question in asked
        for ref in question.all_refs
    }
    return Reading(refs, collections, {})


class _ReadSession:
    """One read: what was queried, and what is known so far."""

    def __init__(self, api: GraphQL, traits: ServerTraits, organizations: Organizations) -> None:
        self.refs: dict[ModelRef, Outcome] = {}
        self.collections: dict[CollectionRef, CollectionOutcome] = {}
        self.artifacts: dict[str, ArtifactOutcome] = {}
        self.answered = False
        self._api = api
        self._traits = traits
        self._organizations = organizations
        self._lists = Lists(self._ask, without=traits.without)

    async def read(self, refs: Iterable[ModelRef], homes: Iterable[CollectionRef]) -> None:
        """Read references and collections; `homes` contains every collection of `refs`."""
        asked_refs = {ref: self._actual(ref) for ref in refs}
        asked_homes = {home: self._organizations.actual(home) for home in homes}
        first: set[Unit] = {*asked_refs.values(), *(CollectionPage(home) for home in asked_homes.values())}
        replies = await self._ask(first)
        for home, actual in asked_homes.items():
            self._lists.note_collection(actual, replies[CollectionPage(actual)])
            self.collections[home] = outcomes.of_collection(home, replies[CollectionPage(actual)])
        for ref, actual_ref in asked_refs.items():
            self.refs[ref] = outcomes.of_ref(ref, replies[actual_ref], self.collections[ref.in_collection])
            self._note_cut(self.refs[ref], replies[actual_ref])
        await self._lists.follow()
        for home, actual in asked_homes.items():
            if isinstance(read := self.collections[home], CollectionRead):
                self.collections[home] = self._lists.collection(read, actual)
        for ref in asked_refs:
            if isinstance(outcome := self.refs[ref], Resolved):
                self.refs[ref] = self._lists.resolved(outcome)

    async def follow_up(self, served: Iterable[ServedVersion], patterns: Iterable[str]) -> None:
        """Read which versions carry hold aliases, and the served versions that their collection does not list."""
        wanted = list(patterns)
        carriers: dict[CollectionRef, dict[str, ModelRef]] = {}
        for home, read in self.collections.items():
            if isinstance(read, CollectionRead):
                held = {alias for alias in read.aliases if is_hold_alias(alias, wanted)}
                carriers[home] = {alias: self._actual(home.at(alias)) for alias in held}
        known = {(ref.collection_ref, alias): ref for ref in self._resolved() for alias in ref.aliases}
        unknown = {
            ref
            for aliases in carriers.values()
            for alias, ref in aliases.items()
            if (ref.in_collection, alias) not in known
        }
        lost = {each.artifact_id for each in served if self._is_lost(each)}
        replies = await self._ask({*unknown, *(ArtifactById(each) for each in lost)})
        for artifact_id in lost:
            self.artifacts[artifact_id] = outcomes.of_artifact(artifact_id, replies[ArtifactById(artifact_id)])
            self._note_cut(self.artifacts[artifact_id], replies[ArtifactById(artifact_id)])
        await self._lists.follow()
        for artifact_id in lost:
            if isinstance(found := self.artifacts[artifact_id], ArtifactRead):
                self.artifacts[artifact_id] = replace(found, artifact=self._lists.artifact(found.artifact))
        for home, aliases in carriers.items():
            versions = set()
            for alias, ref in aliases.items():
                read = self.collections[home]
                version = known.get((ref.in_collection, alias)) or outcomes.of_ref(ref, replies[ref], read)
                if isinstance(version, Resolved):
                    versions.add(AliasedVersion(alias, version.version, version.artifact_id, version.digest))
            if versions and isinstance(read := self.collections[home], CollectionRead):
                self.collections[home] = replace(read, hold_aliases=frozenset(versions))

    def _note_cut(self, outcome: Outcome | ArtifactOutcome, reply: Reply | NoReply) -> None:
        """Note the lists of a positive answer that are not whole."""
        if not isinstance(outcome, Resolved | ArtifactRead) or not isinstance(reply, Reply):
            return
        if outcomes.is_partial(reply):
            self._lists.note_partial(outcome.artifact.artifact_id)
        if not outcome.artifact.whole:
            if isinstance(outcome, Resolved):
                self._lists.note(cut_of_membership(reply.value, outcome.ref))
            else:
                self._lists.note(cut_of_artifact(reply.value))

    async def _ask(self, units: Iterable[Unit]) -> Mapping[Unit, Reply | NoReply]:
        replies = await ask(self._api, units, self._traits)
        for reply in replies.values():
            if isinstance(reply, Reply) or not isinstance(reply.error, UnreachableError | NotGraphQLError):
                self.answered = True
        return replies

    def _resolved(self) -> Iterable[Resolved]:
        return (outcome for outcome in self.refs.values() if isinstance(outcome, Resolved))

    def _is_lost(self, served: ServedVersion) -> bool:
        """Whether the collection was read and has another version, or none, under the served version's name."""
        outcome = self.refs[served.collection.at(served.version)]
        if isinstance(outcome, Resolved):
            return outcome.artifact_id != served.artifact_id
        return isinstance(outcome, Missing | Denied)

    def _actual(self, ref: ModelRef) -> ModelRef:
        return self._organizations.actual(ref.in_collection).at(ref.alias)


def _no_project(outcome: Outcome | CollectionOutcome) -> bool:
    return isinstance(outcome, Missing) and outcome.what == "project"
