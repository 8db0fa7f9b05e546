"""What `get`, `history` and `hold` print: goldens of whole outputs, and the data for programs."""

import json

import pytest
import yaml

from unit.kubectl.conftest import Golden, Shell


def test_a_list_has_a_line_for_each(in_canary: Shell, golden: Golden) -> None:
    golden("get-list", in_canary("get"))
    golden("get-list-wide", in_canary("get -o wide -A"))


def test_a_tree_shows_what_moves_what_serves_and_what_is_waited_for(in_canary: Shell, golden: Golden) -> None:
    golden("get-tree-canary", in_canary("get chat"))


def test_a_tree_shows_a_hold_and_what_serves_instead(in_canary: Shell, golden: Golden) -> None:
    in_canary("promote --full chat")
    in_canary.world.run(minutes=5)
    in_canary.world.hold("v2")
    in_canary.world.run(seconds=2)
    golden("get-tree-hold", in_canary("get chat"))
    golden("hold", in_canary("hold chat"))
    golden("history", in_canary("history chat"))
    golden("history-wide", in_canary("history chat -o wide"))


def test_a_tree_shows_a_version_that_failed(in_canary: Shell, golden: Golden) -> None:
    in_canary("abort chat")
    golden("get-tree-failed", in_canary("get chat"))


def test_a_tree_shows_what_keeps_pods_from_serving(shell: Shell, golden: Golden) -> None:
    shell.world.move_alias("v1")
    shell.world.run(seconds=15)
    golden("get-tree-first", shell("get chat"))


def test_before_the_operator_has_said_anything_that_is_shown(shell: Shell, golden: Golden) -> None:
    golden("get-tree-new", shell("get chat"))
    assert "No history of chat yet." in shell("history chat")


def test_without_a_hold_it_is_told_what_one_would_do(in_canary: Shell, golden: Golden) -> None:
    golden("hold-none", in_canary("hold chat"))


def test_programs_get_the_object_as_it_is(in_canary: Shell) -> None:
    assert json.loads(in_canary("get chat -o json")) == in_canary.cluster.model_deployment()
    assert yaml.safe_load(in_canary("get chat -o yaml")) == in_canary.cluster.model_deployment()
    assert json.loads(in_canary("get -o json"))["items"] == [in_canary.cluster.model_deployment()]
    assert in_canary("get -o name") == "modeldeployment.modelsync.dev/chat\n"


def test_programs_get_history_and_holds_as_data(in_canary: Shell) -> None:
    in_canary("promote --full chat")
    in_canary.world.run(minutes=5)
    in_canary.world.hold("v2")
    in_canary.world.run(seconds=2)
    told = json.loads(in_canary("hold chat -o json"))
    assert told["held"]
    assert told["holds"][0]["name"] == "regulatory-hold"
    assert told["holds"][0]["revisions"] == ["v2-22222222"]
    entries = yaml.safe_load(in_canary("history chat -o yaml"))
    assert [entry["outcome"] for entry in entries] == ["Promoted", "Promoted"]


def test_a_namespace_without_any_says_so_on_standard_error(shell: Shell) -> None:
    shell.cluster.namespace = "other"
    assert shell("get") == "No ModelDeployments found in other namespace.\n"


def test_watching_through_a_pipe_tells_each_change(in_canary: Shell) -> None:
    in_canary.cluster.looks = 40
    in_canary.world.request(promote="v2-22222222")
    with pytest.raises(AssertionError, match="did not come to an end"):
        in_canary("get -w")


def test_what_does_not_go_together_is_refused(shell: Shell) -> None:
    assert "a name is of one namespace" in shell("get chat -A", code=2)
    assert "use `kubectl get -w`" in shell("get -w -o json", code=2)
    assert "no command 'list'; there are: abort, " in shell("list", code=2)


def test_a_status_that_is_too_new_to_read_says_what_to_do(in_canary: Shell) -> None:
    raw = in_canary.cluster.model_deployment()
    raw["status"]["phase"] = "Levitating"
    in_canary.cluster.model_deployment = lambda: raw  # type: ignore[method-assign]
    said = in_canary("get chat", code=1)
    assert "prod/chat: its status cannot be read (status.phase: 'Levitating' is refused" in said
    assert "a newer modelsync wrote it: upgrade this plugin" in said


def test_names_from_a_registry_do_not_steer_the_terminal(in_canary: Shell) -> None:
    raw = in_canary.cluster.model_deployment()
    raw["spec"]["modelRef"] = "acme/reg/\x1b[2Jchat:production"
    in_canary.cluster.model_deployment = lambda: raw  # type: ignore[method-assign]
    assert "\x1b" not in in_canary("get chat") + in_canary("get")
