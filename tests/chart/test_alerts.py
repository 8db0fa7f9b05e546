"""The alerts, tested by Prometheus' promtool: each fires when it should, and not otherwise.

The texts that the person on call reads are in `alerts_tell.yaml`, and compared word for word.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.conftest import CHART, Objects, RefusedError, Render, helm, one, promtool
from docs_runner import words
from modelsync.kubectl import cli as plugin

RUNBOOKS = CHART.parents[1] / "docs" / "runbooks"
TEXTS: dict[str, dict[str, str]] = yaml.safe_load((Path(__file__).parent / "alerts_tell.yaml").read_text())
MONITORED: dict[str, Any] = {"metrics": {"prometheusRule": {"enabled": True}}}
CHAT = 'namespace="prod", name="chat"'
OF_CHAT = {"namespace": "prod", "name": "chat"}
QUEUE = 'name="modeldeployment"'
CONTROLLER = 'controller="modeldeployment"'


@dataclass(frozen=True)
class Trial:
    """At `at`, with these series at 1-minute intervals (promtool's notation), `alert` fires with `labels` or not."""

    case: str
    alert: str
    at: str
    series: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    fires: bool = True


def condition(kind: str) -> str:
    return f'modelsync_condition{{{CHAT}, condition="{kind}"}}'


def info(phase: str) -> str:
    return f'modelsync_info{{{CHAT}, phase="{phase}", reason="R", alias="a", version="v1"}}'


def waiting(reason: str, who: str) -> str:
    return f'modelsync_waiting_seconds{{{CHAT}, reason="{reason}", who="{who}"}}'


EXPOSED = f"modelsync_held_exposure_seconds{{{CHAT}}}"
REPLICAS = f"modelsync_replicas{{{CHAT}}}"
FALLBACK = f"modelsync_fallback_ready{{{CHAT}}}"
KEPT = f"modelsync_previous_kept{{{CHAT}}}"
HOLDS_STALE = f"modelsync_holds_stale_seconds{{{CHAT}}}"
DRIFT = f"modelsync_alias_drift_seconds{{{CHAT}}}"
ANSWERED = 'modelsync_registry_last_answer_timestamp_seconds{server="https://w.example.com", namespace="prod"}'
ERRORS = f"controller_runtime_reconcile_errors_total{{{CONTROLLER}}}"
MOVES, LISTENING = "modelsync_alias_moves_total", "modelsync_webhook_listening"
WEBHOOKS = 'modelsync_webhooks_total{result="Accepted"}'


def passes(result: str) -> str:
    return f'controller_runtime_reconcile_total{{{CONTROLLER}, result="{result}"}}'


def lease(pod: str) -> str:
    return f'leader_election_master_status{{name="modelsync", pod="{pod}"}}'


def waited(bound: str) -> str:
    return f'workqueue_queue_duration_seconds_bucket{{{QUEUE}, le="{bound}"}}'


TRIALS = (
    Trial("a held version is reached for a minute", "ModelsyncHeldVersionReachable", "2m",
          {EXPOSED: "0 1 61"}, OF_CHAT),
    Trial("a hold took a second", "ModelsyncHeldVersionReachable", "2m", {EXPOSED: "0 1 0"}, fires=False),
    Trial("a hold blocks all traffic", "ModelsyncBlocked", "3m", {info("Blocked"): "1x10"}, OF_CHAT),
    Trial("a fallback took over within the minute", "ModelsyncBlocked", "3m",
          {info("Blocked"): "1 stale", info("OnHold"): "_ 1 1 1"}, fires=False),
    Trial("the registry has been silent for longer than allowed", "ModelsyncHoldsStale", "8m",
          {HOLDS_STALE: "0x5 360+60x10"}, OF_CHAT),
    Trial("the registry answers again within a minute", "ModelsyncHoldsStale", "8m",
          {HOLDS_STALE: "0x5 360 0x10"}, fires=False),
    Trial("a rollout waits for marks, which has an alert of its own", "ModelsyncRolloutStuck", "70m",
          {waiting("HoldsStale", "registry"): "0+60x80"}, fires=False),
    Trial("a wanted warm pod is missing", "ModelsyncFallbackCold", "20m", {FALLBACK: "0x30", KEPT: "1x30"}, OF_CHAT),
    Trial("no warm pod is wanted", "ModelsyncFallbackCold", "20m", {FALLBACK: "0x30", KEPT: "0x30"}, fires=False),
    Trial("the revision that served has no pods", "ModelsyncNotServing", "4m",
          {condition("Available"): "1 0x10", REPLICAS: "2x11", FALLBACK: "0x11", info("Degraded"): "1x11"}, OF_CHAT),
    Trial("the first version is being pulled", "ModelsyncNotServing", "10m",
          {condition("Available"): "0x20", REPLICAS: "2x20", info("Pulling"): "1x20"}, fires=False),
    Trial("a hold blocks", "ModelsyncNotServing", "10m",
          {condition("Available"): "0x20", REPLICAS: "2x20", FALLBACK: "0x20", info("Blocked"): "1x20"}, fires=False),
    Trial("no replicas are wanted", "ModelsyncNotServing", "10m",
          {condition("Available"): "0x20", REPLICAS: "0x20", FALLBACK: "0x20", info("Idle"): "1x20"}, fires=False),
    Trial("it stays stalled", "ModelsyncStalled", "16m",
          {condition("Stalled"): "1x30", condition("OnHold"): "0x30"}, OF_CHAT),
    Trial("it is fixed in time", "ModelsyncStalled", "16m",
          {condition("Stalled"): "1x10 0x20", condition("OnHold"): "0x30"}, fires=False),
    Trial("it is stalled because of a hold", "ModelsyncStalled", "30m",
          {condition("Stalled"): "1x30", condition("OnHold"): "1x30"}, fires=False),
    Trial("pods do not start", "ModelsyncRolloutStuck", "70m", {waiting("Starting", "Kubernetes"): "0+60x80"},
          {**OF_CHAT, "reason": "Starting", "who": "Kubernetes"}),
    Trial("a pause of two hours", "ModelsyncRolloutStuck", "70m", {waiting("Paused", "modelsync"): "0+60x80"},
          fires=False),
    Trial("it waits to be promoted", "ModelsyncRolloutStuck", "70m",
          {waiting("AwaitingPromotion", "person"): "0+60x80"}, fires=False),
    Trial("an alias moved five hours ago", "ModelsyncAliasDrift", "5h", {DRIFT: "0+60x400"}, OF_CHAT),
    Trial("an alias moved an hour ago", "ModelsyncAliasDrift", "1h", {DRIFT: "0+60x400"}, fires=False),
    Trial("the new version failed", "ModelsyncAliasDrift", "5h",
          {DRIFT: "0+60x400", condition("RolledBack"): "1x400"}, fires=False),
    Trial("the rollout waits to be promoted", "ModelsyncAliasDrift", "5h",
          {DRIFT: "0+60x400", waiting("AwaitingPromotion", "person"): "0+60x400"}, fires=False),
    Trial("the registry does not answer", "ModelsyncRegistryUnreachable", "15m", {ANSWERED: "60x30"},
          {"server": "https://w.example.com", "namespace": "prod"}),
    Trial("the registry answers", "ModelsyncRegistryUnreachable", "15m", {ANSWERED: "0+60x30"}, fires=False),
    Trial("the key is refused", "ModelsyncRegistryDenied", "6m", {waiting("Denied", "person"): "0+60x10"},
          {**OF_CHAT, "reason": "Denied"}),
    Trial("it waits for something else", "ModelsyncRegistryDenied", "6m",
          {waiting("Starting", "Kubernetes"): "0+60x10"}, fires=False),
    Trial("aliases move and no webhook arrives", "ModelsyncWebhookSilent", "30m",
          {MOVES: "0x10 1x40", WEBHOOKS: "0x50", LISTENING: "1x50"}),
    Trial("webhooks arrive", "ModelsyncWebhookSilent", "30m",
          {MOVES: "0x10 1x40", WEBHOOKS: "0x9 1x41", LISTENING: "1x50"}, fires=False),
    Trial("there is no receiver", "ModelsyncWebhookSilent", "30m",
          {MOVES: "0x10 1x40", WEBHOOKS: "0x50", LISTENING: "0x50"}, fires=False),
    Trial("nothing is scraped", "ModelsyncOperatorAbsent", "6m", {}),
    Trial("a replica is scraped", "ModelsyncOperatorAbsent", "6m", {'modelsync_build_info{version="1"}': "1x10"},
          fires=False),
    Trial("two replicas wait", "ModelsyncNoLeader", "4m", {lease("a"): "1 0x10", lease("b"): "0x11"},
          {"name": "modelsync"}),
    Trial("the other took over", "ModelsyncNoLeader", "4m",
          {lease("a"): "1 0x10", lease("b"): "0 0 1x10"}, fires=False),
    Trial("another operator has no leader", "ModelsyncNoLeader", "4m",
          {'leader_election_master_status{name="other"}': "0x10"}, fires=False),
    Trial("keys wait for seconds", "ModelsyncQueueLatency", "20m",
          {waited("1"): "0x30", waited("5"): "0+60x30", waited("+Inf"): "0+60x30"}),
    Trial("keys wait for milliseconds", "ModelsyncQueueLatency", "20m",
          {waited("0.01"): "0+60x30", waited("1"): "0+60x30", waited("+Inf"): "0+60x30"}, fires=False),
    Trial("half of the passes fail", "ModelsyncReconcileErrors", "40m",
          {ERRORS: "0+10x60", passes("error"): "0+10x60", passes("success"): "0+10x60"}),
    Trial("one pass in a hundred fails", "ModelsyncReconcileErrors", "40m",
          {ERRORS: "0+1x60", passes("error"): "0+1x60", passes("success"): "0+99x60"}, fires=False),
)  # fmt: skip


def rules(objects: Objects) -> dict[str, Any]:
    """The part of the PrometheusRule that is Prometheus' own format."""
    return dict(one(objects, "PrometheusRule")["spec"])


def alerts(groups: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in groups["groups"] for rule in group["rules"]}


def page(name: str) -> str:
    """The `runbook_url` of an alert, unless the site overrides it."""
    return f"docs/runbooks/{name}.md"


def template(**values: Any) -> str:
    return helm("template", "modelsync", CHART, values=values)


def test_promtool_finds_nothing_wrong_with_the_rules(render: Render, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules(render(**MONITORED))))
    output = promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml")
    assert f"{len(alerts(rules(render(**MONITORED))))} rules found" in output


