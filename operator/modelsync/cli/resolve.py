"""`modelsync resolve`: shows which version a reference names now, and its holds."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelsync.api.hold import WORDING, HoldMark
from modelsync.api.model_ref import InvalidReferenceError, ModelRef
from modelsync.api.settings import HoldSettings
from modelsync.commands import defect, printable
from modelsync.puller.display import size
from modelsync.registry.credential import Credential, InvalidCredentialError
from modelsync.registry.graphql import GraphQL, InvalidBaseURLError, InvalidCABundleError, parse_base_url, tls
from modelsync.registry.holds import HoldRead, hold_reads
from modelsync.registry.model import (
    Denied,
    Failure,
    HoldNames,
    Missing,
    Question,
    Resolved,
    Throttled,
    Unreachable,
)
from modelsync.registry.resolver import Resolver
from modelsync.registry.store import answers_of

EXIT_CODES: dict[type[Failure], int] = {Missing: 1, Denied: 3, Throttled: 4, Unreachable: 4}
EXIT_DEFECT = 70

_EPILOG = """\b
Environment:
  WANDB_API_KEY    the W&B API key; it cannot be passed on the command line
  WANDB_BASE_URL   the W&B server, such as https://api.wandb.ai; there is no default
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE   as usual

\b
Exit codes:
  0    resolved; also for a held version, see the output
  1    there is no such project, collection, alias or version, or this key cannot see it
  2    invalid arguments
  3    the key is wrong, or has no access
  4    the server cannot be reached, gives no usable answer, or asks to wait
  70   a defect in modelsync
