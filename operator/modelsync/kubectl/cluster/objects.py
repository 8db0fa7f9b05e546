"""The interface of the commands to a cluster: objects, paths and operations. No I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote, urlencode

from modelsync.api import names
from modelsync.kubectl.errors import UnavailableError

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object as decoded JSON."""

Key: TypeAlias = tuple[str, str]
"""Namespace and name."""

Update: TypeAlias = Mapping[Key, Object] | UnavailableError | None
"""One item of following ModelDeployments: all of them, first and after each change; an error, repeated while the API
server does not answer; or None, yielded regularly so that the caller can check the time."""


@dataclass(frozen=True, slots=True)
class Path:
    """A collection in the API, or one object in it."""

    api_version: str
    plural: str
    namespace: str | None = None
    name: str | None = None

    def url(self, **query: str) -> str:
        """The URL path, with `query` appended."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        parts = [root, *(["namespaces", self.namespace] if self.namespace else []), self.plural]
        parts += [self.name] if self.name else []
        path = "/".join([parts[0], *(quote(part, safe="") for part in parts[1:])])
        return f"{path}?{urlencode(query)}" if query else path


def model_deployments(namespace: str | None, name: str | None = None) -> Path:
    """The path of the ModelDeployments of a namespace (None: of all), or of one of them."""
    return Path(names.API_VERSION, names.PLURAL, namespace, name)


class Cluster(Protocol):
    """What the commands need from a cluster."""

    @property
    def namespace(self) -> str:
        """The namespace to use by default."""

    def get(self, path: Path) -> Object:
        """One object. Raises PluginErrors."""

    def list(self, path: Path, *, labels: str = "", fields: str = "") -> Object:
        """The list object of what both selectors match. Raises PluginErrors."""

    def review(self, path: Path, body: Object) -> Object:
        """Post a review (such as SelfSubjectAccessReview), which the API server answers without storing it. Raises
        PluginErrors."""

    def patch(self, namespace: str, name: str, patch: Object) -> Object:
        """Merge-patch a ModelDeployment; returns the result. Raises PluginErrors."""

    def follow(self, namespace: str | None, name: str | None) -> Iterator[Update]:
        """Follow ModelDeployments without end. Raises PluginErrors."""
