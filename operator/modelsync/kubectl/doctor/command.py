"""`kubectl modelsync doctor`: is everything there that a ModelDeployment needs, and if not, what is to be done.

It only looks, with the user's own rights; what the user may not see is told as unknown, never as failed. No key is
printed or sent anywhere.
"""

import click

from modelsync.kubectl.cluster.lookup import one
from modelsync.kubectl.cluster.objects import model_deployments
from modelsync.kubectl.doctor.cluster_checks import SYSTEM_NAMESPACE, cluster_checks
from modelsync.kubectl.doctor.deployment_checks import deployment_checks
from modelsync.kubectl.doctor.findings import Finding, Verdict, told, wire
from modelsync.kubectl.errors import EXIT_NEEDS_A_PERSON
from modelsync.kubectl.options import NAME, cluster, connection_options
from modelsync.kubectl.view import text
from modelsync.kubectl.view.deployment import view
from modelsync.kubectl.view.text import document

_EPILOG = """\b
Exit codes:
  0    nothing has failed; there may be warnings, and what you may not see
  1    the cluster gives no answer
  2    what was typed cannot be meant
  3    something has failed: below the list stands what to do
"""


@click.command("doctor", epilog=_EPILOG)
@click.argument("names", metavar="[NAME]...", nargs=-1, type=NAME)
@click.option(
    "--operator-namespace",
    metavar="NAMESPACE",
    help=f"Where the operator runs. Default: {SYSTEM_NAMESPACE}, or where it is found.",
)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For a program.")
@connection_options
def command(names: tuple[str, ...], operator_namespace: str | None, output: str | None) -> None:
    """Look at the cluster, the operator, your rights, and at each ModelDeployment of the namespace, or those named.

    For each ModelDeployment: the registry and its key, the spec, the gateway, GPUs for the next rollout.
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
        text.show(told(findings))
    if any(each.verdict is Verdict.FAILED for each in findings):
        click.get_current_context().exit(EXIT_NEEDS_A_PERSON)
