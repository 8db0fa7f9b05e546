"""`kubectl modelsync trace`: from a model's answer back to the artifacts, image and arguments that produced it.

An answer names its revision in `model`, in `system_fingerprint` and in headers; the revision's record has the rest. The
run that logged the artifact is queried from W&B with the user's own key, which is only ever sent to the server that the
user configured for it.
"""

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import unquote

import click
from rich.console import Group, RenderableType
from rich.text import Text

from modelsync.api import names
from modelsync.api.parts import adapter_name, part_label
from modelsync.api.settings import same_server
from modelsync.kubectl.cluster.objects import Cluster, Object, Path, model_deployments
from modelsync.kubectl.errors import ForbiddenError, NotFoundError, PluginError
from modelsync.kubectl.options import cluster, connection_options
from modelsync.kubectl.view import text
from modelsync.kubectl.view.deployment import View, view
from modelsync.kubectl.view.text import document, facts, styled
from modelsync.registry.credential import Credential, InvalidCredentialError
from modelsync.registry.errors import RegistryError
from modelsync.registry.graphql import GraphQL, InvalidBaseURLError, InvalidCABundleError, tls
from modelsync.registry.origin import Origin, origin
from modelsync.resources.record import Record, RecordError
from modelsync.resources.revision import Artifact

WANDB_CLOUD = "https://api.wandb.ai"

_REVISION = re.compile(names.REVISION_PATTERN)
_DIGEST = re.compile(r"[0-9a-f]{8,128}")
_VERSION = re.compile(r"(?P<collection>.+):(?P<version>v[0-9]+)")


@dataclass(frozen=True, slots=True)
class Found:
    """A revision that may have produced the answer; `view` is None when its ModelDeployment cannot be read."""

    record: Record
    view: View | None
    origin: Origin | None
    """The run or user that logged the model."""
    unknown: str
    """Why `origin` is not known; empty if it is."""


@click.command("trace")
@click.argument("what", metavar="FINGERPRINT|MODEL-NAME")
@click.option("-A", "--all-namespaces", is_flag=True, help="Search all namespaces.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Machine-readable output.")
@connection_options
def command(what: str, all_namespaces: bool, output: str | None) -> None:
    """Show what produced an answer: version, digest, adapters and side artifacts, image, arguments, and the W&B run.

    \b
    FINGERPRINT|MODEL-NAME is a value from the answer:
      model                 chat@v7-3fa9c1d2, legal@v7-3fa9c1d2
      system_fingerprint    v7-3fa9c1d2, as X-Model-Revision
      X-Model-Version       chat llm:v7
      X-Model-Digest        the digest of the model's manifest

    The run is queried from W&B with WANDB_API_KEY, but only if the model comes from the server at WANDB_BASE_URL
    (default: https://api.wandb.ai).
    """
    api = cluster()
    namespace = None if all_namespaces else api.namespace
    matching = _matching(api, namespace, what.strip())
    if not matching:
        where = f"in namespace {namespace} (--all-namespaces searches all)" if namespace else "in any namespace"
        raise NotFoundError(
            f"no revision matches {what!r} {where}; spec.revisionHistoryLimit sets how many old ones are kept"
        )
    found = [Found(record, _owner(api, record), *_origin(record)) for record in matching]
    if output:
        documents = [_document(each) for each in found]
        document(documents[0] if len(documents) == 1 else documents, output)
        return
    parts: list[RenderableType] = []
    for each in found:
        parts += [Text(), facts(_facts(each))] if parts else [facts(_facts(each))]
    text.show(Group(*parts))


def _matching(api: Cluster, namespace: str | None, what: str) -> Sequence[Record]:
    served, at, revision = what.rpartition("@")
    labels = names.NAME_LABEL
    if _REVISION.fullmatch(revision):
        labels = f"{names.REVISION_LABEL}={revision}"
    elif at:
        raise PluginError(
            f"{what!r} has no revision after the @; copy `model` from the answer, such as chat@v7-3fa9c1d2"
        )
    try:
        items = api.list(Path("apps/v1", "controllerrevisions", namespace), labels=labels)["items"]
    except ForbiddenError as error:
        raise ForbiddenError(f"{error.message}; Kubernetes' role `view` grants this") from None
    records = [record for item in items if (record := _record(item)) is not None]
    if at:
        return [record for record in records if served in served_names(record)]
    if labels != names.NAME_LABEL:
        return records
    version = _VERSION.fullmatch(unquote(what))
    if version is not None:
        collection = version["collection"].rpartition("/")[2]
        return [r for r in records if (r.artifact.collection, r.version) == (collection, version["version"])]
    if _DIGEST.fullmatch(what):
        return [record for record in records if record.artifact.digest == what]
    raise PluginError(
        f"{what!r} is not a value from an answer; write it as v7-3fa9c1d2, chat@v7-3fa9c1d2, "
        "'chat llm:v7', or the digest"
    )


