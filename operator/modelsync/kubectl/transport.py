"""The way to the cluster: the user's own kubectl.

Whatever login works there (exec plugins, OIDC, proxies, contexts) works here, with the user's own rights and no others.
Objects are the dicts on the wire. Nothing here may print.
"""

import json
import pathlib
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote, urlencode

from modelsync.api import names
from modelsync.kubectl.errors import ForbiddenError, KindMissingError, NotThereError, PluginError, UnavailableError

Object: TypeAlias = dict[str, Any]

FIELD_MANAGER = "kubectl-modelsync"
"""Who is said to own the fields that a command writes."""

POD_NAMESPACE = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod finds its namespace, which kubectl takes there, too."""

REQUEST_TIMEOUT = "20s"
"""Longest wait for an answer, but of a watch."""
TICK_SECONDS = 1.0
"""How often whoever follows an object gets to look at the clock."""
POLL_SECONDS = 2.0
"""How often is looked where the user may read and not watch."""
PATIENCE = 5
"""How many times in a row a follower may get no answer before it gives up."""

_SERVER_SAID = re.compile(r"Error from server \((\w+)\): (.*)", re.DOTALL)
_MESSAGE_ONLY = re.compile(r"(?:Error from server|error): (.*)", re.DOTALL | re.IGNORECASE)
_NO_CONNECTION = ("Unable to connect to the server", "The connection to the server")
_UNAVAILABLE = {"ServiceUnavailable", "InternalError", "Timeout", "ServerTimeout", "TooManyRequests"}


@dataclass(frozen=True, slots=True)
class Path:
    """A collection in the API, or one object of it."""

    api_version: str
    plural: str
    namespace: str | None = None
    name: str | None = None

    def url(self, **query: str) -> str:
        """As the API server reads it."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        parts = [root, *(["namespaces", self.namespace] if self.namespace else []), self.plural]
        parts += [self.name] if self.name else []
        path = "/".join([parts[0], *(quote(part, safe="") for part in parts[1:])])
        return f"{path}?{urlencode(query)}" if query else path


def model_deployments(namespace: str | None, name: str | None = None) -> Path:
    """ModelDeployments of a namespace (None: of all), or one of them."""
    return Path(names.API_VERSION, names.PLURAL, namespace, name)


class Cluster(Protocol):
    """What the commands need of a cluster."""

    @property
    def namespace(self) -> str:
        """The one that is meant where none is said."""

    def get(self, path: Path) -> Object:
        """One object. Raises PluginErrors."""

    def list(self, path: Path, *, labels: str = "") -> Object:
        """A list, as the API server has it. Raises PluginErrors."""

    def review(self, path: Path, body: Object) -> Object:
        """Post a review (who am I, may I), which the API server answers and does not keep. Raises PluginErrors."""

    def patch(self, namespace: str, name: str, patch: Object) -> Object:
        """Merge into a ModelDeployment; returns it as it is then. Raises PluginErrors."""

    def follow(self, namespace: str | None, name: str | None) -> Iterator[Mapping[tuple[str, str], Object] | None]:
        """ModelDeployments by namespace and name: all at first, and again after each change; None is a look at the
        clock. Ends never by itself. Raises PluginErrors."""


