"""What `get`, `history` and `hold` print: golden files of whole outputs, and JSON and YAML."""

import io
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from modelsync.kubectl.errors import PluginError
from modelsync.kubectl.view import text
from modelsync.kubectl.view.deployment import view
from modelsync.kubectl.view.listing import listed
from modelsync.kubectl.view.tree import picture
from unit.kubectl.conftest import Golden, Shell


def test_a_list_has_a_line_for_each(in_canary: Shell, golden: Golden) -> None:
    golden("get-list", in_canary("get"))
    golden("get-list-wide", in_canary("get -o wide -A"))


def test_a_tree_shows_the_canary_the_stable_and_the_wait(in_canary: Shell, golden: Golden) -> None:
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


def test_a_new_object_without_a_status_is_shown(shell: Shell, golden: Golden) -> None:
    golden("get-tree-new", shell("get chat"))
    assert "No history of chat yet." in shell("history chat")


def test_without_a_hold_its_hypothetical_effect_is_shown(in_canary: Shell, golden: Golden) -> None:
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
    data = json.loads(in_canary("hold chat -o json"))
    assert data["held"]
    assert data["holds"][0]["name"] == "regulatory-hold"
    assert data["holds"][0]["revisions"] == ["v2-22222222"]
    entries = yaml.safe_load(in_canary("history chat -o yaml"))
    assert [entry["outcome"] for entry in entries] == ["Promoted", "Promoted"]


def test_an_empty_namespace_is_reported_on_standard_error(shell: Shell) -> None:
    shell.cluster.namespace = "other"
    assert shell("get") == "No ModelDeployments found in other namespace.\n"


def test_watching_through_a_pipe_prints_each_change_once_below_one_header(in_canary: Shell) -> None:
    in_canary("promote --full chat")
    output = watched(in_canary, "get -w")
    lines = output.splitlines()
    assert [line.split()[0] for line in lines].count("NAME") == 1
    assert "Promoting" in output
    assert lines[-1].split()[1:3] == ["True", "Healthy"]
    ages = [line.split()[-1] for line in lines]
    without_age = [line.removesuffix(age).rstrip() for line, age in zip(lines, ages, strict=True)]
    assert len(set(without_age)) == len(without_age), "a line must not differ in its age alone"
    trees = watched(in_canary, "get chat -w")
    assert trees.startswith("chat  namespace prod")


def test_the_columns_of_a_watch_are_aligned(in_canary: Shell) -> None:
    in_canary.cluster.step = in_canary.cluster.step * 5
    in_canary("promote --full chat --wait=false")
    lines = watched(in_canary, "get -w").splitlines()
    assert len({line.index(word) for line in lines for word in line.split() if word in ("STABLE", "v1-11111111")}) == 1


def test_a_deletion_during_a_watch_is_reported(in_canary: Shell) -> None:
    in_canary.cluster.deleted_after = 2
    assert watched(in_canary, "get -w").splitlines()[-1] == "modeldeployment.modelsync.dev/chat deleted"
    output = in_canary("get chat -w", code=1)
    assert output.splitlines()[-1] == 'error: modeldeployments.modelsync.dev "chat" was deleted'
    assert 'error: modeldeployments.modelsync.dev "chat" was deleted' in in_canary("status chat", code=1)


def test_an_outage_of_the_api_server_is_reported_once_and_waited_for(in_canary: Shell) -> None:
    in_canary.cluster.away = range(2, 9)
    in_canary("promote --full chat --wait=false")
    line = "the API server does not answer, still trying: unexpected EOF\n"
    assert in_canary("status chat").count(line) == 1
    assert watched(in_canary, "get -w").count(line) == 1


def test_one_that_is_being_deleted_looks_like_it(in_canary: Shell) -> None:
    raw = in_canary.cluster.model_deployment()
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:10:00Z"
    in_canary.cluster.instead = raw
    assert "Terminating" in in_canary("get")
    assert in_canary("get chat").startswith("chat  namespace prod  Terminating\n")


def test_wide_is_a_list_also_of_those_that_are_named(in_canary: Shell) -> None:
    assert in_canary("get chat -o wide") == in_canary("get -o wide")


def watched(shell: Shell, command: str) -> str:
    """The output of a command that runs until it is interrupted."""
    follow = shell.cluster.follow

    def interrupted(namespace: str | None, name: str | None) -> Iterator[Any]:
        yield from itertools.islice(follow(namespace, name), 60)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shell.cluster, "follow", interrupted)
        return shell(command, code=130)


def test_conflicting_options_are_refused(shell: Shell) -> None:
    assert "--all-namespaces cannot be combined with a name" in shell("get chat -A", code=2)
    assert "use `kubectl get -w`" in shell("get -w -o json", code=2)
    assert "no command 'list'; use get" in shell("list", code=2)
    assert "no command 'undo'; move the alias back" in shell("undo chat", code=2)
    assert "no command 'promot'; did you mean promote? commands: abort, " in shell("promot chat", code=2)
    assert "no command 'x'; commands: abort, " in shell("x", code=2)


