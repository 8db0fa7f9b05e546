"""Cache of watched objects, used to find out whether a ModelDeployment needs work. Writes must be based on live reads.

kopf does not report deletions that happened while its watch was down, so the sweeper removes stale entries (`prune`).
Objects are kept as compressed JSON, without managedFields: 10,000 ModelDeployments with seven children each would not
fit in memory as dicts. It must never hold a Secret.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from modelsync.api import names
from modelsync.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Key,
    Kind,
    Object,
    controller_uid,
    labels_of,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
)
from modelsync.cluster.claim_index import ClaimIndex
from modelsync.cluster.wire import is_too_deep
from modelsync.observe.claims import claim_of_owner, claim_of_route
from modelsync.observe.shape import shaped

CHILD_KINDS = (CONTROLLER_REVISION, DEPLOYMENT, SERVICE, POD, ENDPOINT_SLICE, POD_DISRUPTION_BUDGET)
"""Kinds of children, watched by the name label. HTTPRoutes are not among them: all of them are watched."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as last seen."""

    uid: str
    resource_version: str
    packed: bytes

    def unpack(self) -> Object:
        """Return the object as a fresh copy."""
        obj: Object = json.loads(zlib.decompress(self.packed))
        return obj


class Cache:
    """Objects by ModelDeployment, kind and name, and all HTTPRoutes, since any of them may claim our host names."""

    def __init__(self) -> None:
        self._owners: dict[Key, Entry] = {}
        self._children: dict[Key, dict[tuple[Kind, str], Entry]] = defaultdict(dict)
        self._key_of: dict[tuple[Kind, Key], Key] = {}
        """Under which key each child is stored, by its own namespace and name: an edit of its label moves it."""
        self._routes: dict[Key, Entry] = {}
        """All HTTPRoutes, ours and others', by namespace and name."""
        self._claims = ClaimIndex()

    def put(self, kind: Kind, obj: Object, *, deleted: bool = False) -> set[Key]:
        """Store an object from a watch, a list or a write. Returns the keys that this may affect.

        What is no object with name and uid is ignored, and one that cannot be read is kept without its content. An
        object that is not newer than the stored one is ignored: a list may be older than a watch event, and a watch
        event older than our own write. (resourceVersions of one object compare as numbers: KEP-5504.)
        """
        given = shaped(kind, obj)
        if given is None:
            return set()
        obj = given
        place = Key(namespace_of(obj), name_of(obj))
        if not deleted and self._is_not_newer(kind, place, obj):
            return set()
        if kind == MODEL_DEPLOYMENT:
            return self._put_owner(place, obj, deleted) | {place}
        key = owner_key(obj)
        if kind == HTTP_ROUTE:
            # Also by its name: an edit may have removed its label.
            return self._put_route(place, obj, deleted) | ({key} if key else set()) | ({place} & self._owners.keys())
        return self._put_child(kind, place, key, obj, deleted)

    def owner(self, key: Key) -> Object | None:
        """Return the ModelDeployment, or None."""
        entry = self._owners.get(key)
        return entry.unpack() if entry else None

    def has(self, key: Key) -> bool:
        """Whether the ModelDeployment is in the cache."""
        return key in self._owners

    def children(self, key: Key, kind: Kind) -> list[Object]:
        """Return the objects of `kind` that carry the name label of `key`, whoever owns them."""
        found = self._children.get(key, {})
        return [entry.unpack() for (each, _), entry in found.items() if each == kind]

    def child(self, key: Key, kind: Kind, name: str) -> Object | None:
        """Return the child of `key` with this kind and name, or None."""
        entry = self._children.get(key, {}).get((kind, name))
        return entry.unpack() if entry else None

    def all_keys(self) -> list[Key]:
        """Return the keys of all ModelDeployments, and those that only children name: orphans."""
        return list({**dict.fromkeys(self._owners), **dict.fromkeys(self._children)})

    def older_claims(self, key: Key) -> list[tuple[Kind, Key]]:
        """Return the routes and ModelDeployments that have a host name and path of `key` because they are older, the
        oldest first. A change of the first ones affects `key` from now on."""
        return self._claims.older(key)

    def claimant(self, kind: Kind, place: Key) -> Object | None:
        """Return the HTTPRoute or ModelDeployment at `place`."""
        return self.route(place) if kind == HTTP_ROUTE else self.owner(place)

    def route(self, key: Key) -> Object | None:
        """Return an HTTPRoute by namespace and name, whoever owns it."""
        entry = self._routes.get(key)
        return entry.unpack() if entry else None

    def known(self, kind: Kind, namespace: str | None) -> set[tuple[Key, str]]:
        """Return namespace, name and uid of each stored object of `kind`."""
        return {(place, entry.uid) for place, entry in self._of(kind, namespace)}

    def prune(self, kind: Kind, gone: Set[tuple[Key, str]]) -> set[Key]:
        """Drop objects that were deleted while a watch was down. Returns the keys that this may affect."""
        entries = [entry for place, entry in self._of(kind, None) if (place, entry.uid) in gone]
        return {key for entry in entries for key in self.put(kind, entry.unpack(), deleted=True)}

    def counts(self) -> dict[str, int]:
        """Return how many objects of each kind are stored."""
        totals = {MODEL_DEPLOYMENT.kind: len(self._owners)} | {kind.kind: 0 for kind in CHILD_KINDS}
        for children in self._children.values():
            for kind, _ in children:
                totals[kind.kind] += 1
        totals[HTTP_ROUTE.kind] = len(self._routes)
        return totals

    def _is_not_newer(self, kind: Kind, place: Key, obj: Object) -> bool:
        stored = self._entry(kind, place, obj)
        if stored is None or stored.uid != uid_of(obj):
            return False
        new = resource_version_of(obj)
        return stored.resource_version == new or (
            stored.resource_version.isdigit() and new.isdigit() and int(new) < int(stored.resource_version)
        )

    def _entry(self, kind: Kind, place: Key, obj: Object) -> Entry | None:
        if kind == MODEL_DEPLOYMENT:
            return self._owners.get(place)
        if kind == HTTP_ROUTE:
            return self._routes.get(place)
        key = self._key_of.get((kind, place))
        return self._children.get(key, {}).get((kind, place.name)) if key is not None else None

    def _of(self, kind: Kind, namespace: str | None) -> Iterator[tuple[Key, Entry]]:
        if kind == MODEL_DEPLOYMENT:
            found: Iterable[tuple[Key, Entry]] = self._owners.items()
        elif kind == HTTP_ROUTE:
            found = self._routes.items()
        else:
            found = (
                (Key(key.namespace, name), entry)
                for key, children in self._children.items()
                for (each, name), entry in children.items()
                if each == kind
            )
        return ((place, entry) for place, entry in found if namespace in (None, place.namespace))

    def _put_child(self, kind: Kind, place: Key, key: Key | None, obj: Object, deleted: bool) -> set[Key]:
        """Store a child under `key`, and remove it from where it was before an edit of its label."""
        before = self._key_of.get((kind, place))
        stored = self._children[before].get((kind, place.name)) if before is not None else None
        if deleted and (stored is None or stored.uid != uid_of(obj)):
            return {key} if key is not None else set()
        if before is not None and (deleted or before != key):
            del self._key_of[kind, place]
            self._children[before].pop((kind, place.name), None)
            if not self._children[before]:
                del self._children[before]
        if key is not None and not deleted:
            self._key_of[kind, place] = key
            self._children[key][kind, place.name] = pack(obj)
        return {each for each in (before, key) if each is not None}

    def _put_owner(self, key: Key, obj: Object, deleted: bool) -> set[Key]:
        stored = self._owners.get(key)
        if deleted:
            # A late DELETED event must not remove a new object that was created under the same name.
            if stored is not None and stored.uid != uid_of(obj):
                return set()
            self._owners.pop(key, None)
        else:
            self._owners[key] = pack(obj)
        return self._claims.put((MODEL_DEPLOYMENT, key), None if deleted else claim_of_owner(obj))

    def _put_route(self, place: Key, obj: Object, deleted: bool) -> set[Key]:
        stored = self._routes.get(place)
        if deleted:
            if stored is not None and stored.uid != uid_of(obj):
                return set()
            self._routes.pop(place, None)
        else:
            self._routes[place] = pack(obj)
        return self._claims.put((HTTP_ROUTE, place), None if deleted else claim_of_route(obj))


