"""The commands: run the server; and for interactive use, move aliases, set tags, inject faults, watch the requests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import click

from wandb_standin.admin import DEFAULT_ADMIN_KEY, Admin, AdminError, LoggedRequest
from wandb_standin.automations import Automations
from wandb_standin.faults import Kind
from wandb_standin.server import Server
from wandb_standin.state import DEFAULT_API_KEY, DEFAULT_USER, Settings

DEFAULT_PORT = 8280
FOLLOW_SECONDS = 30.0


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--port-file", type=click.Path(path_type=Path), help="Write the port here once it listens.")
@click.option(
    "--blobs", type=click.Path(path_type=Path), help="Folder for the content of files; a temporary one if not given."
)
@click.option(
    "--api-key",
    envvar="WANDB_STANDIN_API_KEY",
    default=DEFAULT_API_KEY,
    show_default=True,
    help="Key of the first user.",
)
@click.option(
    "--admin-key",
    envvar="WANDB_STANDIN_ADMIN_KEY",
    default=DEFAULT_ADMIN_KEY,
    show_default=True,
    help="Key of the admin API.",
)
@click.option("--url-expiry", default=3600.0, show_default=True, help="Lifetime of presigned URLs in seconds.")
@click.option(
    "--registry-tag-events/--no-registry-tag-events",
    default=False,
    show_default=True,
    help="Whether tags of a version fire automations of the registries that link it.",
)
@click.pass_context
def main(
    context: click.Context,
    host: str,
    port: int,
    port_file: Path | None,
    blobs: Path | None,
    api_key: str,
    admin_key: str,
    url_expiry: float,
    registry_tag_events: bool,
) -> None:
    """A stand-in for a W&B server. Without a command, it serves until it is interrupted."""
    if context.invoked_subcommand is not None:
        return
    if len(api_key) < 40:
        raise click.BadParameter(f"has {len(api_key)} characters; W&B's keys have 40 or more", param_hint="--api-key")
    with tempfile.TemporaryDirectory(prefix="wandb-standin-") as temporary:
        settings = Settings(
            blobs=blobs or Path(temporary),
            host=host,
            port=port,
            api_key=api_key,
            admin_key=admin_key,
            url_expiry_seconds=url_expiry,
            automations=Automations(registry_tag_events=registry_tag_events),
        )
        try:
            asyncio.run(_serve(settings, port_file))
        except OSError as error:
            raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


@main.group()
@click.option(
    "--url",
    envvar="WANDB_STANDIN_URL",
    default=f"http://127.0.0.1:{DEFAULT_PORT}",
    show_default=True,
    help="Base URL of the server.",
)
@click.option("--admin-key", envvar="WANDB_STANDIN_ADMIN_KEY", default=DEFAULT_ADMIN_KEY, help="Key of the admin API.")
@click.pass_context
def ctl(context: click.Context, url: str, admin_key: str) -> None:
    """Control a running server. A PATH is entity/project/collection, with :alias or :vN for a version."""
    context.obj = Admin(url, admin_key)


@ctl.command("list")
@click.pass_obj
def list_collections(admin: Admin) -> None:
    """Show collections, versions, aliases and tags."""
    for collection in _call(admin.collections):
        click.echo(f"{collection['path']}{_tags(collection['tags'])}")
        for version in collection["versions"]:
            aliases = ", ".join(a for a in version["aliases"] if a != version["version"])
            click.echo(f"  {version['version']:<5} {version['digest'][:8]}  {aliases}{_tags(version['tags'])}")


@ctl.command()
@click.argument("path")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--alias", "aliases", multiple=True, help="Alias to set; may be repeated.")
@click.option("--tag", "tags", multiple=True, help="Tag to set; may be repeated.")
@click.option("--type", "kind", default="model", show_default=True, help="Artifact type.")
@click.option("--metadata", default="{}", help="Metadata as a JSON object.")
@click.pass_obj
def upload(
    admin: Admin, path: str, folder: Path, aliases: tuple[str, ...], tags: tuple[str, ...], kind: str, metadata: str
) -> None:
    """Log the files of FOLDER as a version of PATH."""
    entity, project, name = _split(path)
    facts = _json_object(metadata)
    made = _call(
        admin.log_artifact, entity, project, name, folder, type=kind, aliases=aliases, tags=tags, metadata=facts
    )
    click.echo(f"{made.path} {made.digest}")


@ctl.command()
@click.argument("source")
@click.argument("target")
@click.option("--alias", "aliases", multiple=True, help="Alias to set; may be repeated.")
@click.pass_obj
def link(admin: Admin, source: str, target: str, aliases: tuple[str, ...]) -> None:
    """Link version SOURCE to collection TARGET, e.g. acme/wandb-registry-model/chat."""
    click.echo(_call(admin.link, source, target, aliases=aliases).path)


@ctl.command()
@click.argument("path")
@click.argument("name")
@click.option("--remove", is_flag=True, help="Remove the alias from the collection.")
@click.pass_obj
def alias(admin: Admin, path: str, name: str, remove: bool) -> None:
    """Point alias NAME at version PATH."""
    if remove:
        _call(admin.remove_alias, path.partition(":")[0], name)
    else:
        _call(admin.set_alias, path, name)


@ctl.command()
@click.argument("path")
@click.argument("name")
@click.option("--remove", is_flag=True, help="Remove the tag.")
@click.pass_obj
def tag(admin: Admin, path: str, name: str, remove: bool) -> None:
    """Tag a version (PATH with a colon) or a whole collection (without)."""
    if ":" in path:
        _call(admin.remove_tag if remove else admin.add_tag, path, name)
    else:
        _call(admin.remove_collection_tag if remove else admin.add_collection_tag, path, name)


@ctl.command()
@click.argument("kind", type=click.Choice(get_args(Kind)))
@click.option("--operation", help="GraphQL operation's name, download, upload, file_stream; globs.")
@click.option("--ref", help="Version as clients write it, for error and manifest; globs.")
@click.option("--file", help="File name in the artifact, for downloads; globs.")
@click.option("--user", help="User whose key was sent; globs.")
@click.option("--status", type=int, help="HTTP status.")
@click.option("--message", help="Text of the error.")
@click.option("--delay", type=float, help="Seconds, for slow.")
@click.option("--offset", type=int, help="Bytes, for corrupt, truncate and resize.")
@click.option("--rate", type=int, help="Bytes per second, for throttle.")
@click.option("--limit", type=int, help="References, for refuse-batch.")
@click.option("--retry-after", type=float, help="Retry-After header, in seconds.")
@click.option("--reset", type=float, help="RateLimit-Reset header, in seconds.")
@click.option("--times", type=int, help="How many requests it affects.")
@click.option("--seconds", type=float, help="For how long.")
@click.pass_obj
def fault(admin: Admin, /, kind: str, **settings: Any) -> None:
    """Inject a fault; prints the id by which it can be lifted. README.md explains the kinds."""
    given = {name: value for name, value in settings.items() if value is not None}
    click.echo(_call(admin.add_fault, kind, **given))


@ctl.command()
@click.argument("how", type=click.Choice(["reset", "unavailable", "refused"]), default="reset")
@click.option("--seconds", type=float, help="For how long; until lifted if not given.")
@click.pass_obj
def down(admin: Admin, how: Any, seconds: float | None) -> None:
    """Take the server down."""
    click.echo(_call(admin.down, how, seconds) or f"down for {seconds:g} s")


@ctl.command()
@click.argument("fault_id", required=False)
@click.pass_obj
def lift(admin: Admin, fault_id: str | None) -> None:
    """Lift one fault, or all of them."""
    _call(admin.lift_fault, fault_id)


@ctl.command()
@click.pass_obj
def faults(admin: Admin) -> None:
    """Show the faults that are set."""
    for found in _call(admin.faults):
        shown = {k: v for k, v in found.items() if v not in (None, "", "*") and k not in ("id", "kind")}
        click.echo(f"{found['id']}  {found['kind']}  {json.dumps(shown)}")


@ctl.command()
@click.option("--follow", "-f", is_flag=True, help="Follow until interrupted.")
@click.pass_obj
def log(admin: Admin, follow: bool) -> None:
    """Show the requests of clients."""
    last = 0
    for request in _call(admin.requests):
        last = _show_request(request)
    while follow:
        try:
            for request in admin.wait_for_requests(1, since=last, seconds=FOLLOW_SECONDS):
                last = _show_request(request)
        except AdminError:
            _call(admin.last_request)


async def _serve(settings: Settings, port_file: Path | None) -> None:
    server = Server(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    try:
        if port_file is not None:
            _write_whole(port_file, f"{server.port}\n")
        click.echo(f"W&B stand-in at {server.url}; user {DEFAULT_USER}, WANDB_API_KEY={settings.api_key}")
        await stop.wait()
    finally:
        await server.stop()


def _write_whole(path: Path, text: str) -> None:
    """Write atomically, so that nobody reads half a port number."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)


def _call(method: Any, *arguments: Any, **settings: Any) -> Any:
    try:
        return method(*arguments, **settings)
    except AdminError as error:
        raise click.ClickException(str(error)) from error


def _split(path: str) -> tuple[str, str, str]:
    parts = path.split("/")
    if len(parts) != 3 or ":" in path:
        raise click.BadParameter(f"{path!r} is not entity/project/collection", param_hint="PATH")
    return parts[0], parts[1], parts[2]


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise click.BadParameter(f"{text!r} is not a JSON object", param_hint="--metadata")
    return value


def _tags(tags: list[str]) -> str:
    return f"  [{', '.join(tags)}]" if tags else ""


def _show_request(request: LoggedRequest) -> int:
    moment = time.strftime("%H:%M:%S", time.localtime(request.at))
    what = f"{request.operation} {', '.join(request.refs)}".strip()
    faults_ = f"  ({', '.join(request.faults)})" if request.faults else ""
    click.echo(f"{moment} {request.status} {request.user or '-':<8} {request.seconds * 1000:6.1f} ms  {what}{faults_}")
    return request.seq
