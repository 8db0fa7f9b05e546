"""A plain client of the apiserver that the tests were started beside: dicts on the wire, answers as they come.

Not the operator's client: what the apiserver accepts and refuses is to be seen without code of ours in between.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from kubernetes import client, config

from modelsync.api import names

DEFINITION = Path(__file__).resolve().parent.parent / "crds" / f"{names.GROUP}_{names.PLURAL}.yaml"
FINALIZER = "tests.modelsync.dev/keep"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class RefusedError(Exception):
    """The apiserver said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class ApiServer:
    """Requests with the credentials of KUBECONFIG."""

    def __init__(self, user: str | None = None) -> None:
        """With `user`, as that user: the administrator of KUBECONFIG may impersonate everybody."""
        if not os.environ.get("KUBECONFIG"):
            raise RuntimeError("KUBECONFIG is not set; run `make test-integration`, or `python -m localcluster exec`")
        config.load_kube_config()
        self._client = client.ApiClient()
        self._headers = {"Impersonate-User": user} if user is not None else {}

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """Send one request and return the parsed answer. Raises RefusedError."""
        text = self.text(method, path, body, query=query, content_type=content_type, accept=accept)
        return json.loads(text) if text else {}

    def text(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "*/*",
    ) -> str:
        """Send one request and return the answer as it is. Raises RefusedError."""
        request = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Content-Type": content_type, "Accept": accept, **self._headers},
            body=body,
            auth_settings=["BearerToken"],
        )
        response = self._client.call_api(*request)
        response.read()
        text = (response.data or b"").decode()
        if not 200 <= response.status < 300:
            with suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["message"]
            raise RefusedError(response.status, text)
        return text

    def send_text(self, method: str, path: str, body: str) -> None:
        """Send a body as it is written. Raises RefusedError."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", **self._headers}
        _, url, sent, *_ = self._client.param_serialize(
            method, path, header_params=headers, auth_settings=["BearerToken"]
        )
        response = self._client.rest_client.pool_manager.request(method, url, body=body.encode(), headers=sent)
        if not 200 <= response.status < 300:
            raise RefusedError(response.status, response.data.decode())

    def apply(self, path: str, body: Any) -> Any:
        """Server-side apply with the operator's field manager."""
        query = {"fieldManager": names.FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        return self.call("PATCH", path, body, query=query, content_type="application/apply-patch+yaml")

    def install_definition(self) -> dict[str, Any]:
        """Apply the committed definition and wait until it is established; return it as the apiserver has it."""
        path = f"{DEFINITIONS}/{names.CRD_NAME}"
        self.apply(path, yaml.safe_load(DEFINITION.read_text(encoding="utf-8")))

        def established() -> dict[str, Any] | None:
            found: dict[str, Any] = self.call("GET", path)
            said = {item["type"]: item["status"] for item in (found.get("status") or {}).get("conditions") or []}
            return found if said.get("Established") == "True" else None

        found: dict[str, Any] = wait_for("the definition to be established", established)
        # Established comes a moment before every request is served.
        wait_for("ModelDeployments to be served", lambda: self._is_served())
        return found

    def _is_served(self) -> bool:
        try:
            self.call("GET", collection("default"))
        except RefusedError as error:
            if error.status != 404:
                raise
            return False
        return True

    def make_namespace(self, **labels: str) -> str:
        """Make a Kubernetes namespace with a name of its own."""
        name = f"test-{uuid4().hex[:8]}"
        metadata = {"name": name, "labels": labels}
        self.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_for("the namespace's service account", lambda: self.exists(account))
        return name

    def exists(self, path: str) -> bool:
        """Whether there is something at `path`."""
        try:
            self.call("GET", path)
        except RefusedError as error:
            if error.status != 404:
                raise
            return False
        return True

    def create(self, namespace: str, model_deployment: dict[str, Any], *, dry_run: bool = False) -> Any:
        """Create a ModelDeployment as kubectl would: unknown fields are refused."""
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self.call("POST", collection(namespace), model_deployment, query=query)

    def create_owner(self, namespace: str, name: str, spec: dict[str, Any]) -> Any:
        """Make a ModelDeployment that owns things and that no operator acts on, should one run in the cluster.

        It is being deleted and kept by a finalizer, so that the garbage collector leaves what it owns alone.
        """
        metadata = {"name": name, "finalizers": [FINALIZER]}
        body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": spec}
        self.create(namespace, body)
        path = f"{collection(namespace)}/{name}"
        self.call("DELETE", path)
        return self.call("GET", path)

    def delete_namespace(self, namespace: str) -> None:
        """Delete the Kubernetes namespace with all that is in it, owners that are kept by our finalizer too."""
        for owner in self.call("GET", collection(namespace))["items"]:
            if FINALIZER in owner["metadata"].get("finalizers", ()):
                released = {"metadata": {"finalizers": None}}
                path = f"{collection(namespace)}/{owner['metadata']['name']}"
                self.call("PATCH", path, released, content_type="application/merge-patch+json")
        self.call("DELETE", f"/api/v1/namespaces/{namespace}")


def collection(namespace: str) -> str:
    """The path of the ModelDeployments in `namespace`."""
    return f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}"


def wait_for(what: str, probe: Callable[[], Any], *, seconds: float = 30) -> Any:
    """Poll `probe` until it answers with something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)
    return found
