"""Renders a ModelDeployment as a tree: its alias and state, then its revisions with their pods.

Pure: takes a view and the time, returns a rich renderable.
"""

from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from modelsync.api import duration, names
from modelsync.api.conditions import ConditionType
from modelsync.api.hold import WORDING
from modelsync.api.status import CanaryStatus, ExamStatus, HoldStatus, Phase, PodStatus, StepStatus
from modelsync.commands import printable
from modelsync.kubectl.view.advice import ending_command, next_commands
from modelsync.kubectl.view.deployment import Revision, View
from modelsync.kubectl.view.text import age, columns, facts, left, styled

GOOD, BUSY, BAD, QUIET = "green", "cyan", "bold red", "dim"

PHASE_STYLES = {
    Phase.HEALTHY: GOOD,
    Phase.IDLE: QUIET,
    Phase.PAUSED: "yellow",
    Phase.SUSPENDED: "yellow",
    Phase.ON_HOLD: BAD,
    Phase.BLOCKED: BAD,
    Phase.DEGRADED: BAD,
    Phase.STALLED: BAD,
}
_TARGETS = {"First": "first", "Rollback": "rollback", "Fallback": "fallback", "Recovery": "recovery"}
_POD_STYLES = {"Ready": GOOD, "Failing": BAD, "Terminating": QUIET}


def picture(view: View, now: datetime) -> RenderableType:
    """The whole tree."""
    return Group(_title(view), facts(_facts(view, now)), Text(), _revisions(view, now))


def phase(view: View) -> Text:
    """The phase in its colour; `Terminating`, as for a pod, while the object is being deleted."""
    if view.deleted:
        return styled("Terminating", QUIET)
    current = view.status.phase
    return styled(current or "Pending", PHASE_STYLES.get(current, BUSY) if current else BUSY)


def hold_text(hold: HoldStatus) -> str:
    """`'regulatory-hold', a tag on the version acme/registry/chat:v7`."""
    return f"{hold.name!r}, {WORDING[hold.via].place} {hold.collection}:{hold.version}"


def step_text(step: StepStatus) -> str:
    """One step in the terms of the spec."""
    if step.match is not None:
        return "match " + " or ".join(f"{each.name}{'~' if each.regex else '='}{each.value}" for each in step.match)
    if step.set_weight is not None:
        return f"setWeight {step.set_weight}"
    if step.pause is not None and step.pause.duration:
        return f"pause {step.pause.duration}"
    return "pause until promoted"


def role(view: View, revision: Revision, now: datetime) -> Text:
    """The role of the revision in the ModelDeployment."""
    status = view.status
    if view.holds(revision):
        return styled("on hold", BAD)
    if status.canary is not None and status.canary.revision == revision:
        return styled("canary", BUSY)
    if status.target is not None and status.target.revision == revision:
        return styled(_TARGETS[status.target.reason], BUSY)
    if view.stable == revision:
        return styled("stable", GOOD)
    if view.failed(revision) is not None:
        return styled("failed", BAD)
    if status.previous is not None and status.previous.revision == revision:
        return styled(f"warm, {left(status.previous.until, now)}", QUIET)
    return styled("leaving", QUIET)


def _title(view: View) -> Text:
    return Text.assemble(
        (printable(view.name), "bold"), ("  namespace ", QUIET), printable(view.namespace), "  ", phase(view)
    )


def _facts(view: View, now: datetime) -> list[tuple[str, Text | str]]:
    status = view.status
    rows: list[tuple[str, Text | str]] = [("Alias", _alias(view))]
    ready = view.condition(ConditionType.READY)
    if ready is None:
        rows.append(("Ready", "Unknown: the operator has not reported on it yet"))
    else:
        style = {"True": GOOD, "False": BAD}.get(ready.status, BUSY)
        rows.append(("Ready", Text.assemble((ready.status, style), f" {ready.reason}: {printable(ready.message)}")))
    if ready is not None and not view.seen:
        rows.append(("Spec", "the operator has not seen the latest change to it yet"))
    if (waiting := status.waiting) is not None:
        ends = f", {left(waiting.until, now)}" if waiting.until is not None else ""
        rows.append(("Waiting", f"for {waiting.message} ({waiting.who}, since {age(now - waiting.since)}{ends})"))
        if (command := ending_command(view)) is not None:
            rows.append(("", styled(command, "bold")))
    if status.canary is not None and status.canary.steps:
        rows.append(("Steps", _steps(status.canary, now)))
    rows += [("Hold", styled(hold_text(hold), BAD)) for hold in status.holds]
    resolved = view.condition(ConditionType.MODEL_RESOLVED)
    if resolved is not None and resolved.status != "True":
        rows.append(("Registry", styled(f"{resolved.reason}: {resolved.message}", "yellow")))
    if (known := view.condition(ConditionType.HOLDS_KNOWN)) is not None and known.status == "False":
        rows.append(("Marks", styled(f"{known.reason}: {known.message}", BAD)))
    if status.fallback is not None and not status.holds:
        rows.append(("If held", _fallback(view)))
    if status.url:
        rows.append(("URL", status.url))
    for number, command in enumerate(next_commands(view)):
        rows.append(("" if number else "Next", styled(command, "bold")))
    return rows


