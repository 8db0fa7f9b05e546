"""Suggests the next command for the state of a ModelDeployment. Pure."""

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
    """The command that ends the wait, if there is one."""
    waiting = view.status.waiting
    if waiting is None or waiting.command is None:
        return None
    verb = "resume" if waiting.reason == Reason.SUSPENDED else None
    for annotation, plugin_verb in _VERBS.items():
        if f" {annotation}=" in waiting.command:
            verb = plugin_verb
    return _plugin_command(view, verb) if verb else waiting.command


def next_commands(view: View) -> list[str]:
    """Commands that show more about a problem: the holds, the failing pod, otherwise the doctor."""
    status = view.status
    found = [_plugin_command(view, "hold")] if status.holds else []
    pod = next((each for each in status.pods if each.state == "Failing"), None)
    if pod is not None and pod.restarts:
        found.append(f"kubectl logs {pod.name} -n {view.namespace} --previous")
    elif pod is not None:
        found.append(f"kubectl describe pod {pod.name} -n {view.namespace}")
    resolved = view.condition(ConditionType.MODEL_RESOLVED)
    unanswered = resolved is not None and resolved.status != "True" and resolved.reason != Reason.RESOLVING
    blind = view.condition_status(ConditionType.HOLDS_KNOWN) == "False"
    stuck = view.condition_status(ConditionType.STALLED) == "True" and not status.holds and view.failure is None
    if unanswered or blind or stuck or (view.condition(ConditionType.READY) is None):
        found.append(_plugin_command(view, "doctor"))
    return found


def _plugin_command(view: View, verb: str) -> str:
    return f"kubectl modelsync {verb} {view.name} -n {view.namespace}"