"""


@click.command("resolve", epilog=_EPILOG, short_help="Show which version a reference names now, and its holds.")
@click.argument("reference", metavar="REF")
@click.option("--base-url", envvar="WANDB_BASE_URL", default="", metavar="URL", help="The W&B server. [WANDB_BASE_URL]")
@click.option(
    "--ca-file",
    envvar="REQUESTS_CA_BUNDLE",
    type=click.Path(path_type=Path),
    help="Additional CA certificates to trust, PEM. [REQUESTS_CA_BUNDLE]",
)
@click.option(
    "--hold-tag",
    "hold_tags",
    multiple=True,
    metavar="TAG",
    default=HoldSettings().tags,
    show_default=True,
    help="A tag, on the version or its collection, that means a hold; may be repeated.",
)
@click.option(
    "--hold-alias",
    "hold_aliases",
    multiple=True,
    metavar="PATTERN",
    default=HoldSettings().aliases,
    show_default=True,
    help="A pattern (* and ?) for aliases that mean a hold; may be repeated.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="What to print.")
def command(
    reference: str,
    base_url: str,
    ca_file: Path | None,
    hold_tags: tuple[str, ...],
    hold_aliases: tuple[str, ...],
    output: str,
) -> None:
    """Show which version REF names now, and its holds, as the operator would see them.

    REF is entity/project/collection:alias, such as 'acme/wandb-registry-model/chat llm:production'.
    """
    try:
        ref = ModelRef.parse(reference)
        api = _api(base_url, ca_file)
    except (InvalidReferenceError, InvalidBaseURLError, InvalidCredentialError, InvalidCABundleError) as error:
        raise click.UsageError(str(error)) from None
    question = Question(refs=frozenset({ref}), hold=_hold_names(hold_tags, hold_aliases))
    try:
        answer, holds = asyncio.run(_ask(api, ref, question))
    except Exception as error:
        click.echo(f"error: {defect(error)}; please report it", err=True)
        sys.exit(EXIT_DEFECT)
    if isinstance(answer, Resolved):
        if output == "json":
            click.echo(json.dumps(document(answer, holds), indent=2))
        else:
            _show(answer, holds)
        return
    if output == "json":
        click.echo(json.dumps(_failure_document(ref, answer), indent=2))
    click.echo(f"error: {answer.message}", err=True)
    sys.exit(EXIT_CODES[type(answer)])


def document(answer: Resolved, holds: HoldRead | None) -> dict[str, Any]:
    """The output of `-o json` for a version. `held` is null when the holds could not be read to the end."""
    return {
        "outcome": "Resolved",
        "ref": str(answer.ref),
        "entity": answer.entity,
        "project": answer.project,
        "collection": answer.collection,
        "alias": answer.alias,
        "version": answer.version,
        "source": f"{answer.artifact.source}:{answer.source_version}" if answer.artifact.source else None,
        "artifactID": answer.artifact_id,
        "digest": answer.digest,
        "digestAlgorithm": answer.digest_algorithm,
        "type": answer.type,
        "state": answer.state,
        "size": answer.size,
        "fileCount": answer.file_count,
        "aliases": sorted(answer.aliases),
        "tags": sorted(answer.tags),
        "collectionTags": sorted(answer.collection_tags),
        "metadata": _metadata(answer),
        "createdAt": answer.created_at,
        "updatedAt": answer.updated_at,
        "held": bool(holds.marks) if holds else None,
        "holds": [_mark(mark) for mark in sorted(holds.marks)] if holds else [],
        "askedAt": answer.asked_at.isoformat(),
    }


async def _ask(api: GraphQL, ref: ModelRef, question: Question) -> tuple[Resolved | Failure, HoldRead | None]:
    async with api:
        reading = await Resolver().read(api, [question])
    answer = reading.refs[ref]
    if not isinstance(answer, Resolved):
        return answer, None
    return answer, hold_reads(answers_of(reading), question).get(answer.digest)


def _api(base_url: str, ca_file: Path | None) -> GraphQL:
    if not base_url:
        raise InvalidBaseURLError(
            "the W&B server is not set; set WANDB_BASE_URL or pass --base-url, for example https://api.wandb.ai "
            "(there is no default, since the default of wandb's own client differs between releases)"
        )
    key = os.environ.get("WANDB_API_KEY")
    if key is None:
        raise InvalidCredentialError("WANDB_API_KEY is not set; set it to a key from the W&B user settings")
    context = tls(ca_file=ca_file, source="--ca-file") if ca_file else None
    url = parse_base_url(base_url, source="--base-url (WANDB_BASE_URL)")
    return GraphQL(url, Credential(key, source="WANDB_API_KEY"), ssl_context=context)


def _hold_names(tags: tuple[str, ...], aliases: tuple[str, ...]) -> HoldNames:
    try:
        settings = HoldSettings(tags=tags, aliases=aliases)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = {"tags": "--hold-tag", "aliases": "--hold-alias"}.get(str(first["loc"][0]), "a hold")
        raise click.UsageError(f"{option}: {first['msg'].removeprefix('Value error, ')}") from None
    return HoldNames(tags=frozenset(settings.tags), aliases=frozenset(settings.aliases))


def _show(answer: Resolved, holds: HoldRead | None) -> None:
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rows = _rows(answer, holds)
    if not sys.stdout.isatty():  # unwrapped lines for a pipe
        for name, value, _ in rows:
            click.echo(f"{name:<15}{printable(value)}")
        return
    for name, value, style in rows:
        table.add_row(name, Text(printable(value), style=style))
    Console().print(table)


def _rows(answer: Resolved, holds: HoldRead | None) -> list[tuple[str, str, str]]:
    """The output rows: name, value and style."""
    source = answer.artifact.source
    files = f"{answer.file_count} file{'' if answer.file_count == 1 else 's'}"
    rows = [
        ("reference", str(answer.ref), "bold"),
        ("version", answer.version + (f"  ({source}:{answer.source_version})" if source else ""), ""),
        ("digest", answer.digest + (f"  {answer.digest_algorithm}" if answer.digest_algorithm else ""), ""),
        ("artifact", answer.artifact_id, ""),
        ("content", f"{answer.type}, {files}, {size(answer.size)}", ""),
        ("state", answer.state if answer.state == "COMMITTED" else f"{answer.state}: it cannot be pulled", ""),
        ("aliases", ", ".join(sorted(answer.aliases)) or "–", ""),
        ("tags", ", ".join(sorted(answer.tags)) or "–", ""),
        ("of collection", ", ".join(sorted(answer.collection_tags)) or "–", ""),
        ("created", answer.created_at, ""),
    ]
    if holds is None:
        rows.append(("held", "unknown: its links, or tags and aliases of its collection, could not be read", "yellow"))
    elif not holds.marks:
        rows.append(("held", "no", "green"))
    for mark in sorted(holds.marks) if holds else ():
        description = f"{mark.name!r}, {WORDING[mark.via].place} {mark.collection}:{mark.version}"
        rows.append(("held", description, "bold red"))
    return rows


def _failure_document(ref: ModelRef, failure: Failure) -> dict[str, Any]:
    document: dict[str, Any] = {"outcome": type(failure).__name__, "ref": str(ref), "message": failure.message}
    if isinstance(failure, Missing):
        document["what"] = failure.what
    if isinstance(failure, Throttled):
        document["until"] = failure.until.isoformat()
    return document


def _mark(mark: HoldMark) -> dict[str, str]:
    return {"name": mark.name, "via": mark.via.value, "collection": mark.collection, "version": mark.version}


def _metadata(answer: Resolved) -> Any:
    """The artifact's metadata; the text itself if it is not JSON."""
    try:
        return json.loads(answer.metadata) if answer.metadata else {}
    except (ValueError, RecursionError):
        return answer.metadata
