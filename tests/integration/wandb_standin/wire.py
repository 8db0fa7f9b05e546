"""A plain HTTP client, for tests that do not use the SDK."""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from wandb_standin import DEFAULT_API_KEY

MEMBERSHIP = """
fragment M on ArtifactCollectionMembership {
  id versionIndex createdAt aliases { alias }
  artifactCollection { __typename id name tags { edges { node { name } } } project { name entity { name } } }
  artifact { id state digest size fileCount metadata versionIndex commitHash createdAt updatedAt
    tags { name } artifactType { name } artifactSequence { name project { name entity { name } } }
    createdBy { __typename ... on Run { name project { name entity { name } } } } }
}
"""
FILES = """
query Files($e: String!, $p: String!, $n: String!, $after: String, $first: Int = 50) {
  project(entityName: $e, name: $p) { artifactCollectionMembership(name: $n) {
    artifact { currentManifest { file { directUrl } } }
    files(after: $after, first: $first) {
      totalCount pageInfo { endCursor hasNextPage }
      edges { node { name sizeBytes digest md5 directUrl } } } } }
}
"""


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(url: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None) -> Answer:
    """One request on its own connection, without following redirects or raising on errors."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def graphql(base_url: str, query: str, key: str | None = DEFAULT_API_KEY, **variables: Any) -> Answer:
    """A GraphQL request with the key as Basic `api:<key>`; None sends none."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()
    body = json.dumps({"query": query, "variables": variables}).encode()
    return send(f"{base_url}/graphql", "POST", headers, body)


def resolve(base_url: str, *refs: str, key: str | None = DEFAULT_API_KEY) -> Answer:
    """The batched query: one aliased field `r0`, `r1`… for each `entity/project/collection:alias`."""
    fields: list[str] = []
    parameters: list[str] = []
    variables: dict[str, str] = {}
    for number, ref in enumerate(refs):
        entity, project, name = ref.split("/")
        variables |= {f"e{number}": entity, f"p{number}": project, f"n{number}": name}
        parameters.append(f"$e{number}: String!, $p{number}: String!, $n{number}: String!")
        fields.append(
            f"r{number}: project(entityName: $e{number}, name: $p{number}) "
            f"{{ artifactCollectionMembership(name: $n{number}) {{ ...M }} }}"
        )
    query = f"query Resolve({', '.join(parameters)}) {{ {' '.join(fields)} }} {MEMBERSHIP}"
    return graphql(base_url, query, key, **variables)


def file_urls(base_url: str, ref: str) -> dict[str, str]:
    """The URLs of the version's files by name, and of its manifest as `wandb_manifest.json`."""
    entity, project, name = ref.split("/")
    found = graphql(base_url, FILES, e=entity, p=project, n=name).json["data"]["project"][
        "artifactCollectionMembership"
    ]
    urls = {edge["node"]["name"]: edge["node"]["directUrl"] for edge in found["files"]["edges"]}
    return urls | {"wandb_manifest.json": found["artifact"]["currentManifest"]["file"]["directUrl"]}
