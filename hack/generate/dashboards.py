"""The chart's Grafana dashboards, as JSON: one for the fleet and the operator, one for a single ModelDeployment.

Panels are written compactly, so that the queries can be read and reviewed; a test checks every metric and label in them
against the metrics that the operator exports.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
_HEIGHT = 8
_STAT_HEIGHT = 4
_QUEUE = '{name="modeldeployment"}'
_ONE = 'namespace="$namespace", name="$name"'


@dataclass(frozen=True)
class Panel:
    """`description` explains the panel; `queries` are (PromQL, legend); `width` is in Grafana's 24 columns."""

    title: str
    description: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    most: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    bad_above: float | None = None


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


def stat(title: str, description: str, query: str, *, bad_above: float | None = None) -> Panel:
    """A single number, red above `bad_above`."""
    return Panel(title, description, [(query, "")], kind="stat", width=4, bad_above=bad_above)


def quantiles(metric: str, by: str = "", where: str = "") -> list[tuple[str, str]]:
    """The median and the 99th percentile of a histogram."""
    inner = f"sum by (le{', ' + by if by else ''}) (rate({metric}_bucket{where}[$__rate_interval]))"
    legend = f" {{{{{by}}}}}" if by else ""
    return [(f"histogram_quantile({share}, {inner})", f"p{share * 100:g}{legend}") for share in (0.5, 0.99)]


def increase(metric: str, *by: str) -> tuple[str, str]:
    """How much a counter grew in each interval of the graph."""
    return f"sum by ({', '.join(by)}) (increase({metric}[$__rate_interval]))", " ".join(
        f"{{{{{name}}}}}" for name in by
    )


