"""What somebody who sees a ModelDeployment would type next. Pure."""

from modelsync.api.conditions import ConditionType
from modelsync.api.reasons import Reason
from modelsync.api.requests import PROMOTE, REFRESH, RETRY
from modelsync.kubectl.view.deployment import View

_VERBS = {
    PROMOTE.annotation: "promote",
    RETRY.annotation: "retry",
    REFRESH.annotation: "refresh",
}


def ending_command(view: View) -> str | None:
    """What ends the wait."""
    waiting = view.status.waiting
    if waiting is None or waiting.command is None:
        return None
    verb = "resume" if waiting.reason == Reason.SUSPENDED else None
    for annotation, ours in _VERBS.items():
        if f" {annotation}=" in waiting.command:
            verb = ours
    return _ours(view, verb) if verb else waiting.command


def next_commands(view: View) -> list[str]:
    """What tells more where something is wrong: which hold, what keeps a pod from running, else the doctor."""
    status = view.status
    said = [_ours(view, "hold")] if status.holds else []
    pod = next((each for each in status.pods if each.state == "Failing"), None)
    if pod is not None and pod.restarts:
        said.append(f"kubectl logs {pod.name} -n {view.namespace} --previous")
    elif pod is not None:
        said.append(f"kubectl describe pod {pod.name} -n {view.namespace}")
    resolved = view.condition(ConditionType.MODEL_RESOLVED)
    unanswered = resolved is not None and resolved.status != "True" and resolved.reason != Reason.RESOLVING
    stuck = view.says(ConditionType.STALLED) == "True" and not status.holds and view.failure is None
    if unanswered or stuck or (view.condition(ConditionType.READY) is None):
        said.append(_ours(view, "doctor"))
    return said


def _ours(view: View, verb: str) -> str:
    return f"kubectl modelsync {verb} {view.name} -n {view.namespace}"
