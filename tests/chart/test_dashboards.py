"""Dashboards, alerts and pages query only existing metrics; tests/integration/controller scrapes a real operator."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from chart.conftest import CHART, Render, promtool
from chart.queries import asked, dashboard_queries, grouped
from docs_runner.pages import pages
from modelsync.api.status import ModelDeploymentStatus, Phase
from modelsync.telemetry import catalogue
from modelsync.telemetry.catalogue import Kind
from modelsync.telemetry.fleet import snapshot_of
from modelsync.telemetry.metrics import Metrics

DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
each_dashboard = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def exposed() -> Mapping[str, frozenset[str]]:
    """The labels of every scraped metric, by name."""
    found = {"process_cpu_seconds_total": frozenset[str](), "process_resident_memory_bytes": frozenset[str]()}
    for metric in catalogue.ALL:
        ends = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
        found |= {metric.name + end: frozenset(metric.labels) for end in ends}
    return found


def queries() -> Iterator[tuple[str, str]]:
    """The place of each query, and the query."""
    for group in yaml.safe_load((CHART / "rules" / "modelsync.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for path in DASHBOARDS:
        for title, query in dashboard_queries(path.read_text()):
            yield f"{path.name}: {title}", query
    for page in pages(CHART.parents[1]):
        for span in page.spans:
            if re.search(r"\w\[\d+[smhd]\]", span.text):
                yield f"{page.path.name}:{span.line}", span.text


def wrong(where: str, query: str, there: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """The metrics and labels in the query that do not exist."""
    metrics = list(asked(query))
    if not metrics:
        yield f"{where}: no metric found in {query}"
    for each in metrics:
        if each.metric not in there:
            yield f"{where}: there is no metric {each.metric}"
        elif lacking := each.labels - there[each.metric]:
            yield f"{where}: {each.metric} has no label {', '.join(sorted(lacking))}"
    known: frozenset[str] = frozenset().union(*(there.get(each.metric, frozenset()) for each in metrics))
    if missing := grouped(query) - known:
        yield f"{where}: nothing in it has a label {', '.join(sorted(missing))}"


def test_every_metric_and_label_of_an_alert_a_dashboard_or_a_page_exists() -> None:
    assert not [problem for where, query in queries() for problem in wrong(where, query, exposed())]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("sum(modelsync_hold_total)", "there is no metric modelsync_hold_total"),
        ('modelsync_condition{kind="Ready"}', "modelsync_condition has no label kind"),
        ('sum by (team) (modelsync_condition{condition="Ready"})', "nothing in it has a label team"),
        ("rate(modelsync_hold_reaction_seconds[5m])", "there is no metric modelsync_hold_reaction_seconds"),
        ("vector(1)", "no metric found"),
    ],
)
def test_a_query_for_a_missing_metric_is_found(query: str, error: str) -> None:
    (problem,) = wrong("here", query, exposed())
    assert error in problem


def test_every_metric_of_a_model_deployment_is_on_a_dashboard() -> None:
    shown = {
        each.metric for path in DASHBOARDS for _, query in dashboard_queries(path.read_text()) for each in asked(query)
    }
    assert {metric.name for metric in catalogue.ALL if metric.scope is catalogue.Scope.OBJECT} <= shown


def test_promtool_finds_nothing_wrong_with_names_units_and_help_of_metrics() -> None:
    metrics = Metrics()
    status = ModelDeploymentStatus(phase=Phase.PENDING)
    metrics.fleet.update(("prod", "chat"), snapshot_of(status, alias="acme/m/chat:v1"))
    metrics.refresh()
    assert promtool("check", "metrics", given=metrics.render().decode()) == ""


def test_every_query_of_a_dashboard_or_a_page_is_promql(tmp_path: Path) -> None:
    """promtool accepts the queries as recording rules: it has no other way to check a query without running it."""
    filled = [
        query.replace("$__rate_interval", "5m").replace("$namespace", "prod").replace("$name", "chat")
        for where, query in queries()
        if ".json" in where or ".md" in where
    ]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(filled)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    assert f"{len(filled)} rules found" in promtool("check", "rules", tmp_path / "rules.yaml")


def lost(given: Any, read: Any, path: str = "") -> Iterator[str]:
    """The paths of values that were not read, or read as something else; added defaults do not count."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            if key in read:
                yield from lost(value, read[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from lost(one, other, f"{path}[{number}]")
    elif given != read:
        yield f"{path}: {given!r} is read as {read!r}"


def read_by_grafana(document: Mapping[str, Any]) -> Any:
    """The document as parsed by Grafana's own types, with the plugins' types for options of panels and queries."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dict(document))))


@each_dashboard
def test_grafanas_types_know_every_word_of_a_dashboard(path: Path) -> None:
    document = json.loads(path.read_text())
    # A field of Grafana's variables (the query in the editor) that is missing in its types.
    known = {f".templating.list[{number}].definition" for number in range(len(document["templating"]["list"]))}
    assert set(lost(document, read_by_grafana(document))) <= known


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"fieldConfig": {"defaults": {"custom": {"drawStile": "bars"}}, "overrides": []}}, "drawStile"),
        ({"options": {"tooltip": {"mood": "multi"}}}, "mood"),
        ({"targets": [{"expr": "up", "legendFromat": "{{job}}"}]}, "legendFromat"),
    ],
)
def test_a_word_that_grafana_does_not_know_is_found(change: dict[str, Any], error: str) -> None:
    panel = {"type": "timeseries", "title": "P", "datasource": {"type": "prometheus", "uid": "x"}, **change}
    assert error in " ".join(lost({"panels": [panel]}, read_by_grafana({"title": "D", "panels": [panel]})))


@each_dashboard
def test_every_panel_has_a_description_a_unit_and_a_legend(path: Path) -> None:
    known = {value for value in vars(units).values() if isinstance(value, str)}
    for panel in json.loads(path.read_text())["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in known, panel["title"]
        assert panel["type"] == "stat" or all(t["legendFormat"] not in ("", "__auto") for t in panel["targets"]), panel


@each_dashboard
def test_every_variable_that_is_used_is_there_and_is_asked_for(path: Path) -> None:
    text = path.read_text()
    document = json.loads(text)
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval"}
    assert used == {variable["name"] for variable in document["templating"]["list"]}


@each_dashboard
def test_panels_have_their_own_place_and_number(path: Any) -> None:
    document = json.loads(path.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])


def test_grafanas_sidecar_finds_the_dashboards_by_their_label(render: Render) -> None:
    objects = render(metrics={"dashboards": {"enabled": True, "annotations": {"grafana_folder": "modelsync"}}})
    maps = [each for each in objects if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    assert {name for each in maps for name in each["data"]} == {path.name for path in DASHBOARDS}
    for each in maps:
        assert each["metadata"]["annotations"]["grafana_folder"] == "modelsync"
        for name, text in each["data"].items():
            assert json.loads(text) == json.loads((CHART / "dashboards" / name).read_text())
