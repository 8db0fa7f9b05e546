"""Users, organizations, entities, projects and runs: the part of the store that contains the collections."""

from __future__ import annotations

import itertools
import secrets
from typing import Literal, TypeVar

from wandb_standin.errors import RefusedError, not_found
from wandb_standin.model import (
    ArtifactType,
    Entity,
    Organization,
    Project,
    Role,
    Run,
    User,
    global_id,
    now,
)

T = TypeVar("T")


class Places:
    """Users and places; `nodes` maps ids to objects."""

    def __init__(self) -> None:
        self.organizations: dict[str, Organization] = {}
        self.entities: dict[str, Entity] = {}
        self.users: dict[str, User] = {}
        self.nodes: dict[str, object] = {}
        self._numbers = itertools.count(1001)

    def add_organization(self, name: str, entity_name: str) -> Organization:
        """Add an organization by its display name, with the entity that owns its registries."""
        entity = self._new_entity(entity_name, "ORGANIZATION", None)
        organization = Organization(self.new_id("Organization"), name, entity)
        entity.organization = organization
        self.organizations[name] = organization
        return organization

    def add_team(self, name: str, organization: Organization) -> Entity:
        """Add a team to the organization."""
        return self._new_entity(name, "TEAM", organization)

    def add_user(
        self, username: str, api_key: str, *, entity: str | None = None, roles: dict[str, Role] | None = None
    ) -> User:
        """Add a user; `entity` is the default entity of their requests (None: their own)."""
        if username in self.users:
            raise RefusedError(f"a user {username!r} exists already", "CONFLICT")
        if len(api_key) < 40:
            raise RefusedError(f"an API key has 40 characters or more; {username!r} was given {len(api_key)}")
        user = User(
            id=self.new_id("User"),
            username=username,
            name=username.title(),
            email=f"{username}@example.com",
            entity=entity or username,
            api_key=api_key,
            roles={"*": Role.MEMBER} if roles is None else roles,
        )
        user.roles.setdefault(username, Role.ADMIN)
        self.users[username] = user
        if username not in self.entities:
            own = self._new_entity(username, "USER", None)
            own.user = user
        self.nodes[user.id] = user
        return user

    def user_by_key(self, api_key: str) -> User | None:
        """The user who has this key."""
        return next((u for u in self.users.values() if secrets.compare_digest(u.api_key, api_key)), None)

    def organizations_of(self, user: User) -> list[Organization]:
        """The organizations in which the user has a role anywhere."""
        named = {place.split("/")[0] for place, role in user.roles.items() if role > Role.NONE}
        return [
            organization
            for organization in self.organizations.values()
            if "*" in named or any(e.name in named for e in self.entities.values() if e.organization is organization)
        ]

    def ensure_project(self, entity_name: str, name: str) -> Project:
        """The project, created if necessary; the entity must exist.

        Raises:
            RefusedError: the entity does not exist.
        """
        entity = self.entities.get(entity_name)
        if entity is None:
            raise not_found(f"entity {entity_name!r}")
        project = entity.projects_by_name.get(name)
        if project is None:
            project = Project(
                id=self.new_id("Project"),
                internal_id=self.new_id("ProjectInternalId"),
                name=name,
                entity=entity,
                created_at=now(),
                updated_at=now(),
                allow_all_artifact_types_in_registry=True,
            )
            entity.projects_by_name[name] = project
            self.nodes[project.id] = project
        return project

    def find_project(self, entity_name: str | None, name: str | None) -> Project | None:
        """The project, or None. An organization's display name is not its entity's name (wandb.sdk maps it first)."""
        entity = self.entities.get(entity_name or "")
        return entity.projects_by_name.get(name or "") if entity else None

    def ensure_type(self, project: Project, name: str) -> ArtifactType:
        """The artifact type of the project, created if necessary."""
        if name not in project.types:
            project.types[name] = ArtifactType(self.new_id("ArtifactType"), name, project, now())
        return project.types[name]

    def upsert_run(self, project: Project, name: str | None, user: User | None) -> tuple[Run, bool]:
        """The run, and whether it is new."""
        name = name or secrets.token_hex(4)
        run = project.runs.get(name)
        if run is not None:
            run.updated_at = run.heartbeat_at = now()
            return run, False
        moment = now()
        number = next(self._numbers)
        run = Run(
            id=global_id("Run", number),
            internal_id=global_id("RunInternalId", number),
            name=name,
            display_name=f"brisk-run-{number}",
            project=project,
            user=user,
            created_at=moment,
            updated_at=moment,
            heartbeat_at=moment,
        )
        project.runs[name] = run
        self.nodes[run.id] = run
        return run, True

    def node(self, kind: type[T], node_id: str) -> T:
        """The object with this id.

        Raises:
            RefusedError: there is none of that kind.
        """
        found = self.nodes.get(node_id)
        if not isinstance(found, kind):
            raise not_found(f"{kind.__name__.lower()} {node_id!r}")
        return found

    def new_id(self, kind: str) -> str:
        """A new unique id."""
        return global_id(kind, next(self._numbers))

    def _new_entity(
        self, name: str, entity_type: Literal["USER", "TEAM", "ORGANIZATION"], organization: Organization | None
    ) -> Entity:
        if name in self.entities:
            raise RefusedError(f"an entity {name!r} exists already", "CONFLICT")
        entity = Entity(self.new_id("Entity"), name, entity_type, organization)
        self.entities[name] = entity
        self.nodes[entity.id] = entity
        return entity
