"""Adopts orphans: makes a ModelDeployment the owner of children that nothing controls. Decides nothing."""

from collections.abc import Iterable

import structlog

from modelsync.api import names
from modelsync.api.kinds import (
    CONTROLLER_REVISION,
    SECRET,
    Kind,
    Object,
    controller_of,
    labels_of,
    name_of,
    resource_version_of,
    uid_of,
)
from modelsync.cluster.cache import Cache
from modelsync.cluster.client import Cluster
from modelsync.cluster.errors import NotFoundError
from modelsync.effects.cut_off import token_of
from modelsync.resources.children import fuse_secret
from modelsync.resources.objects import Owner

log = structlog.get_logger(__name__)


async def adopt(cluster: Cluster, cache: Cache, owner: Owner, orphans: Iterable[tuple[Kind, Object]]) -> None:
    """Make `owner` the controller of `orphans`, and of the fuse Secrets of adopted records.

    Raises ConflictError when an orphan has changed since it was read, and other ClusterErrors.
    """
    for kind, orphan in orphans:
        if kind == CONTROLLER_REVISION:
            await _adopt_fuse_secret(cluster, owner, labels_of(orphan).get(names.REVISION_LABEL, ""))
        try:
            cache.put(kind, await _own(cluster, kind, orphan, owner))
        except NotFoundError:
            cache.put(kind, orphan, deleted=True)
            continue
        log.info("orphan.adopted", kind=kind.kind, object=name_of(orphan))


async def _adopt_fuse_secret(cluster: Cluster, owner: Owner, revision: str) -> None:
    """Replace the Secret by one with the same token and an owner: the operator has no right to patch Secrets.

    If the token is lost in between, the pods of the revision are deleted without their fuse.
    """
    secret = await cluster.find(SECRET, owner.namespace, names.fuse_secret(owner.name, revision))
    if secret is None or controller_of(secret) is not None or labels_of(secret).get(names.FUSE_LABEL) != "true":
        return
    try:
        token = token_of(secret)
    except (KeyError, ValueError):
        return
    await cluster.delete(SECRET, owner.namespace, name_of(secret), uid=uid_of(secret))
    await cluster.create(SECRET, owner.namespace, fuse_secret(owner, revision, token))


async def _own(cluster: Cluster, kind: Kind, orphan: Object, owner: Owner) -> Object:
    others = orphan["metadata"].get("ownerReferences") or []
    patch = {
        "metadata": {
            "uid": uid_of(orphan),
            "resourceVersion": resource_version_of(orphan),
            "ownerReferences": [*others, owner.reference],
        }
    }
    return await cluster.merge(kind, owner.namespace, name_of(orphan), patch)
