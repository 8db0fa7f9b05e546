"""`python -m image`: builds the image, then prints its size and start time.

It never pushes; its owner decides where an image goes.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
BUILDERS = ("docker", "podman", "buildah")


class BuildError(click.ClickException):
    """A build failed; the message contains what to do."""


@click.command()
@click.option("--tag", default="modelsync:dev", show_default=True, help="Name of the image, with its tag.")
@click.option("--base", help="Base image with Python 3.11 or later. Default: that of the Dockerfile.")
@click.option("--build-base", help="Build image with the same Python, venv and pip. Default: the base.")
@click.option("--with", "builder", type=click.Choice(BUILDERS), help="Default: the first that works.")
@click.option("--network", help="Network of the build's commands, such as host.")
def main(tag: str, base: str | None, build_base: str | None, builder: str | None, network: str | None) -> None:
    """Build modelsync's image."""
    tool = builder or working_builder()
    run(build_command(tool, tag, base=base, build_base=build_base, network=network))
    size = image_size(tool, tag)
    click.echo(f"{tag}: {size / 2**20:.0f} MiB, starts in {start_seconds(tool, tag):.2f} s")


def working_builder() -> str:
    """The first of the builders that is installed and answers; raises BuildError."""
    tried = []
    for tool in BUILDERS:
        if shutil.which(tool) is None:
            tried.append(f"{tool} is not on PATH")
        elif subprocess.run([tool, "info"], capture_output=True, check=False).returncode:
            tried.append(f"{tool} is installed, but `{tool} info` fails (is its daemon running?)")
        else:
            return tool
    raise BuildError(f"{'; '.join(tried)}. Install one of them; `make cluster-up` builds its images without")


def build_command(
    tool: str, tag: str, *, base: str | None = None, build_base: str | None = None, network: str | None = None
) -> list[str]:
    """The command line that builds the Dockerfile."""
    command = [tool, "build", "--tag", tag, "--build-arg", f"VERSION={tag.rpartition(':')[2]}"]
    for name, value in (("BASE", base), ("BUILD_BASE", build_base)):
        if value:
            command += ["--build-arg", f"{name}={value}"]
    if network:
        command += ["--network", network]
    return [*command, "--file", str(ROOT / "Dockerfile"), str(ROOT)]


def image_size(tool: str, tag: str) -> int:
    """The unpacked size in bytes, as reported by the builder."""
    if tool == "buildah":
        (image,) = json.loads(output([tool, "images", "--json", tag]))
        size = image["size"]
        if isinstance(size, int):
            return size
        number, _, unit = str(size).partition(" ")
        return int(float(number) * {"KB": 10**3, "MB": 10**6, "GB": 10**9}[unit])
    return int(output([tool, "image", "inspect", "--format", "{{.Size}}", tag]))


def start_seconds(tool: str, tag: str) -> float:
    """Seconds for a fresh container, without privileges, to run `modelsync --version`.

    On a read-only root, except with buildah, which does not support it.
    """
    if tool == "buildah":
        container = output([tool, "from", tag]).strip()
        try:
            return timed([tool, "run", "--cap-drop", "all", container, "--", "modelsync", "--version"])
        finally:
            output([tool, "rm", container])
    return timed([tool, "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", tag, "--version"])


def timed(command: Sequence[str]) -> float:
    """Run a command; returns its duration in seconds."""
    started = time.monotonic()
    output(command)
    return time.monotonic() - started


def output(command: Sequence[str]) -> str:
    """Run a command; returns its output. Raises BuildError with its error."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise BuildError(f"`{' '.join(command)}` failed: {answer.stderr.strip()[-2000:]}")
    return answer.stdout


def run(command: Sequence[str]) -> None:
    """Run a command that shows its progress itself. Raises BuildError."""
    if subprocess.run(command, check=False).returncode:
        raise BuildError(f"`{' '.join(command)}` failed; see its output above")


if __name__ == "__main__":
    sys.exit(main(prog_name="python -m image"))
