"""The requests to the operator: promote, abort, retry and refresh.

Each request is an annotation that names the revision and the user (`api.requests`); the operator's answer is read from
the status. A request that cannot apply now is refused here, with the reason, before anything is written.
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
from modelsync.kubectl.errors import EXIT_TIMEOUT, ForbiddenError, NotFoundError, PluginError
from modelsync.kubectl.options import DURATION, cluster, connection_options, name_argument
from modelsync.kubectl.view import text
from modelsync.kubectl.view.changes import changes
from modelsync.kubectl.view.deployment import Revision, View, read
from modelsync.kubectl.view.tree import step_text

WAIT = timedelta(seconds=60)
"""The operator normally answers within a second; after this time the command reports what it waits for."""

_Answer = Callable[[View, View], str]


@dataclass(frozen=True, slots=True)
class _Action:
    """A request. `result` describes the outcome by comparing the views before and after; it raises PluginError when
    the operator ignored the request."""

    verb: Verb
    revision: Revision
    result: _Answer


def waiting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --wait and --timeout."""
    command = click.option(
        "--timeout",
        type=DURATION,
        default=duration.render(WAIT),
        show_default=True,
        metavar="DURATION",
        help="How long to wait for the operator's answer; 0: no limit.",
    )(command)
    return click.option(
        "--wait",
        type=bool,
        default=True,
        show_default=True,
        metavar="BOOLEAN",
        help="Wait for the operator's answer and print it.",
    )(command)


@click.command("promote")
@name_argument
@click.option("--full", is_flag=True, help="Skip all remaining steps and promote the canary to stable.")
@waiting_options
@connection_options
def promote(name: str, full: bool, wait: bool, timeout: timedelta) -> None:
    """End the pause of NAME's canary, or with --full skip all remaining steps.

    All safety checks still apply: no hold, ready pods, a passed exam and an up-to-date registry answer.
    """
    api = cluster()
    each = read(api, name)
    canary = each.status.canary
    if canary is None:
        raise PluginError(f"nothing to promote: {_state(each)}")
    if each.suspended:
        raise PluginError(
            f"{name} is suspended, so nothing moves forward; first: kubectl modelsync resume {name} -n {each.namespace}"
        )
    if canary.step >= len(canary.steps):
        raise PluginError(f"all steps of {canary.revision} are done; it is already being promoted")
    if full:
        _send(api, each, _Action(PROMOTE_FULL, canary.revision, _skipped), wait, timeout)
        return
    if all(step.pause is None for step in canary.steps[canary.step :]):
        raise PluginError(f"{canary.revision} has no pause ahead of it; --full skips the remaining steps")
    _send(api, each, _Action(PROMOTE, canary.revision, _continued), wait, timeout)


@click.command("abort")
@name_argument
@waiting_options
@connection_options
def abort(name: str, wait: bool, timeout: timedelta) -> None:
    """Abort the canary of NAME, or a rollback in progress.

    The revision loses its traffic at once. It is not tried again until the alias moves off it or you run `retry`.
    """
    api = cluster()
    each = read(api, name)
    canary, target = each.status.canary, each.status.target
    if canary is not None:
        revision = canary.revision
    elif target is not None and target.reason == "Rollback":
        revision = target.revision
    else:
        raise PluginError(f"nothing to abort: {_state(each)}; to serve another version, move the alias to it")
    _send(api, each, _Action(ABORT, revision, _aborted), wait, timeout)


@click.command("retry")
@name_argument
@waiting_options
@connection_options
def retry(name: str, wait: bool, timeout: timedelta) -> None:
    """Retry the version that NAME's alias names, after it failed or was aborted."""
    api = cluster()
    each = read(api, name)
    failure = each.failure
    if failure is None:
        others = (
            f"; {each.status.failed[-1].revision} failed, but the alias no longer names it"
            if each.status.failed
            else ""
        )
        raise PluginError(f"nothing to retry: {_state(each)}{others}")
    _send(api, each, _Action(RETRY, failure.revision, _retried), wait, timeout)


@click.command("refresh")
@name_argument
@waiting_options
@connection_options
def refresh(name: str, wait: bool, timeout: timedelta) -> None:
    """Make the operator query the registry now instead of at the next poll or webhook."""
    api = cluster()
    each = read(api, name)
    _send(api, each, _Action(REFRESH, "", _refreshed), wait, timeout)


