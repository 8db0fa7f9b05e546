"""Talks to the cluster through the user's own kubectl.

Any login that works there (exec plugins, OIDC, proxies, contexts) works here, with exactly the user's permissions.
Nothing here may print.
"""

import json
import pathlib
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from modelsync.api import names
from modelsync.api.foreign_json import read_shallow
from modelsync.kubectl.cluster import watching
from modelsync.kubectl.cluster.objects import Object, Path, Update
from modelsync.kubectl.cluster.watching import follow
from modelsync.kubectl.errors import (
    DeniedError,
    ForbiddenError,
    KindMissingError,
    NotFoundError,
    PluginError,
    UnavailableError,
)

FIELD_MANAGER = "kubectl-modelsync"
"""Field manager of the fields that a command writes."""

POD_NAMESPACE = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Holds the pod's namespace; in a pod, kubectl uses it as the default, too."""

REQUEST_TIMEOUT = "20s"
"""Longest wait for an answer, except for a watch."""

_SERVER_ERROR = re.compile(r"Error from server \((\w+)\): (.*)", re.DOTALL)
_DENIED = re.compile(
    r"ValidatingAdmissionPolicy '(?P<policy>[^']+)' with binding '[^']+' denied request: (?P<why>.*)", re.DOTALL
)
_MESSAGE_ONLY = re.compile(r"(?:Error from server|error): (.*)", re.DOTALL | re.IGNORECASE)
_NO_CONNECTION = ("Unable to connect to the server", "The connection to the server")
_UNAVAILABLE = {"ServiceUnavailable", "InternalError", "Timeout", "ServerTimeout", "TooManyRequests"}


class Kubectl:
    """A Cluster reached through `kubectl`; `flags` are the user's, such as `--context=prod`."""

    def __init__(self, flags: Sequence[str] = (), *, namespace: str | None = None) -> None:
        self._flags = tuple(flags)
        self._namespace = namespace

    @property
    def namespace(self) -> str:
        """The namespace of the flag, else of the kubeconfig, else `default`."""
        if self._namespace is None:
            try:
                found = self._run("config", "view", "--minify", "--output=jsonpath={.contexts[0].context.namespace}")
            except PluginError:
                found = ""  # no kubeconfig, as in a pod, or a broken one, which the next request reports
                if POD_NAMESPACE.exists():
                    found = POD_NAMESPACE.read_text(encoding="utf-8")
            self._namespace = found.strip() or "default"
        return self._namespace

    def get(self, path: Path) -> Object:
        """See Cluster."""
        return self._read(path)

    def list(self, path: Path, *, labels: str = "", fields: str = "") -> Object:
        """See Cluster."""
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = {key: value for key, value in selectors.items() if value}
        found = self._read(path, **query)
        kind = str(found.get("kind", "")).removesuffix("List")
        # Items of a list lack apiVersion and kind; add them so that each object is complete.
        found["items"] = [
            {"apiVersion": found.get("apiVersion"), "kind": kind, **item} for item in found.get("items") or ()
        ]
        return found

    def review(self, path: Path, body: Object) -> Object:
        """See Cluster."""
        return _object(self._run("create", f"--raw={path.url()}", "--filename=-", stdin=json.dumps(body)))

    def patch(self, namespace: str, name: str, patch: Object) -> Object:
        """See Cluster."""
        return _object(
            self._run(
                "patch",
                names.CRD_NAME,
                name,
                f"--namespace={namespace}",
                "--type=merge",
                f"--patch={json.dumps(patch)}",
                f"--field-manager={FIELD_MANAGER}",
                "--output=json",
            )
        )

    def follow(self, namespace: str | None, name: str | None) -> Iterator[Update]:
        """See Cluster."""
        return follow(self, namespace, name)

    def watch(self, path: Path, *, fields: str, version: str) -> Iterator[Object | None]:
        """The events after `version`; None whenever there was none for TICK_SECONDS. Ends when the API server closes
        the watch. Raises PluginErrors, also when the connection breaks."""
        query = {"fieldSelector": fields} if fields else {}
        url = path.url(**query, watch="true", resourceVersion=version)
        process = subprocess.Popen(  # noqa: S603  the user's kubectl
            [self._program(), *self._flags, "get", f"--raw={url}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

        def read() -> None:
            assert process.stdout is not None  # noqa: S101  it is a pipe
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            while True:
                try:
                    line = lines.get(timeout=watching.TICK_SECONDS)
                except queue.Empty:
                    yield None
                    continue
                if line is None:
                    assert process.stderr is not None  # noqa: S101
                    errors = process.stderr.read()
                    if process.wait() != 0:
                        raise _error(errors)
                    return
                if line.strip():
                    yield _object(line)
        finally:
            process.kill()
            process.wait()
            with suppress(OSError):
                if process.stderr is not None:
                    process.stderr.close()

    def _read(self, path: Path, **query: str) -> Object:
        try:
            return _object(self._run("get", f"--raw={path.url(**query)}"))
        except KindMissingError as error:
            if path.plural != names.PLURAL:
                raise
            raise KindMissingError(
                f"the cluster has no {names.CRD_NAME} ({error.message}): modelsync is not installed there, or "
                "--context selects the wrong cluster"
            ) from None

    def _run(self, *arguments: str, stdin: str | None = None) -> str:
        try:
            answer = subprocess.run(  # noqa: S603  the user's kubectl
                [self._program(), f"--request-timeout={REQUEST_TIMEOUT}", *self._flags, *arguments],
                input=stdin if stdin is not None else "",
                capture_output=True,
                text=True,
                encoding="utf-8",
                check=False,
            )
        except OSError as error:
            raise PluginError(f"cannot start kubectl: {error.strerror}") from None
        if answer.returncode != 0:
            raise _error(answer.stderr or answer.stdout)
        return answer.stdout

    def _program(self) -> str:
        found = shutil.which("kubectl")
        if found is None:
            raise PluginError("kubectl is not on PATH; this plugin needs it to reach the cluster")
        return found


def _object(text: str) -> Object:
    try:
        found = read_shallow(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UnavailableError("the answer is not a Kubernetes object; is there a proxy in front of the API server?")
    return found


def _error(stderr: str) -> PluginError:
    """The error that kubectl printed, with its own wording, on one line."""
    text = " ".join(line for line in stderr.splitlines() if not line.startswith(("E0", "E1", "W0", "W1", "I0", "I1")))
    text = " ".join(text.split()) or "kubectl failed without a message"
    if text.startswith(_NO_CONNECTION):
        return UnavailableError(text)
    if (found := _SERVER_ERROR.search(text)) is not None:
        reason, message = found.groups()
        if reason == "NotFound":
            if "could not find the requested resource" in message:
                return KindMissingError(message)
            return NotFoundError(message)
        if (denied := _DENIED.search(message)) is not None:
            return DeniedError(f"{denied['why']} (admission policy {denied['policy']})")
        if reason in {"Forbidden", "Unauthorized"}:
            return ForbiddenError(message)
        return UnavailableError(message) if reason in _UNAVAILABLE else PluginError(message)
    if (found := _MESSAGE_ONLY.search(text)) is not None:
        text = found.group(1)
    return PluginError(text)
