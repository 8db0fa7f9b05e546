"""`kubectl modelsync`: see and steer ModelDeployments, with the user's own kubectl and the user's own rights.

Everything shown is read from the cluster; every request is an annotation or a field that the operator reads. Nothing
here decides, nothing needs the operator's rights, and nothing is written but what was asked for.
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
"""For the completion of `kubectl-modelsync` itself, as click has it: bash_source, zsh_source or fish_source."""

_TABLE = (
    ("abort", "commands.requests:abort", "Take the canary back."),
    ("completion", "completion_scripts:command", "Print what a shell needs to complete `kubectl-modelsync`."),
    ("diff", "commands.diff:command", "Say what a canary, or the next version, changes."),
    ("doctor", "doctor.command:command", "Find out what keeps modelsync from working, and what to do."),
    ("get", "commands.get:command", "Show ModelDeployments: revisions, pods, weights, what they wait for."),
    ("history", "commands.history:command", "List what served and what was tried."),
    ("hold", "commands.hold:command", "Say which holds are in force, why, and what they do."),
    ("pause", "commands.suspend:pause", "Stop forward moves: spec.suspend."),
    ("promote", "commands.requests:promote", "End the pause of a canary, or skip the steps that are left."),
    ("refresh", "commands.requests:refresh", "Let the operator ask the registry now."),
    ("resume", "commands.suspend:resume", "Let forward moves go on."),
    ("retry", "commands.requests:retry", "Try a version again that has failed."),
    ("status", "commands.status:command", "Wait until what is asked for serves."),
    ("trace", "commands.trace:command", "Say what an answer of a model was made of."),
)
"""Name, where it is, and what it does: told from here, so that neither --help nor TAB imports them all."""

ELSEWHERE = {
    "approve": "promote ends the pause that a canary waits in",
    "describe": "get NAME shows all that is known of one",
    "list": "get lists them",
    "logs": "get NAME names the pods, for kubectl logs",
    "reconcile": "refresh makes the operator ask the registry now",
    "rollback": "move the alias back: the version before serves again, without steps",
    "suspend": "pause stops forward moves",
    "undo": "move the alias back: the version before serves again, without steps",
    "watch": "get NAME --watch shows what changes",
}
"""What other tools call what is done in another way here."""

COMMANDS = {name: f"modelsync.kubectl.{where}" for name, where, _ in _TABLE}
SHORT_HELP = {name: does for name, _, does in _TABLE}

_EPILOG = """\b
Exit codes:
  0    done, or as asked
  1    the cluster, or the state of things, says no: the message says why
  2    what was typed cannot be meant
  3    a version has failed, or a person is needed (status); something is not as it must be (doctor)
  4    a hold is in force on what serves or is asked for (status)
  5    it did not come in time (--timeout)
  70   a defect in modelsync
  130  ^C was pressed
"""


class _Commands(LazyGroup):
    """The plugin's commands; each is imported on use, since completion must be quick."""

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
        """The commands, and the options that may stand before one."""
        commands = [CompletionItem(name, help=SHORT_HELP[name]) for name in sorted(SHORT_HELP)]
        offered = [each for each in commands if each.value.startswith(incomplete)]
        return offered + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the commands that there are where none is meant."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise click.UsageError(f"no command {args[0]!r}; " + _meant(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """End as kubectl does when somebody presses ^C: at once, without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)


def _meant(word: str) -> str:
    if word in ELSEWHERE:
        return ELSEWHERE[word]
    near = difflib.get_close_matches(word, COMMANDS, n=2)
    there = f"there are: {', '.join(sorted(COMMANDS))}"
    return f"did you mean {' or '.join(near)}? {there}" if near else there


@click.group(cls=_Commands, modules=COMMANDS, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="modelsync", prog_name=PROGRAM)
@connection_options
def cli() -> None:
    """See and steer the model versions that modelsync serves."""


def main() -> None:
    """Run the command of this process; never shows a traceback."""
    # Or pydantic looks for plugins in every package that is installed beside us, which may be hundreds.
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
        # Whoever read us has enough; what Python would still flush has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        click.echo(f"error: {defect(error)}; please report it", err=True)
        return EXIT_DEFECT
    return 0