def whoami(api: Cluster) -> str:
    """The user's name according to the API server; empty if it does not support the review or forbids it."""
    path = Path("authentication.k8s.io/v1", "selfsubjectreviews")
    body = {"apiVersion": path.api_version, "kind": "SelfSubjectReview"}
    try:
        answer = api.review(path, body)
    except (ForbiddenError, NotFoundError):
        return ""
    return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")


def token(now: datetime) -> str:
    """A value that distinguishes this request from earlier ones of its kind."""
    return now.strftime("%Y%m%dT%H%M%S.%fZ")


def _send(api: Cluster, before: View, action: _Action, wait: bool, timeout: timedelta) -> None:
    """Write the annotation, then wait until the operator has acknowledged it in the status."""
    value = token(text.now())
    if action.revision:
        try:
            value = Request(action.revision, value, whoami(api)).render()
        except ValueError:
            raise PluginError(f"your user name is too long: a request may have {MAX_LENGTH} characters") from None
    steer(
        api,
        before.namespace,
        before.name,
        {"metadata": {"annotations": {action.verb.annotation: value}}},
        action.verb.name,
    )
    if not wait:
        text.print_line(
            f"{before.resource} annotated: {action.verb.key}" + (f" {action.revision}" if action.revision else "")
        )
        return
    last = before
    for last in changes(api, before.namespace, before.name, timeout):
        handled = last.status.handled
        if handled is not None and getattr(handled, action.verb.field) == value:
            text.print_line(f"{before.resource} {action.result(before, last)}")
            return
    raise PluginError(_unanswered(last, action.verb.key, timeout), exit_code=EXIT_TIMEOUT)


def _unanswered(each: View, verb: str, timeout: timedelta) -> str:
    """Why the operator has not acted: the rollout waits for something, or the operator does not run."""
    waiting = each.status.waiting
    if waiting is not None:
        why = f"{each.name} waits for {waiting.message}; the request is kept and acted on afterwards"
    else:
        why = f"is the operator running? kubectl modelsync doctor -n {each.namespace}"
    return f"{verb}: no answer within {duration.render(timeout)}: {why}"


def _state(each: View) -> str:
    """The state of the rollout, for a refusal."""
    status = each.status
    ready = each.condition(ConditionType.READY)
    if ready is not None and ready.reason == Reason.REGULATORY_HOLD:
        return ready.message
    if status.target is not None:
        return f"{status.target.revision} is being rolled out without steps ({status.target.reason})"
    if each.failure is not None:
        return f"{each.failure.revision} has failed ({each.failure.reason}), {each.stable or 'nothing'} serves"
    return f"{each.stable} serves and no rollout is in progress" if each.stable else "no rollout has started yet"


def _continued(before: View, after: View) -> str:
    return _promoted(before, after, _current_step)


def _skipped(before: View, after: View) -> str:
    return _promoted(
        before, after, lambda canary: f"the remaining steps of {canary.revision} are skipped, it is promoted next"
    )


def _promoted(before: View, after: View, describe: Callable[[CanaryStatus], str]) -> str:
    """The result of a promote; `describe` is applied to a canary that continues."""
    old, new = before.status.canary, after.status.canary
    assert old is not None  # noqa: S101  the command refuses earlier without a canary
    if after.stable == old.revision:
        return f"promoted: {old.revision} is the stable"
    if new is None or new.revision != old.revision:
        raise PluginError(f"promote was ignored: {old.revision} is no longer the canary; {_state(after)}")
    return f"continues: {describe(new)}"


def _current_step(canary: CanaryStatus) -> str:
    if canary.step >= len(canary.steps):
        return f"all steps of {canary.revision} are done, it is promoted next"
    return (
        f"{canary.revision} is at step {canary.step + 1} of {len(canary.steps)}, {step_text(canary.steps[canary.step])}"
    )


def _aborted(before: View, after: View) -> str:
    moving = before.moving
    assert moving is not None  # noqa: S101  the command refuses earlier without one
    failure = after.failed(moving)
    if failure is None or failure.reason != Reason.ABORTED:
        raise PluginError(f"abort was ignored: {_state(after)}")
    return f"aborted: {moving} loses its traffic, {after.stable or 'nothing'} serves"


def _retried(before: View, after: View) -> str:
    assert before.failure is not None  # noqa: S101  the command refuses earlier without a failure
    revision = before.failure.revision
    if after.failed(revision) is not None:
        raise PluginError(f"retry was ignored: {_state(after)}")
    return f"retried: {revision} is tried again"


def _refreshed(before: View, after: View) -> str:
    return "refreshed: the operator is querying the registry"
