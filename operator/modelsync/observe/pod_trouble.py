"""What is wrong with one pod, or with a Deployment whose pods are not created.

Only this module interprets the reasons, exit codes and termination messages of the kubelet and the controllers. Objects
may come from anyone who can set the labels: must never raise, whatever they contain.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from modelsync.api.foreign_text import foreign_text
from modelsync.api.kinds import Object, mapping, name_of
from modelsync.api.pod_contract import EXIT_CONTENT, TerminationMessage
from modelsync.observe.fields import (
    condition,
    container_statuses,
    init_container_statuses,
    last_termination,
    objects,
    parse_time,
    restarts,
)
from modelsync.rollout.model import Trouble, TroubleKind

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
"""Worst first: problems of the revision before problems of the cluster."""

MAX_MESSAGE = 500
MAX_LOG = 800

VOLUME_PATIENCE = timedelta(seconds=90)
"""Attaching a cloud disk to a node takes up to a minute. After that, only an Event reports a failure."""


def trouble_of(pod: Object, *, now: datetime | None = None) -> Trouble | None:
    """The worst problem of a pod; None if it has none or is ready. Without `now`, no wait counts as too long."""
    if condition(pod, "Ready").get("status") == "True":
        return None
    troubles = [
        *_unschedulable(pod),
        *_without_volumes(pod, now),
        *(trouble for each in init_container_statuses(pod) for trouble in _pull_trouble(each)),
        *(trouble for each in container_statuses(pod) for trouble in _server_trouble(each, pod)),
    ]
    return worst(troubles)


def trouble_of_deployment(deployment: Object | None) -> Trouble | None:
    """Why pods are not created: quota, admission or Pod Security. Only the Deployment's status shows this."""
    failure = condition(deployment or {}, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    message = _line(failure.get("message")) or "the pods are refused"
    return Trouble(TroubleKind.REFUSED, message, since=parse_time(failure.get("lastTransitionTime")))


def worst(troubles: Iterable[Trouble]) -> Trouble | None:
    """The most severe trouble; of several of one kind, the most frequent."""
    return min(troubles, key=lambda trouble: (SEVERITY.index(trouble.kind), -trouble.count), default=None)


def reason_of(pod: Object, trouble: Trouble | None) -> str | None:
    """Kubernetes' own reason for `trouble`, which users can search for."""
    if trouble is None:
        return None
    if trouble.kind is TroubleKind.UNSCHEDULABLE:
        return "Unschedulable"
    for status in (*init_container_statuses(pod), *container_statuses(pod)):
        waiting = mapping(mapping(status.get("state")).get("waiting")).get("reason")
        if waiting and waiting not in ("PodInitializing", "ContainerCreating"):
            return str(waiting)
        if (ended := last_termination(status)) and ended.get("exitCode") != 0:
            return str(ended.get("reason") or "Error")
    return trouble.kind.value


def last_log(pod: Object) -> str | None:
    """The last log lines of the container that failed last (because of terminationMessagePolicy)."""
    statuses = (*init_container_statuses(pod), *container_statuses(pod))
    failures = [ended for status in statuses if (ended := last_termination(status)) and ended.get("exitCode") != 0]
    if not failures:
        return None
    last = max(failures, key=lambda ended: str(ended.get("finishedAt") or ""))
    return _last_lines(_puller_message(last) or last.get("message"), 5) or None


def _unschedulable(pod: Object) -> Iterable[Trouble]:
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        yield Trouble(
            TroubleKind.UNSCHEDULABLE,
            _line(scheduled.get("message")) or "no node fits the pod",
            since=parse_time(scheduled.get("lastTransitionTime")),
        )


def _without_volumes(pod: Object, now: datetime | None) -> Iterable[Trouble]:
    """The pod has a node, but its claim is not mounted. The usual cause: a ReadWriteOnce claim is used on another node.

    Only an Event has the cause (FailedAttachVolume, FailedMount); the status has just PodReadyToStartContainers=False.
    """
    claims = [
        str(mapping(volume.get("persistentVolumeClaim")).get("claimName"))
        for volume in objects(mapping(pod.get("spec")).get("volumes"))
        if volume.get("persistentVolumeClaim")
    ]
    scheduled = condition(pod, "PodScheduled")
    since = parse_time(scheduled.get("lastTransitionTime"))
    if (
        claims
        and scheduled.get("status") == "True"
        and condition(pod, "PodReadyToStartContainers").get("status") == "False"
        and not any("waiting" not in mapping(each.get("state")) for each in init_container_statuses(pod))
        and since is not None
        and now is not None
        and now - since > VOLUME_PATIENCE
    ):
        node = pod["spec"].get("nodeName") or "its node"
        yield Trouble(
            TroubleKind.OTHER,
            f"the pod waits on {node} for its volumes; a claim that is ReadWriteOnce can be used on one node at a time "
            f"({', '.join(claims)}); `kubectl describe pod {name_of(pod)}` shows why",
            since=since,
        )


def _pull_trouble(status: Object) -> Iterable[Trouble]:
    yield from _start_trouble(status)
    ended = last_termination(status)
    code = ended.get("exitCode")
    if not isinstance(code, int) or code == 0:
        return
    message = _line(_puller_message(ended)) or _termination(ended, "the download")
    kind = TroubleKind.CONTENT_REFUSED if code == EXIT_CONTENT else TroubleKind.PULL_FAILED
    yield Trouble(kind, message, _terminations(status), parse_time(ended.get("finishedAt")))


def _server_trouble(status: Object, pod: Object) -> Iterable[Trouble]:
    yield from _start_trouble(status)
    ended = last_termination(status)
    code = ended.get("exitCode")
    waiting = mapping(mapping(status.get("state")).get("waiting"))
    # Exit code 0 is a problem only once the kubelet delays restarts.
    if not isinstance(code, int) or (code == 0 and waiting.get("reason") != "CrashLoopBackOff"):
        return
    kind = TroubleKind.CRASHED if _was_ready(pod) else TroubleKind.CRASHED_LOADING
    message = _termination(ended, "the model server")
    yield Trouble(kind, message, _terminations(status), parse_time(ended.get("finishedAt")))


def _start_trouble(status: Object) -> Iterable[Trouble]:
    waiting = mapping(mapping(status.get("state")).get("waiting"))
    reason = str(waiting.get("reason") or "")
    message = _line(waiting.get("message"))
    if reason in IMAGE_REASONS:
        yield Trouble(TroubleKind.IMAGE, f"{reason}: {message or status.get('image', '')}")
    elif reason in OTHER_REASONS:
        yield Trouble(TroubleKind.OTHER, f"{reason}: {message}" if message else reason)


def _was_ready(pod: Object) -> bool:
    """Whether the pod has ever been ready.

    The kubelet sets Ready=False when it first sees a pod, before the init containers end, and keeps that time until the
    pod is ready. So a Ready=False that is newer than the end of the init containers followed a Ready=True.
    """
    unready = parse_time(condition(pod, "Ready").get("lastTransitionTime"))
    initialized = condition(pod, "Initialized")
    since = parse_time(initialized.get("lastTransitionTime"))
    return initialized.get("status") == "True" and unready is not None and since is not None and unready > since


def _terminations(status: Object) -> int:
    """How often the container has terminated: its restarts, plus one unless it is running again."""
    return max(1, restarts(status) + (0 if "running" in mapping(status.get("state")) else 1))


def _puller_message(ended: Object) -> str:
    result = TerminationMessage.parse(ended.get("message"))
    return result.message if result is not None else ""


def _termination(ended: Object, who: str) -> str:
    reason = str(ended.get("reason") or "")
    how = f"ended with exit code {ended.get('exitCode')}"
    if signal := ended.get("signal"):
        how = f"was ended by signal {signal}"
    detail = f" ({reason})" if reason and reason not in ("Error", "Completed") else ""
    last = _last_lines(ended.get("message"), 1)
    return f"{who} {how}{detail}" + (f": {_line(last)}" if last else "")


def _last_lines(value: Any, count: int) -> str:
    lines = [line.rstrip() for line in str(value or "").splitlines() if line.strip()]
    return "\n".join(lines[-count:])[-MAX_LOG:]


def _line(value: Any) -> str:
    return foreign_text(str(value or ""), limit=MAX_MESSAGE)
