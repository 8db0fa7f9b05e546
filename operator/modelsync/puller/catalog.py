"""Queries the registry for one artifact: its digest, its manifest's URL, and a signed URL for each file.

It requests only fields that wandb's own client requests, which are the server's contract in practice. While the server
is down or throttles, queries are retried. Must never decide what a reference is allowed to serve.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelsync.api.foreign_text import foreign_text
from modelsync.api.model_ref import ModelRef
from modelsync.puller.digests import Algorithm, is_artifact_digest
from modelsync.puller.errors import BadManifestError, DeniedError, NotFoundError, UnreachableError
from modelsync.puller.retry import Backoff
from modelsync.registry import errors as registry
from modelsync.registry.graphql import GraphQL, Response

PAGE_FILES = 1000

_RESOLVE = """
query ModelsyncPullResolve($entity: String!, $project: String!, $name: String!) {
  project(name: $project, entityName: $entity) {
    artifactCollectionMembership(name: $name) { versionIndex artifact { id } }
  }
}"""

_ARTIFACT = """
query ModelsyncPullArtifact($id: ID!) {
  artifact(id: $id) { state digest %s currentManifest { file { directUrl } } }
}"""

_FILES = (
    "files(after: $cursor, first: $perPage) { pageInfo { endCursor hasNextPage } edges { node { name directUrl } } }"
)

_FILES_IN_COLLECTION = f"""
query ModelsyncPullFiles(
  $entity: String!, $project: String!, $collection: String!, $alias: String!, $cursor: String, $perPage: Int
) {{
  project(name: $project, entityName: $entity) {{
    artifactCollection(name: $collection) {{ __typename artifactMembership(aliasName: $alias) {{ {_FILES} }} }}
  }}
}}"""

_NAMED_FILES_IN_COLLECTION = """
query ModelsyncNamedFiles(
  $entity: String!, $project: String!, $collection: String!, $alias: String!, $names: [String!], $perPage: Int
) {
  project(name: $project, entityName: $entity) {
    artifactCollection(name: $collection) {
      __typename artifactMembership(aliasName: $alias) {
        files(names: $names, first: $perPage) { edges { node { name directUrl } } }
      }
    }
  }
}"""

_FILES_OF_ARTIFACT = f"""
query ModelsyncPullFilesByID($id: ID!, $cursor: String, $perPage: Int) {{
  artifact(id: $id) {{ {_FILES} }}
}}"""


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """An artifact's metadata in the registry."""

    artifact_id: str
    digest: str
    algorithm: Algorithm
    manifest_url: str


