"""Reads a revision's pods, Deployment and EndpointSlices: who is ready, what is wrong, whether it still moves.

What the kubelet and the controllers write is translated here and nowhere else. Objects may come from anyone with the
right label: what cannot be read says nothing, and never raises.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelsync.api.kinds import Object, labels_of, name_of
from modelsync.api.pod_contract import EXIT_CONTENT, TerminationMessage
from modelsync.api.status import PodStatus
from modelsync.rollout.model import Revision, RevisionView, Trouble, TroubleKind, Verified

IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
"""Waiting reasons of the kubelet's image manager (pkg/kubelet/images/types.go)."""

OTHER_REASONS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "CreatePodSandboxError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
        "RunContainerError",
    }
)
"""Waiting reasons of the kubelet's runtime manager (pkg/kubelet/container/sync_result.go)."""

SEVERITY = (
    TroubleKind.CRASHED,
    TroubleKind.CONTENT_REFUSED,
    TroubleKind.CRASHED_LOADING,
    TroubleKind.REFUSED,
    TroubleKind.IMAGE,
    TroubleKind.UNSCHEDULABLE,
    TroubleKind.PULL_FAILED,
    TroubleKind.OTHER,
)
"""Worst first: what tells most about the revision goes before what tells about the cluster."""

STATES = ("Failing", "Pending", "Pulling", "Starting", "Terminating", "Ready")
"""Of a pod, worst first."""

MAX_PODS = 32
"""Of `status.pods`: enough for the pager, far below what the API server takes of one object."""
MAX_MESSAGE = 500
MAX_LOG = 800


VOLUME_PATIENCE = timedelta(seconds=90)
"""A disk of a cloud takes up to a minute to be attached to a node; then nobody hears of it but in an Event."""

CUT_GRACE = timedelta(seconds=1)
"""What a pod of a held revision gets to end. Zero would leave the container running on a node that is cut off."""


def with_pods(
    revision: RevisionView,
    deployment: Object | None,
    pods: Sequence[Object],
    slices: Iterable[Object],
    *,
    now: datetime | None = None,
) -> RevisionView:
    """`revision` with what its Deployment, its pods, and the EndpointSlices of its own Service show.

    Without `now` no pod waits too long for anything.
    """
    living = [pod for pod in pods if not _is_over(pod)]
    wanted = [pod for pod in living if not _is_terminating(pod)]
    ready = ready_endpoints(slices)
    troubles = [trouble for pod in wanted if (trouble := trouble_of(pod, now=now)) is not None]
    if (refused := _refused(deployment)) is not None:
        troubles.append(refused)
    return replace(
        revision,
        replicas=_replicas(deployment),
        ready=ready,
        pods=len(living),
        cut=all(_is_cut(pod) for pod in living),
        ready_since=_ready_since(wanted) if ready else None,
        unready_since=None if ready else _unready_since(living),
        progress_at=_progress_at(deployment, wanted),
        pulling=any(_is_pulling(pod) for pod in wanted),
        trouble=min(troubles, key=_severity, default=None),
        verified=next((proof for pod in wanted if (proof := verified_of(pod)) is not None), None),
    )


def _replicas(deployment: Object | None) -> int:
    replicas = _dict((deployment or {}).get("spec")).get("replicas")
    return replicas if isinstance(replicas, int) else 0


def _is_cut(pod: Object) -> bool:
    """It ends with the short grace of a CutOff; one that drains has a longer one, and a hold still has to cut it."""
    grace = _dict(pod.get("metadata")).get("deletionGracePeriodSeconds")
    return _is_terminating(pod) and isinstance(grace, int) and grace <= CUT_GRACE.total_seconds()


def ready_endpoints(slices: Iterable[Object]) -> int:
    """How many pods may get requests: endpoints that are ready, each pod once though it has several addresses."""
    ready = set()
    for each in slices:
        for endpoint in _list(each.get("endpoints")):
            conditions = _dict(endpoint.get("conditions"))
            # "ready: null" means ready (EndpointConditions in discovery/v1).
            if conditions.get("ready", True) is not False and not conditions.get("terminating"):
                target = _dict(endpoint.get("targetRef")).get("uid")
                ready.add(str(target or endpoint.get("addresses")))
    return len(ready)


