"""One pull from start to end: from a reference or an artifact's id to a verified, published folder.

A folder that is already published is checked on disk only, before the network code is even imported: a restarted pod
must not need the registry.
"""

import time

from modelsync.puller.digests import is_artifact_digest
from modelsync.puller.errors import InvalidInputError, PublishedChangedError
from modelsync.puller.progress import Progress
from modelsync.puller.request import Effort, PullRequest, Registry, already
from modelsync.puller.result import PullResult
from modelsync.puller.staging import Staging
from modelsync.puller.target import find_published, usable_target
from modelsync.puller.weights import check_weights


def pull(request: PullRequest, registry: Registry, *, effort: Effort, progress: Progress) -> PullResult:
    """Publish the artifact at `request.folder`, unless it is already there. Must be called from the main thread.

    SIGTERM and SIGINT end it within seconds; fetched bytes are kept for the next pull. Raises PullError.
    """
    started = time.monotonic()
    if bool(request.artifact_id) != bool(request.digest) or not (request.artifact_id or request.ref):
        raise InvalidInputError("pass a reference, or both an artifact's id and its digest")
    if request.digest and not is_artifact_digest(request.digest):
        raise InvalidInputError(
            f"the digest {request.digest!r} is not valid; it must be 32 hex digits (0-9a-f), as `modelsync resolve` "
            "prints it"
        )
    target = usable_target(request.folder)
    if request.digest and (published := find_published(target, digest=request.digest)):
        check_weights({entry.path for entry in published.entries}, request.weights)
        try:
            result = already(published, verify=request.verify, started=started)
        except PublishedChangedError:
            if not request.repair:
                raise
        else:
            Staging(target, pod=request.pod).sweep()
            return result
    from modelsync.puller.network_pull import NetworkPull

    return NetworkPull(request, registry, target, effort=effort, progress=progress, started=started).run()