def _alias(view: View) -> str:
    named = str(view.spec.get("modelRef", ""))
    resolved = view.status.resolved
    return f"{named} → {resolved.version}" if resolved is not None else f"{named} → not resolved yet"


def _fallback(view: View) -> str:
    fallback = view.status.fallback
    assert fallback is not None  # noqa: S101  the caller checked
    if fallback.revision is None:
        return fallback.reason
    return f"{fallback.revision} would serve, {'at once' if fallback.ready else 'once it is ready'}: {fallback.reason}"


def _steps(canary: CanaryStatus, now: datetime) -> Text:
    """`✓ setWeight 5  ▸ pause 10m, 4m12s left  ○ setWeight 50`."""
    line = Text()
    for number, step in enumerate(canary.steps):
        if number:
            line.append("  ")
        if number < canary.step:
            line.append(f"✓ {printable(step_text(step))}", QUIET)
        elif number == canary.step:
            line.append(f"▸ {printable(step_text(step))}{_time_left(canary, step, now)}", "bold")
        else:
            line.append(f"○ {printable(step_text(step))}")
    line.append("  ▸ promotion" if canary.step >= len(canary.steps) else "  ○ promotion")
    return line


def _time_left(canary: CanaryStatus, step: StepStatus, now: datetime) -> str:
    if step.pause is None or not step.pause.duration or canary.step_started_at is None:
        return ""
    return f", {left(canary.step_started_at + duration.parse(step.pause.duration), now)}"


def _revisions(view: View, now: datetime) -> RenderableType:
    rows: list[list[Text | str]] = []
    for revision in view.revisions:
        pods = view.pods(revision)
        ready = sum(pod.state == "Ready" for pod in pods)
        count = styled(f"{ready}/{len(pods)}", GOOD if pods and ready == len(pods) else "yellow") if pods else "–"
        share = f"{view.weight(revision)} %"
        rows.append([styled(revision, "bold"), role(view, revision, now), share, count, _info(view, revision)])
        for number, pod in enumerate(pods):
            branch = "└─ " if number == len(pods) - 1 else "├─ "
            name = Text.assemble((branch, QUIET), printable(pod.name))
            rows.append([name, styled(pod.state, _POD_STYLES.get(pod.state, BUSY)), "", "", _pod(pod)])
    if any(each.revision == names.BLOCKED for each in view.status.traffic):
        rows.append([styled("blocked", BAD), "", "", "", "clients get 503"])
    if not rows:
        return Text("no revisions yet", style=QUIET)
    return columns(("REVISION", "ROLE", "WEIGHT", "PODS", "INFO"), rows)


def _info(view: View, revision: Revision) -> Text | str:
    parts: list[str] = []
    if (version := view.version(revision)) != revision.partition("-")[0]:
        parts.append(version)
    # Short: the facts above the table show each hold in full.
    holds = view.holds(revision)
    parts += [f"hold {hold.name!r} on {hold.collection.rpartition('/')[2]}:{hold.version}" for hold in holds]
    if (failure := view.failed(revision)) is not None:
        parts.append(f"{failure.reason}: {failure.message}")
    rules = next((each.rules for each in view.status.traffic if each.revision == revision), ())
    parts += [f"also {rule}" for rule in rules]
    exam = next((each for each in view.status.exams if each.revision == revision), None)
    if exam is not None:
        parts.append(exam_text(exam))
    silenced = next((each for each in view.status.silenced if each.revision == revision), None)
    if silenced is not None:
        took = f", last byte {silenced.within} after the hold" if silenced.within else ""
        parts.append(f"silenced {silenced.acknowledged}/{silenced.pods} pods{took}")
    return styled("; ".join(parts))


def exam_text(exam: ExamStatus) -> str:
    """`exam 12/12 in 1s500ms`."""
    if exam.outcome == "Running":
        return "exam running"
    if exam.outcome == "Invalid":
        return f"exam cannot be read: {exam.message}"
    took = f" in {exam.duration}" if exam.duration else ""
    wrong = f": {exam.message}" if exam.outcome == "Failed" else ""
    return f"exam {exam.passed}/{exam.total}{took}{wrong}"


def _pod(pod: PodStatus) -> str:
    parts = [pod.reason or "", f"{pod.restarts} restarts" if pod.restarts else "", pod.node or ""]
    if pod.last_log and pod.state != "Ready":
        parts.append(pod.last_log.strip().splitlines()[-1])
    return "  ".join(part for part in parts if part)
