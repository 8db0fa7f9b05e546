"""The server's data: users, projects, collections, versions, runs. Plain data; every change goes through `store`.

Ids have W&B's form: base64 of `Type:number`. Times are aware datetimes in UTC.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Literal, TypeAlias

DigestAlgorithm: TypeAlias = Literal["MANIFEST_MD5", "MANIFEST_XXH128"]
CollectionKind: TypeAlias = Literal["ArtifactSequence", "ArtifactPortfolio"]

REGISTRY_PREFIX = "wandb-registry-"


def global_id(kind: str, number: int) -> str:
    """`Artifact`, 12 -> the id that the API shows."""
    return base64.b64encode(f"{kind}:{number}".encode()).decode()


def now() -> datetime:
    """The current time, to the second, as the API shows times."""
    return datetime.now(UTC).replace(microsecond=0)


class Role(IntEnum):
    """What a user may do in an entity or a project; each role includes the lower ones."""

    NONE = 0
    RESTRICTED = 1  # sees versions and their details, may not download or use them (W&B: Restricted Viewer)
    VIEWER = 2
    MEMBER = 3
    ADMIN = 4  # moves protected aliases


@dataclass(eq=False)
class Organization:
    id: str
    name: str
    org_entity: Entity


@dataclass(eq=False)
class Entity:
    id: str
    name: str
    entity_type: Literal["USER", "TEAM", "ORGANIZATION"]
    organization: Organization | None = None
    user: User | None = None
    xxhash_digests_enabled: bool = False
    projects_by_name: dict[str, Project] = field(default_factory=dict)

    @property
    def is_team(self) -> bool:
        return self.entity_type == "TEAM"


@dataclass(eq=False)
class User:
    """`roles` maps `entity/project`, `entity` or `*` to the role there; the most specific one applies."""

    id: str
    username: str
    name: str
    email: str
    entity: str
    api_key: str
    admin: bool = False
    roles: dict[str, Role] = field(default_factory=dict)

    def role_in(self, project: Project) -> Role:
        entity = project.entity.name
        for place in (f"{entity}/{project.name}", entity, "*"):
            if place in self.roles:
                return self.roles[place]
        return Role.NONE


@dataclass(eq=False)
class ArtifactType:
    id: str
    name: str
    project: Project
    created_at: datetime
    description: str | None = None


@dataclass(eq=False)
class Project:
    id: str
    internal_id: str
    name: str
    entity: Entity
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    access: str = "PRIVATE"
    views: str | None = None
    is_benchmark: bool = False
    allow_all_artifact_types_in_registry: bool = False
    types: dict[str, ArtifactType] = field(default_factory=dict)
    collections: dict[str, Collection] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    protected_aliases: set[str] = field(default_factory=set)

    @property
    def is_registry(self) -> bool:
        return self.name.startswith(REGISTRY_PREFIX)

    @property
    def path(self) -> str:
        return f"{self.entity.name}/{self.name}"


@dataclass(eq=False)
class Tag:
    id: str
    name: str


@dataclass(eq=False)
class Alias:
    id: str
    alias: str
    artifact_collection: Collection


@dataclass(eq=False)
class Collection:
    """A sequence (where versions are logged) or a portfolio (where they are linked)."""

    id: str
    kind: CollectionKind
    name: str
    project: Project
    default_artifact_type: ArtifactType
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    state: Literal["READY", "DELETED"] = "READY"
    tags: list[Tag] = field(default_factory=list)
    memberships: list[Membership] = field(default_factory=list)
    next_version: int = 0
    digest_algorithm: DigestAlgorithm = "MANIFEST_MD5"

    @property
    def path(self) -> str:
        return f"{self.project.path}/{self.name}"


@dataclass(eq=False)
class Membership:
    """One version in one collection, with its aliases in that collection."""

    id: str
    artifact_collection: Collection
    artifact: Artifact
    version_index: int
    created_at: datetime
    aliases: list[Alias] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"{self.artifact_collection.path}:v{self.version_index}"


@dataclass(frozen=True)
class Entry:
    """One line of a manifest. `digest` is base64 of the MD5 or XXH128 of the content (or a reference's etag)."""

    name: str
    digest: str
    size: int
    birth_artifact_id: str | None = None
    ref: str | None = None
    extra: dict[str, object] = field(default_factory=dict)


@dataclass(eq=False)
class Manifest:
    id: str
    artifact: Artifact
    name: str
    digest: str
    type: str
    storage_key: str


@dataclass(eq=False)
class Artifact:
    """One version. Tags, metadata and state belong to the version and are the same through every link."""

    id: str
    artifact_sequence: Collection
    artifact_type: ArtifactType
    digest: str
    digest_algorithm: DigestAlgorithm
    created_at: datetime
    updated_at: datetime
    version_index: int | None = None
    description: str | None = None
    metadata: str | None = None
    ttl_duration_seconds: int = -1
    ttl_is_inherited: bool = True
    history_step: int | None = None
    commit_hash: str | None = None
    state: Literal["PENDING", "COMMITTED", "DELETED"] = "PENDING"
    tags: list[Tag] = field(default_factory=list)
    wanted_aliases: list[str] = field(default_factory=list)
    memberships: list[Membership] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    created_by: Run | User | None = None
    used_by: list[Run] = field(default_factory=list)
    client_id: str | None = None

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries.values())

    @property
    def file_count(self) -> int:
        return len(self.entries)

    @property
    def metadata_object(self) -> dict[str, object]:
        value = json.loads(self.metadata) if self.metadata else {}
        return value if isinstance(value, dict) else {}


@dataclass(eq=False)
class Run:
    id: str
    internal_id: str
    name: str
    display_name: str
    project: Project
    user: User | None
    created_at: datetime
    updated_at: datetime
    heartbeat_at: datetime
    description: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    state: str = "running"
    config: str | None = "{}"
    summary_metrics: str | None = "{}"
    system_metrics: str | None = "{}"
    group: str | None = None
    job_type: str | None = None
    commit: str | None = None
    sweep_name: str | None = None
    history_line_count: int = 0
    log_line_count: int = 0
    events_line_count: int = 0
    storage_keys: dict[str, str] = field(default_factory=dict)
    input_versions: list[Artifact] = field(default_factory=list)
    output_versions: list[Artifact] = field(default_factory=list)

    @property
    def project_id(self) -> int:
        return int(base64.b64decode(self.project.internal_id).decode().split(":")[1])