def status_of(pods: Iterable[Object], revision_label: str) -> list[PodStatus]:
    """The pods for `status.pods`, worst first."""
    living = [pod for pod in pods if not _is_over(pod)]
    found = [_pod_status(pod, labels_of(pod).get(revision_label, "")) for pod in living]
    return sorted(found, key=lambda pod: (STATES.index(pod.state), pod.name))[:MAX_PODS]


def trouble_of(pod: Object, *, now: datetime | None = None) -> Trouble | None:
    """The worst that is wrong with one pod now; a pod that is ready is not in trouble."""
    if _condition(pod, "Ready").get("status") == "True":
        return None
    troubles = [
        *_unschedulable(pod),
        *_without_volumes(pod, now),
        *(trouble for each in _statuses(pod, "initContainerStatuses") for trouble in _pull_trouble(each)),
        *(trouble for each in _statuses(pod, "containerStatuses") for trouble in _server_trouble(each, pod)),
    ]
    return min(troubles, key=_severity, default=None)


def verified_of(pod: Object) -> Verified | None:
    """What the pullers proved, once all of them have ended well; `digest` is the model's."""
    proofs = []
    for status in _statuses(pod, "initContainerStatuses"):
        ended = _dict(_dict(status.get("state")).get("terminated"))
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


def parse_time(value: Any) -> datetime | None:
    """Read a Kubernetes time; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _severity(trouble: Trouble) -> tuple[int, int]:
    return SEVERITY.index(trouble.kind), -trouble.count


def _unschedulable(pod: Object) -> Iterable[Trouble]:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        yield Trouble(
            TroubleKind.UNSCHEDULABLE,
            _line(scheduled.get("message")) or "no node fits the pod",
            since=parse_time(scheduled.get("lastTransitionTime")),
        )


def _without_volumes(pod: Object, now: datetime | None) -> Iterable[Trouble]:
    """It has a node, and its claim does not come there: of a ReadWriteOnce claim, the usual reason is another node.

    Only an Event tells (FailedAttachVolume, FailedMount); the status stops at "not ready to start containers".
    """
    claims = [
        str(_dict(volume.get("persistentVolumeClaim")).get("claimName"))
        for volume in _list(_dict(pod.get("spec")).get("volumes"))
        if volume.get("persistentVolumeClaim")
    ]
    scheduled = _condition(pod, "PodScheduled")
    since = parse_time(scheduled.get("lastTransitionTime"))
    if (
        claims
        and scheduled.get("status") == "True"
        and _condition(pod, "PodReadyToStartContainers").get("status") == "False"
        and not any("waiting" not in _dict(each.get("state")) for each in _statuses(pod, "initContainerStatuses"))
        and since is not None
        and now is not None
        and now - since > VOLUME_PATIENCE
    ):
        node = pod["spec"].get("nodeName") or "its node"
        yield Trouble(
            TroubleKind.OTHER,
            f"the pod waits on {node} for its volumes; a claim that is ReadWriteOnce can be used on one node at a time "
            f"({', '.join(claims)}); `kubectl describe pod {name_of(pod)}` says why",
            since=since,
        )


def _refused(deployment: Object | None) -> Trouble | None:
    """Quota, admission or Pod Security: the pods are never created, and only the Deployment tells."""
    failure = _condition(deployment or {}, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    message = _line(failure.get("message")) or "the pods are refused"
    return Trouble(TroubleKind.REFUSED, message, since=parse_time(failure.get("lastTransitionTime")))


def _pull_trouble(status: Object) -> Iterable[Trouble]:
    yield from _start_trouble(status)
    ended = _last_end(status)
    code = ended.get("exitCode")
    if not isinstance(code, int) or code == 0:
        return
    message = _line(_puller_message(ended)) or _end_message(ended, "the download")
    kind = TroubleKind.CONTENT_REFUSED if code == EXIT_CONTENT else TroubleKind.PULL_FAILED
    yield Trouble(kind, message, _ends(status), parse_time(ended.get("finishedAt")))


def _server_trouble(status: Object, pod: Object) -> Iterable[Trouble]:
    yield from _start_trouble(status)
    ended = _last_end(status)
    code = ended.get("exitCode")
    waiting = _dict(_dict(status.get("state")).get("waiting"))
    # An end without an error is only trouble when the kubelet has begun to hold restarts back.
    if not isinstance(code, int) or (code == 0 and waiting.get("reason") != "CrashLoopBackOff"):
        return
    kind = TroubleKind.CRASHED if _was_ready(pod) else TroubleKind.CRASHED_LOADING
    message = _end_message(ended, "the model server")
    yield Trouble(kind, message, _ends(status), parse_time(ended.get("finishedAt")))


def _start_trouble(status: Object) -> Iterable[Trouble]:
    waiting = _dict(_dict(status.get("state")).get("waiting"))
    reason = str(waiting.get("reason") or "")
    message = _line(waiting.get("message"))
    if reason in IMAGE_REASONS:
        yield Trouble(TroubleKind.IMAGE, f"{reason}: {message or status.get('image', '')}")
    elif reason in OTHER_REASONS:
        yield Trouble(TroubleKind.OTHER, f"{reason}: {message}" if message else reason)


def _was_ready(pod: Object) -> bool:
    """Whether the pod has been ready in its life.

    The kubelet writes Ready=False when it first sees a pod, before the init containers end, and keeps that time until
    the pod is ready; so a Ready=False that is younger than the end of the init containers followed a Ready=True.
    """
    unready = parse_time(_condition(pod, "Ready").get("lastTransitionTime"))
    initialized = _condition(pod, "Initialized")
    since = parse_time(initialized.get("lastTransitionTime"))
    return initialized.get("status") == "True" and unready is not None and since is not None and unready > since


def _last_end(status: Object) -> Object:
    """How the container last ended; while it waits or runs again, `lastState` says."""
    now = _dict(_dict(status.get("state")).get("terminated"))
    return now or _dict(_dict(status.get("lastState")).get("terminated"))


def _ends(status: Object) -> int:
    """How often the container has ended: once more than it was restarted, unless it runs again."""
    return max(1, _restarts(status) + (0 if "running" in _dict(status.get("state")) else 1))


def _puller_message(ended: Object) -> str:
    result = TerminationMessage.parse(ended.get("message"))
    return result.message if result is not None else ""


def _end_message(ended: Object, who: str) -> str:
    reason = str(ended.get("reason") or "")
    how = f"ended with exit code {ended.get('exitCode')}"
    if signal := ended.get("signal"):
        how = f"was ended by signal {signal}"
    detail = f" ({reason})" if reason and reason not in ("Error", "Completed") else ""
    last = _last_lines(ended.get("message"), 1)
    return f"{who} {how}{detail}" + (f": {_line(last)}" if last else "")


def _ready_since(pods: Iterable[Object]) -> datetime | None:
    since = [
        at
        for pod in pods
        if (condition := _condition(pod, "Ready")).get("status") == "True"
        and (at := parse_time(condition.get("lastTransitionTime"))) is not None
    ]
    return min(since, default=None)


def _unready_since(pods: Iterable[Object]) -> datetime | None:
    """When the last of the pods that are still there stopped being ready."""
    since = [
        at
        for pod in pods
        if (condition := _condition(pod, "Ready")).get("status") != "True"
        and (at := parse_time(condition.get("lastTransitionTime"))) is not None
    ]
    return max(since, default=None)


def _progress_at(deployment: Object | None, pods: Iterable[Object]) -> datetime | None:
    """The last thing that a pod did for the first time. Restarts are no progress: they would put off any deadline."""
    signs = [parse_time((deployment or {}).get("metadata", {}).get("creationTimestamp"))]
    for pod in pods:
        signs.append(parse_time(pod["metadata"].get("creationTimestamp")))
        signs += [
            parse_time(condition.get("lastTransitionTime"))
            for kind in ("PodScheduled", "Initialized", "Ready")
            if (condition := _condition(pod, kind)).get("status") == "True"
        ]
        for status in (*_statuses(pod, "initContainerStatuses"), *_statuses(pod, "containerStatuses")):
            state = _dict(status.get("state"))
            if _restarts(status) == 0:
                signs.append(parse_time(_dict(state.get("running")).get("startedAt")))
    return max((sign for sign in signs if sign is not None), default=None)


def _is_pulling(pod: Object) -> bool:
    return any("running" in _dict(status.get("state")) for status in _statuses(pod, "initContainerStatuses"))


def _pod_status(pod: Object, revision: Revision) -> PodStatus:
    trouble = trouble_of(pod)
    containers = [*_statuses(pod, "initContainerStatuses"), *_statuses(pod, "containerStatuses")]
    servers = _statuses(pod, "containerStatuses")
    return PodStatus(
        name=name_of(pod),
        revision=revision[:64],
        node=pod.get("spec", {}).get("nodeName"),
        state=_state(pod, trouble),
        reason=_reason(pod, trouble),
        restarts=sum(_restarts(status) for status in containers),
        image_id=next((image for status in servers if (image := str(status.get("imageID") or "")[:512])), None),
        last_log=_last_log(containers) if trouble is not None else None,
    )


def _state(pod: Object, trouble: Trouble | None) -> str:
    if _is_terminating(pod):
        return "Terminating"
    if _condition(pod, "Ready").get("status") == "True":
        return "Ready"
    if trouble is not None:
        return "Pending" if trouble.kind is TroubleKind.UNSCHEDULABLE else "Failing"
    if _is_pulling(pod):
        return "Pulling"
    if any("running" in _dict(status.get("state")) for status in _statuses(pod, "containerStatuses")):
        return "Starting"
    return "Pending"


def _reason(pod: Object, trouble: Trouble | None) -> str | None:
    """Kubernetes' own word, which a person can search for."""
    if trouble is None:
        return None
    if trouble.kind is TroubleKind.UNSCHEDULABLE:
        return "Unschedulable"
    for status in (*_statuses(pod, "initContainerStatuses"), *_statuses(pod, "containerStatuses")):
        waiting = _dict(_dict(status.get("state")).get("waiting")).get("reason")
        if waiting and waiting not in ("PodInitializing", "ContainerCreating"):
            return str(waiting)
        if (ended := _last_end(status)) and ended.get("exitCode") != 0:
            return str(ended.get("reason") or "Error")
    return trouble.kind.value


