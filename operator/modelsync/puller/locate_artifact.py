"""Asks the registry where an artifact's manifest and a few of its files are, for `inspect_artifact.py`.

The key is used here, and the bytes that the artifact's author wrote are read there.
"""

from collections.abc import Collection

from modelsync.api.model_ref import ModelRef
from modelsync.puller.catalog import Catalog
from modelsync.puller.errors import ManifestMismatchError
from modelsync.puller.inspect_artifact import Location
from modelsync.registry.graphql import GraphQL

RETRY_SECONDS = 0.0
"""A single attempt: the caller retries."""


async def locate_artifact(
    api: GraphQL, *, artifact_id: str, digest: str, ref: ModelRef, names: Collection[str]
) -> Location:
    """Return the signed URLs of the manifest and of those of `names` that exist.

    `ref` is a link to the version through which the key can read its files. Raises PullError.
    """
    catalog = Catalog(api, retry_for=RETRY_SECONDS, note=lambda text: None)
    info = await catalog.artifact(artifact_id)
    if info.digest != digest:
        raise ManifestMismatchError(
            f"artifact {artifact_id} has the digest {info.digest} at {api.base_url}, but {digest} was requested"
        )
    return Location(digest, info.algorithm, info.manifest_url, await catalog.urls_of(tuple(names), ref))
