"""What a person asks the operator for: promote, abort, retry, and a look at the registry now.

Each is an annotation that names the revision and the person (`api.requests`); the operator's answer is read from the
status. What makes no sense now is refused here with the reason, before anything is written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import click

from modelsync.api import duration
from modelsync.api.conditions import ConditionType
from modelsync.api.reasons import Reason
from modelsync.api.requests import ABORT, MAX_LENGTH, PROMOTE, PROMOTE_FULL, REFRESH, RETRY, Request, Verb
from modelsync.api.status import CanaryStatus
from modelsync.kubectl.cluster.objects import Cluster, Path
from modelsync.kubectl.cluster.permissions import steer
from modelsync.kubectl.errors import EXIT_TIMEOUT, ForbiddenError, NotThereError, PluginError
from modelsync.kubectl.options import DURATION, cluster, connection_options, name_argument
from modelsync.kubectl.view import text
from modelsync.kubectl.view.changes import changes
from modelsync.kubectl.view.deployment import Revision, View, read
from modelsync.kubectl.view.tree import step_text

WAIT = timedelta(seconds=60)
"""The operator answers within a second; what it cannot act on yet is told after this."""

_Answer = Callable[[View, View], str]


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request, and its result as the views before and after show it. `told` raises PluginError when the operator did
    not do it."""

    verb: Verb
    revision: Revision
    told: _Answer


def waiting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Whether to wait for the operator's answer."""
    command = click.option(
        "--timeout",
        type=DURATION,
        default=duration.render(WAIT),
        show_default=True,
        metavar="DURATION",
        help="Longest wait for the operator's answer; 0: none.",
    )(command)
    return click.option(
        "--wait",
        type=bool,
        default=True,
        show_default=True,
        metavar="BOOLEAN",
        help="Wait for the operator's answer, and tell it.",
    )(command)


@click.command("promote")
@name_argument
@click.option("--full", is_flag=True, help="Skip all steps that are left: the canary becomes the stable.")
@waiting_options
@connection_options
def promote(name: str, full: bool, wait: bool, timeout: timedelta) -> None:
    """Let the canary of NAME go on: end the pause that it is in, or with --full skip every step that is left.

    Holds, ready pods, the version's own exam and a fresh answer of the registry are needed as ever.
    """
    api = cluster()
    each = read(api, name)
    canary = each.status.canary
    if canary is None:
        raise PluginError(f"nothing to promote: {_standing(each)}")
    if each.suspended:
        raise PluginError(
            f"{name} is suspended, so nothing moves forward; first: kubectl modelsync resume {name} -n {each.namespace}"
        )
    if canary.step >= len(canary.steps):
        raise PluginError(f"all steps of {canary.revision} are done; it is being promoted already")
    if full:
        _ask(api, each, _Ask(PROMOTE_FULL, canary.revision, _skipped), wait, timeout)
        return
    if all(step.pause is None for step in canary.steps[canary.step :]):
        raise PluginError(f"{canary.revision} has no pause ahead of it; --full skips the steps that are left")
    _ask(api, each, _Ask(PROMOTE, canary.revision, _went_on), wait, timeout)


@click.command("abort")
@name_argument
@waiting_options
@connection_options
def abort(name: str, wait: bool, timeout: timedelta) -> None:
    """Take the canary of NAME back, or end a way back to an earlier version.

    It loses its traffic at once and is not tried again until its alias has left it, or `retry`.
    """
    api = cluster()
    each = read(api, name)
    canary, target = each.status.canary, each.status.target
    if canary is not None:
        revision = canary.revision
    elif target is not None and target.reason == "Rollback":
        revision = target.revision
    else:
        raise PluginError(f"nothing to abort: {_standing(each)}; to serve another version, move the alias to it")
    _ask(api, each, _Ask(ABORT, revision, _taken_back), wait, timeout)


@click.command("retry")
@name_argument
@waiting_options
@connection_options
def retry(name: str, wait: bool, timeout: timedelta) -> None:
    """Try the version again that the alias of NAME names and that has failed or was aborted."""
    api = cluster()
    each = read(api, name)
    failure = each.failure
    if failure is None:
        others = (
            f"; {each.status.failed[-1].revision} has failed, but the alias has left it" if each.status.failed else ""
        )
        raise PluginError(f"nothing to retry: {_standing(each)}{others}")
    _ask(api, each, _Ask(RETRY, failure.revision, _tried), wait, timeout)


@click.command("refresh")
@name_argument
@waiting_options
@connection_options
def refresh(name: str, wait: bool, timeout: timedelta) -> None:
    """Let the operator look at the registry now, not only at the next poll or webhook."""
    api = cluster()
    each = read(api, name)
    _ask(api, each, _Ask(REFRESH, "", _looked), wait, timeout)


