"""How kubectl is called, and what its answers and errors are turned into; the errors are kubectl's own, recorded."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import pytest

from modelsync.api import names
from modelsync.kubectl import run, transport
from modelsync.kubectl.errors import (
    ForbiddenError,
    KindMissingError,
    NotThereError,
    PluginError,
    UnavailableError,
)
from modelsync.kubectl.transport import Kubectl, Path, model_deployments

PROGRAM = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
answers = json.loads((folder / "answers.json").read_text())
wanted = " ".join(sys.argv[1:])
for number, (part, out, err, code) in enumerate(answers):
    if part in wanted:
        del answers[number]
        (folder / "answers.json").write_text(json.dumps(answers))
        sys.stdout.write(out)
        sys.stderr.write(err)
        sys.exit(code)
sys.stderr.write("error: nothing left to answer to " + wanted)
sys.exit(1)
"""

Answer = tuple[str, str, str, int]
Script = Callable[..., FilePath]


@pytest.fixture
def script(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> Script:
    """A kubectl that gives these answers, each once, to the calls in which their first part occurs."""
    program = tmp_path / "kubectl"
    program.write_text(PROGRAM.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join((str(tmp_path), os.environ["PATH"])))
    monkeypatch.setattr(transport, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(transport, "POLL_SECONDS", 0.05)

    def write(*answers: Answer) -> FilePath:
        (tmp_path / "answers.json").write_text(json.dumps(answers))
        return tmp_path

    return write


def calls(folder: FilePath) -> list[str]:
    return [" ".join(json.loads(line)) for line in (folder / "calls").read_text().splitlines()]


def chat(version: int, **status: Any) -> dict[str, Any]:
    metadata = {"name": "chat", "namespace": "prod", "resourceVersion": str(version)}
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "status": status}


def listed(*items: dict[str, Any], version: int = 1) -> str:
    return json.dumps({"kind": "ModelDeploymentList", "metadata": {"resourceVersion": str(version)}, "items": items})


def event(kind: str, item: dict[str, Any]) -> str:
    return json.dumps({"type": kind, "object": item}) + "\n"


def phases(api: Kubectl, count: int) -> list[str]:
    """The phase after each of so many changes."""
    told = []
    for found in api.follow("prod", "chat"):
        if found is not None:
            told.append(found[("prod", "chat")]["status"]["phase"] if found else "gone")
        if len(told) == count:
            break
    return told


def test_the_users_flags_go_along_and_the_path_is_quoted(script: Script) -> None:
    folder = script(("get", "{}", "", 0))
    Kubectl(["--context=a", "--as=bob"]).get(Path("v1", "secrets", "prod", "a b"))
    (called,) = calls(folder)
    assert called.endswith("--context=a --as=bob get --raw=/api/v1/namespaces/prod/secrets/a%20b")


def test_a_patch_is_kubectls_with_a_field_manager_of_its_own(script: Script) -> None:
    folder = script(("patch", "{}", "", 0))
    Kubectl().patch("prod", "chat", {"spec": {"suspend": True}})
    (called,) = calls(folder)
    assert "patch modeldeployments.modelsync.dev chat --namespace=prod --type=merge" in called
    assert "--field-manager=kubectl-modelsync" in called


def test_the_namespace_is_the_contexts_or_default(script: Script) -> None:
    script(("config view", "prod", "", 0))
    assert Kubectl().namespace == "prod"
    script(("config view", "", "error: current-context must exist in order to minify\n", 1))
    assert Kubectl().namespace == "default"
    assert Kubectl(namespace="mine").namespace == "mine"


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (
            'Error from server (NotFound): modeldeployments.modelsync.dev "x" not found\n',
            NotThereError,
            'modeldeployments.modelsync.dev "x" not found',
        ),
        (
            "Error from server (NotFound): the server could not find the requested resource\n",
            KindMissingError,
            "the server could not find the requested resource",
        ),
        (
            'Error from server (Forbidden): secrets is forbidden: User "x" cannot list\n',
            ForbiddenError,
            'secrets is forbidden: User "x" cannot list',
        ),
        (
            "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?\n",
            UnavailableError,
            "The connection to the server 127.0.0.1:1 was refused",
        ),
        (
            'E1121 15:00:00.000000 7 memcache.go:265] "Unhandled" err="x"\nUnable to connect to the server: EOF\n',
            UnavailableError,
            "Unable to connect to the server: EOF",
        ),
        ("Error from server (ServiceUnavailable): overloaded\n", UnavailableError, "overloaded"),
        ('error: context "nope" does not exist\n', PluginError, 'context "nope" does not exist'),
        ("error: You must be logged in to the server (Unauthorized)\n", PluginError, "You must be logged in"),
    ],
)
def test_kubectls_errors_keep_their_words_and_get_a_kind(
    script: Script, said: str, error: type[PluginError], message: str
) -> None:
    script(("get", "", said, 1))
    with pytest.raises(PluginError) as raised:
        Kubectl().get(model_deployments("prod", "x"))
    assert type(raised.value) is error
    assert raised.value.message.startswith(message)


