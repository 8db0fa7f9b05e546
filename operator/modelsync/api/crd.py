"""The CustomResourceDefinition, generated from the types; `make generate` writes it to `crds/`.

The checks that the API server makes are here and in the rules of the types; `policy.validation` makes the others.
"""

from typing import Any

import yaml

from modelsync.api import names
from modelsync.api.names import MAX_NAME_LENGTH
from modelsync.api.rollout import STEPS_MESSAGE
from modelsync.api.schema import structural
from modelsync.api.serving import BASE_SUFFIX, SERVED_TWICE_MESSAGE
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.api.status import ModelDeploymentStatus

_NAME_RULES = (
    {
        "rule": f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
        "message": f"metadata.name must have at most {MAX_NAME_LENGTH} characters; modelsync adds "
        "the revision to it, so choose a shorter one",
    },
    {
        "rule": "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "message": "metadata.name must be a DNS label that starts with a letter (lowercase letters, digits and -), "
        "since a Service gets the same name",
    },
    {
        # `chat` has a Service `chat-blocked`; a ModelDeployment `chat-blocked` would overwrite it.
        "rule": f"!self.metadata.name.matches('-({names.BLOCKED}|{names.REVISION_PATTERN})$')",
        "message": f"metadata.name must not end in -{names.BLOCKED} or in a revision such as -v7-3fa9c1d2, since "
        "children of other ModelDeployments have such names; choose another name",
    },
    {
        # Without servedModelName the model is served under the ModelDeployment's name.
        "rule": "!has(self.spec.serving) || has(self.spec.serving.servedModelName) || !has(self.spec.serving.adapters) "
        f"|| self.spec.serving.adapters.all(a, a.name != self.metadata.name && "
        f"a.name != self.metadata.name + '{BASE_SUFFIX}')",
        "message": SERVED_TWICE_MESSAGE.replace("servedModelName", "metadata.name (the default of servedModelName)"),
    },
)

_STEPS_RULE = {
    "rule": "!has(self.rollout) || !has(self.rollout.steps) || self.rollout.steps.size() == 0 "
    "|| (has(self.traffic) && has(self.traffic.gateway))",
    "message": STEPS_MESSAGE,
}


def crd() -> dict[str, Any]:
    """The definition as a dict, ready to be applied to a cluster."""
    spec = structural(ModelDeploymentSpec)
    # The only default: the scale subresource reads this field, and an autoscaler needs a number there.
    spec["properties"]["replicas"]["default"] = ModelDeploymentSpec.model_fields["replicas"].default
    spec["x-kubernetes-validations"] = [*spec.get("x-kubernetes-validations", []), _STEPS_RULE]
    schema = {
        "type": "object",
        "description": "ModelDeployment serves, with vLLM, the version of a model that an alias in a Weights & Biases "
        "registry names.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            # maxLength limits the estimated cost of the rules on the name; 253 is Kubernetes' own limit.
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": spec,
            "status": structural(ModelDeploymentStatus),
        },
        "x-kubernetes-validations": list(_NAME_RULES),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": names.CRD_NAME, "labels": {names.APP_PART_OF_LABEL: "modelsync"}},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": names.LIST_KIND,
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": list(names.SHORT_NAMES),
                "categories": list(names.CATEGORIES),
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": _columns(),
                }
            ],
        },
    }


def render() -> str:
    """The definition as YAML."""
    return yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def _columns() -> list[dict[str, Any]]:
    def column(name: str, path: str, description: str, kind: str = "string", *, wide: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path, "description": description}
        return {**found, "priority": 1} if wide else found

    return [
        column(
            "Ready",
            '.status.conditions[?(@.type=="Ready")].status',
            "Whether the wanted version serves as the spec asks.",
        ),
        column("Phase", ".status.phase", "Summary of the state in one word."),
        column("Alias", ".status.resolved.alias", "The alias that is deployed."),
        column("Version", ".status.promoted[-1:]", "The revision that was promoted last."),
        column("Target", ".status.resolved.revision", "The revision that the alias asks for."),
        column("Weight", ".status.canary.weight", "Traffic share of the canary, in percent.", "integer"),
        column("Age", ".metadata.creationTimestamp", "Time since creation.", "date"),
        column("Digest", ".status.resolved.digest", "Digest of the version that the alias names.", wide=True),
        column("Replicas", ".status.replicas", "Pods of stable and canary.", "integer", wide=True),
        column(
            "Fallback", ".status.fallback.revision", "The revision that would serve if the stable were held.", wide=True
        ),
        column("Hold", ".status.holds[*].name", "Hold marks found in the registry.", wide=True),
        column(
            "Status", '.status.conditions[?(@.type=="Ready")].message', "Message of the Ready condition.", wide=True
        ),
    ]


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
