"""Maps organizations' display names, which wandb's client accepts in front of a registry, to entity names.

GraphQL needs the name of the organization's entity. It is queried only when a registry was not found under the given
name.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from modelsync.api.model_ref import REGISTRY_PREFIX, CollectionRef
from modelsync.registry.errors import RegistryError
from modelsync.registry.graphql import GraphQL

ASK_AGAIN_AFTER = 600.0
"""Seconds until the server is queried for its organizations again, when a registry is still not found."""

_VIEWER = "query ModelsyncViewer { viewer { entity organizations { name orgEntity { name } } } }"
_ENTITY = """query ModelsyncOrganizations($entity: String!) {
  entity(name: $entity) { organization { name orgEntity { name } } user { organizations { name orgEntity { name } } } }
}"""


class Organizations:
    """The entities behind organizations' display names, as far as one credential can see them."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._entities: dict[str, str] = {}
        self._asked: float | None = None
        self._clock = clock

    def actual(self, collection: CollectionRef) -> CollectionRef:
        """Return the collection with the entity name that GraphQL expects."""
        if not collection.project.startswith(REGISTRY_PREFIX):
            return collection
        return replace(collection, entity=self._entities.get(collection.entity, collection.entity))

    async def learn(self, api: GraphQL) -> None:
        """Query the server, unless that was done recently. Errors are ignored: the names then stay unknown."""
        if self._asked is not None and self._clock() - self._asked < ASK_AGAIN_AFTER:
            return
        self._asked = self._clock()
        try:
            viewer = _mapping((await api.execute(_VIEWER)).data.get("viewer"))
            self._keep(viewer.get("organizations"))
            if isinstance(entity := viewer.get("entity"), str):
                answer = _mapping((await api.execute(_ENTITY, {"entity": entity})).data.get("entity"))
                self._keep([answer.get("organization")])
                self._keep(_mapping(answer.get("user")).get("organizations"))
        except RegistryError:
            return

    def _keep(self, organizations: Any) -> None:
        for organization in organizations if isinstance(organizations, list) else ():
            name = _mapping(organization).get("name")
            entity = _mapping(_mapping(organization).get("orgEntity")).get("name")
            if isinstance(name, str) and isinstance(entity, str) and name != entity:
                self._entities[name] = entity


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