def test_without_kubectl_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: FilePath) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PluginError, match="kubectl is not on PATH"):
        Kubectl().get(model_deployments("prod", "x"))


def test_an_answer_of_a_proxy_is_told_as_such(script: Script) -> None:
    script(("get", "<html>", "", 0))
    with pytest.raises(UnavailableError, match="is there a proxy"):
        Kubectl().get(model_deployments("prod", "x"))


def test_following_tells_each_change_once_also_over_watches_that_end(script: Script) -> None:
    script(
        ("watch=true", event("MODIFIED", chat(2, phase="B")) + event("MODIFIED", chat(3, phase="C")), "", 0),
        ("modeldeployments", listed(chat(1, phase="A")), "", 0),
        ("modeldeployments", listed(chat(3, phase="C"), version=3), "", 0),
        ("watch=true", event("DELETED", chat(4, phase="C")), "", 0),
    )
    assert phases(Kubectl(), 4) == ["A", "B", "C", "gone"]


def test_a_watch_that_is_too_old_begins_again(script: Script) -> None:
    script(
        ("watch=true", event("ERROR", {"kind": "Status", "code": 410}), "", 0),
        ("modeldeployments", listed(chat(1, phase="A")), "", 0),
        ("modeldeployments", listed(chat(9, phase="B"), version=9), "", 0),
    )
    assert phases(Kubectl(), 2) == ["A", "B"]


def test_who_may_only_get_is_served_by_looking_again(script: Script) -> None:
    forbidden = 'Error from server (Forbidden): modeldeployments is forbidden: User "x" cannot list\n'
    script(
        ("fieldSelector", "", forbidden, 1),
        ("modeldeployments/chat", json.dumps(chat(1, phase="A")), "", 0),
        ("modeldeployments/chat", json.dumps(chat(2, phase="B")), "", 0),
    )
    assert phases(Kubectl(), 2) == ["A", "B"]


def test_who_may_list_and_not_watch_is_served_by_looking_again(script: Script) -> None:
    script(
        ("watch=true", "", 'Error from server (Forbidden): User "x" cannot watch\n', 1),
        ("fieldSelector", listed(chat(1, phase="A")), "", 0),
        ("modeldeployments/chat", json.dumps(chat(2, phase="B")), "", 0),
    )
    assert phases(Kubectl(), 2) == ["A", "B"]


def test_a_short_outage_is_waited_for_and_a_long_one_told(script: Script) -> None:
    away = "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?\n"
    script(("fieldSelector", "", away, 1), ("fieldSelector", listed(chat(1, phase="A")), "", 0))
    assert phases(Kubectl(), 1) == ["A"]
    script(*(("fieldSelector", "", away, 1) for _ in range(transport.PATIENCE)))
    with pytest.raises(UnavailableError, match="was refused"):
        phases(Kubectl(), 1)


def test_a_defect_shows_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(self: Kubectl, path: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Kubectl, "get", broken)
    assert run(["get", "chat", "-n", "prod"]) == 70
    said = capsys.readouterr().err
    assert said.startswith("error: a defect in modelsync: ZeroDivisionError at ")
    assert len(said.splitlines()) == 1


def test_an_interrupt_ends_without_a_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(self: Kubectl, path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Kubectl, "get", interrupted)
    assert run(["get", "chat", "-n", "prod"]) == 130
    assert capsys.readouterr().err == ""


def test_options_count_before_and_after_the_command_and_the_later_ones_win(script: Script) -> None:
    folder = script(("get", "{}", "", 0))
    arguments = ["-n", "a", "--context=one", "--as-group=x", "get", "chat", "-o", "json", "-n", "b", "--as=bob"]
    assert run(arguments) == 0
    (called,) = calls(folder)
    assert "--context=one --as=bob --as-group=x get --raw=" in called
    assert called.endswith("/namespaces/b/modeldeployments/chat")
