"""What TAB completes, in the form that kubectl reads."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelsync.kubectl import completion
from unit.kubectl.conftest import Shell


def test_commands_are_completed_with_their_summaries(shell: Shell) -> None:
    found = completion.completions(["pro"], shell.cluster)
    assert found == ["promote\tEnd the canary's pause, or skip the remaining steps."]


def test_names_are_those_of_the_namespace(shell: Shell) -> None:
    assert completion.completions(["abort", ""], shell.cluster) == ["chat"]
    assert completion.completions(["abort", "x"], shell.cluster) == []
    shell.cluster.namespace = "other"
    assert completion.completions(["get", ""], shell.cluster) == []


def test_options_and_their_values_are_offered(shell: Shell) -> None:
    assert "--output" in [line.partition("\t")[0] for line in completion.completions(["get", "--o"], shell.cluster)]
    assert completion.completions(["get", "-o", "y"], shell.cluster) == ["yaml"]


def test_the_program_ends_with_the_directive_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kubectl_complete-modelsync", "hol"])
    completion.main()
    assert capsys.readouterr().out == "hold\tShow which holds are in force, why, and what they block.\n:4\n"
    monkeypatch.setattr(completion, "completions", None)
    completion.main()
    assert capsys.readouterr().out == ":4\n"


TYPED = {
    "bash": (
        "source <(kubectl-modelsync completion bash) && complete -p kubectl-modelsync >/dev/null && "
        "COMP_WORDS=(kubectl-modelsync pro) COMP_CWORD=1 && _kubectl_modelsync_completion kubectl-modelsync && "
        "echo ${COMPREPLY[@]}"
    ),
    "zsh": (
        "autoload -U compinit; compinit -u -D; source <(kubectl-modelsync completion zsh); "
        '[ -n "$_comps[kubectl-modelsync]" ] && words=(kubectl-modelsync pro) CURRENT=2; '
        "_describe() { echo ${(P)3}; }; compdef() { :; }; _kubectl_modelsync_completion"
    ),
    "fish": "kubectl-modelsync completion fish | source; complete -C 'kubectl-modelsync pro'",
}


@pytest.mark.parametrize("shell", TYPED)
def test_each_shell_accepts_its_script_and_completes(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:  # bash is wherever `make` runs; the others are optional
        pytest.skip(f"{shell} is not installed")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": path, "HOME": str(tmp_path)}
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    answer = subprocess.run([shell, *flags, "-c", TYPED[shell]], capture_output=True, text=True, env=environment)
    assert answer.stdout.startswith("promote"), answer