FLEET = (
    Row(
        "Now",
        (
            stat("ModelDeployments", "All ModelDeployments that the leader knows.", "count(modelsync_info)"),
            stat(
                "On hold",
                "A hold is in force on the serving or the requested version. Somebody set it deliberately.",
                'sum(modelsync_condition{condition="OnHold"})',
                bad_above=0,
            ),
            stat(
                "Blocked",
                "Nothing may serve, because of a hold or because none could be seen: clients get 503.",
                'count(modelsync_info{phase="Blocked"}) or vector(0)',
                bad_above=0,
            ),
            stat(
                "Not available",
                "Nothing serves: a first version is starting, 0 replicas are wanted, or pods were lost.",
                'count(modelsync_condition{condition="Available"} == 0) or vector(0)',
                bad_above=0,
            ),
            stat(
                "Stalled",
                "Needs manual intervention: nothing continues automatically.",
                'sum(modelsync_condition{condition="Stalled"})',
                bad_above=0,
            ),
            stat(
                "Held but reachable",
                "Any value other than 0 for more than a few seconds is an incident.",
                "count(modelsync_held_exposure_seconds > 0) or vector(0)",
                bad_above=0,
            ),
            Panel(
                "By phase",
                "Number of ModelDeployments in each phase.",
                [("count by (phase) (modelsync_info)", "{{phase}}")],
                width=12,
            ),
            Panel(
                "Longest alias drift",
                "The five ModelDeployments whose alias moved longest ago and is not served yet.",
                [("topk(5, modelsync_alias_drift_seconds > 0)", "{{namespace}}/{{name}}")],
                "s",
                width=12,
            ),
        ),
    ),
    Row(
        "Holds",
        (
            Panel(
                "Hold seen to route safe",
                "From the registry query that showed the hold to the acknowledged write of the route.",
                quantiles("modelsync_hold_reaction_seconds", where='{stage="RouteSafe"}'),
                "s",
            ),
            Panel(
                "Hold seen to last byte",
                "From the registry query that showed the hold to the last byte that its pods acknowledged.",
                quantiles("modelsync_hold_reaction_seconds", where='{stage="LastByte"}'),
                "s",
            ),
            Panel(
                "Without a warm fallback",
                "A hold on these ModelDeployments would interrupt service until a pod has started.",
                [("count(modelsync_fallback_ready == 0) or vector(0)", "a hold would interrupt service")],
            ),
            Panel(
                "A hold would not be seen",
                "The five ModelDeployments whose hold marks were read longest ago, beyond hold.maxStaleness.",
                [("topk(5, modelsync_holds_stale_seconds > 0)", "{{namespace}}/{{name}}")],
                "s",
                bad_above=0,
                width=24,
            ),
        ),
    ),
    Row(
        "Rollouts",
        (
            Panel(
                "Ended, by outcome",
                "Rollouts that ended, by outcome and by what started them.",
                [increase("modelsync_rollouts_total", "outcome", "trigger")],
                kind="bars",
            ),
            Panel(
                "Alias moved to served",
                "From the time when a moved alias was seen until its version served fully.",
                quantiles("modelsync_alias_served_seconds", "move"),
                "s",
            ),
            Panel(
                "Duration",
                "Duration of rollouts that ended.",
                quantiles("modelsync_rollout_duration_seconds", "outcome"),
                "s",
            ),
            Panel(
                "Pulls, by outcome",
                "Pulls that ended, by outcome.",
                [increase("modelsync_pulls_total", "outcome")],
                kind="bars",
            ),
            Panel(
                "Pulled",
                "Bytes that pulls fetched; reused files are not counted.",
                [("sum(rate(modelsync_pulled_bytes_total[$__rate_interval]))", "bytes per second")],
                "Bps",
            ),
            Panel(
                "Duration of pulls", "Only pulls that fetched bytes.", quantiles("modelsync_pull_duration_seconds"), "s"
            ),
        ),
    ),
    Row(
        "Registry",
        (
            Panel(
                "Requests",
                "Requests to W&B servers, by outcome.",
                [
                    (
                        "sum by (server, outcome) (rate(modelsync_registry_requests_total[$__rate_interval]))",
                        "{{server}} {{outcome}}",
                    )
                ],
                "reqps",
            ),
            Panel(
                "Duration",
                "Response time of W&B servers.",
                quantiles("modelsync_registry_request_duration_seconds", "server"),
                "s",
            ),
            Panel(
                "Since the last answer",
                "Time since a server last answered the credential of a namespace positively.",
                [
                    (
                        "time() - min by (server, namespace) (modelsync_registry_last_answer_timestamp_seconds > 0)",
                        "{{server}} for {{namespace}}",
                    )
                ],
                "s",
            ),
            Panel(
                "Webhooks",
                "Webhooks from W&B: accepted, refused (token or signature), or unserved (no leader).",
                [increase("modelsync_webhooks_total", "result")],
                kind="bars",
                width=12,
            ),
            Panel(
                "Aliases moved",
                "Compare with the webhooks: moves without a webhook were seen only by polling.",
                [("sum(increase(modelsync_alias_moves_total[$__rate_interval]))", "moves")],
                width=12,
            ),
        ),
    ),
    Row(
        "Operator",
        (
            Panel(
                "Leader",
                "1 on the replica that leads. Two leaders, or none, for more than a few seconds is a problem.",
                [('leader_election_master_status{name=~"modelsync.*"}', "{{pod}} {{name}}")],
                most=1,
            ),
            Panel(
                "Queue: waiting for a worker",
                "Holds are delayed by the same time.",
                quantiles("workqueue_queue_duration_seconds", where='{name="modeldeployment"}'),
                "s",
            ),
            Panel(
                "Queue: depth and work",
                "The keys in the queue are ModelDeployments to reconcile.",
                [
                    ('sum(workqueue_depth{name="modeldeployment"})', "waiting"),
                    ('sum(controller_runtime_active_workers{controller="modeldeployment"})', "being reconciled"),
                    ('sum(rate(workqueue_adds_total{name="modeldeployment"}[$__rate_interval]))', "added per second"),
                    (
                        'sum(rate(workqueue_retries_total{name="modeldeployment"}[$__rate_interval]))',
                        "retried per second",
                    ),
                ],
            ),
            Panel(
                "Reconciles, by result",
                "Each reconcile observes one ModelDeployment and carries out its plan.",
                [
                    (
                        "sum by (result) (rate(controller_runtime_reconcile_total"
                        '{controller="modeldeployment"}[$__rate_interval]))',
                        "{{result}}",
                    )
                ],
                "ops",
            ),
            Panel(
                "Duration of reconciles",
                "Includes the writes that they wait for.",
                quantiles("controller_runtime_reconcile_time_seconds", where='{controller="modeldeployment"}'),
                "s",
            ),
            Panel(
                "Longest running reconcile",
                "If it keeps growing, a reconcile hangs.",
                [('max(workqueue_longest_running_processor_seconds{name="modeldeployment"})', "longest")],
                "s",
            ),
            Panel(
                "Requests to the API server",
                "429 comes from API priority and fairness, 403 from a missing right.",
                [
                    (
                        "sum by (method, code) (rate(rest_client_requests_total[$__rate_interval])"
                        " * on (instance) group_left () group by (instance) (modelsync_build_info))",
                        "{{method}} {{code}}",
                    )
                ],
                "reqps",
            ),
            Panel(
                "Watch events",
                "Objects received, by kind. Shows what floods the operator.",
                [("sum by (kind) (rate(modelsync_watch_events_total[$__rate_interval]))", "{{kind}}")],
                "ops",
            ),
            Panel(
                "Found only by a sweep",
                "Should be rare. Otherwise, watches lose events.",
                [
                    increase("modelsync_sweep_found_total", "what"),
                    ("sum(increase(modelsync_watch_restarts_total[$__rate_interval]))", "watches reopened"),
                ],
                kind="bars",
            ),
            Panel(
                "CPU",
                "CPU usage, as a share of one core.",
                [
                    (
                        "rate(process_cpu_seconds_total[$__rate_interval])"
                        " * on (instance) group_left () group by (instance) (modelsync_build_info)",
                        "{{pod}}",
                    )
                ],
                "percentunit",
            ),
            Panel(
                "Memory",
                "Resident memory of each replica.",
                [
                    (
                        "process_resident_memory_bytes"
                        " * on (instance) group_left () group by (instance) (modelsync_build_info)",
                        "{{pod}}",
                    )
                ],
                "bytes",
            ),
            Panel(
                "Events",
                "Kubernetes Events, by the result of writing them.",
                [increase("modelsync_events_total", "result")],
                kind="bars",
            ),
        ),
    ),
)

