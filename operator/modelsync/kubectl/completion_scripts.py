"""`kubectl-modelsync completion`: prints the shell completion script for `kubectl-modelsync`.

After `kubectl modelsync`, kubectl completes and calls `completion.py`.
"""

import click
from click.shell_completion import get_completion_class

from modelsync.kubectl import COMPLETE_VARIABLE, cli

PROGRAM = "kubectl-modelsync"

_EPILOG = """\b
To enable it in every new shell:
  bash  echo 'source <(kubectl-modelsync completion bash)' >> ~/.bashrc
  zsh   echo 'source <(kubectl-modelsync completion zsh)' >> ~/.zshrc      (below compinit)
  fish  kubectl-modelsync completion fish > ~/.config/fish/completions/kubectl-modelsync.fish
"""


@click.command("completion", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script by which SHELL completes commands, options and names after `kubectl-modelsync`.

    For `kubectl modelsync` (with a space), set up kubectl's own completion (1.26 or newer): see `kubectl completion
    --help`.
    """
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  click supports all of the choices
    click.echo(found(cli, {}, PROGRAM, COMPLETE_VARIABLE).source())
