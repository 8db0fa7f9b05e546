"""Every name that modelsync uses in a cluster: API group, labels, annotations, names of children.

They are in one place because the planner's invariants depend on them: a Service's selector, a child's name and a pod's
labels must agree. Nothing here may depend on a spec.
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
"""Maximum length of a ModelDeployment's name: `<name>-v99999-3fa9c1d2-fuse` must fit the 63 characters of a label."""

MAX_VERSION_DIGITS = 6

# --- labels --------------------------------------------------------------------------------------------------------

NAME_LABEL = f"{GROUP}/name"
"""On every child and pod: name of the ModelDeployment. Part of every selector."""

REVISION_LABEL = f"{GROUP}/revision"
"""On every object of one revision: `v7-3fa9c1d2`. Part of every selector."""

FUSE_LABEL = f"{GROUP}/fuse"
"""On the Secret that contains a revision's fuse token: `"true"`."""

CREDENTIAL_LABEL = f"{GROUP}/wandb-credential"
"""`"true"` on a Secret that modelsync may read. It never reads a Secret without this label."""

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""On an EndpointSlice: the name of its Service."""

APP_NAME_LABEL = "app.kubernetes.io/name"
APP_INSTANCE_LABEL = "app.kubernetes.io/instance"
APP_VERSION_LABEL = "app.kubernetes.io/version"
APP_COMPONENT_LABEL = "app.kubernetes.io/component"
APP_PART_OF_LABEL = "app.kubernetes.io/part-of"
APP_MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"

# --- annotations ---------------------------------------------------------------------------------------------------
HOLD_ANNOTATION = f"{GROUP}/hold"
"""On the HTTPRoute while a hold affects it: which hold, for users who look at the route first."""

LEADER_EPOCH_ANNOTATION = f"{GROUP}/leader-epoch"
"""On a ModelDeployment and its children: the operator's leadership term that wrote them first. Writing it changes the
resourceVersion, so that a late write of the previous leader fails."""

LEADER_ADDRESS_ANNOTATION = f"{GROUP}/leader-address"
"""On the Lease: host and port where the leader accepts webhooks, including those that standby processes forward."""

# --- children ------------------------------------------------------------------------------------------------------

BLOCKED = "blocked"
"""Used in place of a revision's name for the Service and the selector that match no pod."""

PORT = 8000
"""Port of the model server and of every Service."""

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
    """Inverse of `child`: the revision (or `BLOCKED`) of `child_name`; None if it is not a child of `name`."""
    prefix = f"{name}-"
    if not child_name.startswith(prefix):
        return None
    rest = child_name[len(prefix) :]
    return rest if rest == BLOCKED or _REVISION.fullmatch(rest) else None


def selector(name: str, revision: str) -> dict[str, str]:
    """Selects the pods of one revision; with `BLOCKED`, none. Never empty: Kubernetes would keep the old endpoints."""
    return {NAME_LABEL: name, REVISION_LABEL: revision}


def labels(name: str, revision: str | None = None) -> dict[str, str]:
    """Labels of every child. With `revision` (not `BLOCKED`), also its revision and version."""
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
