"""What a revision's pods, Deployment and EndpointSlices show together, and `status.pods`.

`pod_trouble` finds what is wrong with one pod. Objects may come from anyone who can set the labels: must never raise,
whatever they contain.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from modelsync.api.kinds import Object, labels_of, mapping, name_of
from modelsync.api.pod_contract import TerminationMessage
from modelsync.api.status import PodStatus
from modelsync.observe.fields import (
    condition,
    container_statuses,
    init_container_statuses,
    objects,
    parse_time,
    restarts,
)
from modelsync.observe.pod_trouble import last_log, reason_of, trouble_of, trouble_of_deployment, worst
from modelsync.rollout.model import Revision, RevisionView, Trouble, TroubleKind, Verified

STATES = ("Failing", "Pending", "Pulling", "Starting", "Terminating", "Ready")
"""The states of a pod, worst first."""

MAX_PODS = 32
"""Maximum length of `status.pods`: enough to diagnose, far below the API server's size limit for an object."""

CUT_GRACE = timedelta(seconds=1)
"""Grace period for the pods of a held revision. With zero, the container would keep running on a disconnected node."""


def with_pods(
    revision: RevisionView,
    deployment: Object | None,
    pods: Sequence[Object],
    slices: Iterable[Object],
    *,
    now: datetime | None = None,
) -> RevisionView:
    """`revision` with what its Deployment, its pods, and the EndpointSlices of its own Service show.

    Without `now`, no pod counts as waiting too long.
    """
    running = [pod for pod in pods if not _is_finished(pod)]
    wanted = [pod for pod in running if not _is_terminating(pod)]
    ready = ready_endpoints(slices)
    troubles = [trouble for pod in wanted if (trouble := trouble_of(pod, now=now)) is not None]
    if (refused := trouble_of_deployment(deployment)) is not None:
        troubles.append(refused)
    return replace(
        revision,
        replicas=_replicas(deployment),
        ready=ready,
        pods=len(running),
        cut=all(is_cut(pod) for pod in running),
        ready_since=_ready_since(wanted) if ready else None,
        unready_since=None if ready else _unready_since(running),
        progress_at=_progress_at(deployment, wanted),
        pulling=any(_is_pulling(pod) for pod in wanted),
        trouble=worst(troubles),
        verified=next((proof for pod in wanted if (proof := verified_of(pod)) is not None), None),
    )


def ready_endpoints(slices: Iterable[Object]) -> int:
    """How many pods may get requests: ready endpoints, counting each pod once even if it has several addresses."""
    ready = set()
    for each in slices:
        for endpoint in objects(each.get("endpoints")):
            conditions = mapping(endpoint.get("conditions"))
            # "ready: null" means ready (EndpointConditions in discovery/v1).
            if conditions.get("ready", True) is not False and not conditions.get("terminating"):
                target = mapping(endpoint.get("targetRef")).get("uid")
                ready.add(str(target or endpoint.get("addresses")))
    return len(ready)


def status_of(pods: Iterable[Object], revision_label: str) -> list[PodStatus]:
    """The pods for `status.pods`, worst first."""
    running = [pod for pod in pods if not _is_finished(pod)]
    found = [_pod_status(pod, labels_of(pod).get(revision_label, "")) for pod in running]
    return sorted(found, key=lambda pod: (STATES.index(pod.state), pod.name))[:MAX_PODS]


def verified_of(pod: Object) -> Verified | None:
    """What the pullers verified, once all of them have succeeded; `digest` is the model's."""
    proofs = []
    for status in init_container_statuses(pod):
        ended = mapping(mapping(status.get("state")).get("terminated"))
        result = TerminationMessage.parse(ended.get("message"))
        if ended.get("exitCode") != 0 or result is None or result.wrong or not result.digest:
            return None
        proofs.append(result)
    if not proofs:
        return None
    return Verified(
        digest=proofs[0].digest,
        files=sum(proof.files for proof in proofs),
        size=sum(proof.bytes for proof in proofs),
        seconds=float(sum(proof.seconds for proof in proofs)),
        artifacts=len(proofs),
    )


def _replicas(deployment: Object | None) -> int:
    replicas = mapping((deployment or {}).get("spec")).get("replicas")
    return replicas if isinstance(replicas, int) else 0


def is_cut(pod: Object) -> bool:
    """Whether it terminates with the short grace period of a CutOff. A pod that drains has a longer one, and a hold
    must still cut it off."""
    grace = mapping(pod.get("metadata")).get("deletionGracePeriodSeconds")
    return _is_terminating(pod) and isinstance(grace, int) and grace <= CUT_GRACE.total_seconds()


def _ready_since(pods: Iterable[Object]) -> datetime | None:
    """When the first of the ready pods became ready."""
    since = [
        at
        for pod in pods
        if (ready := condition(pod, "Ready")).get("status") == "True"
        and (at := parse_time(ready.get("lastTransitionTime"))) is not None
    ]
    return min(since, default=None)


def _unready_since(pods: Iterable[Object]) -> datetime | None:
    """When the last of the remaining pods stopped being ready."""
    since = [
        at
        for pod in pods
        if (ready := condition(pod, "Ready")).get("status") != "True"
        and (at := parse_time(ready.get("lastTransitionTime"))) is not None
    ]
    return max(since, default=None)


def _progress_at(deployment: Object | None, pods: Iterable[Object]) -> datetime | None:
    """When a pod last did something for the first time. Restarts are not progress: they would extend any deadline."""
    signs = [parse_time((deployment or {}).get("metadata", {}).get("creationTimestamp"))]
    for pod in pods:
        signs.append(parse_time(pod["metadata"].get("creationTimestamp")))
        signs += [
            parse_time(reached.get("lastTransitionTime"))
            for kind in ("PodScheduled", "Initialized", "Ready")
            if (reached := condition(pod, kind)).get("status") == "True"
        ]
        for status in (*init_container_statuses(pod), *container_statuses(pod)):
            state = mapping(status.get("state"))
            if restarts(status) == 0:
                signs.append(parse_time(mapping(state.get("running")).get("startedAt")))
    return max((sign for sign in signs if sign is not None), default=None)


def _pod_status(pod: Object, revision: Revision) -> PodStatus:
    trouble = trouble_of(pod)
    servers = container_statuses(pod)
    return PodStatus(
        name=name_of(pod),
        revision=revision[:64],
        node=pod.get("spec", {}).get("nodeName"),
        state=_state(pod, trouble),
        reason=reason_of(pod, trouble),
        restarts=sum(restarts(status) for status in (*init_container_statuses(pod), *servers)),
        image_id=next((image for status in servers if (image := str(status.get("imageID") or "")[:512])), None),
        last_log=last_log(pod) if trouble is not None else None,
    )


def _state(pod: Object, trouble: Trouble | None) -> str:
    if _is_terminating(pod):
        return "Terminating"
    if condition(pod, "Ready").get("status") == "True":
        return "Ready"
    if trouble is not None:
        return "Pending" if trouble.kind is TroubleKind.UNSCHEDULABLE else "Failing"
    if _is_pulling(pod):
        return "Pulling"
    if any("running" in mapping(status.get("state")) for status in container_statuses(pod)):
        return "Starting"
    return "Pending"


def _is_pulling(pod: Object) -> bool:
    return any("running" in mapping(status.get("state")) for status in init_container_statuses(pod))


def _is_finished(pod: Object) -> bool:
    """Whether none of its containers will run again: evicted, or ended."""
    return mapping(pod.get("status")).get("phase") in ("Succeeded", "Failed")


def _is_terminating(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))
