"""Which requests a ModelDeployment or an HTTPRoute claims: on which listeners, for which host names, on which paths.

Anyone may write HTTPRoutes, so nothing here may raise, whatever an object contains. Who has a claim that two objects
make is decided in `conflicts`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from modelsync.api import names
from modelsync.api.kinds import (
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    Key,
    Kind,
    Object,
    controller_of,
    controller_uid,
    mapping,
    name_of,
    namespace_of,
    sequence,
    uid_of,
)
from modelsync.api.traffic import DEFAULT_PATHS, Gateway

ANY_HOST = "*"
"""The host of a claim without host names: whatever its listener answers for."""

MAX_HOST = 253
"""Characters of a host name in the DNS. A longer one is in no request."""

Age: TypeAlias = tuple[int, str, str, str]
"""Sort key: existing routes before ModelDeployments without one, then by creation, then by namespace and name. As the
Gateway API orders routes that match equally."""


class Parent(NamedTuple):
    """A Gateway, or its listeners with that name or port. Empty and None stand for all of them."""

    namespace: str
    name: str
    section: str = ""
    port: int | None = None

    def meets(self, other: "Parent") -> bool:
        """Whether both may name one listener."""
        return self[:2] == other[:2] and all(
            mine == theirs or not mine or not theirs for mine, theirs in zip(self[2:], other[2:], strict=True)
        )

    def includes(self, other: "Parent") -> bool:
        """Whether this one names all listeners that `other` names."""
        return self[:2] == other[:2] and all(
            mine == theirs or not mine for mine, theirs in zip(self[2:], other[2:], strict=True)
        )


class Path(NamedTuple):
    """A path that a route matches, without the slash at the end; a prefix is one of whole elements."""

    value: str
    exact: bool = False

    def covers(self, other: "Path") -> bool:
        """Whether each request that `other` matches is matched by this one."""
        if self.exact:
            return other.exact and self.value == other.value
        return self.value in ("", other.value) or other.value.startswith(f"{self.value}/")

    def overlaps(self, other: "Path") -> bool:
        """Whether both match one request. Of two that overlap, one covers the other."""
        return self.covers(other) or other.covers(self)

    @property
    def plain(self) -> str:
        """The path as a user writes it."""
        return self.value.rstrip("/") or "/"


@dataclass(frozen=True, slots=True)
class Claim:
    """What one object claims."""

    kind: Kind
    namespace: str
    name: str
    owner_uid: str | None
    """Uid of the ModelDeployment: the object itself or its controller."""
    of_model: bool
    """Whether it belongs to a ModelDeployment."""
    created: str
    parents: tuple[Parent, ...]
    hosts: tuple[str, ...]
    """In lower case; `ANY_HOST` alone without host names."""
    paths: tuple[Path, ...]

    @property
    def age(self) -> Age:
        """Of two claims, the smaller one has what both claim."""
        return 0 if self.kind == HTTP_ROUTE else 1, self.created, self.namespace, self.name

    @property
    def place(self) -> tuple[Kind, Key]:
        """Kind, namespace and name of the object."""
        return self.kind, Key(self.namespace, self.name)

    def has_any_host(self, parent: Parent) -> bool:
        """Whether a claim without host names keeps others from naming a host: only a ModelDeployment's on a Gateway of
        its own namespace. Elsewhere such a route is what answers when nobody has the name, as redirects and error
        pages do; if it had every name, the first one would lock everybody else out of a shared Gateway."""
        return self.of_model and parent.namespace == self.namespace


def claim_of_owner(obj: Object) -> Claim | None:
    """What a ModelDeployment claims; None without a gateway."""
    gateway = mapping(mapping(mapping(obj.get("spec")).get("traffic")).get("gateway"))
    if not gateway:
        return None
    paths = [str(path) for path in sequence(gateway.get("paths"))] or DEFAULT_PATHS
    return _owner_claim(obj, sequence(gateway.get("parentRefs")), sequence(gateway.get("hostnames")), paths)


def claim_of_gateway(obj: Object, gateway: Gateway) -> Claim:
    """What the ModelDeployment `obj` claims with `gateway`."""
    return _owner_claim(obj, [ref.wire() for ref in gateway.parent_refs], gateway.hostnames, gateway.paths)


def claim_of_route(obj: Object) -> Claim:
    """What an HTTPRoute claims."""
    spec = mapping(obj.get("spec"))
    controller = controller_uid(obj)
    return Claim(
        kind=HTTP_ROUTE,
        namespace=namespace_of(obj),
        name=name_of(obj),
        owner_uid=controller,
        of_model=controller is not None and mapping(controller_of(obj)).get("kind") == names.KIND,
        created=_created(obj),
        parents=_parents(namespace_of(obj), sequence(spec.get("parentRefs"))),
        hosts=_hosts(sequence(spec.get("hostnames"))),
        paths=tuple(dict.fromkeys(_paths(spec))),
    )


def _owner_claim(obj: Object, parents: Sequence[Any], hosts: Sequence[Any], paths: Iterable[str]) -> Claim:
    return Claim(
        kind=MODEL_DEPLOYMENT,
        namespace=namespace_of(obj),
        name=name_of(obj),
        owner_uid=uid_of(obj),
        of_model=True,
        created=_created(obj),
        parents=_parents(namespace_of(obj), parents),
        hosts=_hosts(hosts),
        paths=tuple(dict.fromkeys(Path(path.rstrip("/")) for path in paths)),
    )


def _parents(namespace: str, refs: Sequence[Any]) -> tuple[Parent, ...]:
    found = (
        Parent(
            str(ref.get("namespace") or namespace),
            str(ref.get("name")),
            str(ref.get("sectionName") or ""),
            port if isinstance(port := ref.get("port"), int) else None,
        )
        for ref in map(mapping, refs)
        if ref.get("kind", "Gateway") == "Gateway"
    )
    return tuple(dict.fromkeys(found))


def _hosts(hosts: Sequence[Any]) -> tuple[str, ...]:
    if not hosts:
        return (ANY_HOST,)
    return tuple(dict.fromkeys(normal_host(str(host)) for host in hosts if len(str(host)) <= MAX_HOST))


def normal_host(host: str) -> str:
    """`host` as requests are compared with it: lower case, in ASCII, without the dot at its end."""
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:  # no request can name it
            return host.lower()
    return host.lower().removesuffix(".") or ANY_HOST


def _paths(spec: Object) -> Iterator[Path]:
    """A rule without matches, and a match without a path, match every path, as the Gateway API defines."""
    for rule in map(mapping, sequence(spec.get("rules")) or [{}]):
        for match in map(mapping, sequence(rule.get("matches")) or [{}]):
            path = mapping(match.get("path"))
            value, kind = str(path.get("value") or "/"), path.get("type", "PathPrefix")
            if kind == "Exact":
                yield Path(value, exact=True)
            else:
                # What another type, such as RegularExpression, matches is the gateway's own: it may be anything.
                yield Path(value.rstrip("/") if kind == "PathPrefix" else "")


def _created(obj: Object) -> str:
    return str(mapping(obj.get("metadata")).get("creationTimestamp") or "")
