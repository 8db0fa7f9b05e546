"""The errors of the commands, and the exit codes that scripts may rely on.

Every message is for the person who typed the command: what is wrong and what to do, in one sentence.
"""

import click

from modelsync.commands import printable

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NEEDS_ACTION = 3
EXIT_ON_HOLD = 4
EXIT_TIMEOUT = 5
EXIT_DEFECT = 70
EXIT_INTERRUPTED = 130


class PluginError(click.ClickException):
    """A command cannot do what was asked; printed as `error: …`, as kubectl does."""

    def __init__(self, message: str, *, exit_code: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads the instance attribute

    def show(self, file: object = None) -> None:
        """Print it on standard error."""
        click.echo(f"error: {printable(self.message)}", err=True)


class NotFoundError(PluginError):
    """The object does not exist."""


class KindMissingError(NotFoundError):
    """The cluster has no such kind."""


class ForbiddenError(PluginError):
    """RBAC or an admission policy refused the request."""


class DeniedError(ForbiddenError):
    """An admission policy refused the request; the message contains its reason."""


class UnavailableError(PluginError):
    """The API server gave no usable answer; a retry may help."""
