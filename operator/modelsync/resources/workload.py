"""A revision's Deployment, and its fuse Secret."""

import base64

from modelsync.api import names
from modelsync.resources.objects import Object, Owner, metadata
from modelsync.resources.record import Record

FUSE_TOKEN_KEY = "token"  # noqa: S105  the key in the Secret, not a token


def deployment(record: Record, replicas: int) -> Object:
    """The Deployment from the record with `replicas` pods. Nothing else may ever differ.

    The pod template is shared with the record and must not be changed.
    """
    template = record.template
    return {
        **template,
        "metadata": dict(template["metadata"]),
        "spec": {**template["spec"], "replicas": replicas},
    }


def fuse_secret(owner: Owner, revision: str, token: str) -> Object:
    """The Secret with the token that triggers the fuse of `revision`. The pods have only its hash."""
    meta = metadata(owner, names.fuse_secret(owner.name, revision), revision)
    meta["labels"][names.FUSE_LABEL] = "true"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": meta,
        "type": "Opaque",
        "immutable": True,
        "data": {FUSE_TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }
