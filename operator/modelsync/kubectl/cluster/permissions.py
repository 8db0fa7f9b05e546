"""What to ask for where the API server says no: which right, and the command that gives it."""

import re

from modelsync.api.roles import roles_with
from modelsync.kubectl.cluster.objects import Cluster, Object
from modelsync.kubectl.errors import DeniedError, ForbiddenError

RELEASE = "modelsync"
"""What the chart's roles are named after, if it was installed as its documentation says."""

_USER = re.compile(r'User "([^"]+)" cannot')
_SERVICE_ACCOUNT = "system:serviceaccount:"


def steer(api: Cluster, namespace: str, name: str, patch: Object, verb: str) -> None:
    """Merge `patch` into a ModelDeployment, for which the right to `verb` is needed. Raises PluginErrors."""
    try:
        api.patch(namespace, name, patch)
    except ForbiddenError as error:
        raise asking_for(error, verb, namespace) from None


def asking_for(error: ForbiddenError, verb: str, namespace: str | None) -> ForbiddenError:
    """The error, with who gives the right to `verb`, and how; `namespace` None: in all of them.

    A policy's refusal says so itself, and so does one that is not RBAC's.
    """
    user = _USER.search(error.message)
    if isinstance(error, DeniedError) or user is None:
        return error
    role = f"{RELEASE}-{roles_with(verb)[0]}"
    whom = user.group(1)
    subject = f"--user={whom}"
    if whom.startswith(_SERVICE_ACCOUNT):
        subject = f"--serviceaccount={whom.removeprefix(_SERVICE_ACCOUNT)}"
    if namespace is None:
        who, command = "of the cluster", f"kubectl create clusterrolebinding NAME --clusterrole={role} {subject}"
    else:
        who = f"of namespace {namespace}"
        command = f"kubectl create rolebinding NAME --clusterrole={role} --namespace={namespace} {subject}"
    return ForbiddenError(f"{error.message}; an administrator {who} gives the right to {verb} by: {command}")
