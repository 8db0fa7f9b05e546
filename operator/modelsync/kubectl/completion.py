"""`kubectl_complete-modelsync`: completes the command line after `kubectl modelsync`.

kubectl (1.26 and newer) runs a program of this name with the words typed so far, the last of them unfinished. It reads
one completion per line, then `:` and a cobra directive. The program must be fast, and must never print an error.
"""

import sys
from collections.abc import Sequence

import click
from click.shell_completion import ShellComplete

from modelsync.kubectl import PROGRAM, cli

NO_FILES = ":4"
"""cobra's ShellCompDirectiveNoFileComp: do not complete file names."""


def main() -> None:
    """Print the completions of the command line."""
    try:
        found = completions(sys.argv[1:])
    except Exception:
        found = []  # a traceback would appear in the middle of the line being typed
    for line in found:
        click.echo(line)
    click.echo(NO_FILES)


def completions(words: Sequence[str], obj: object = None) -> list[str]:
    """Completions of the last of `words`, each followed by a tab and its description. `obj` is the Cluster to query;
    None means the one that the command line selects."""
    *done, incomplete = words or [""]
    complete = ShellComplete(cli, {"obj": obj}, PROGRAM, "")
    items = complete.get_completions(done, incomplete)
    return [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in items if item.type == "plain"]