class Catalog:
    """One server, accessed with one key."""

    def __init__(self, api: GraphQL, *, retry_for: float, note: Callable[[str], None]) -> None:
        """`retry_for`: seconds without an answer after which to give up. `note` is called with a line per retry."""
        self._api = api
        self._retry_for = retry_for
        self._note = note

    async def resolve(self, ref: ModelRef) -> tuple[str, ModelRef]:
        """Return the id of the artifact that `ref` names now, and a reference pinned to that version.

        Raises PullError.
        """
        name = f"{ref.collection}:{ref.alias}"
        response = await self._ask(_RESOLVE, {"entity": ref.entity, "project": ref.project, "name": name}, str(ref))
        membership = _dig(response.data, "project", "artifactCollectionMembership")
        artifact_id = _dig(membership, "artifact", "id")
        index = _dig(membership, "versionIndex")
        if not isinstance(artifact_id, str) or not isinstance(index, int):
            raise NotFoundError(
                f"{self._api.base_url} has no {ref}, or this key cannot see it{_errors(response)}; check the spelling, "
                "that the alias is set, and the key's access to the project or registry"
            )
        return artifact_id, ref.in_collection.at(f"v{index}")

    async def artifact(self, artifact_id: str) -> ArtifactInfo:
        """Read the artifact, with a fresh URL for its manifest. Raises PullError."""
        what = f"artifact {artifact_id}"
        try:
            response = await self._ask(_ARTIFACT % "digestAlgorithm", {"id": artifact_id}, what)
        except _QueryRefusedError as error:
            if "digestAlgorithm" not in str(error):
                raise
            # Servers older than XXH128 have no such field, and only MD5.
            response = await self._ask(_ARTIFACT % "", {"id": artifact_id}, what)
        artifact = _dig(response.data, "artifact")
        state, digest = _dig(artifact, "state"), _dig(artifact, "digest")
        if artifact is None:
            raise NotFoundError(
                f"{self._api.base_url} has no artifact {artifact_id}, or this key cannot see it{_errors(response)}; "
                "check the id, and the key's access to the project that it was logged to"
            )
        if state == "DELETED":
            raise NotFoundError(f"artifact {artifact_id} was deleted from {self._api.base_url}; choose another version")
        if state != "COMMITTED":
            raise NotFoundError(
                f"artifact {artifact_id} is still being logged to {self._api.base_url} (its state is "
                f"{foreign_text(str(state))}); pull again when it is committed"
            )
        url = _dig(artifact, "currentManifest", "file", "directUrl")
        if not isinstance(digest, str) or not is_artifact_digest(digest) or not isinstance(url, str):
            raise BadManifestError(
                f"{self._api.base_url} returned no digest or no manifest for artifact {artifact_id}; log it again"
            )
        xxh128 = _dig(artifact, "digestAlgorithm") == "MANIFEST_XXH128"
        return ArtifactInfo(artifact_id, digest, Algorithm.XXH128 if xxh128 else Algorithm.MD5, url)

    async def file_page(
        self, artifact_id: str, version: ModelRef | None, cursor: str | None
    ) -> tuple[dict[str, str], str | None]:
        """Return the signed URLs of up to PAGE_FILES files, and the cursor of the next page, None after the last.

        They are requested through the link `version`, if there is one: a key that can read a registry need not have
        access to the project behind it. Raises PullError.
        """
        variables: dict[str, Any] = {"cursor": cursor, "perPage": PAGE_FILES}
        files = None
        if version is not None:
            response = await self._ask(
                _FILES_IN_COLLECTION,
                {
                    **variables,
                    "entity": version.entity,
                    "project": version.project,
                    "collection": version.collection,
                    "alias": version.alias,
                },
                f"the files of {version}",
            )
            files = _dig(response.data, "project", "artifactCollection", "artifactMembership", "files")
        if files is None:
            response = await self._ask(
                _FILES_OF_ARTIFACT, {**variables, "id": artifact_id}, f"the files of artifact {artifact_id}"
            )
            files = _dig(response.data, "artifact", "files")
        if files is None:
            raise NotFoundError(
                f"{self._api.base_url} does not list the files of artifact {artifact_id} to this key{_errors(response)}"
                "; check the key's access to the project that it was logged to"
            )
        urls = _urls(files)
        more = _dig(files, "pageInfo", "hasNextPage") is True
        following = _dig(files, "pageInfo", "endCursor")
        return urls, following if more and isinstance(following, str) and following != cursor else None

    async def urls_of(self, names: Sequence[str], version: ModelRef) -> dict[str, str]:
        """Return the signed URLs of those of `names` that the version has: one request, however many files it has.

        Raises PullError.
        """
        response = await self._ask(
            _NAMED_FILES_IN_COLLECTION,
            {
                "names": list(names),
                "perPage": len(names),
                "entity": version.entity,
                "project": version.project,
                "collection": version.collection,
                "alias": version.alias,
            },
            f"the files of {version}",
        )
        found = _urls(_dig(response.data, "project", "artifactCollection", "artifactMembership", "files"))
        return {name: found[name] for name in names if name in found}

    async def _ask(self, query: str, variables: Mapping[str, Any], what: str) -> Response:
        """Query until there is an answer. Raises PullError."""
        backoff = Backoff(self._retry_for)
        while True:
            try:
                return await self._api.execute(query, variables)
            except registry.ThrottledError as error:
                reason = str(error)
                wait = backoff.failed(retry_after=(error.until - datetime.now(UTC)).total_seconds())
            except registry.UnreachableError as error:
                reason = str(error)
                wait = backoff.failed()
            except registry.DeniedError as error:
                raise DeniedError(f"{error}; check the key and its access to {what}") from None
            except registry.NotFoundError as error:
                raise NotFoundError(
                    f"{error} ({what}); it does not exist, or this key cannot see it: W&B does not distinguish the two"
                ) from None
            except registry.RefusedError as error:
                raise _QueryRefusedError(
                    f"{error}; check that the base URL is a W&B server of a supported version"
                ) from None
            except registry.NotGraphQLError as error:
                raise UnreachableError(str(error)) from None
            if wait is None:
                raise UnreachableError(
                    f"{reason}; gave up after {backoff.failures} attempts to query {what}; check the base URL and the "
                    "network from here, and pull again"
                )
            self._note(f"{reason}; retrying in {wait:.1f} s")
            await asyncio.sleep(wait)


class FileURLs:
    """The signed URLs of one artifact's files, page by page, refreshed when they have expired."""

    def __init__(self, catalog: Catalog, artifact_id: str, version: ModelRef | None) -> None:
        self._catalog = catalog
        self._artifact_id = artifact_id
        self._version = version
        self._cursors: list[str | None] = [None]
        self._page_of: dict[str, int] = {}
        self._fresh: dict[int, dict[str, str]] = {}
        self._lock = asyncio.Lock()

    async def pages(self) -> AsyncIterator[dict[str, str]]:
        """Iterate over all files once. Raises PullError."""
        number = 0
        while True:
            urls, following = await self._catalog.file_page(self._artifact_id, self._version, self._cursors[number])
            for name in urls:
                self._page_of.setdefault(name, number)
            yield urls
            if following is None:
                return
            self._cursors.append(following)
            number += 1

    async def refresh(self, name: str, stale: str) -> str:
        """Return a URL other than `stale` for the file, if the server has one.

        One request refreshes a whole page: its files were signed together and expire together. Raises PullError.
        """
        async with self._lock:
            number = self._page_of[name]
            url = self._fresh.get(number, {}).get(name, stale)
            if url == stale:
                cursor = self._cursors[number]
                self._fresh[number], _ = await self._catalog.file_page(self._artifact_id, self._version, cursor)
                url = self._fresh[number].get(name, stale)
            return url


class _QueryRefusedError(UnreachableError):
    """The server rejected the query."""


def _urls(files: Any) -> dict[str, str]:
    """Name and signed URL of each file of a page."""
    urls = {}
    edges = _dig(files, "edges")
    for edge in edges if isinstance(edges, list) else ():
        name, url = _dig(edge, "node", "name"), _dig(edge, "node", "directUrl")
        if isinstance(name, str) and isinstance(url, str):
            urls[name] = url
    return urls


def _dig(value: Any, *keys: str) -> Any:
    """Follow `keys` through nested maps; None as soon as one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _errors(response: Response) -> str:
    return f" ({'; '.join(error.message for error in response.errors[:2])})" if response.errors else ""
