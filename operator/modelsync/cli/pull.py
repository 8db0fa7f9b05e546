"""`modelsync pull`: manually with a reference, or in a pod's init container with an artifact's id and digest."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from modelsync.api.model_ref import InvalidReferenceError, ModelRef
from modelsync.api.pod_contract import ALREADY_PUBLISHED, EXIT_USAGE, POD_UID_VARIABLE, TerminationMessage
from modelsync.commands import defect
from modelsync.puller.display import duration, shown_on, size
from modelsync.puller.errors import OUTCOMES, InterruptedPullError, InvalidInputError, PullError
from modelsync.puller.middleware_folder import place_middleware
from modelsync.puller.progress import Progress
from modelsync.puller.pull import pull
from modelsync.puller.request import Effort, PullRequest, Registry
from modelsync.puller.result import PullResult, encode, failure_document, write_result
from modelsync.puller.staging import storage_errors
from modelsync.registry.credential import Credential, InvalidCredentialError

EXIT_DEFECT = 1

_OUTCOME_ROWS = "\n".join(f"  {outcome:<21}{code}  {meaning}" for outcome, code, meaning in OUTCOMES)
_EPILOG = f"""\b
Environment:
  WANDB_API_KEY    the W&B API key; it cannot be passed on the command line
  WANDB_BASE_URL   the W&B server, such as https://api.wandb.ai; there is no default
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE   as usual

\b
Exit codes:
  0    DIR is published and verified
  1    a defect in modelsync
  2    invalid arguments, or DIR cannot be used
  3    the registry, the network or the volume failed; pulling again may succeed
  4    the content was rejected; pulling again will fail in the same way
  130, 143   ended by SIGINT or SIGTERM; the next pull resumes from there

