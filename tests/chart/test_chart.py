"""The chart, rendered by the real Helm: the objects for its values, and the values that it refuses."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from chart.conftest import CHART, RefusedError, Render, container, helm, kinds, one
from generate import chart
from modelsync.api import crd, settings
from modelsync.api.hold import HoldAction
from modelsync.api.registry import Registry
from modelsync.api.roles import ROLES
from modelsync.api.settings import HoldSettings, OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.cli.run import command
from modelsync.cluster import permissions
from modelsync.controller.options import Options
from modelsync.controller.run import lease_name
from modelsync.policy.effective import hold_rules, registry_of
from modelsync.policy.validation import read_spec

ROOT = CHART.parents[1]
DIGEST = "sha256:" + "0123456789abcdef" * 4
DEFAULT: dict[str, Any] = {
    "baseURL": "https://wandb.example.com",
    "auth": {"secretKeyRef": {"name": "team-key", "key": "KEY"}},
}
EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.example.com/ml/modelsync", "digest": DIGEST},
    "imagePullSecrets": [{"name": "pull"}],
    "labels": {"team": "platform"},
    "annotations": {"owner": "platform"},
    "podLabels": {"injected": "no"},
    "podAnnotations": {"note": "pod"},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "corp-ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
    "webhook": {
        "enabled": True,
        "secret": {"name": "hook", "signingKey": "signing"},
        "tls": {"secretName": "hook-tls"},
    },
    "metrics": {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
    },
    "networkPolicy": {"webhookFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "egress": [{"ports": [{"port": 443}]}]},
    "modelNetworkPolicy": {
        "enabled": True,
        "namespaces": ["modelsync-system"],
        "trafficFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}],
        "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
    },
}


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"watchNamespaces": ["a", "b"]}], ids=["default", "all", "some"])
def test_it_passes_the_strict_lint(values: dict[str, Any]) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, values=values)


def test_its_version_is_that_of_the_code() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_the_plain_manifests_are_the_charts_default_output() -> None:
    assert (ROOT / "deploy" / "install.yaml").read_text() == chart.manifests(), "run `make generate`"


# -- the operator's pods


def test_two_processes_run_at_the_restricted_level(render: Render) -> None:
    deployment = one(render(), "Deployment")
    assert deployment["spec"]["replicas"] == 2
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container(render())["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def test_all_probes_use_the_operators_configured_port(render: Render) -> None:
    operator = container(render())
    (port,) = [each["containerPort"] for each in operator["ports"] if each["name"] == "health"]
    assert f"--health-port={port}" in operator["args"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert operator[probe]["httpGet"] == {"path": "/healthz", "port": "health"}


def test_a_digest_pins_the_operator_and_the_init_container_of_models_alike(render: Render) -> None:
    objects = render(image={"repository": "registry.example.com/ml/modelsync", "digest": DIGEST})
    wanted = f"registry.example.com/ml/modelsync@{DIGEST}"
    assert container(objects)["image"] == wanted
    assert given_settings(objects).puller_image == wanted


def test_without_a_digest_the_image_has_the_charts_version(render: Render) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert container(render())["image"] == f"modelsync:{version}"


def test_everything_that_a_site_adds_reaches_the_pods(render: Render) -> None:
    objects = render(**EVERYTHING)
    template = one(objects, "Deployment")["spec"]["template"]
    pod, operator = template["spec"], container(objects)
    assert template["metadata"]["labels"].items() >= {"team": "platform", "injected": "no"}.items()
    assert template["metadata"]["annotations"].items() >= {"owner": "platform", "note": "pod"}.items()
    for name in ("imagePullSecrets", "priorityClassName", "nodeSelector", "tolerations"):
        assert pod[name] == EVERYTHING[name]
    # Without a labelSelector, a constraint matches no pods.
    own = {"labelSelector": {"matchLabels": one(objects, "Deployment")["spec"]["selector"]["matchLabels"]}}
    assert pod["topologySpreadConstraints"] == [each | own for each in EVERYTHING["topologySpreadConstraints"]]
    other = EVERYTHING["topologySpreadConstraints"][0] | {"labelSelector": {"matchLabels": {"team": "platform"}}}
    spread = one(render(topologySpreadConstraints=[other]), "Deployment")["spec"]["template"]["spec"]
    assert spread["topologySpreadConstraints"] == [other]
    assert EVERYTHING["extraEnv"][0] in operator["env"]
    assert operator["envFrom"] == EVERYTHING["extraEnvFrom"]
    assert EVERYTHING["extraVolumes"][0] in pod["volumes"]
    assert EVERYTHING["extraVolumeMounts"][0] in operator["volumeMounts"]


def test_every_object_carries_the_sites_labels_and_annotations(render: Render) -> None:
    for each in render(**EVERYTHING):
        assert each["metadata"]["labels"]["team"] == "platform", each["kind"]
        assert each["metadata"]["annotations"]["owner"] == "platform", each["kind"]


def test_selectors_hold_nothing_that_an_upgrade_changes(render: Render) -> None:
    wanted = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
    objects = render(**EVERYTHING)
    assert one(objects, "Deployment")["spec"]["selector"]["matchLabels"].keys() == wanted
    assert one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].keys() == wanted
    assert one(objects, "Service", "modelsync-webhook")["spec"]["selector"].keys() == wanted


def test_other_settings_make_other_pods(render: Render) -> None:
    def checksum(**values: Any) -> str:
        annotations = one(render(**values), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/settings"])

    assert checksum() == checksum(replicas=3)
    assert checksum() != checksum(settings={"allowedEnv": ["HTTPS_PROXY"]})


# -- permissions


def rules(role: dict[str, Any]) -> set[tuple[str, str, str, tuple[str, ...]]]:
    return {
        (group, resource, verb, tuple(rule.get("resourceNames", ())))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def wanted(table: tuple[permissions.Right, ...], lease: str = "") -> set[tuple[str, str, str, tuple[str, ...]]]:
    return {
        (right.kind.group, right.resource, verb, (lease,) if right.only_this_lease else ())
        for right in table
        for verb in right.verbs
    }


def test_for_the_whole_cluster_its_role_is_the_table_of_rights(render: Render) -> None:
    objects = render()
    assert rules(one(objects, "ClusterRole")) == wanted(permissions.WORK)
    assert rules(one(objects, "Role", "modelsync-lease")) == wanted(permissions.LEADING, "modelsync")
    assert [each["metadata"]["name"] for each in objects if each["kind"] == "Role"] == ["modelsync-lease"]


def test_with_watch_namespaces_it_has_a_role_in_each_and_no_cluster_role(render: Render) -> None:
    objects = render(
        watchNamespaces=["team-b", "team-a", "team-b"], rbac={"aggregate": False}, admissionPolicy={"enabled": False}
    )
    roles = [each for each in objects if each["kind"] == "Role" and each["metadata"]["name"] == "modelsync"]
    assert [each["metadata"]["namespace"] for each in roles] == ["team-a", "team-b"]
    assert all(rules(each) == wanted(permissions.WORK) for each in roles)
    assert not kinds(objects) & {"ClusterRole", "ClusterRoleBinding"}
    bindings = [each for each in objects if each["kind"] == "RoleBinding"]
    assert {each["subjects"][0]["namespace"] for each in bindings} == {"modelsync-system"}
    assert [part for part in container(objects)["args"] if part.startswith("--namespace")] == [
        "--namespace=team-a",
        "--namespace=team-b",
    ]


def test_with_watch_namespaces_it_may_read_its_own_credentials_and_nothing_else_beside_them(render: Render) -> None:
    """`settings.registries`: their Secrets and CA bundles are in the operator's namespace."""
    registry = DEFAULT | {"caBundle": {"configMapKeyRef": {"name": "corp-ca", "key": "ca.crt"}}}
    values = {"settings": {"registries": [registry]}, "watchNamespaces": ["team-a"]}
    found = rules(one(render(**values), "Role", "modelsync-lease"))
    own = {("", "secrets", "get", ("team-key",)), ("", "configmaps", "get", ("corp-ca",))}
    assert own <= found
    assert {rule for rule in found - own if rule[1] != "leases"} == set()
    everywhere = one(render(settings=values["settings"]), "Role", "modelsync-lease")
    assert rules(everywhere) == wanted(permissions.LEADING, "modelsync"), "the cluster role covers it"