def test_an_unreadable_newer_status_is_reported_with_a_fix(in_canary: Shell) -> None:
    raw = in_canary.cluster.model_deployment()
    raw["status"]["phase"] = "Levitating"
    in_canary.cluster.instead = raw
    output = in_canary("get chat", code=1)
    assert "prod/chat: its status cannot be read (status.phase: 'Levitating' is not valid" in output
    assert "a newer modelsync wrote it: upgrade this plugin" in output


def test_one_that_is_too_new_to_read_does_not_hide_the_others(in_canary: Shell) -> None:
    sound, raw = in_canary.cluster.model_deployment(), in_canary.cluster.model_deployment()
    raw["status"]["phase"] = "Levitating"
    in_canary.cluster.instead, in_canary.cluster.beside = raw, [sound]
    warning, header, line = in_canary("get").splitlines()
    assert warning.startswith("warning: prod/chat: its status cannot be read (status.phase: 'Levitating'")
    assert (header.split()[0], line.split()[:3]) == ("NAME", ["chat", "Unknown", "Paused"])


def test_names_from_a_registry_do_not_steer_the_terminal(in_canary: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2Jchat\rx"
    raw = in_canary.cluster.model_deployment()
    raw["spec"]["modelRef"] = f"acme/reg/{evil}:production"
    for condition in raw["status"]["conditions"]:
        condition["message"] = evil
    shown = view(raw)
    # Not through `click.echo`, which strips some of it when there is no terminal.
    outputs = [
        text.plain(picture(shown, in_canary.world.now)),
        text.plain(listed([shown], in_canary.world.now, wide=True)),
    ]
    PluginError(evil).show()
    outputs.append(capsys.readouterr().err)
    for output in outputs:
        assert "\x1b" not in output
        assert "\r" not in output
        assert "�[2Jchat�x" in output


def test_characters_missing_in_the_encoding_are_replaced(
    in_canary: Shell, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="ascii"))
    text.show(picture(view(in_canary.cluster.model_deployment()), in_canary.world.now))
    sys.stdout.flush()
    shown = capfdbinary.readouterr().out.decode("ascii")
    assert "> pause until promoted  o setWeight 50" in shown
    assert "`- chat-v2-22222222-3" in shown


def test_a_tree_ends_with_the_next_command(in_canary: Shell) -> None:
    failing = in_canary.cluster.model_deployment()
    for pod in failing["status"]["pods"]:
        pod["state"] = "Failing"
    in_canary.cluster.instead = failing
    name = failing["status"]["pods"][0]["name"]
    assert f"Next     kubectl describe pod {name} -n prod\n" in in_canary("get chat")
    failing["status"]["pods"][0]["restarts"] = 2
    assert f"Next     kubectl logs {name} -n prod --previous\n" in in_canary("get chat")
    for condition in failing["status"]["conditions"]:
        if condition["type"] == "ModelResolved":
            condition |= {"status": "Unknown", "reason": "Denied"}
    assert "\n          kubectl modelsync doctor chat -n prod\n" in in_canary("get chat")


def test_marks_that_are_not_known_are_shown_by_the_tree_and_the_doctor(in_canary: Shell) -> None:
    assert "Marks" not in in_canary("get chat")
    blind = in_canary.cluster.model_deployment()
    (known,) = (each for each in blind["status"]["conditions"] if each["type"] == "HoldsKnown")
    known |= {"status": "False", "reason": "Stale", "message": "the hold marks of v1 have not been read"}
    in_canary.cluster.instead = blind
    shown = in_canary("get chat")
    assert "Marks    Stale: the hold marks of v1 have not been read\n" in shown
    assert "kubectl modelsync doctor chat -n prod\n" in shown
    told = in_canary("doctor chat", code=3)
    assert "chat: hold marks" in told
    assert "the hold marks of v1 have not been read" in told
    assert "ModelsyncHoldsStale" in told


def test_an_unknown_name_is_answered_with_suggestions(shell: Shell) -> None:
    problem = 'error: modeldeployments.modelsync.dev "chatt" not found in namespace prod'
    assert shell("get chatt", code=1) == f"{problem}; did you mean chat?\n"
    assert shell("get chatt -w", code=1) == f"{problem}; did you mean chat?\n"
    assert shell("doctor chatt", code=1).endswith("; did you mean chat?\n")
    assert "not found in namespace prod; found there: chat\n" in shell("get search", code=1)
    shell.cluster.namespace = "dev"
    assert "not found in namespace dev; it exists in prod: add -n prod\n" in shell("hold chat", code=1)
    shell.cluster.refused.add("modeldeployments")
    assert "list all namespaces with `kubectl modelsync get -A`" in shell("hold chat", code=1)


def test_a_missing_right_is_reported_with_the_command_that_grants_it(shell: Shell) -> None:
    shell.cluster.refused.add("modeldeployments")
    output = shell("get", code=1)
    assert "cannot list resource; an administrator of namespace prod can grant the right to list with: " in output
    assert "--clusterrole=modelsync-viewer --namespace=prod --user=alice@example.com\n" in output
    assert "kubectl create clusterrolebinding NAME --clusterrole=modelsync-viewer --user=" in shell("get -A", code=1)
