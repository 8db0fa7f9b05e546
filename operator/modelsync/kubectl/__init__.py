"""`kubectl modelsync`: inspect and control ModelDeployments with the user's own kubectl and permissions.

Everything shown is read from the cluster; every request is an annotation or a field that the operator reads. The
plugin makes no decisions, never needs the operator's permissions, and writes only what the user asked for.
"""

import difflib
import os
import sys

import click
from click.shell_completion import CompletionItem

from modelsync.commands import LazyGroup, defect
from modelsync.kubectl.errors import EXIT_DEFECT, EXIT_INTERRUPTED
from modelsync.kubectl.options import connection_options

PROGRAM = "kubectl modelsync"
COMPLETE_VARIABLE = "_KUBECTL_MODELSYNC_COMPLETE"
"""Environment variable by which click completes `kubectl-modelsync` itself: bash_source, zsh_source or fish_source."""

_TABLE = (
    ("abort", "commands.requests:abort", "Abort the canary."),
    ("completion", "completion_scripts:command", "Print the shell completion script for `kubectl-modelsync`."),
    ("diff", "commands.diff:command", "Show what a canary, or the next version, changes."),
    ("doctor", "doctor.command:command", "Find what keeps modelsync from working, and how to fix it."),
    ("get", "commands.get:command", "Show ModelDeployments: revisions, pods, weights, what they wait for."),
    ("history", "commands.history:command", "List past rollouts and their outcomes."),
    ("hold", "commands.hold:command", "Show which holds are in force, why, and what they block."),
    ("pause", "commands.suspend:pause", "Suspend forward moves (sets spec.suspend)."),
    ("promote", "commands.requests:promote", "End the canary's pause, or skip the remaining steps."),
    ("refresh", "commands.requests:refresh", "Make the operator query the registry now."),
    ("resume", "commands.suspend:resume", "Resume forward moves."),
    ("retry", "commands.requests:retry", "Retry a failed version."),
    ("status", "commands.status:command", "Wait for the rollout to finish."),
    ("trace", "commands.trace:command", "Show which model, adapters and image produced an answer."),
)
"""Name, module and summary of each command, listed here so that neither --help nor TAB imports the modules."""

ELSEWHERE = {
    "approve": "use promote to end the canary's pause",
    "describe": "use get NAME",
    "list": "use get",
    "logs": "get NAME lists the pods; use kubectl logs",
    "reconcile": "use refresh to make the operator query the registry now",
    "rollback": "move the alias back: the previous version serves again, without steps",
    "suspend": "use pause",
    "undo": "move the alias back: the previous version serves again, without steps",
    "watch": "use get NAME --watch",
}
"""Commands of other tools, and what to use here instead."""

COMMANDS = {name: f"modelsync.kubectl.{where}" for name, where, _ in _TABLE}
SHORT_HELP = {name: does for name, _, does in _TABLE}

_EPILOG = """\b
Exit codes:
  0    success
  1    the cluster refused, or the request does not apply now; the message says why
  2    usage error
  3    a version failed, or needs a decision (status); a check failed (doctor)
  4    a hold is in force on the version that serves or is wanted (status)
  5    timed out (--timeout)
  70   defect in modelsync
  130  interrupted (^C)
"""


class _Commands(LazyGroup):
    """The plugin's commands. Each is imported when it is used, because completion must be fast."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name`."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            command.short_help = SHORT_HELP[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(SHORT_HELP.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands and the options that may precede them."""
        commands = [CompletionItem(name, help=SHORT_HELP[name]) for name in sorted(SHORT_HELP)]
        offered = [each for each in commands if each.value.startswith(incomplete)]
        return offered + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest commands when the one given does not exist."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise click.UsageError(f"no command {args[0]!r}; " + _suggestion(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Exit silently on ^C, as kubectl does."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)


def _suggestion(word: str) -> str:
    if word in ELSEWHERE:
        return ELSEWHERE[word]
    near = difflib.get_close_matches(word, COMMANDS, n=2)
    available = f"commands: {', '.join(sorted(COMMANDS))}"
    return f"did you mean {' or '.join(near)}? {available}" if near else available


@click.group(cls=_Commands, modules=COMMANDS, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="modelsync", prog_name=PROGRAM)
@connection_options
def cli() -> None:
    """Inspect and control the model versions that modelsync serves."""


def main() -> None:
    """Run the command line of this process; never shows a traceback."""
    # Otherwise pydantic looks for plugins in every installed package, and there may be hundreds.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    program = "kubectl-modelsync" if COMPLETE_VARIABLE in os.environ else PROGRAM
    try:
        cli.main(arguments, prog_name=program, complete_var=COMPLETE_VARIABLE)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BrokenPipeError:
        # The reader closed the pipe; redirect what Python would still flush, or it raises again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        click.echo(f"error: {defect(error)}; please report it", err=True)
        return EXIT_DEFECT
    return 0
