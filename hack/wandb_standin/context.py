"""The request context of the resolvers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wandb_standin.errors import not_found, not_logged_in, permission_denied
from wandb_standin.model import Artifact, Collection, Entity, Project, Role, User
from wandb_standin.paging import PageSizes
from wandb_standin.presign import Signer
from wandb_standin.store import Store

if TYPE_CHECKING:
    from wandb_standin.automations import Automations


@dataclass
class Context:
    """One GraphQL request. `refs` collects the requested references; `check_ref` raises if a fault affects one."""

    store: Store
    automations: Automations
    signer: Signer
    base_url: str
    user: User | None
    features: dict[str, bool]
    page_sizes: PageSizes = field(default_factory=PageSizes)
    check_ref: Callable[[str], None] = lambda ref: None
    refs: list[str] = field(default_factory=list)

    def note_ref(self, ref: str) -> None:
        """Record a requested reference, and fail if a fault affects it. Interned: pollers repeat the same for days."""
        self.refs.append(sys.intern(ref))
        self.check_ref(ref)

    def can(self, role: Role, project: Project) -> bool:
        """Whether the caller has at least this role in the project."""
        return self.user is not None and self.user.role_in(project) >= role

    def require(self, role: Role, project: Project) -> User:
        """The caller, who has at least this role in the project.

        Raises:
            RefusedError: the caller is not logged in, may not see the project (404) or may not change it (403).
        """
        user = self.require_user()
        if user.role_in(project) >= role:
            return user
        if user.role_in(project) > Role.NONE:
            raise permission_denied()
        raise not_found("project")

    def require_user(self) -> User:
        """The caller.

        Raises:
            RefusedError: the caller is not logged in.
        """
        if self.user is None:
            raise not_logged_in()
        return self.user

    def visible_project(self, entity_name: str | None, name: str | None) -> Project | None:
        """The project if it exists and the caller may see it; W&B does not distinguish the two."""
        project = self.store.find_project(entity_name or (self.user.entity if self.user else None), name)
        return project if project and self.can(Role.RESTRICTED, project) else None

    def writable_project(self, entity_name: str, name: str) -> Project:
        """The project for a write.

        Raises:
            RefusedError: the caller may not see or write it.
        """
        project = self.store.find_project(entity_name, name)
        if project is None:
            self.require_user()
            raise not_found("project")
        self.require(Role.MEMBER, project)
        return project

    def ensure_writable_project(self, entity_name: str | None, name: str | None) -> Project:
        """The project for a write, created if necessary and allowed."""
        user = self.require_user()
        entity_name, name = entity_name or user.entity, name or "uncategorized"
        project = self.store.find_project(entity_name, name)
        if project is None:
            role = user.roles.get(entity_name, user.roles.get("*", Role.NONE))
            if role < Role.MEMBER or entity_name not in self.store.entities:
                raise permission_denied() if entity_name in self.store.entities else not_found("entity")
            project = self.store.ensure_project(entity_name, name)
        self.require(Role.MEMBER, project)
        return project

    def can_see_artifact(self, artifact: Artifact) -> bool:
        """Whether the caller may see it through its own project or through any link."""
        places = [artifact.artifact_sequence, *(m.artifact_collection for m in artifact.memberships)]
        return any(self.can(Role.RESTRICTED, place.project) for place in places)

    def can_download(self, artifact: Artifact) -> bool:
        """Whether the caller may download it: a viewer of any place that shows it may, a restricted viewer may not."""
        places = [artifact.artifact_sequence, *(m.artifact_collection for m in artifact.memberships)]
        return any(self.can(Role.VIEWER, place.project) for place in places)

    def can_see_entity(self, entity: Entity) -> bool:
        """Anyone who is logged in sees names; projects protect their own content."""
        return self.user is not None and entity.name in self.store.entities

    def can_see_collection(self, collection: Collection) -> bool:
        """Visible if its project is."""
        return self.can(Role.RESTRICTED, collection.project)
