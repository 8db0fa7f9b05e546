"""Explains a refusal of the API server: which right is missing, and the command that grants it."""

import re

from modelsync.api.roles import roles_with
from modelsync.kubectl.cluster.objects import Cluster, Object
from modelsync.kubectl.errors import DeniedError, ForbiddenError

RELEASE = "modelsync"
"""Prefix of the chart's roles when it is installed under its documented release name."""

_USER = re.compile(r'User "([^"]+)" cannot')
_SERVICE_ACCOUNT = "system:serviceaccount:"


def steer(api: Cluster, namespace: str, name: str, patch: Object, verb: str) -> None:
    """Merge-patch a ModelDeployment, which needs the right to `verb`. Raises PluginErrors."""
    try:
        api.patch(namespace, name, patch)
    except ForbiddenError as error:
        raise asking_for(error, verb, namespace) from None


def asking_for(error: ForbiddenError, verb: str, namespace: str | None) -> ForbiddenError:
    """The error, with the command by which an administrator grants the right to `verb`; `namespace` None: in all.

    Refusals by an admission policy, or by anything other than RBAC, are returned unchanged: they explain themselves.
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
    return ForbiddenError(f"{error.message}; an administrator {who} can grant the right to {verb} with: {command}")
