"""How kubectl is called, and how its answers and errors are translated; the errors are recorded from kubectl."""

from pathlib import Path as FilePath

import pytest

from modelsync.kubectl import run
from modelsync.kubectl.cluster.objects import Path, model_deployments
from modelsync.kubectl.cluster.transport import Kubectl
from modelsync.kubectl.errors import (
    DeniedError,
    ForbiddenError,
    KindMissingError,
    NotFoundError,
    PluginError,
    UnavailableError,
)
from unit.kubectl.scripted import Script, calls


def test_the_users_flags_go_along_and_the_path_is_quoted(script: Script) -> None:
    folder = script(("get", "{}", "", 0))
    Kubectl(["--context=a", "--as=bob"]).get(Path("v1", "secrets", "prod", "a b"))
    (called,) = calls(folder)
    assert called.endswith("--context=a --as=bob get --raw=/api/v1/namespaces/prod/secrets/a%20b")


def test_a_patch_is_kubectls_with_its_own_field_manager(script: Script) -> None:
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
    ("stderr", "error", "message"),
    [
        (
            'Error from server (NotFound): modeldeployments.modelsync.dev "x" not found\n',
            NotFoundError,
            'modeldeployments.modelsync.dev "x" not found',
        ),
        (
            "Error from server (NotFound): the server could not find the requested resource\n",
            KindMissingError,
            "the cluster has no modeldeployments.modelsync.dev (the server could not find the requested resource)",
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
        (
            'Error from server (Forbidden): modeldeployments.modelsync.dev "chat" is forbidden: '
            "ValidatingAdmissionPolicy 'modelsync' with binding 'modelsync' denied request: bob may not take a canary "
            "back: the right to abort is missing\n",
            DeniedError,
            "bob may not take a canary back: the right to abort is missing (admission policy modelsync)",
        ),
        ('error: context "nope" does not exist\n', PluginError, 'context "nope" does not exist'),
        ("error: You must be logged in to the server (Unauthorized)\n", PluginError, "You must be logged in"),
    ],
)
def test_kubectls_errors_keep_their_words_and_get_a_kind(
    script: Script, stderr: str, error: type[PluginError], message: str
) -> None:
    script(("get", "", stderr, 1))
    with pytest.raises(PluginError) as raised:
        Kubectl().get(model_deployments("prod", "x"))
    assert type(raised.value) is error
    assert raised.value.message.startswith(message)


def test_a_missing_kubectl_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: FilePath) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PluginError, match="kubectl is not on PATH"):
        Kubectl().get(model_deployments("prod", "x"))


def test_an_answer_from_a_proxy_is_recognized(script: Script) -> None:
    script(("get", "<html>", "", 0))
    with pytest.raises(UnavailableError, match="is there a proxy"):
        Kubectl().get(model_deployments("prod", "x"))


def test_a_defect_shows_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(self: Kubectl, path: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Kubectl, "get", broken)
    assert run(["get", "chat", "-n", "prod"]) == 70
    printed = capsys.readouterr().err
    assert printed.startswith("error: a defect in modelsync: ZeroDivisionError at ")
    assert len(printed.splitlines()) == 1


def test_an_interrupt_prints_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
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
