"""`kubectl modelsync doctor`: checks that everything a ModelDeployment needs is in place, and says how to fix it.

It only reads, with the user's own permissions; what the user may not read is reported as unknown, never as failed. It
never prints a key or sends one anywhere.
"""

import click

from modelsync.kubectl.cluster.lookup import one
from modelsync.kubectl.cluster.objects import model_deployments
from modelsync.kubectl.doctor.cluster_checks import SYSTEM_NAMESPACE, cluster_checks
from modelsync.kubectl.doctor.deployment_checks import deployment_checks
from modelsync.kubectl.doctor.findings import Finding, Verdict, table, wire
from modelsync.kubectl.errors import EXIT_NEEDS_ACTION
from modelsync.kubectl.options import NAME, cluster, connection_options
from modelsync.kubectl.view import text
from modelsync.kubectl.view.deployment import view
from modelsync.kubectl.view.text import document

_EPILOG = """\b
Exit codes:
  0    no check failed; some may be warnings or unknown
  1    the cluster does not answer
  2    usage error
  3    a check failed; the fixes are listed below the checks
"""


@click.command("doctor", epilog=_EPILOG)
@click.argument("names", metavar="[NAME]...", nargs=-1, type=NAME)
@click.option(
    "--operator-namespace",
    metavar="NAMESPACE",
    help=f"Namespace of the operator. Default: {SYSTEM_NAMESPACE}, or wherever it is found.",
)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Machine-readable output.")
@connection_options
def command(names: tuple[str, ...], operator_namespace: str | None, output: str | None) -> None:
    """Check the cluster, the operator, your permissions, and the ModelDeployments of the namespace (or the named ones).

    For each ModelDeployment: the registry and its key, the spec, the gateway, and free GPUs for the next rollout.
    """
    api = cluster()
    findings: list[Finding] = list(cluster_checks(api, operator_namespace))
    if not any(each.check == "CRD" and each.verdict is Verdict.FAILED for each in findings):
        if names:
            objects = [one(api, name) for name in dict.fromkeys(names)]
        else:
            objects = api.list(model_deployments(api.namespace))["items"]
        for raw in objects:
            findings += deployment_checks(api, view(raw))
    if output:
        document(wire(findings), output)
    else:
        text.show(table(findings))
    if any(each.verdict is Verdict.FAILED for each in findings):
        click.get_current_context().exit(EXIT_NEEDS_ACTION)
