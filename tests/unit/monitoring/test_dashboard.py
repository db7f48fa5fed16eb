"""The dashboard: Grafana can load it, each query is valid, and finds something in what an operator serves."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.promtool import promtool  # noqa: F401 - a fixture
from tests.unit.monitoring import manifests
from tests.unit.shell.test_metrics import bare  # noqa: F401 - a fixture

from mainstay.controlplane.binaries import cache_directory, obtain
from mainstay.shell.operator import Operator

TARGET = {"job": "mainstay", "instance": "this-machine"}
COLUMNS = 24


def each_datasource(node: Any) -> list[Any]:
    """Every datasource that anything in there names."""
    if isinstance(node, list):
        return [found for one in node for found in each_datasource(one)]
    if not isinstance(node, dict):
        return []
    own = [node["datasource"]] if "datasource" in node else []
    return own + [found for one in node.values() for found in each_datasource(one)]


# --- structure


def test_it_belongs_to_no_one_grafana():
    dashboard = manifests.dashboard()
    assert dashboard["title"] == "Mainstay"
    assert dashboard["schemaVersion"] >= 39  # Grafana 11
    assert not {"id", "uid", "version"} & set(dashboard)
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert all(one["current"] == {} for one in variables.values())
    found = each_datasource(dashboard)
    assert len(found) > len(manifests.panels())
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in found)


def test_every_panel_says_what_it_shows():
    titles = [panel["title"] for panel in manifests.dashboard()["panels"]]
    assert all(titles)
    shown = [panel["title"] for panel in manifests.panels()]
    rows = [panel["title"] for panel in manifests.dashboard()["panels"] if panel["type"] == "row"]
    assert len(set(rows)) == len(rows)
    assert len(shown) > 30
    for panel in manifests.panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert {target["refId"] for target in panel["targets"]} == set("ABCDEFG"[: len(panel["targets"])])


def test_seconds_are_shown_as_seconds():
    for panel in manifests.panels():
        for target in panel["targets"]:
            ends = re.search(r"_seconds_(sum|bucket)\b", target["expr"]) is not None
            assert ends == (panel["fieldConfig"]["defaults"]["unit"] == "s"), panel["title"]


def test_no_two_panels_overlap_and_none_is_outside():
    panels = manifests.dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] >= 0
        assert at["w"] > 0
        assert at["h"] > 0
        assert at["x"] + at["w"] <= COLUMNS, panel["title"]
    for one, other in itertools.combinations(panels, 2):
        assert apart(one["gridPos"], other["gridPos"]), f"{one['title']} and {other['title']}"


def apart(one: dict[str, int], other: dict[str, int]) -> bool:
    """Whether two rectangles share no cell."""
    return any(
        a[start] + a[size] <= b[start]
        for a, b in ((one, other), (other, one))
        for start, size in (("x", "w"), ("y", "h"))
    )


# --- queries


def test_promtool_accepts_every_query(promtool: Path, tmp_path: Path):  # noqa: F811
    rules = [{"record": f"q:{n}", "expr": expr} for n, expr in enumerate(manifests.expressions().values())]
    said = manifests.run(promtool, "check", "rules", "--lint=none", manifests.write_rules(tmp_path, rules))
    assert f"{len(rules)} rules found" in said


def test_every_query_is_about_the_chosen_job():
    for panel in manifests.panels():
        for target in panel["targets"]:
            for series, matchers in manifests.used(target["expr"]):
                assert ("job", "=~", "$job") in matchers, f"{panel['title']}: {series}"


@pytest.mark.parametrize("where", sorted(manifests.expressions()))
def test_every_metric_of_a_query_is_documented(where: str):
    known = manifests.documented()
    for series, _ in manifests.used(manifests.expressions()[where]):
        assert manifests.family(series, known) in {*known, *manifests.records()}


def test_every_documented_metric_is_shown():
    known = manifests.documented()
    shown = {
        manifests.family(series, known)
        for expr in manifests.expressions().values()
        for series, _ in manifests.used(expr)
    }
    assert set(known) - shown == set()


def test_every_query_finds_what_an_operator_serves(bare: Operator, promtool: Path, tmp_path: Path):  # noqa: F811
    """As alerts that fire when a query has a result: promtool has no other way to ask for "anything"."""
    bare.store.pools.put(
        {
            "metadata": {"name": "p", "uid": "p", "resourceVersion": "8"},
            "spec": {"ranges": [{"first": 8766, "last": 8799}]},
        }
    )
    series = [
        {"series": selector(sample.name, {**sample.labels, **TARGET}), "values": "1+1x120"}
        for metric in bare.metrics.registry.collect()
        for sample in metric.samples
    ]
    queries = manifests.expressions()
    rules = [{"record": name, "expr": expr} for name, expr in manifests.records().items()]
    rules += [{"alert": f"Found{n}", "expr": f"count({expr}) > 0"} for n, expr in enumerate(queries.values())]
    manifests.write_rules(tmp_path, rules)
    expected = [{"exp_labels": {}}]
    cases = [
        {"alertname": f"Found{n}", "eval_time": "60m", "exp_alerts": expected} for n in range(len(queries))
    ]
    tests = tmp_path / "tests.yaml"
    tests.write_text(
        yaml.safe_dump(
            {
                "rule_files": ["rules.yaml"],
                "evaluation_interval": "1m",
                "tests": [{"interval": "30s", "input_series": series, "alert_rule_test": cases}],
            }
        )
    )
    try:
        manifests.run(promtool, "test", "rules", tests)
    except AssertionError as error:
        missing = [list(queries)[int(n)] for n in re.findall(r"alertname: Found(\d+)", str(error))]
        pytest.fail(f"no data: {', '.join(missing)}" if missing else str(error), pytrace=False)


def selector(name: str, labels: dict[str, str]) -> str:
    """A series as promtool writes it."""
    return name + "{" + ", ".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


# --- how it gets there


def test_the_sidecar_of_grafana_finds_it():
    kubectl = obtain(cache_directory()).kubectl
    objects = list(yaml.safe_load_all(manifests.run(kubectl, "kustomize", manifests.MONITORING)))
    assert {one["kind"] for one in objects} == {"ConfigMap", "PodMonitor", "PrometheusRule"}
    assert {one["metadata"]["namespace"] for one in objects} == {"mainstay-system"}
    config_map = next(one for one in objects if one["kind"] == "ConfigMap")
    assert config_map["metadata"]["name"] == "mainstay-dashboard"
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert config_map["data"] == {
        "mainstay.json": (manifests.MONITORING / "grafana-dashboard.json").read_text()
    }


def test_a_prometheus_on_the_same_machine_takes_the_configuration(promtool: Path, tmp_path: Path):  # noqa: F811
    (tmp_path / "prometheus.yaml").write_text((manifests.MONITORING / "laptop/prometheus.yaml").read_text())
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": manifests.groups()}))
    (tmp_path / "targets.json").write_text('[{"targets": ["127.0.0.1:39581"]}]')
    said = manifests.run(promtool, "check", "config", tmp_path / "prometheus.yaml")
    assert "1 rule files found" in said
