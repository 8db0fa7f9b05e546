"""`python -m realvllm install` installs what `make e2e-vllm` needs; `model` and `adapter` write folders to try out."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from localcluster import ClusterError, Progress
from realvllm import VERSION, model
from realvllm.image import image
from realvllm.packages import packages


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Real vLLM on the CPU, for tests on one machine."""


@main.command()
def install() -> None:
    """Install vLLM and build its image: 5 GB in the cache, once for each version."""
    progress = Progress()
    try:
        folder, made = packages(progress), image(progress)
    except (ClusterError, OSError) as problem:
        raise click.ClickException(str(problem)) from problem
    click.echo(f"vLLM {VERSION} in {folder}\n{made.name} {made.digest}")


@main.command("model")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("word")
def make_model(folder: Path, word: str) -> None:
    """Write a model that repeats WORD."""
    _write(lambda: model.make_model(folder, word))


@main.command("adapter")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("sign")
def make_adapter(folder: Path, sign: str) -> None:
    """Write a LoRA adapter that makes any such model repeat SIGN."""
    _write(lambda: model.make_adapter(folder, sign))


def _write(make: Callable[[], object]) -> None:
    try:
        make()
    except ValueError as problem:
        raise click.ClickException(str(problem)) from problem


if __name__ == "__main__":
    sys.exit(main(prog_name="python -m realvllm"))
