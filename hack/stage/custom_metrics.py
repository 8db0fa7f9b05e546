"""A small custom-metrics API, so that the cluster's own HPA controller scales on vLLM's metrics.

Implements custom.metrics.k8s.io/v1beta1 for pod metrics, like prometheus-adapter, and answers each query by scraping
the pods' `/metrics` at that moment: `vllm_num_requests_running` is the sum of `vllm:num_requests_running`. Only for
tests: users have Prometheus in between. Runs inside the cluster's network, in the caller's event loop.
"""

import asyncio
import re
import ssl
import subprocess
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

from localcluster import Cluster, debian
from modelsync.api import kinds, names
from modelsync.cluster.client import Cluster as Kube

GROUP = "custom.metrics.k8s.io"
VERSION = "v1beta1"
PORT = 9444
NAMESPACE = "custom-metrics"
_PATH = f"/apis/{GROUP}/{VERSION}"
_SCRAPE_SECONDS = 2.0


class CustomMetrics:
    """`async with CustomMetrics(cluster, kube):` serves the API and registers it with the API server."""

    def __init__(self, cluster: Cluster, kube: Kube) -> None:
        self._cluster = cluster
        self._kube = kube
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.answered = 0
        """Number of queries for pod metrics so far."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SCRAPE_SECONDS))
        app = web.Application()
        app.router.add_get(_PATH, self._resources)
        app.router.add_get(_PATH + "/namespaces/{namespace}/pods/{pod}/{metric}", self._metric)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._cluster.node_address, PORT, ssl_context=_tls()).start()
        self._cluster.apply(*self._objects())
        await asyncio.to_thread(
            self._cluster.kubectl,
            *("wait", "--for=condition=Available", "--timeout=30s", f"apiservice/{VERSION}.{GROUP}"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        # Without its server, it would slow down every API discovery.
        self._cluster.kubectl("delete", "apiservice", f"{VERSION}.{GROUP}", "--ignore-not-found")
        self._cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false", "--ignore-not-found")
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def _objects(self) -> list[dict[str, Any]]:
        port = {"name": "https", "port": 443, "protocol": "TCP"}
        where = {"name": "adapter", "namespace": NAMESPACE}
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": where,
                "spec": {"ports": [{**port, "targetPort": PORT}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**where, "labels": {"kubernetes.io/service-name": "adapter"}},
                "addressType": "IPv4",
                "ports": [{"name": "https", "port": PORT, "protocol": "TCP"}],
                "endpoints": [{"addresses": [self._cluster.node_address], "conditions": {"ready": True}}],
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"{VERSION}.{GROUP}"},
                "spec": {
                    "group": GROUP,
                    "version": VERSION,
                    "service": {**where, "port": 443},
                    "insecureSkipTLSVerify": True,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                },
            },
        ]

    async def _resources(self, _: web.Request) -> web.Response:
        # Placeholder: the HPA controller queries its metrics by name and does not read this list.
        return web.json_response(
            {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": []}
        )

    async def _metric(self, request: web.Request) -> web.Response:
        """One metric of one pod, or of every pod (`*`) of a label selector."""
        namespace, pod, metric = (request.match_info[part] for part in ("namespace", "pod", "metric"))
        selector = request.query.get("labelSelector", "")
        found = await self._kube.list_all(kinds.POD, namespace, labels=selector)
        pods = [each for each in found if pod in ("*", each["metadata"]["name"])]
        values = await asyncio.gather(*(self._scrape(each, metric.replace("_", ":", 1)) for each in pods))
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.answered += 1
        items = [
            {
                "describedObject": {
                    "kind": "Pod",
                    "namespace": namespace,
                    "name": each["metadata"]["name"],
                    "apiVersion": "/v1",
                },
                "metricName": metric,
                "timestamp": now,
                "value": f"{round(value * 1000)}m",
            }
            for each, value in zip(pods, values, strict=True)
            if value is not None
        ]
        return web.json_response(
            {"kind": "MetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}
        )

    async def _scrape(self, pod: dict[str, Any], series: str) -> float | None:
        """The sum of a series over its labels; None if the pod does not answer or has no samples."""
        address = (pod.get("status") or {}).get("podIP")
        if not address or self._session is None:
            return None
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.get(f"http://{address}:{names.PORT}/metrics") as answer:
                text = await answer.text()
            values = re.findall(rf"^{re.escape(series)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
            return sum(map(float, values)) if values else None
        return None


def _tls() -> ssl.SSLContext:
    """A certificate, which is not verified but needed since the API server speaks TLS only."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder) / "tls.key", Path(folder) / "tls.crt"
        command = [debian.which("openssl") or "openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
        command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=adapter"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context