def whoami(api: Cluster) -> str:
    """The user's name as the API server knows it; empty where it does not tell."""
    path = Path("authentication.k8s.io/v1", "selfsubjectreviews")
    body = {"apiVersion": path.api_version, "kind": "SelfSubjectReview"}
    try:
        answer = api.review(path, body)
    except (ForbiddenError, NotThereError):
        return ""
    return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")


def token(now: datetime) -> str:
    """Makes a request another one than the last of its kind."""
    return now.strftime("%Y%m%dT%H%M%S.%fZ")


def _ask(api: Cluster, before: View, ask: _Ask, wait: bool, timeout: timedelta) -> None:
    """Write the annotation, then wait until the operator has echoed it."""
    value = token(text.now())
    if ask.revision:
        try:
            value = Request(ask.revision, value, whoami(api)).render()
        except ValueError:
            raise PluginError(f"your user name is too long for a request of {MAX_LENGTH} characters") from None
    steer(
        api, before.namespace, before.name, {"metadata": {"annotations": {ask.verb.annotation: value}}}, ask.verb.name
    )
    if not wait:
        text.say(f"{before.resource} annotated: {ask.verb.key}" + (f" {ask.revision}" if ask.revision else ""))
        return
    last = before
    for last in changes(api, before.namespace, before.name, timeout):
        handled = last.status.handled
        if handled is not None and getattr(handled, ask.verb.field) == value:
            text.say(f"{before.resource} {ask.told(before, last)}")
            return
    raise PluginError(_unanswered(last, ask.verb.key, timeout), exit_code=EXIT_TIMEOUT)


def _unanswered(each: View, verb: str, timeout: timedelta) -> str:
    """Why the operator has not acted: it waits for something, or it is not there."""
    waiting = each.status.waiting
    if waiting is not None:
        why = f"{each.name} waits for {waiting.message}; the request stays and acts then"
    else:
        why = f"is the operator running? kubectl modelsync doctor -n {each.namespace}"
    return f"{verb}: no answer within {duration.render(timeout)}: {why}"


def _standing(each: View) -> str:
    """How it stands, for a refusal."""
    status = each.status
    ready = each.condition(ConditionType.READY)
    if ready is not None and ready.reason == Reason.REGULATORY_HOLD:
        return ready.message
    if status.target is not None:
        return f"{status.target.revision} is on its way without steps ({status.target.reason})"
    if each.failure is not None:
        return f"{each.failure.revision} has failed ({each.failure.reason}), {each.stable or 'nothing'} serves"
    return f"{each.stable} serves and nothing is rolled out" if each.stable else "nothing is rolled out yet"


def _went_on(before: View, after: View) -> str:
    return _moved(before, after, _step_now)


def _skipped(before: View, after: View) -> str:
    return _moved(before, after, lambda canary: f"the steps of {canary.revision} are skipped, it is promoted next")


def _moved(before: View, after: View, told: Callable[[CanaryStatus], str]) -> str:
    """What became of a promote; `told` says it of a canary that goes on."""
    old, new = before.status.canary, after.status.canary
    assert old is not None  # noqa: S101  it was refused otherwise
    if after.stable == old.revision:
        return f"promoted: {old.revision} is the stable"
    if new is None or new.revision != old.revision:
        raise PluginError(f"promote was ignored: {old.revision} is not the canary any more; {_standing(after)}")
    return f"went on: {told(new)}"


def _step_now(canary: CanaryStatus) -> str:
    if canary.step >= len(canary.steps):
        return f"the steps of {canary.revision} are done, it is promoted next"
    return (
        f"{canary.revision} is at step {canary.step + 1} of {len(canary.steps)}, {step_text(canary.steps[canary.step])}"
    )


def _taken_back(before: View, after: View) -> str:
    moving = before.moving
    assert moving is not None  # noqa: S101  it was refused otherwise
    failure = after.failed(moving)
    if failure is None or failure.reason != Reason.ABORTED:
        raise PluginError(f"abort was ignored: {_standing(after)}")
    return f"aborted: {moving} loses its traffic, {after.stable or 'nothing'} serves"


def _tried(before: View, after: View) -> str:
    assert before.failure is not None  # noqa: S101  it was refused otherwise
    revision = before.failure.revision
    if after.failed(revision) is not None:
        raise PluginError(f"retry was ignored: {_standing(after)}")
    return f"retried: {revision} is tried again"


def _looked(before: View, after: View) -> str:
    return "refreshed: the registry is being asked"