def test_each_alert_fires_when_it_should_and_not_otherwise(render: Render, tmp_path: Path) -> None:
    groups = rules(render(**MONITORED))
    severity = {name: rule["labels"]["severity"] for name, rule in alerts(groups).items()}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(groups))
    tests = [
        {
            "name": f"{trial.alert}: {trial.case}",
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in trial.series.items()],
            "alert_rule_test": [
                {
                    "eval_time": trial.at,
                    "alertname": trial.alert,
                    "exp_alerts": [
                        {
                            "exp_labels": {**trial.labels, "severity": severity[trial.alert]},
                            "exp_annotations": {**TEXTS[trial.alert], "runbook_url": page(trial.alert)},
                        }
                    ]
                    if trial.fires
                    else [],
                }
            ],
        }
        for trial in TRIALS
    ]
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "trials.yaml").write_text(yaml.safe_dump(document))
    promtool("test", "rules", tmp_path / "trials.yaml")


def test_every_alert_is_tried_both_ways(render: Render) -> None:
    for name in alerts(rules(render(**MONITORED))):
        assert {trial.fires for trial in TRIALS if trial.alert == name} == {True, False}, name


def test_every_alert_leads_to_its_page_and_every_page_has_its_alert(render: Render) -> None:
    there = alerts(rules(render(**MONITORED)))
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert there.keys() == pages
    for name, rule in there.items():
        assert rule["annotations"]["runbook_url"] == page(name)


