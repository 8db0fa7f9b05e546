"""Which run or user logged an artifact, for users who trace where an answer came from.

One query with the user's own key, independent of polling. It requests only fields that wandb's client requests too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelsync.registry.graphql import GraphQL

OPERATION = "ModelsyncOrigin"

_QUERY = f"""query {OPERATION}($id: ID!) {{
  artifact(id: $id) {{ createdBy {{ __typename
    ... on Run {{ name displayName project {{ name entity {{ name }} }} }}
    ... on User {{ username }} }} }}
}}"""

_CLOUD_API, _CLOUD_APP = "https://api.wandb.ai", "https://wandb.ai"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who logged an artifact: a run, with its path and display name, or a user."""

    run: str | None = None
    """entity/project/run, as wandb.Api().run() takes it."""
    title: str | None = None
    url: str | None = None
    user: str | None = None


async def origin(api: GraphQL, artifact_id: str) -> Origin | None:
    """Query who logged the artifact; None where the server does not return it. Raises RegistryError."""
    answer = await api.execute(_QUERY, {"id": artifact_id}, operation=OPERATION)
    creator = _mapping(_mapping(answer.data.get("artifact")).get("createdBy"))
    if creator.get("__typename") == "User":
        user = creator.get("username")
        return Origin(user=user) if isinstance(user, str) and user else None
    return _run(api.base_url, creator)


def _run(base_url: str, creator: Mapping[str, Any]) -> Origin | None:
    project = _mapping(creator.get("project"))
    parts = (_mapping(project.get("entity")).get("name"), project.get("name"), creator.get("name"))
    if not all(isinstance(part, str) and part for part in parts):
        return None
    entity, place, name = parts
    title = creator.get("displayName")
    app = _CLOUD_APP if base_url == _CLOUD_API else base_url
    return Origin(
        run=f"{entity}/{place}/{name}",
        title=title if isinstance(title, str) and title else None,
        url=f"{app}/{entity}/{place}/runs/{name}",
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
