"""`kubectl-modelsync completion`: the lines by which a shell completes after `kubectl-modelsync`.

After `kubectl modelsync` kubectl's own completion is at work, and asks `completion.py`.
"""

import click
from click.shell_completion import get_completion_class

from modelsync.kubectl import COMPLETE_VARIABLE, cli

PROGRAM = "kubectl-modelsync"

_EPILOG = """\b
To have it in each new shell:
  bash  echo 'source <(kubectl-modelsync completion bash)' >> ~/.bashrc
  zsh   echo 'source <(kubectl-modelsync completion zsh)' >> ~/.zshrc      (below compinit)
  fish  kubectl-modelsync completion fish > ~/.config/fish/completions/kubectl-modelsync.fish
"""


@click.command("completion", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what SHELL needs to complete commands, options and names after `kubectl-modelsync`.

    After `kubectl modelsync`, with a space, kubectl completes (1.26 and newer): see `kubectl completion --help`.
    """
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101  click knows all of the choices
    click.echo(made(cli, {}, PROGRAM, COMPLETE_VARIABLE).source())