def test_every_alert_names_its_subject_and_the_first_step(render: Render) -> None:
    assert alerts(rules(render(**MONITORED))).keys() == TEXTS.keys()
    for trial in TRIALS:
        if trial.fires:
            text = " ".join(TEXTS[trial.alert].values())
            assert "First: " in TEXTS[trial.alert]["description"], trial.alert
            missing = [value for value in trial.labels.values() if value not in text]
            assert not missing, f"{trial.alert} does not name {', '.join(missing)}"


def test_the_commands_in_alerts_exist() -> None:
    programs = {"kubectl modelsync": plugin}
    for name, texts in TEXTS.items():
        first = texts["description"].partition("First: ")[2]
        assert words.unknown_option(first, programs) is None, name


def test_a_site_can_leave_out_alerts_and_put_others_in_their_place(render: Render) -> None:
    rule = {
        "enabled": True,
        "runbookURL": "https://git.example.com/runbooks/",
        "disabled": ["ModelsyncWebhookSilent"],
        "overrides": {"ModelsyncStalled": {"for": "1h", "labels": {"team": "ml"}}},
    }
    there = alerts(rules(render(metrics={"prometheusRule": rule})))
    assert "ModelsyncWebhookSilent" not in there
    stalled = there["ModelsyncStalled"]
    assert (stalled["for"], stalled["labels"]) == ("1h", {"severity": "warning", "team": "ml"})
    assert stalled["annotations"]["runbook_url"] == "https://git.example.com/runbooks/ModelsyncStalled.md"