def _last_log(containers: Iterable[Object]) -> str | None:
    """The last lines of the container that ended last with an error (terminationMessagePolicy puts them there)."""
    ends = [ended for status in containers if (ended := _last_end(status)) and ended.get("exitCode") != 0]
    if not ends:
        return None
    last = max(ends, key=lambda ended: str(ended.get("finishedAt") or ""))
    return _last_lines(_puller_message(last) or last.get("message"), 5) or None


def _last_lines(value: Any, count: int) -> str:
    lines = [line.rstrip() for line in str(value or "").splitlines() if line.strip()]
    return "\n".join(lines[-count:])[-MAX_LOG:]


def _line(value: Any) -> str:
    text = " ".join(str(value or "").split())
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def _is_over(pod: Object) -> bool:
    """Whether nothing of it runs any more: evicted, or ended."""
    return _dict(pod.get("status")).get("phase") in ("Succeeded", "Failed")


def _is_terminating(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _restarts(status: Object) -> int:
    count = status.get("restartCount")
    return count if isinstance(count, int) else 0


def _statuses(pod: Object, field: str) -> list[Object]:
    return _list(_dict(pod.get("status")).get(field))


def _condition(obj: Object, kind: str) -> Object:
    return next((each for each in _list(_dict(obj.get("status")).get("conditions")) if each.get("type") == kind), {})


def _dict(value: Any) -> Object:
    return dict(value) if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
