"""`kubectl_complete-modelsync`: what kubectl asks when somebody presses TAB after `kubectl modelsync`.

kubectl (1.26 and newer) starts a program of this name with the words so far, the last of them unfinished, and reads one
completion a line, then `:` and a directive of cobra's. It must be quick, and silent when it does not know.
"""

import sys
from collections.abc import Sequence

import click
from click.shell_completion import ShellComplete

from modelsync.kubectl import PROGRAM, cli

NO_FILES = ":4"
"""cobra's ShellCompDirectiveNoFileComp: do not offer the files of this folder."""


def main() -> None:
    """Answer for the words of the command line."""
    try:
        found = completions(sys.argv[1:])
    except Exception:
        found = []  # a traceback would land in the middle of what is being typed
    for line in found:
        click.echo(line)
    click.echo(NO_FILES)


def completions(words: Sequence[str], obj: object = None) -> list[str]:
    """What may stand where the last of `words` is, each with its description behind a tab; `obj` is the Cluster to ask,
    None for the user's own."""
    *done, incomplete = words or [""]
    complete = ShellComplete(cli, {"obj": obj}, PROGRAM, "")
    items = complete.get_completions(done, incomplete)
    return [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in items if item.type == "plain"]