\b
Outcomes in the result with their exit codes (on success: Pulled, AlreadyPublished):
{_OUTCOME_ROWS}
"""


@click.command("pull", epilog=_EPILOG, short_help="Fetch and verify an artifact, and publish it as a folder.")
@click.argument("where", nargs=-1, metavar="[REF] DIR")
@click.option("--artifact-id", default="", metavar="ID", help="Pull this artifact instead of resolving REF.")
@click.option("--digest", default="", metavar="HEX", help="The expected digest of --artifact-id.")
@click.option(
    "--ref",
    "link",
    default="",
    metavar="REF",
    help="With --artifact-id: a link to that version through which the key can read its files.",
)
@click.option("--base-url", envvar="WANDB_BASE_URL", default="", metavar="URL", help="The W&B server. [WANDB_BASE_URL]")
@click.option(
    "--ca-file",
    envvar="REQUESTS_CA_BUNDLE",
    type=click.Path(path_type=Path),
    help="Additional CA certificates to trust, PEM. [REQUESTS_CA_BUNDLE]",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 64),
    default=16,
    show_default=True,
    help="Maximum number of concurrent connections.",
)
@click.option(
    "--retry-for",
    default="5m",
    show_default=True,
    metavar="DURATION",
    help="Give up after this long without progress. 0s: try once.",
)
@click.option(
    "--weights",
    default="",
    metavar="PATTERN",
    help="Refuse pickled weights if no file at the top of the artifact matches this, such as '*.safetensors'.",
)
@click.option("--verify", is_flag=True, help="If DIR is already published, read and verify all of it again.")
@click.option(
    "--repair", is_flag=True, help="If DIR was changed after it was published, replace it with the correct content."
)
@click.option(
    "--pod-uid",
    envvar=POD_UID_VARIABLE,
    default="",
    metavar="UID",
    help="The UID of this pod: files left by an earlier pull in the same pod are reused at once. [MODELSYNC_POD_UID]",
)
@click.option(
    "--middleware-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write the server's middleware, a Python package, to this folder.",
)
@click.option(
    "--make-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also create this folder, for the server to write to.",
)
@click.option(
    "--result",
    "result_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the result to this file, as JSON.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="What to print at the end.")
def command(
    where: tuple[str, ...],
    artifact_id: str,
    digest: str,
    link: str,
    base_url: str,
    ca_file: Path | None,
    connections: int,
    retry_for: str,
    weights: str,
    verify: bool,
    repair: bool,
    pod_uid: str,
    middleware_dir: Path | None,
    make_dir: Path | None,
    result_file: Path | None,
    output: str,
) -> None:
    """Fetch an artifact from Weights & Biases, verify every byte of it, and publish it as the folder DIR.

    REF is entity/project/collection:alias, such as 'acme/wandb-registry-model/chat llm:production'.

    DIR is published atomically, and only if the manifest matches the artifact's digest and every file matches the
    manifest. It must not exist yet, or be empty; it must not be a mount point itself. Fetched files are kept beside it,
    in the hidden folder .DIR.modelsync, and an interrupted pull resumes from there. Files of other versions published
    in the same parent folder are verified and reused. If DIR already contains this version, it is checked on disk,
    without any request.

    Several pulls may use the same DIR, even from several machines: one fetches, the others wait and show its progress.
    If it dies, another one takes over, at most 30 seconds after its last heartbeat.
    """
    # As PID 1 of a container, a process without a handler does not receive SIGTERM at all.
    signal.signal(signal.SIGTERM, _exit_on_signal)
    document: dict[str, Any]
    try:
        with shown_on(sys.stderr) as progress:
            result = _pull(
                replace(
                    _request(where, artifact_id=artifact_id, digest=digest, link=link),
                    weights=weights,
                    verify=verify,
                    repair=repair,
                    pod=pod_uid,
                ),
                Registry(base_url, _credential(), ca_file),
                effort=Effort(connections, _seconds(retry_for)),
                progress=progress,
                middleware_dir=middleware_dir,
                make_dir=make_dir,
            )
        document, code = result.document(), 0
    except PullError as error:
        document, code = failure_document(error, digest=digest), _exit_code(error)
    except Exception as error:
        document, code = _defect(error), EXIT_DEFECT
    if result_file is not None:
        try:
            write_result(result_file, document)
        except PullError as error:
            click.echo(f"error: {error}", err=True)
            code = code or EXIT_USAGE
    if "message" in document:
        click.echo(f"error: {document['message']}", err=True)
    if output == "json":
        click.echo(encode(document))
    elif "message" not in document:
        click.echo(_sentence(result))
    sys.stdout.flush()
    if code > 128:
        os._exit(code)  # otherwise the interpreter would wait for a thread in a DNS lookup
    sys.exit(code)


def _pull(
    request: PullRequest,
    registry: Registry,
    *,
    effort: Effort,
    progress: Progress,
    middleware_dir: Path | None,
    make_dir: Path | None,
) -> PullResult:
    if make_dir is not None:
        with storage_errors(f"{make_dir} cannot be created"):
            make_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if middleware_dir is not None:
        place_middleware(middleware_dir)
    return pull(request, registry, effort=effort, progress=progress)


def _request(where: tuple[str, ...], *, artifact_id: str, digest: str, link: str) -> PullRequest:
    by_id = bool(artifact_id or digest or link)
    if len(where) != (1 if by_id else 2):
        raise InvalidInputError(
            "use `modelsync pull --artifact-id ID --digest HEX [--ref REF] DIR`: with an id, DIR is the only argument"
            if by_id
            else "use `modelsync pull REF DIR`, for example `modelsync pull 'acme/wandb-registry-model/chat "
            "llm:production' ./model`; see `modelsync pull --help`"
        )
    if by_id and not (artifact_id and digest):
        raise InvalidInputError("--artifact-id and --digest must be passed together; --ref is optional with them")
    text = link if by_id else where[0]
    try:
        ref = ModelRef.parse(text) if text else None
    except InvalidReferenceError as error:
        raise InvalidInputError(str(error)) from None
    return PullRequest(Path(where[-1]), ref=ref, artifact_id=artifact_id, digest=digest)


def _credential() -> Credential | None:
    key = os.environ.get("WANDB_API_KEY")
    try:
        return None if key is None else Credential(key, source="WANDB_API_KEY")
    except InvalidCredentialError as error:
        raise InvalidInputError(str(error)) from None


def _seconds(text: str) -> float:
    if text == "5m":  # the default: every pod start avoids the import of pydantic
        return 300.0
    from modelsync.api.duration import parse

    try:
        return parse(text).total_seconds()
    except ValueError as error:
        raise InvalidInputError(f"--retry-for: {error}") from None


def _sentence(result: PullResult) -> str:
    what = f"{result.ref or 'the artifact'}: {result.files} files, {size(result.bytes)}"
    if result.outcome == ALREADY_PUBLISHED:
        return f"{result.folder} already contains {what}\ndigest {result.digest}"
    rate = f" ({size(result.bytes / result.seconds)}/s)" if result.seconds > 0 else ""
    reused = f"; {size(result.reused_bytes)} were reused" if result.reused_bytes else ""
    return (
        f"{result.folder} contains {what}, verified, after {duration(result.seconds)}{rate}{reused}\n"
        f"digest {result.digest}"
    )


def _exit_code(error: PullError) -> int:
    return 128 + error.signum if isinstance(error, InterruptedPullError) and error.signum else error.exit_code


def _exit_on_signal(signum: int, frame: object) -> None:
    raise InterruptedPullError(f"ended by {signal.Signals(signum).name} before anything was fetched", signum=signum)


def _defect(error: Exception) -> dict[str, Any]:
    """The result document for a bug: one line that fits into a termination message and that a user can report."""
    message = f"{defect(error)}: {json.dumps(str(error))[:500]}; please report it; nothing was published"
    return TerminationMessage(outcome="Defect", message=message).document()
