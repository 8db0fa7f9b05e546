"""Every name that modelsync gives to something in a cluster: group, labels, annotations, children.

One place, because the planner's invariants lean on them: a Service's selector, a child's name and the label of a pod
must agree. Nothing here may depend on a spec.
"""

import re

GROUP = "modelsync.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelDeployment"
LIST_KIND = "ModelDeploymentList"
PLURAL = "modeldeployments"
SINGULAR = "modeldeployment"
SHORT_NAMES = ("mdep",)
CATEGORIES = ("all", "modelsync")
CRD_NAME = f"{PLURAL}.{GROUP}"

FIELD_MANAGER = "modelsync"
"""The one server-side-apply field manager of the operator."""

MAX_NAME_LENGTH = 40
"""Longest name of a ModelDeployment. `<name>-v99999-3fa9c1d2-fuse` still fits the 63 characters of a DNS label."""

MAX_VERSION_DIGITS = 6

# --- labels --------------------------------------------------------------------------------------------------------

NAME_LABEL = f"{GROUP}/name"
"""On every child and pod: the ModelDeployment. Half of every selector."""

REVISION_LABEL = f"{GROUP}/revision"
"""On everything of one revision: `v7-3fa9c1d2`. The other half of every selector."""

FUSE_LABEL = f"{GROUP}/fuse"
"""On the Secret that holds a revision's fuse token: `"true"`."""

CREDENTIAL_LABEL = f"{GROUP}/wandb-credential"
"""A Secret without this label, `"true"`, is never read: its owner must have meant it for modelsync."""

APP_NAME_LABEL = "app.kubernetes.io/name"
APP_INSTANCE_LABEL = "app.kubernetes.io/instance"
APP_VERSION_LABEL = "app.kubernetes.io/version"
APP_COMPONENT_LABEL = "app.kubernetes.io/component"
APP_PART_OF_LABEL = "app.kubernetes.io/part-of"
APP_MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"

# --- annotations ---------------------------------------------------------------------------------------------------
HOLD_ANNOTATION = f"{GROUP}/hold"
"""On the HTTPRoute while a hold shapes it: which hold, for whoever looks at the route before the status."""

LEADER_EPOCH_ANNOTATION = f"{GROUP}/leader-epoch"
"""On a ModelDeployment and its children: which leadership of the operator touched them first. It makes every
resourceVersion void that the leader before knows, so that none of its writes can come late."""

LEADER_ADDRESS_ANNOTATION = f"{GROUP}/leader-address"
"""On the Lease: host and port where the process that leads takes webhooks, also from the processes that wait."""

# --- children ------------------------------------------------------------------------------------------------------

BLOCKED = "blocked"
"""Stands where a revision's name could stand: the Service, and the selector, that match no pod."""

PORT = 8000
"""Where the model server listens, and the port of every Service."""

PORT_NAME = "http"

REVISION_PATTERN = rf"v[0-9]{{1,{MAX_VERSION_DIGITS}}}-[0-9a-f]{{8}}"
_REVISION = re.compile(REVISION_PATTERN)


def child(name: str, revision: str) -> str:
    """Name of the record, Deployment and Service of `revision`; with `BLOCKED`, of the Service that matches nothing."""
    return f"{name}-{revision}"


def fuse_secret(name: str, revision: str) -> str:
    """Name of the Secret that holds the fuse token of `revision`."""
    return f"{name}-{revision}-fuse"


def revision_of(name: str, child_name: str) -> str | None:
    """Inverse of `child`: the revision (or `BLOCKED`) of `child_name`; `None` if it is no child of `name`."""
    prefix = f"{name}-"
    if not child_name.startswith(prefix):
        return None
    rest = child_name[len(prefix) :]
    return rest if rest == BLOCKED or _REVISION.fullmatch(rest) else None


def selector(name: str, revision: str) -> dict[str, str]:
    """Pods of one revision; with `BLOCKED`, none. Never empty: an empty selector would leave old endpoints serving."""
    return {NAME_LABEL: name, REVISION_LABEL: revision}


def labels(name: str, revision: str | None = None) -> dict[str, str]:
    """What every child carries. With `revision` (not `BLOCKED`) also the revision and the version it serves."""
    common = {
        NAME_LABEL: name,
        APP_NAME_LABEL: "vllm",
        APP_INSTANCE_LABEL: name,
        APP_COMPONENT_LABEL: "model-server",
        APP_PART_OF_LABEL: "modelsync",
        APP_MANAGED_BY_LABEL: "modelsync",
    }
    if revision is None:
        return common
    return common | {REVISION_LABEL: revision, APP_VERSION_LABEL: revision.partition("-")[0]}
