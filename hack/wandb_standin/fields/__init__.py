"""The fields of the schema, by what they are about. Importing this registers them all with `registry`."""

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