def pack(obj: Object) -> Entry:
    """Compress `obj` without the fields that no decision needs. From managedFields only the status writers are kept."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    if obj.get("kind") == HTTP_ROUTE.kind and (entries := obj["metadata"].get("managedFields")):
        metadata["managedFields"] = [
            {name: value for name, value in entry.items() if name != "fieldsV1"}
            for entry in entries
            if entry.get("subresource") == "status"
        ]
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = {name: value for name, value in annotations.items() if name != LAST_APPLIED}
    try:
        text = json.dumps({**obj, "metadata": metadata}, separators=(",", ":"))
    except RecursionError:
        text = ""
    if not text or is_too_deep(text):
        text = json.dumps(_identity(obj))  # to read all of it back would fail in every pass
    return Entry(uid_of(obj), resource_version_of(obj), zlib.compress(text.encode(), 1))


def _identity(obj: Object) -> Object:
    """Whose object it is: what is kept of one that is nested too deeply to be kept whole."""
    metadata: Object = {
        "name": name_of(obj),
        "namespace": namespace_of(obj),
        "uid": uid_of(obj),
        "resourceVersion": resource_version_of(obj),
        "labels": labels_of(obj),
    }
    if (controller := controller_uid(obj)) is not None:
        metadata["ownerReferences"] = [{"uid": controller, "controller": True}]
    if deleted := obj["metadata"].get("deletionTimestamp"):
        metadata["deletionTimestamp"] = deleted
    return {"metadata": metadata}


def owner_key(obj: Object) -> Key | None:
    """Return the ModelDeployment in the name label of `obj`. Whether it is the owner, only the owner's uid shows."""
    name = labels_of(obj).get(names.NAME_LABEL)
    return Key(namespace_of(obj), name) if name else None