class Kubectl:
    """A Cluster by way of `kubectl`; `flags` are those of the user, such as `--context=prod`."""

    def __init__(self, flags: Sequence[str] = (), *, namespace: str | None = None) -> None:
        self._flags = tuple(flags)
        self._namespace = namespace

    @property
    def namespace(self) -> str:
        """That of the flag, else the kubeconfig's, else `default`."""
        if self._namespace is None:
            try:
                said = self._run("config", "view", "--minify", "--output=jsonpath={.contexts[0].context.namespace}")
            except PluginError:
                said = ""  # no kubeconfig, as in a pod; or one that the next request tells the trouble of
                if POD_NAMESPACE.exists():
                    said = POD_NAMESPACE.read_text(encoding="utf-8")
            self._namespace = said.strip() or "default"
        return self._namespace

    def get(self, path: Path) -> Object:
        """See Cluster."""
        return _object(self._run("get", f"--raw={path.url()}"))

    def list(self, path: Path, *, labels: str = "") -> Object:
        """See Cluster."""
        query = {"labelSelector": labels} if labels else {}
        found = _object(self._run("get", f"--raw={path.url(**query)}"))
        kind = str(found.get("kind", "")).removesuffix("List")
        # Lists leave out what each item is; whoever holds an object should be able to tell.
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

    def follow(self, namespace: str | None, name: str | None) -> Iterator[Mapping[tuple[str, str], Object] | None]:
        """See Cluster. By a watch; where the user may not watch, by looking again and again."""
        path = model_deployments(namespace)
        query = {"fieldSelector": f"metadata.name={name}"} if name else {}
        failures, may_watch = 0, True
        shown: Mapping[tuple[str, str], Object] | None = None
        while True:
            try:
                if name and not may_watch:
                    items, version = [self.get(model_deployments(namespace, name))], ""
                else:
                    found = _object(self._run("get", f"--raw={path.url(**query)}"))
                    items = [{"apiVersion": names.API_VERSION, "kind": names.KIND, **each} for each in found["items"]]
                    version = found["metadata"]["resourceVersion"]
                failures = 0
            except ForbiddenError:
                if not name or not may_watch:
                    raise
                may_watch = False  # `get` without `list`
                continue
            except UnavailableError:
                failures += 1
                if failures >= PATIENCE:
                    raise
                yield from _pause(TICK_SECONDS)
                continue
            now = {_key(item): item for item in items}
            if now != shown:
                yield dict(now)
                shown = dict(now)
            if may_watch:
                try:
                    for event in self._watch(path.url(**query, watch="true", resourceVersion=version)):
                        if event is None:
                            yield None
                            continue
                        if event.get("type") not in {"ADDED", "MODIFIED", "DELETED"}:
                            break  # too old a version: begin again
                        item = event["object"]
                        if event["type"] == "DELETED":
                            now.pop(_key(item), None)
                        else:
                            now[_key(item)] = item
                        yield dict(now)
                        shown = dict(now)
                    yield from _pause(TICK_SECONDS)
                except ForbiddenError:
                    may_watch = False
                except UnavailableError:
                    yield from _pause(TICK_SECONDS)
            else:
                yield from _pause(POLL_SECONDS)

    def _watch(self, url: str) -> Iterator[Object | None]:
        """Each event of a watch; None when there was none for a while. Ends when the API server ends it."""
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
            assert process.stdout is not None  # noqa: S101  it was asked for
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            while True:
                try:
                    line = lines.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    yield None
                    continue
                if line is None:
                    assert process.stderr is not None  # noqa: S101
                    said = process.stderr.read()
                    if process.wait() != 0:
                        raise _error(said)
                    return
                if line.strip():
                    yield _object(line)
        finally:
            process.kill()
            process.wait()
            with suppress(OSError):
                if process.stderr is not None:
                    process.stderr.close()

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
            raise PluginError(f"kubectl cannot be started: {error.strerror}") from None
        if answer.returncode != 0:
            raise _error(answer.stderr or answer.stdout)
        return answer.stdout

    def _program(self) -> str:
        found = shutil.which("kubectl")
        if found is None:
            raise PluginError("kubectl is not on PATH; this plugin talks to the cluster through it")
        return found


def _pause(seconds: float) -> Iterator[None]:
    time.sleep(seconds)
    yield None


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _object(text: str) -> Object:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UnavailableError("the answer is no Kubernetes object; is there a proxy before the API server?")
    return found


def _error(stderr: str) -> PluginError:
    """What kubectl said, as an error; its own words, on one line."""
    text = " ".join(line for line in stderr.splitlines() if not line.startswith(("E0", "E1", "W0", "W1", "I0", "I1")))
    text = " ".join(text.split()) or "kubectl failed without a word"
    if text.startswith(_NO_CONNECTION):
        return UnavailableError(text)
    if (found := _SERVER_SAID.search(text)) is not None:
        reason, said = found.groups()
        if reason == "NotFound":
            if "could not find the requested resource" in said:
                return KindMissingError(said)
            return NotThereError(said)
        if reason in {"Forbidden", "Unauthorized"}:
            return ForbiddenError(said)
        return UnavailableError(said) if reason in _UNAVAILABLE else PluginError(said)
    if (found := _MESSAGE_ONLY.search(text)) is not None:
        text = found.group(1)
    return PluginError(text)