def test_the_role_names_the_lease_as_the_code_does(render: Render) -> None:
    namespaces = ["team-b", "team-a", "team-b"]
    options = Options(settings=OperatorSettings(), lease_namespace="modelsync-system", namespaces=namespaces)
    role = one(render(watchNamespaces=namespaces, rbac={"aggregate": False}), "Role", "modelsync-lease")
    assert rules(role) == wanted(permissions.LEADING, lease_name(options))


def test_the_lease_goes_with_the_release_whose_end_takes_the_right_to_give_it_back(render: Render) -> None:
    namespaces = ["team-b", "team-a"]
    options = Options(settings=OperatorSettings(), lease_namespace="modelsync-system", namespaces=namespaces)
    objects = render(watchNamespaces=namespaces, rbac={"aggregate": False})
    annotations = one(objects, "Lease", lease_name(options))["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "post-delete"
    assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    # Permissions from outside the release outlive it: then the process releases the lease itself.
    assert "Lease" not in kinds(render(rbac={"create": False}))


def test_who_may_view_or_edit_a_namespace_may_do_so_with_its_models(render: Render) -> None:
    label = "rbac.authorization.k8s.io/aggregate-to-"
    held: dict[str, set[tuple[str, str]]] = {"view": set(), "edit": set(), "admin": set()}
    for role in (each for each in render() if each["kind"] == "ClusterRole"):
        for name in held:
            if label + name in role["metadata"]["labels"]:
                held[name] |= {(resource, verb) for _, resource, verb, _ in rules(role)}
    models = "modeldeployments"
    reading = {
        (models, "get"),
        (models, "list"),
        (models, "watch"),
        (f"{models}/status", "get"),
        (f"{models}/scale", "get"),
    }
    assert held["view"] == reading
    writing = {(models, verb) for verb in ("create", "update", "patch", "delete", "deletecollection", "refresh")}
    assert held["edit"] == reading | writing | {(f"{models}/scale", "update"), (f"{models}/scale", "patch")}
    assert held["admin"] > held["edit"]
    # Only the operator writes the status.
    assert {verb for resource, verb in held["admin"] if resource == f"{models}/status"} == {"get"}


def test_there_is_one_set_of_user_roles_and_the_operators_own(render: Render) -> None:
    found = {each["metadata"]["name"] for each in render() if each["kind"] == "ClusterRole"}
    assert found == {"modelsync", *(f"modelsync-{role.name}" for role in ROLES)}


# -- definitions


def test_the_definition_is_the_generated_one_and_outlives_the_release(render: Render) -> None:
    found = one(render(), "CustomResourceDefinition", "modeldeployments.modelsync.dev")
    assert found["spec"] == yaml.safe_load(crd.render())["spec"]
    assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_definition_is_deleted_with_the_release_if_configured(render: Render) -> None:
    found = one(render(crds={"keep": False}), "CustomResourceDefinition", "modeldeployments.modelsync.dev")
    assert "annotations" not in found["metadata"]


def test_the_definition_can_be_left_to_someone_else(render: Render) -> None:
    assert "CustomResourceDefinition" not in kinds(render(crds={"enabled": False}))


# -- the administrator's settings


def given_settings(objects: list[dict[str, Any]]) -> OperatorSettings:
    """The content of the operator's settings file."""
    text = one(objects, "ConfigMap", "modelsync-settings")["data"]["settings.yaml"]
    return OperatorSettings.model_validate(yaml.safe_load(text))


def test_settings_reach_the_operator_as_they_were_given(render: Render) -> None:
    path = ROOT / "samples" / "settings.yaml"
    sample = settings.load(path)
    found = given_settings(render(settings=yaml.safe_load(path.read_text())))
    assert found.model_copy(update={"puller_image": sample.puller_image}) == sample
    assert {found.registry, found.hold, found.allowed_env} & {None, HoldSettings(), ()} == set(), "some are defaults"


def test_default_registry_and_holds_apply_to_a_model_without_its_own(render: Render) -> None:
    hold = {"tags": ["legal-hold"], "action": "Block"}
    found = given_settings(render(settings={"registry": DEFAULT, "hold": hold}))
    spec = ModelDeploymentSpec.model_validate({"modelRef": "acme/models/chat:production"})
    assert registry_of(spec, found) == Registry.model_validate(DEFAULT)
    rules = hold_rules(spec, found)
    assert (rules.tags, rules.aliases) == (("legal-hold",), HoldSettings().aliases)
    assert rules.action is HoldAction.BLOCK


@pytest.mark.parametrize("registry", [None, DEFAULT], ids=["none", "default"])
def test_the_next_command_fits_the_default_registry(registry: dict[str, Any] | None) -> None:
    output = helm("install", "modelsync", CHART, "--dry-run=client", values={"settings": {"registry": registry}})
    notes = output.partition("\nNOTES:\n")[2]
    made = notes.partition("<<EOF\n")[2].partition("\n  EOF\n")[0]
    spec = read_spec(yaml.safe_load(made.replace("ENTITY/PROJECT/COLLECTION:ALIAS", "acme/models/chat:production")))
    asked = registry_of(spec, OperatorSettings.model_validate({"registry": registry}))
    assert asked is not None
    secret = asked.auth.secret_key_ref
    assert f"create secret generic {secret.name} -n NAMESPACE --from-literal={secret.key}=" in notes
    assert (spec.registry is None) == (registry is not None)


def test_the_user_of_pods_can_be_left_to_the_cluster(render: Render) -> None:
    assert given_settings(render(settings={"runAsUser": None})).run_as_user is None
    assert given_settings(render(settings={"runAsUser": 1000680000})).run_as_user == 1000680000


# -- around it


def test_drains_of_nodes_leave_a_process(render: Render) -> None:
    assert one(render(), "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    assert "PodDisruptionBudget" not in kinds(render(podDisruptionBudget={"enabled": False}))


def test_a_single_process_does_not_block_drains(render: Render) -> None:
    assert "PodDisruptionBudget" not in kinds(render(replicas=1))


def test_without_webhooks_only_kubelets_and_prometheus_may_come_in(render: Render) -> None:
    objects = render()
    ports = [{"ports": [{"port": port, "protocol": "TCP"}]} for port in ("health", "metrics")]
    assert one(objects, "NetworkPolicy")["spec"]["ingress"] == ports
    without = render(metrics={"enabled": False})
    assert one(without, "NetworkPolicy")["spec"]["ingress"] == ports[:1]
    assert not [part for part in container(without)["args"] if part.startswith("--metrics")]
    assert "Service" not in kinds(objects)
    assert not [part for part in container(objects)["args"] if part.startswith("--webhook")]


def test_whatever_listens_may_be_reached_and_nothing_else(render: Render) -> None:
    for values in ({}, {"metrics": {"enabled": False}}, {"metrics": {"port": 9999}, "webhook": EVERYTHING["webhook"]}):
        objects = render(**values)
        named = [port["port"] for rule in one(objects, "NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]]
        assert sorted(named) == sorted(port["name"] for port in container(objects)["ports"])
        for service in (each for each in objects if each["kind"] == "Service"):
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(named)


def test_webhooks_come_through_a_service_from_the_configured_sources(render: Render) -> None:
    objects = render(**EVERYTHING)
    service = one(objects, "Service", "modelsync-webhook")["spec"]
    assert service["ports"] == [{"name": "webhook", "port": 9443, "targetPort": "webhook", "protocol": "TCP"}]
    policy = one(objects, "NetworkPolicy")["spec"]
    *_, webhook = policy["ingress"]
    own_pods = {"podSelector": {"matchLabels": one(objects, "Deployment")["spec"]["selector"]["matchLabels"]}}
    assert webhook == {
        "ports": [{"port": "webhook", "protocol": "TCP"}],
        "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}, own_pods],
    }, "a process that waits passes webhooks on to the one that leads"
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    secret = {"name": "MODELSYNC_WEBHOOK_SECRET", "valueFrom": {"secretKeyRef": {"name": "hook", "key": "signing"}}}
    assert secret in container(objects)["env"]


def test_a_certificate_is_given_to_the_receiver_as_files(render: Render) -> None:
    objects = render(**EVERYTHING)
    operator = container(objects)
    (mount,) = [each for each in operator["volumeMounts"] if each["name"] == "webhook-tls"]
    assert f"--webhook-tls-cert-file={mount['mountPath']}/tls.crt" in operator["args"]
    assert f"--webhook-tls-key-file={mount['mountPath']}/tls.key" in operator["args"]
    volumes = one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "webhook-tls", "secret": {"secretName": "hook-tls"}} in volumes


def test_the_operator_takes_every_option_that_the_chart_gives_it(render: Render) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    for values in ({}, EVERYTHING, {"watchNamespaces": ["team-a"]}):
        first, *arguments = container(render(**values))["args"]
        assert first == "run"
        assert {argument.partition("=")[0] for argument in arguments} <= options


# -- refused values


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"replica": 3}, r"'replica' not allowed"),
        ({"replicas": "3"}, r"at '/replicas': got string, want integer"),
        ({"image": {"digest": "sha256:abc"}}, r"at '/image/digest'.*does not match pattern"),
        ({"webhook": {"enabled": True}}, r"at '/webhook/secret/name'"),
        ({"watchNamespaces": ["Team A"]}, r"at '/watchNamespaces/0'"),
        ({"settings": {"allowedRegistry": ["https://api.wandb.ai"]}}, r"'allowedRegistry' not allowed"),
        ({"settings": {"allowedRegistries": ["api.wandb.ai"]}}, r"at '/settings/allowedRegistries/0'"),
        ({"settings": {"hold": {"action": "Ignore"}}}, r"at '/settings/hold/action'"),
        ({"settings": {"registry": {"baseURL": "https://wandb.example.com"}}}, r"missing property 'auth'"),
        ({"settings": {"registry": DEFAULT | {"baseURL": "wandb.example.com"}}}, r"does not match pattern"),
        ({"settings": {"registry": DEFAULT | {"pollInterval": "soon"}}}, r"'soon' does not match pattern"),
        (
            {"modelNetworkPolicy": {"enabled": True, "namespaces": ["prod"]}},
            r"at '/modelNetworkPolicy/trafficFrom': minItems: got 0, want 1",
        ),
        (
            {"modelNetworkPolicy": {"enabled": True, "trafficFrom": [{"podSelector": {}}]}},
            r"at '/modelNetworkPolicy/namespaces': minItems: got 0, want 1",
        ),
        (
            {"modelNetworkPolicy": {"enabled": True, "namespaces": ["prod"], "trafficFrom": [{}]}},
            r"at '/modelNetworkPolicy/trafficFrom/0': minProperties: got 0, want 1",
        ),
        (
            {"admissionPolicy": {"boundOperator": "no"}},
            r"at '/admissionPolicy/boundOperator': got string, want boolean",
        ),
        ({"log": {"format": "xml"}}, r"at '/log/format': value must be one of 'json', 'console'"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_value_that_cannot_be_is_refused_with_its_place(values: dict[str, Any], error: str) -> None:
    with pytest.raises(RefusedError) as refused:
        helm("template", "modelsync", CHART, values=values)
    assert re.search(error, str(refused.value)), refused.value
