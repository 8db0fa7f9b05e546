"""The command line: `python -m localcluster up`, `exec -- pytest`, `down`.

Every expected error is one message and exit code 1; Ctrl-C during `up` takes down what was started.
"""

import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from localcluster import Cluster, ClusterError, Progress
from localcluster.build import build as build_tools
from localcluster.build import gateway_api_manifests
from localcluster.contour import build_contour
from localcluster.existing import check_existing
from localcluster.foreign import NAME as EXISTING
from localcluster.images import modelsync_image, vllm_standin_image
from localcluster.kind import choose, demo_down, demo_is_there, demo_up, kind_down, kind_up
from localcluster.oci import write_archive
from localcluster.tools import CONTROL_PLANE, EVERYTHING, OTHERS, program

_name = click.option(
    "--name", default="default", show_default=True, help="Name of the cluster; several can run side by side."
)


class _Commands(click.Group):
    """Prints ClusterError as a message, and exits as a shell expects when interrupted."""

    def invoke(self, ctx: click.Context) -> object:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # keep signals that nohup ignores ignored, also in `exec`
                signal.signal(number, _interrupt)
        try:
            return super().invoke(ctx)
        except (ClusterError, OSError) as problem:  # OSError: a full disk or an unwritable folder
            raise click.ClickException(str(problem)) from problem
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A real Kubernetes cluster of one node on this machine, without Docker.

    It runs in its own network namespace, from binaries that are built once. Needs Linux and root.
    """


@main.command()
@click.option("--control-plane-only", is_flag=True, help="Only the programs for a cluster without a node.")
@click.option("--contour", is_flag=True, help="Also Contour, which the benchmarks use in addition to Traefik.")
def build(control_plane_only: bool, contour: bool) -> None:
    """Build or find the programs.

    A cold build takes about 12 minutes on 2 cores, once for each version.
    """
    progress = Progress()
    build_tools(CONTROL_PLANE if control_plane_only else EVERYTHING, progress)
    gateway_api_manifests(progress)
    if contour:
        build_contour(progress)
    progress.info("all programs are available")


@main.command()
@click.argument("name", type=click.Choice([tool.name for tool in OTHERS]))
def tool(name: str) -> None:
    """Build or find one of the programs that are not part of a cluster, such as helm, and print their paths."""
    wanted = next(tool for tool in OTHERS if tool.name == name)
    build_tools([wanted], Progress())
    for each in wanted.programs:
        click.echo(program(each))


@main.command()
@_name
@click.option("--control-plane-only", is_flag=True, help="No node: pods never run; tests simulate them.")
@click.option("--without-gateway-crds", is_flag=True, help="Skip the Gateway API and Traefik.")
@click.option("--existing", is_flag=True, help="Start nothing; report what the cluster of KUBECONFIG lacks.")
def up(name: str, control_plane_only: bool, without_gateway_crds: bool, existing: bool) -> None:
    """Bring a cluster up; whatever already runs is kept."""
    if existing:
        _report_existing()
        return
    cluster = Cluster(name)
    cluster.up(control_plane_only=control_plane_only, gateway_api=not without_gateway_crds, progress=Progress())
    click.echo(f"kubectl: python -m localcluster exec --name {name} -- kubectl get nodes", err=True)


def _report_existing() -> None:
    found = check_existing()
    for finding in found:
        click.echo(f"has      {finding.what}" if finding.fine else f"missing  {finding.what}: {finding.next_step}")
    if not all(finding.fine for finding in found):
        sys.exit(1)


@main.command()
@_name
def down(name: str) -> None:
    """Take a cluster down, also after a crash.

    Ends all its processes and removes everything else; running it twice is not an error.
    """
    Cluster(name).down(progress=Progress())


@main.command()
@_name
def status(name: str) -> None:
    """Show the state of a cluster's processes; exit code 1 if any is missing."""
    cluster = Cluster(name)
    found = cluster.status()
    for process, alive in sorted(found.processes.items()):
        click.echo(f"{process:<26}{'runs' if alive else f'has ended: see {cluster.logs / process}.log'}")
    if not found.processes:
        click.echo(f"cluster {name} is not up")
    sys.exit(0 if found.running else 1)


@main.command()
@_name
@click.option("--tag", default="dev", show_default=True, help="Tag of the operator's image.")
@click.option(
    "--archive",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an OCI archive instead, for another cluster or a registry.",
)
def images(name: str, tag: str, archive: Path | None) -> None:
    """Build our images and load them.

    Builds the operator's and the vLLM stand-in's from this checkout, and loads them onto the cluster's node.
    """
    progress = Progress()
    made = (modelsync_image(tag, progress=progress), vllm_standin_image(progress=progress))
    if archive is not None:
        with archive.open("wb") as output:
            write_archive(made, output)
    else:
        with progress.step(f"loading into cluster {name}"):
            Cluster(name).load_images(*made)
    for image in made:
        click.echo(f"{image.name} {image.digest}")


@main.command("exec", context_settings={"ignore_unknown_options": True})
@_name
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str, command: tuple[str, ...]) -> None:
    """Run COMMAND inside the cluster.

    In its network, with KUBECONFIG set and kubectl on PATH; returns the command's exit code.
    """
    cluster = Cluster(name)
    line, environment = cluster.command(command), cluster.environment()
    os.execvpe(line[0], line, environment)  # noqa: S606 - exec preserves signals and the exit code


@main.command("kind-up")
@click.option("--name", default="modelsync", show_default=True, help="Name of the kind cluster.")
def kind_up_command(name: str) -> None:
    """With Docker: create a kind cluster with the same gateway."""
    kind_up(name, Progress())


@main.command("kind-down")
@click.option("--name", default="modelsync", show_default=True, help="Name of the kind cluster.")
def kind_down_command(name: str) -> None:
    """Remove the kind cluster."""
    kind_down(name, Progress())


@main.command("demo-up")
@click.option("--cluster-kind", default="", help="`kind` or `own`; empty: kind where Docker works.")
def demo_up_command(cluster_kind: str) -> None:
    """Choose the demo's cluster; with kind make it, and print its environment for a shell to evaluate."""
    choice = choose(cluster_kind)
    click.echo(f"demo: {'a kind cluster' if choice.kind else 'a cluster without Docker'} ({choice.why})", err=True)
    if choice.kind:
        for name, value in demo_up(Progress()).items():
            click.echo(f"export {name}={shlex.quote(value)}")


@main.command("demo-down")
def demo_down_command() -> None:
    """Remove the demo's kind cluster and the servers beside it; none is no error."""
    if demo_is_there():
        Cluster(EXISTING).down(progress=Progress())
        demo_down(Progress())


if __name__ == "__main__":
    main(prog_name="python -m localcluster")
