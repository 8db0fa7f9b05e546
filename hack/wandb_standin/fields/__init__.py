"""The resolvers of the schema's fields, by topic. Importing this package registers them all with `registry`."""

from wandb_standin.fields import (
    automations,
    collection_changes,
    collections,
    files,
    places,
    run_changes,
    runs,
    uploads,
    version_changes,
    versions,
)

__all__ = [
    "automations",
    "collection_changes",
    "collections",
    "files",
    "places",
    "run_changes",
    "runs",
    "uploads",
    "version_changes",
    "versions",
]
