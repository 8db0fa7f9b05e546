"""The store of versions, collections, aliases, links and tags, and the only place that changes them.

Changes by an SDK and by the admin API go through the same functions, so that seeded state is identical to state that
an SDK created. The store knows nothing of HTTP and permissions; it emits events.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from wandb_standin import manifest as manifests
from wandb_standin.blobs import Blob, Blobs
from wandb_standin.errors import RefusedError, not_found
from wandb_standin.model import (
    Alias,
    Artifact,
    ArtifactType,
    Collection,
    CollectionKind,
    DigestAlgorithm,
    Entry,
    Manifest,
    Membership,
    Project,
    Run,
    Tag,
    User,
    now,
)
from wandb_standin.places import Places

EventType: TypeAlias = Literal[
    "CREATE_ARTIFACT",
    "LINK_ARTIFACT",
    "UNLINK_ARTIFACT",
    "ADD_ARTIFACT_ALIAS",
    "ADD_ARTIFACT_TAG",
    "REMOVE_ARTIFACT_TAG",
    "ADD_COLLECTION_TAG",
    "REMOVE_COLLECTION_TAG",
]

MAX_ALIAS_CHARS: Final = 128
MAX_TAGS_PER_COLLECTION_CALL: Final = 20
TAG_PATTERN: Final = re.compile(r"^[-\w]+( +[-\w]+)*$")
VERSION_PATTERN: Final = re.compile(r"^v\d+$")


@dataclass(frozen=True)
class Event:
    """An event that can trigger an automation. As in W&B, there is none for a removed alias."""

    type: EventType
    collection: Collection
    artifact: Artifact | None = None
    version: str | None = None
    alias: str | None = None
    tag: str | None = None
    author: str = ""


class Store(Places):
    """The server's state. `on_event` is called for every change that can trigger an automation in W&B."""

    def __init__(self, blobs: Blobs, on_event: Callable[[Event], None] = lambda event: None) -> None:
        super().__init__()
        self.blobs = blobs
        self.on_event = on_event
        self.client_ids: dict[str, Artifact] = {}
        self.manifest_by_key: dict[str, Manifest] = {}
        self._uploads: dict[tuple[str, str], str] = {}

    def create_artifact(
        self,
        project: Project,
        *,
        type_name: str,
        collection_name: str,
        digest: str,
        digest_algorithm: DigestAlgorithm = "MANIFEST_MD5",
        run: Run | None = None,
        user: User | None = None,
        description: str | None = None,
        metadata: str | None = None,
        aliases: Iterable[str] = (),
        tags: Iterable[str] = (),
        history_step: int | None = None,
        ttl_seconds: int | None = None,
        client_id: str | None = None,
        deduplicate: bool = True,
    ) -> Artifact:
        """Create a version, to be committed later; or return the committed one that has the same digest.

        Raises:
            RefusedError: the collection is a portfolio, or of another type; a bad alias or tag.
        """
        aliases, tags = [_checked_alias(a) for a in aliases], [_checked_tag(t) for t in tags]
        if project.is_registry:
            raise RefusedError(f"cannot log an artifact to the registry {project.path!r}: link a version of a project")
        artifact_type = self.ensure_type(project, type_name)
        sequence = self._ensure_collection(project, collection_name, "ArtifactSequence", artifact_type)
        if sequence.default_artifact_type is not artifact_type:
            raise RefusedError(
                f"artifact {collection_name!r} is of type {sequence.default_artifact_type.name!r}, not {type_name!r}"
            )
        if not sequence.memberships:
            sequence.digest_algorithm = digest_algorithm
        if deduplicate:
            same = [m for m in sequence.memberships if m.artifact.digest == digest and m.artifact.state == "COMMITTED"]
            if same:
                self.set_aliases(same[-1], aliases, author=user)
                self._remember_client_id(client_id, same[-1].artifact)
                return same[-1].artifact
        artifact = Artifact(
            id=self.new_id("Artifact"),
            artifact_sequence=sequence,
            artifact_type=artifact_type,
            digest=digest,
            digest_algorithm=digest_algorithm,
            created_at=now(),
            updated_at=now(),
            description=description,
            metadata=metadata,
            ttl_duration_seconds=ttl_seconds if ttl_seconds is not None else -1,
            ttl_is_inherited=ttl_seconds is None,
            history_step=history_step,
            wanted_aliases=aliases,
            tags=[Tag(self.new_id("Tag"), name) for name in dict.fromkeys(tags)],
            created_by=run or user,
        )
        if run is not None:
            run.output_versions.append(artifact)
        self.nodes[artifact.id] = artifact
        self._remember_client_id(client_id, artifact)
        return artifact

    def create_manifest(self, artifact: Artifact, *, name: str, digest: str, kind: str) -> Manifest:
        """Add a manifest to an uncommitted version; the newest one whose file was uploaded applies."""
        manifest_id = self.new_id("ArtifactManifest")
        key = f"{_storage_root(artifact)}/{manifest_id.rstrip('=')}/{name}"
        manifest = Manifest(manifest_id, artifact, name, digest, kind, key)
        artifact.manifests.append(manifest)
        self.manifest_by_key[key] = manifest
        self.nodes[manifest_id] = manifest
        return manifest

    def reserve_file(self, artifact: Artifact, name: str, digest: str) -> tuple[str, str, bool]:
        """Where a file of the version is stored: key, id of the version that first had it, and whether it exists."""
        for earlier in reversed(artifact.artifact_sequence.memberships):
            entry = earlier.artifact.entries.get(name)
            if entry and entry.digest == digest and entry.birth_artifact_id and not entry.ref:
                key = self._uploads.get((entry.birth_artifact_id, digest))
                if key and self.blobs.get(key):
                    return key, entry.birth_artifact_id, True
        key = self._uploads.setdefault(
            (artifact.id, digest), f"{_storage_root(artifact)}/{manifests.hex_of(digest)}/{name}"
        )
        return key, artifact.id, self.blobs.get(key) is not None

    def commit_artifact(self, artifact: Artifact, author: User | None = None) -> Artifact:
        """Commit a version: assign its number and aliases. Idempotent.

        Raises:
            RefusedError: no manifest, or a file of it was not uploaded.
        """
        if artifact.state == "COMMITTED":
            return artifact
        manifest = self.current_manifest(artifact)
        blob = self.blobs.get(manifest.storage_key) if manifest else None
        if blob is None:
            raise RefusedError("cannot commit an artifact whose manifest was not uploaded")
        entries = manifests.load(self.blobs.path(blob).read_bytes())
        for entry in entries.values():
            if entry.ref is None and self.file_blob(entry) is None:
                raise RefusedError(f"cannot commit: file {entry.name!r} of the manifest was not uploaded")
        artifact.entries = entries
        artifact.state = "COMMITTED"
        artifact.commit_hash = secrets.token_hex(10)
        artifact.updated_at = now()
        sequence = artifact.artifact_sequence
        membership = self._add_membership(sequence, artifact)
        artifact.version_index = membership.version_index
        self._emit("CREATE_ARTIFACT", sequence, membership, author)
        self.set_aliases(membership, ["latest", *artifact.wanted_aliases], author=author)
        for tag in artifact.tags:
            self._emit("ADD_ARTIFACT_TAG", sequence, membership, author, tag=tag.name)
        return artifact

    def log_artifact(
        self,
        entity_name: str,
        project_name: str,
        name: str,
        files: dict[str, Blob],
        *,
        type_name: str = "model",
        digest_algorithm: DigestAlgorithm = "MANIFEST_MD5",
        digests: dict[str, str] | None = None,
        references: dict[str, str] | None = None,
        aliases: Iterable[str] = (),
        tags: Iterable[str] = (),
        metadata: str | None = None,
        description: str | None = None,
        user: User | None = None,
    ) -> Membership:
        """Do what `run.log_artifact` does, in one step, for files whose content is already stored.

        `digests` (base64) replace the files' MD5s where the algorithm is XXH128; `references` maps names to URIs.
        """
        extra: dict[str, object] = {"alg": "XXH128"} if digest_algorithm == "MANIFEST_XXH128" else {}
        entries = [
            Entry(n, (digests or {}).get(n, blob.md5_base64), blob.size, extra=extra) for n, blob in files.items()
        ]
        entries += [Entry(n, uri, 0, ref=uri) for n, uri in (references or {}).items()]
        project = self.ensure_project(entity_name, project_name)
        run, _ = self.upsert_run(project, None, user)
        run.state = "finished"
        artifact = self.create_artifact(
            project,
            type_name=type_name,
            collection_name=name,
            digest=manifests.artifact_digest(entries, digest_algorithm),
            digest_algorithm=digest_algorithm,
            run=run,
            user=user,
            description=description,
            metadata=metadata,
            aliases=aliases,
            tags=tags,
        )
        if artifact.state != "COMMITTED":
            final = []
            for entry in entries:
                if entry.ref is None:
                    key, birth, stored = self.reserve_file(artifact, entry.name, entry.digest)
                    if not stored and self.blobs.alias(key, files[entry.name]) is None:
                        raise not_found(f"the uploaded content of file {entry.name!r}")
                    entry = Entry(entry.name, entry.digest, entry.size, birth, extra=entry.extra)
                final.append(entry)
            manifest = self.create_manifest(artifact, name="wandb_manifest.json", digest="", kind="FULL")
            blob = self.blobs.put_bytes(manifest.storage_key, manifests.dump(final))
            manifest.digest = blob.md5_base64
            self.commit_artifact(artifact, user)
        return self.membership_of(artifact.artifact_sequence, artifact)

    def find_membership(self, project: Project, name: str) -> Membership | None:
        """`collection:alias` -> membership; without an alias, `latest`."""
        collection_name, _, alias = name.partition(":")
        collection = project.collections.get(collection_name)
        return self.find_in_collection(collection, alias or "latest") if collection else None

    def find_in_collection(self, collection: Collection, alias: str) -> Membership | None:
        """By alias, version, commit hash or digest, in this order."""
        for membership in collection.memberships:
            if any(a.alias == alias for a in membership.aliases):
                return membership
        for membership in collection.memberships:
            if alias in (membership.artifact.commit_hash, membership.artifact.digest):
                return membership
        return None

    def membership_of(self, collection: Collection, artifact: Artifact) -> Membership:
        """The version's membership in the collection.

        Raises:
            RefusedError: it has none.
        """
        for membership in collection.memberships:
            if membership.artifact is artifact:
                return membership
        raise not_found(f"artifact membership of {artifact.id!r} in {collection.path!r}")

    def resolve(self, path: str) -> Membership:
        """`entity/project/collection:alias` -> membership, for the admin API.

        Raises:
            RefusedError: names the part that does not exist.
        """
        collection_path, _, alias = path.partition(":")
        collection = self.resolve_collection(collection_path)
        membership = self.find_in_collection(collection, alias or "latest")
        if membership is None:
            known = sorted({a.alias for m in collection.memberships for a in m.aliases})
            raise RefusedError(
                f"no version {alias or 'latest'!r} in {collection_path!r}; it has {', '.join(known) or 'none'}",
                "NOT_FOUND",
            )
        return membership

    def resolve_collection(self, path: str) -> Collection:
        """`entity/project/collection` -> collection, for the admin API."""
        parts = path.split("/")
        if len(parts) != 3:
            raise RefusedError(f"{path!r} is not entity/project/collection")
        project = self.find_project(parts[0], parts[1])
        if project is None:
            raise not_found(f"project '{parts[0]}/{parts[1]}'")
        collection = project.collections.get(parts[2])
        if collection is None:
            raise not_found(f"collection {parts[2]!r} of {project.path!r} (it has {sorted(project.collections)})")
        return collection

    def current_manifest(self, artifact: Artifact) -> Manifest | None:
        """The newest manifest that was uploaded."""
        return next((m for m in reversed(artifact.manifests) if self.blobs.get(m.storage_key)), None)

    def file_key(self, entry: Entry) -> str | None:
        """The storage key of a file in a manifest."""
        return self.upload_key(entry.birth_artifact_id or "", entry.digest)

    def upload_key(self, birth_artifact_id: str, digest: str) -> str | None:
        """The storage key of the file that was first logged with that version and has that (base64) digest."""
        return self._uploads.get((birth_artifact_id, digest))

    def file_blob(self, entry: Entry) -> Blob | None:
        """The stored content of a file in a manifest."""
        key = self.file_key(entry)
        return self.blobs.get(key) if key else None

    def set_aliases(self, membership: Membership, aliases: Iterable[str], author: User | None = None) -> None:
        """Move aliases of the collection to this version."""
        collection = membership.artifact_collection
        for name in dict.fromkeys(_checked_alias(a) for a in aliases):
            holder = next((m for m in collection.memberships if any(a.alias == name for a in m.aliases)), None)
            if holder is membership:
                continue
            if VERSION_PATTERN.match(name):
                raise RefusedError(f"alias {name!r} is a version: the server gives and keeps it")
            if holder is not None:
                holder.aliases = [a for a in holder.aliases if a.alias != name]
            membership.aliases.append(Alias(self.new_id("ArtifactAlias"), name, collection))
            collection.updated_at = now()
            self._emit("ADD_ARTIFACT_ALIAS", collection, membership, author, alias=name)

    def remove_alias(self, membership: Membership, alias: str) -> None:
        """Remove an alias, without an event: W&B has none for it.

        Raises:
            RefusedError: a version's own alias, or one that the version does not have.
        """
        if VERSION_PATTERN.match(alias):
            raise RefusedError(f"alias {alias!r} is a version: the server gives and keeps it")
        if all(a.alias != alias for a in membership.aliases):
            raise not_found(f"alias {alias!r} of {membership.path!r}")
        membership.aliases = [a for a in membership.aliases if a.alias != alias]
        membership.artifact_collection.updated_at = now()

    def link_artifact(
        self,
        artifact: Artifact,
        project: Project,
        portfolio_name: str,
        aliases: Iterable[str],
        author: User | None = None,
    ) -> Membership:
        """Link the version to a portfolio, which is created if necessary. Linking twice only adds the aliases.

        Raises:
            RefusedError: the version is not committed, or the target is a sequence or accepts other types only.
        """
        aliases = [_checked_alias(a) for a in aliases]
        if artifact.state != "COMMITTED":
            raise RefusedError(f"cannot link an artifact that is {artifact.state}")
        kind = artifact.artifact_type.name
        if project.is_registry and not project.allow_all_artifact_types_in_registry and kind not in project.types:
            raise RefusedError(f"registry {project.name!r} takes types {sorted(project.types)}, not {kind!r}")
        artifact_type = self.ensure_type(project, artifact.artifact_type.name)
        portfolio = self._ensure_collection(project, portfolio_name, "ArtifactPortfolio", artifact_type)
        membership = next((m for m in portfolio.memberships if m.artifact is artifact), None)
        if membership is None:
            membership = self._add_membership(portfolio, artifact)
            self._emit("LINK_ARTIFACT", portfolio, membership, author)
            aliases = ["latest", *aliases]
        self.set_aliases(membership, aliases, author=author)
        return membership

    def unlink_artifact(self, artifact: Artifact, portfolio: Collection, author: User | None = None) -> None:
        """Remove the version, and its aliases there, from the portfolio."""
        membership = self.membership_of(portfolio, artifact)
        if portfolio.kind != "ArtifactPortfolio":
            raise RefusedError(f"{portfolio.path!r} is where the version was logged: it can be deleted, not unlinked")
        self._drop_membership(membership)
        self._emit("UNLINK_ARTIFACT", portfolio, membership, author)

    def delete_artifact(self, artifact: Artifact, *, delete_aliases: bool, keep_membership: bool = False) -> Artifact:
        """Delete the version and its links.

        Args:
            delete_aliases: if false, a version that has aliases is refused, as in W&B.
            keep_membership: keep the memberships, so that the version can be read as DELETED.
        """
        own = [a.alias for m in artifact.memberships for a in m.aliases if not VERSION_PATTERN.match(a.alias)]
        if own and not delete_aliases:
            raise RefusedError(
                f"cannot delete an artifact with aliases {sorted(set(own))}: use delete_aliases", "CONFLICT"
            )
        artifact.state = "DELETED"
        artifact.updated_at = now()
        if not keep_membership:
            for membership in list(artifact.memberships):
                self._drop_membership(membership)
        return artifact

    def change_tags(
        self, artifact: Artifact, *, add: Iterable[str] = (), remove: Iterable[str] = (), author: User | None = None
    ) -> None:
        """Change the tags of a version, which are visible through every link. Events name its source collection."""
        sequence = artifact.artifact_sequence
        membership = next((m for m in artifact.memberships if m.artifact_collection is sequence), None)
        for name in [_checked_tag(n) for n in add]:
            if all(t.name != name for t in artifact.tags):
                artifact.tags.append(Tag(self.new_id("Tag"), name))
                artifact.updated_at = now()
                self._emit("ADD_ARTIFACT_TAG", sequence, membership, author, artifact=artifact, tag=name)
        for name in remove:
            if any(t.name == name for t in artifact.tags):
                artifact.tags = [t for t in artifact.tags if t.name != name]
                artifact.updated_at = now()
                self._emit("REMOVE_ARTIFACT_TAG", sequence, membership, author, artifact=artifact, tag=name)

    def change_collection_tags(
        self, collection: Collection, *, add: Iterable[str] = (), remove: Iterable[str] = (), author: User | None = None
    ) -> None:
        """Change the tags of a collection."""
        add, remove = [_checked_tag(n) for n in add], list(remove)
        if max(len(add), len(remove)) > MAX_TAGS_PER_COLLECTION_CALL:
            raise RefusedError(f"at most {MAX_TAGS_PER_COLLECTION_CALL} tags at a time")
        for name in add:
            if all(t.name != name for t in collection.tags):
                collection.tags.append(Tag(self.new_id("Tag"), name))
                self._emit("ADD_COLLECTION_TAG", collection, None, author, tag=name)
        for name in remove:
            if any(t.name == name for t in collection.tags):
                collection.tags = [t for t in collection.tags if t.name != name]
                self._emit("REMOVE_COLLECTION_TAG", collection, None, author, tag=name)
        collection.updated_at = now()

    def rename_collection(self, collection: Collection, name: str) -> None:
        """Rename the collection within its project."""
        if name in collection.project.collections:
            raise RefusedError(f"{collection.project.path!r} has a collection {name!r} already", "CONFLICT")
        del collection.project.collections[collection.name]
        collection.name = name
        collection.project.collections[name] = collection

    def delete_collection(self, collection: Collection) -> None:
        """Delete the collection; deleting a sequence deletes its versions."""
        for membership in list(collection.memberships):
            if collection.kind == "ArtifactSequence":
                self.delete_artifact(membership.artifact, delete_aliases=True)
            else:
                self._drop_membership(membership)
        collection.state = "DELETED"
        del collection.project.collections[collection.name]

    def _ensure_collection(
        self, project: Project, name: str, kind: CollectionKind, artifact_type: ArtifactType
    ) -> Collection:
        found = project.collections.get(name)
        if found is not None:
            if found.kind != kind:
                raise RefusedError(f"{found.path!r} is an {found.kind}, not an {kind}")
            return found
        if not name or "/" in name or ":" in name or len(name) > MAX_ALIAS_CHARS:
            raise RefusedError(f"invalid artifact collection name {name!r}")
        moment: datetime = now()
        collection = Collection(
            id=self.new_id("ArtifactCollection"),
            kind=kind,
            name=name,
            project=project,
            default_artifact_type=artifact_type,
            created_at=moment,
            updated_at=moment,
        )
        project.collections[name] = collection
        self.nodes[collection.id] = collection
        return collection

    def _add_membership(self, collection: Collection, artifact: Artifact) -> Membership:
        index = collection.next_version
        collection.next_version += 1
        membership = Membership(self.new_id("ArtifactCollectionMembership"), collection, artifact, index, now())
        membership.aliases.append(Alias(self.new_id("ArtifactAlias"), f"v{index}", collection))
        collection.memberships.append(membership)
        collection.updated_at = now()
        artifact.memberships.append(membership)
        return membership

    def _drop_membership(self, membership: Membership) -> None:
        membership.artifact_collection.memberships.remove(membership)
        membership.artifact.memberships.remove(membership)

    def _remember_client_id(self, client_id: str | None, artifact: Artifact) -> None:
        if client_id:
            artifact.client_id = client_id
            self.client_ids[client_id] = artifact

    def _emit(
        self,
        event_type: EventType,
        collection: Collection,
        membership: Membership | None,
        author: User | None,
        *,
        artifact: Artifact | None = None,
        alias: str | None = None,
        tag: str | None = None,
    ) -> None:
        self.on_event(
            Event(
                type=event_type,
                collection=collection,
                artifact=artifact or (membership.artifact if membership else None),
                version=f"v{membership.version_index}" if membership else None,
                alias=alias,
                tag=tag,
                author=author.username if author else "",
            )
        )


def _storage_root(artifact: Artifact) -> str:
    project = artifact.artifact_sequence.project
    return f"wandb_artifacts/{project.internal_id.rstrip('=')}/{artifact.id.rstrip('=')}"


def _checked_alias(alias: str) -> str:
    if not alias or len(alias) > MAX_ALIAS_CHARS or "/" in alias or ":" in alias:
        raise RefusedError(f"invalid alias {alias!r}: 1 to {MAX_ALIAS_CHARS} characters, none of them '/' or ':'")
    return alias


def _checked_tag(tag: str) -> str:
    if len(tag) > MAX_ALIAS_CHARS or not TAG_PATTERN.match(tag):
        raise RefusedError(
            f"invalid tag {tag!r}: letters, digits, '-', '_' and inner spaces, at most {MAX_ALIAS_CHARS}"
        )
    return tag