ONE = (
    Row(
        "Now",
        (
            Panel(
                "State",
                "The phase, the reason of the condition Ready, and what the alias names.",
                [(f"modelsync_info{{{_ONE}}}", "{{phase}}: {{reason}}, {{alias}} names {{version}}")],
                kind="legend",
                width=12,
            ),
            stat(
                "Ready pods",
                "Ready pods that share the load: stable and canary.",
                f"modelsync_ready_replicas{{{_ONE}}}",
            ),
            stat("Holds", "Holds in force on any of its versions.", f"modelsync_holds{{{_ONE}}}", bad_above=0),
            stat("Fallback ready", "0: a hold would interrupt service.", f"modelsync_fallback_ready{{{_ONE}}}"),
        ),
    ),
    Row(
        "Traffic",
        (
            Panel(
                "Share of each revision",
                "Weights as read back from the live route; without a gateway, what the plain Service selects.",
                [(f"modelsync_traffic_weight_ratio{{{_ONE}}}", "{{revision}}")],
                "percentunit",
                width=16,
                most=1,
                options={"stacked": True},
            ),
            Panel(
                "Pods",
                "Pods that share the load, without warm and blocked ones.",
                [
                    (f"modelsync_replicas{{{_ONE}}}", "wanted"),
                    (f"modelsync_ready_replicas{{{_ONE}}}", "ready"),
                ],
            ),
            Panel(
                "Conditions",
                "Blue while a condition is True.",
                [(f"modelsync_condition{{{_ONE}}}", "{{condition}}")],
                kind="state-timeline",
                width=24,
            ),
        ),
    ),
    Row(
        "Rollouts and holds",
        (
            Panel(
                "Alias drift",
                "How long the alias has named something other than the promoted revision.",
                [(f"modelsync_alias_drift_seconds{{{_ONE}}}", "not served since the alias moved")],
                "s",
            ),
            Panel(
                "Waiting",
                "What and whom the rollout waits for, and how long it has been under way.",
                [
                    (f"modelsync_waiting_seconds{{{_ONE}}}", "waits for {{who}}: {{reason}}"),
                    (f"modelsync_rollout_age_seconds{{{_ONE}}}", "age of the rollout"),
                ],
                "s",
            ),
            Panel(
                "Held but reachable",
                "How long the route has led to a held version. More than a few seconds is an incident.",
                [(f"modelsync_held_exposure_seconds{{{_ONE}}}", "since the hold was seen")],
                "s",
                bad_above=0,
            ),
            Panel(
                "Warm previous version",
                "Whether it should be kept, and whether it is ready as the fallback of a hold.",
                [
                    (f"modelsync_previous_kept{{{_ONE}}}", "should be kept warm"),
                    (f"modelsync_fallback_ready{{{_ONE}}}", "a fallback is ready"),
                ],
                most=1,
                width=12,
            ),
            Panel(
                "Holds",
                "Tags and aliases in the registry that put one of its versions on hold.",
                [(f"modelsync_holds{{{_ONE}}}", "in force")],
                width=12,
            ),
        ),
    ),
)


