"""How the commands speak of a cluster: the objects in it, where they are, and what can be asked. No I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote, urlencode

from modelsync.api import names
from modelsync.kubectl.errors import UnavailableError

Object: TypeAlias = dict[str, Any]
"""As it is on the wire."""

Key: TypeAlias = tuple[str, str]
"""Namespace and name."""

Look: TypeAlias = Mapping[Key, Object] | UnavailableError | None
"""What somebody sees who follows ModelDeployments: all of them, at first and after each change; why there is no answer
now, again and again until there is one; and None, when there is only the time to look at."""


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

    def list(self, path: Path, *, labels: str = "", fields: str = "") -> Object:
        """A list, as the API server has it, of what both selectors let through. Raises PluginErrors."""

    def review(self, path: Path, body: Object) -> Object:
        """Post a review (who am I, may I), which the API server answers and does not keep. Raises PluginErrors."""

    def patch(self, namespace: str, name: str, patch: Object) -> Object:
        """Merge into a ModelDeployment; returns it as it is then. Raises PluginErrors."""

    def follow(self, namespace: str | None, name: str | None) -> Iterator[Look]:
        """Look at ModelDeployments until whoever asked has seen enough. Raises PluginErrors."""
