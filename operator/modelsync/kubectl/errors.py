"""What a command can end with, and the exit codes that scripts may rely on.

Every message is for the person who typed the command: one sentence of what is wrong, and what to do.
"""

import click

from modelsync.commands import printable

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NEEDS_A_PERSON = 3
EXIT_ON_HOLD = 4
EXIT_TIMEOUT = 5
EXIT_DEFECT = 70
EXIT_INTERRUPTED = 130


class PluginError(click.ClickException):
    """A command cannot do what it was asked; printed as `error: …`, as kubectl does."""

    def __init__(self, message: str, *, exit_code: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click looks at the instance

    def show(self, file: object = None) -> None:
        """Print it on standard error."""
        click.echo(f"error: {printable(self.message)}", err=True)


class NotThereError(PluginError):
    """The object does not exist."""


class KindMissingError(NotThereError):
    """The cluster does not know its kind."""


class ForbiddenError(PluginError):
    """RBAC or an admission policy says no."""


class DeniedError(ForbiddenError):
    """An admission policy says no, and why."""


class UnavailableError(PluginError):
    """The API server gave no usable answer; asking again may help."""
