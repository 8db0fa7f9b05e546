"""Following ModelDeployments yields each change once, and survives any loss of the connection."""

import json
from itertools import islice

import pytest

from modelsync.kubectl.cluster import watching
from modelsync.kubectl.cluster.transport import Kubectl
from modelsync.kubectl.errors import KindMissingError, PluginError, UnavailableError
from unit.kubectl.scripted import Script, chat, event, listed

AWAY = "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?\n"
CUT = "error: unexpected EOF\n"
"""What kubectl prints when the API server goes away during a watch."""


def seen(api: Kubectl, count: int) -> list[str]:
    """The phase after each of the first `count` changes; `…` for an outage, however often it is reported."""
    phases: list[str] = []
    for update in api.follow("prod", "chat"):
        if isinstance(update, UnavailableError):
            phases += [] if phases[-1:] == ["…"] else ["…"]
        elif update is not None:
            phases.append(update[("prod", "chat")]["status"]["phase"] if update else "gone")
        if len(phases) == count:
            break
    return phases


def test_following_yields_each_change_once_across_watches(script: Script) -> None:
    script(
        ("watch=true", event("MODIFIED", chat(2, phase="B")) + event("MODIFIED", chat(3, phase="C")), "", 0),
        ("modeldeployments", listed(chat(1, phase="A")), "", 0),
        ("modeldeployments", listed(chat(3, phase="C"), version=3), "", 0),
        ("watch=true", event("DELETED", chat(4, phase="C")), "", 0),
    )
    assert seen(Kubectl(), 4) == ["A", "B", "C", "gone"]


def test_a_watch_with_a_too_old_version_restarts(script: Script) -> None:
    script(
        ("watch=true", event("ERROR", {"kind": "Status", "code": 410}), "", 0),
        ("modeldeployments", listed(chat(1, phase="A")), "", 0),
        ("modeldeployments", listed(chat(9, phase="B"), version=9), "", 0),
    )
    assert seen(Kubectl(), 2) == ["A", "B"]


def test_who_may_only_get_is_served_by_looking_again(script: Script) -> None:
    forbidden = 'Error from server (Forbidden): modeldeployments is forbidden: User "x" cannot list\n'
    script(
        ("fieldSelector", "", forbidden, 1),
        ("modeldeployments/chat", json.dumps(chat(1, phase="A")), "", 0),
        ("modeldeployments/chat", json.dumps(chat(2, phase="B")), "", 0),
    )
    assert seen(Kubectl(), 2) == ["A", "B"]


def test_who_may_list_and_not_watch_is_served_by_looking_again(script: Script) -> None:
    script(
        ("watch=true", "", 'Error from server (Forbidden): User "x" cannot watch\n', 1),
        ("fieldSelector", listed(chat(1, phase="A")), "", 0),
        ("modeldeployments/chat", json.dumps(chat(2, phase="B")), "", 0),
    )
    assert seen(Kubectl(), 2) == ["A", "B"]


def test_a_short_outage_is_waited_for_and_a_long_one_reported(script: Script) -> None:
    script(("fieldSelector", "", AWAY, 1), ("fieldSelector", listed(chat(1, phase="A")), "", 0))
    assert seen(Kubectl(), 1) == ["A"]
    script(*(("fieldSelector", "", AWAY, 1) for _ in range(watching.PATIENCE)))
    with pytest.raises(UnavailableError, match="was refused"):
        seen(Kubectl(), 1)


@pytest.mark.parametrize("stderr", [CUT, "error: http2: client connection lost\n", AWAY])
def test_a_broken_watch_continues(script: Script, stderr: str) -> None:
    script(
        ("watch=true", event("MODIFIED", chat(2, phase="B")), stderr, 1),
        ("fieldSelector", listed(chat(1, phase="A")), "", 0),
        ("fieldSelector", listed(chat(3, phase="C"), version=3), "", 0),
    )
    assert seen(Kubectl(), 3) == ["A", "B", "C"]


def test_a_truncated_event_does_not_end_the_watch(script: Script) -> None:
    script(
        ("watch=true", event("MODIFIED", chat(2, phase="B"))[:40], CUT, 1),
        ("fieldSelector", listed(chat(1, phase="A")), "", 0),
        ("fieldSelector", listed(chat(2, phase="B"), version=2), "", 0),
    )
    assert seen(Kubectl(), 2) == ["A", "B"]


def test_a_later_outage_is_waited_for_and_reported_to_the_follower(script: Script) -> None:
    script(
        ("watch=true", "", CUT, 1),
        ("fieldSelector", listed(chat(1, phase="A")), "", 0),
        *(("fieldSelector", "", AWAY, 1) for _ in range(watching.PATIENCE)),
        ("fieldSelector", "", CUT, 1),
        ("fieldSelector", listed(chat(2, phase="B"), version=2), "", 0),
    )
    assert seen(Kubectl(), 3) == ["A", "…", "B"]


def test_a_kind_that_is_taken_away_is_the_end(script: Script) -> None:
    gone = "Error from server (NotFound): the server could not find the requested resource\n"
    script(
        ("watch=true", "", CUT, 1),
        ("fieldSelector", listed(chat(1, phase="A")), "", 0),
        ("fieldSelector", "", gone, 1),
    )
    with pytest.raises(KindMissingError, match=r"has no modeldeployments.* modelsync is not"):
        seen(Kubectl(), 2)


def test_a_refusal_of_the_first_request_is_reported_at_once(script: Script) -> None:
    script(("fieldSelector", "", 'error: context "nope" does not exist\n', 1))
    with pytest.raises(PluginError, match="does not exist"):
        next(iter(islice(Kubectl().follow("prod", "chat"), 1)))


def test_one_that_is_deleted_is_gone_also_for_who_may_only_get(script: Script) -> None:
    forbidden = 'Error from server (Forbidden): modeldeployments is forbidden: User "x" cannot list\n'
    script(
        ("fieldSelector", "", forbidden, 1),
        ("modeldeployments/chat", json.dumps(chat(1, phase="A")), "", 0),
        ("modeldeployments/chat", "", 'Error from server (NotFound): modeldeployments "chat" not found\n', 1),
    )
    assert seen(Kubectl(), 2) == ["A", "gone"]