def served_names(record: Record) -> set[str]:
    """The model names that clients may have requested."""
    served = record.inputs.serving.served_model_name or record.owner.name
    adapters = {name for key in record.others if (name := adapter_name(key)) is not None}
    return {served, f"{served}-base", *adapters}


def _record(item: Object) -> Record | None:
    try:
        return Record.parse(item)
    except RecordError:
        return None  # not one of our records, or its layout is newer than this plugin


def _owner(api: Cluster, record: Record) -> View | None:
    try:
        return view(api.get(model_deployments(record.owner.namespace, record.owner.name)))
    except PluginError:
        return None  # deleted, or not readable by the user: the record is enough


def registry_of(record: Record) -> str:
    """The W&B server that the revision's pods pull from."""
    containers = record.template["spec"]["template"]["spec"]["initContainers"]
    env = {each["name"]: each.get("value") for each in containers[0].get("env") or ()}
    return str(env.get("WANDB_BASE_URL") or "")


def _origin(record: Record) -> tuple[Origin | None, str]:
    key = os.environ.get("WANDB_API_KEY")
    server, own = registry_of(record), os.environ.get("WANDB_BASE_URL") or WANDB_CLOUD
    if not key:
        return None, "not queried: set WANDB_API_KEY"
    if not same_server(server, own):
        # The author of a ModelDeployment chooses its server, which must not be enough to get the user's key sent there.
        return None, f"not queried: WANDB_API_KEY is for {own}; set WANDB_BASE_URL={server}"

    async def query() -> Origin | None:
        bundle = os.environ.get("REQUESTS_CA_BUNDLE")
        context = tls(ca_file=FilePath(bundle), source="REQUESTS_CA_BUNDLE") if bundle else None
        async with GraphQL(server, Credential(key, source="WANDB_API_KEY"), ssl_context=context) as api:
            return await origin(api, record.artifact.artifact_id)

    try:
        found = asyncio.run(query())
    except (RegistryError, InvalidCredentialError, InvalidBaseURLError, InvalidCABundleError) as error:
        return None, f"unknown: {error}"
    return found, "" if found is not None else "unknown: the registry does not record who logged it"


def _run(each: Found) -> str:
    found = each.origin
    if found is None:
        return each.unknown
    if found.run is None:
        return f"none: logged by user {found.user}"
    title = f" ({found.title})" if found.title and found.title != found.run.rpartition("/")[2] else ""
    return f"{found.run}{title}  {found.url}"


def _facts(each: Found) -> list[tuple[str, Text | str]]:
    record = each.record
    owner = record.owner
    rows: list[tuple[str, Text | str]] = [
        ("Revision", styled(record.revision, "bold")),
        ("Owner", f"{names.SINGULAR} {owner.name}, namespace {owner.namespace}"),
        ("Now", _now(each)),
        ("Model", _artifact(record.artifact)),
        *((part_label(key).capitalize(), _artifact(part)) for key, part in record.others.items()),
        ("Run", _run(each)),
        ("Image", record.inputs.image),
        ("Arguments", " ".join(record.inputs.serving.args) or "only those of the operator"),
        ("Registry", registry_of(record)),
        ("Created", record.created.isoformat(timespec="seconds").replace("+00:00", "Z")),
    ]
    for entry in each.view.status.history if each.view is not None else ():
        if entry.revision == record.revision:
            until = entry.to.isoformat(timespec="seconds").replace("+00:00", "Z") if entry.to else "now"
            since = entry.from_.isoformat(timespec="seconds").replace("+00:00", "Z")
            rows.append((entry.outcome, f"{since} to {until} ({entry.reason})"))
    return rows


def _now(each: Found) -> Text | str:
    view_, revision = each.view, each.record.revision
    if view_ is None:
        return "unknown: its ModelDeployment was deleted, or you may not read it"
    held = [hold for hold in view_.status.holds if hold.digest in each.record.digests]
    if held:
        return styled(f"on hold: {held[0].name!r}", "bold red")
    role = "stable" if revision == view_.stable else "canary" if revision == view_.moving else "not in use"
    return f"{role}, {view_.weight(revision)} % of the traffic"


def _artifact(artifact: Artifact) -> str:
    return f"{artifact.ref}  digest {artifact.digest}"


def _document(each: Found) -> dict[str, Any]:
    record = each.record
    return {
        "revision": record.revision,
        "modelDeployment": {"namespace": record.owner.namespace, "name": record.owner.name},
        "parts": {
            key: {"ref": part.ref, "artifactID": part.artifact_id, "digest": part.digest, "size": part.size}
            for key, part in record.parts.items()
        },
        "loggedBy": _logged_by(each.origin),
        "registry": registry_of(record),
        "image": record.inputs.image,
        "args": list(record.inputs.serving.args),
        "servedNames": sorted(served_names(record)),
        "createdAt": record.created.isoformat(),
        "weight": each.view.weight(record.revision) if each.view is not None else None,
    }


def _logged_by(found: Origin | None) -> dict[str, str] | None:
    if found is None:
        return None
    fields = {"run": found.run, "title": found.title, "url": found.url, "user": found.user}
    return {key: value for key, value in fields.items() if value}