def fleet() -> str:
    """The dashboard for all ModelDeployments and the operator."""
    return _dashboard("modelsync: fleet", "modelsync-fleet", FLEET, [])


def model_deployment() -> str:
    """The dashboard for one ModelDeployment."""
    variables = [
        _variable("namespace", "label_values(modelsync_info, namespace)"),
        _variable("name", 'label_values(modelsync_info{namespace="$namespace"}, name)'),
    ]
    return _dashboard("modelsync: one ModelDeployment", "modelsync-modeldeployment", ONE, variables)


def _dashboard(title: str, uid: str, rows: Sequence[Row], variables: list[dict[str, Any]]) -> str:
    numbers = itertools.count(1)
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        panels.append(
            {
                "id": next(numbers),
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": y},
                "panels": [],
            }
        )
        y, x, height = y + 1, 0, 0
        for panel in row.panels:
            tall = _STAT_HEIGHT if panel.kind in ("stat", "legend") else _HEIGHT
            if x + panel.width > _WIDTH or (height and tall != height):
                x, y, height = 0, y + height, 0
            place = {"h": tall, "w": panel.width, "x": x, "y": y}
            panels.append({"id": next(numbers), "gridPos": place, **_panel(panel)})
            x, height = x + panel.width, tall
        y += height
    source = {"name": "datasource", "type": "datasource", "label": "Prometheus", "query": "prometheus", "current": {}}
    document = {
        "title": title,
        "uid": uid,
        "tags": ["modelsync"],
        "schemaVersion": 39,
        "editable": True,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "timezone": "",
        "templating": {"list": [source, *variables]},
        "links": [
            {
                "title": "modelsync",
                "type": "dashboards",
                "tags": ["modelsync"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "annotations": {"list": []},
        "panels": panels,
    }
    return json.dumps(document, indent=2) + "\n"


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "current": {},
    }


def _panel(panel: Panel) -> dict[str, Any]:
    types = {"bars": "timeseries", "legend": "stat"}
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.bad_above is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.bad_above + 0.001}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        defaults["color"] = {"mode": "thresholds"}
    if panel.kind in ("timeseries", "bars"):
        style: dict[str, Any] = {
            "drawStyle": "bars" if panel.kind == "bars" else "line",
            "fillOpacity": 10,
            "showPoints": "never",
        }
        if panel.options.get("stacked") or panel.kind == "bars":
            style |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 60}
        defaults["custom"] = style
    elif panel.kind == "state-timeline":
        defaults |= {
            "mappings": [
                {
                    "type": "value",
                    "options": {"0": {"text": "-", "color": "transparent"}, "1": {"text": "True", "color": "blue"}},
                }
            ],
            "custom": {"fillOpacity": 80},
        }
    return {
        "type": types.get(panel.kind, panel.kind),
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _DATASOURCE,
                "expr": query,
                "legendFormat": legend or "__auto",
                **({"instant": True, "range": False} if panel.kind in ("stat", "legend") else {}),
            }
            for number, (query, legend) in enumerate(panel.queries)
        ],
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind in ("stat", "legend"):
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "name" if panel.kind == "legend" else "value",
            "colorMode": "value",
            "graphMode": "none",
        }
    if panel.kind == "state-timeline":
        return {"mergeValues": True, "showValue": "never", "legend": {"showLegend": False}}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