def test_an_unknown_alert_is_refused_by_name() -> None:
    with pytest.raises(RefusedError, match="there is no alert ModelsyncStuck; there are ModelsyncHeldVersionReachable"):
        template(metrics={"prometheusRule": {"enabled": True, "disabled": ["ModelsyncStuck"]}})


def test_options_that_need_metrics_are_refused_without_them() -> None:
    for part in ("podMonitor", "serviceMonitor", "prometheusRule"):
        with pytest.raises(RefusedError, match=f"metrics.{part}.enabled needs metrics.enabled"):
            template(metrics={"enabled": False, part: {"enabled": True}})


def test_every_replica_is_scraped_where_it_listens(render: Render) -> None:
    objects = render(metrics={"port": 9999, "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}})
    monitor = one(objects, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["honorLabels"]) == ("metrics", True)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    template = one(objects, "Deployment")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert {"name": "metrics", "containerPort": 9999, "protocol": "TCP"} in container["ports"]
    assert "--metrics-port=9999" in container["args"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_a_service_monitor_finds_every_replica_through_a_service_without_an_address(render: Render) -> None:
    monitor = {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}}
    objects = render(metrics={"port": 9999, "serviceMonitor": monitor})
    found = one(objects, "ServiceMonitor")
    (endpoint,) = found["spec"]["endpoints"]
    assert endpoint == {"port": "metrics", "path": "/metrics", "interval": "15s", "honorLabels": True}
    assert found["metadata"]["labels"]["release"] == "prometheus"
    services = [each for each in objects if each["kind"] == "Service"]
    wanted = found["spec"]["selector"]["matchLabels"]
    (service,) = [each for each in services if wanted.items() <= each["metadata"]["labels"].items()]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["ports"] == [{"name": "metrics", "port": 9999, "targetPort": "metrics", "protocol": "TCP"}]
    template = one(objects, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


def test_two_monitors_that_would_count_everything_twice_are_refused() -> None:
    with pytest.raises(RefusedError, match="would have every pod scraped twice: choose one"):
        template(metrics={"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}})


def test_only_whom_the_site_names_may_scrape(render: Render) -> None:
    prometheus = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    policy = one(render(networkPolicy={"metricsFrom": [prometheus]}), "NetworkPolicy")
    (rule,) = [each for each in policy["spec"]["ingress"] if each["ports"][0]["port"] == "metrics"]
    assert rule["from"] == [prometheus]
