"""Alerts and recording rules: promtool accepts them, each fires when it should and not when it should not."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from tests.support.promtool import promtool  # noqa: F401 - a fixture
from tests.unit.monitoring import manifests
from tests.unit.shell.test_metrics import bare  # noqa: F401 - a fixture

from mainstay.core import reasons
from mainstay.shell.operator import Operator

ALERTS = Path(__file__).parent / "alerts"
FILES = sorted(file.stem for file in ALERTS.glob("*.yaml"))
OF_THE_MISSION = {
    "MainstayWorkerNotRestarted": "page",
    "MainstayLiquidationCreated": "warning",
    "MainstayStateWriteCutOff": "error",
}
REASONS = {value for value in vars(reasons).values() if isinstance(value, str)}


def spec(groups: list[dict[str, Any]]) -> str:
    """The groups as Prometheus reads them from a file, of the annotations only the summary."""
    kept = copy.deepcopy(groups)
    for rule in (rule for group in kept for rule in group["rules"]):
        if "alert" in rule:
            rule["annotations"] = {"summary": rule["annotations"]["summary"]}
    return yaml.safe_dump({"groups": kept})


def told_in_tests(file: str) -> list[dict[str, Any]]:
    """Every alert_rule_test of a file."""
    tests = yaml.safe_load((ALERTS / f"{file}.yaml").read_text())["tests"]
    return [case for test in tests for case in test.get("alert_rule_test", ())]


def test_promtool_accepts_the_rules(promtool: Path, tmp_path: Path):  # noqa: F811
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": manifests.groups()}))
    number = len(manifests.alerts()) + len(manifests.records())
    assert f"{number} rules found" in manifests.run(promtool, "check", "rules", "--lint-fatal", file)


@pytest.mark.parametrize("file", FILES)
def test_alerts_fire_and_do_not_fire(promtool: Path, tmp_path: Path, file: str):  # noqa: F811
    (tmp_path / "rules.yaml").write_text(spec(manifests.groups()))
    shutil.copy(ALERTS / f"{file}.yaml", tmp_path)
    manifests.run(promtool, "test", "rules", tmp_path / f"{file}.yaml")


@pytest.mark.parametrize("group", manifests.groups(), ids=lambda group: group["name"])
def test_every_alert_is_tested_both_ways(group: dict[str, Any]):
    told = told_in_tests(group["name"].removeprefix("mainstay."))
    names = {rule["alert"] for rule in group["rules"] if "alert" in rule}
    assert {case["alertname"] for case in told if case["exp_alerts"]} == names
    assert {case["alertname"] for case in told if not case["exp_alerts"]} == names


@pytest.mark.parametrize("broken", ["vector(1)", "vector(1) > 1"], ids=["always", "never"])
@pytest.mark.parametrize("file", FILES)
def test_the_tests_notice_alerts_that_always_fire_or_never(
    promtool: Path,  # noqa: F811
    tmp_path: Path,
    file: str,
    broken: str,
):
    groups = manifests.groups()
    group = next(one for one in groups if one["name"] == f"mainstay.{file}")
    planted = {rule["alert"]: rule for rule in group["rules"] if "alert" in rule}
    for rule in planted.values():
        rule["expr"] = broken
        rule.pop("for", None)
    (tmp_path / "rules.yaml").write_text(spec(groups))
    shutil.copy(ALERTS / f"{file}.yaml", tmp_path)
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / f"{file}.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr)) == set(planted)


def test_the_three_alerts_of_the_mission_are_there():
    found = {name: rule["labels"]["severity"] for name, rule in manifests.alerts().items()}
    assert found.items() >= OF_THE_MISSION.items()
    assert set(found.values()) == {"page", "error", "warning"}


@pytest.mark.parametrize("name", sorted(manifests.alerts()))
def test_every_alert_says_what_it_means_and_what_to_do(name: str):
    notes = manifests.alerts()[name]["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    assert notes["runbook"] == f"docs/monitoring.md#{name.lower()}"
    chapter = re.search(
        rf"^### {name}$(.*?)(?=^##|\Z)",
        (manifests.ROOT / "docs/monitoring.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert chapter, f"docs/monitoring.md has no section {name}"
    for part in ("**Means.**", "**Look.**", "**Do.**"):
        assert part in chapter[1], f"{name}: {part}"


def test_the_runbook_has_no_section_of_an_alert_that_does_not_exist():
    sections = re.findall(
        r"^### (Mainstay\w+)$", (manifests.ROOT / "docs/monitoring.md").read_text(), re.MULTILINE
    )
    assert sections == list(manifests.alerts())


@pytest.mark.parametrize("name", [*manifests.alerts(), *manifests.records()])
def test_every_metric_of_a_rule_is_documented(name: str):
    known = manifests.documented()
    rule = manifests.alerts().get(name)
    series = manifests.used(rule["expr"] if rule else manifests.records()[name])
    assert series
    for each, _ in series:
        assert manifests.family(each, known) in {*known, *manifests.records()}


@pytest.mark.parametrize("name", [*manifests.alerts(), *manifests.records()])
def test_every_label_of_a_rule_has_that_value_somewhere(bare: Operator, name: str):  # noqa: F811
    values: dict[tuple[str, str], set[str]] = {}
    for metric in bare.metrics.registry.collect():
        for sample in metric.samples:
            for label, value in sample.labels.items():
                values.setdefault((sample.name, label), set()).add(value)
    rule = manifests.alerts().get(name)
    for series, matchers in manifests.used(rule["expr"] if rule else manifests.records()[name]):
        for label, _, wanted in matchers:
            if series in manifests.records():
                continue
            known = REASONS if label == "reason" else values.get((series, label), set())
            assert set(wanted.split("|")) <= known, f"{series} has no {label} {wanted}"


def test_promtool_has_nothing_against_the_metrics(bare: Operator, promtool: Path):  # noqa: F811
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(bare.metrics.registry).decode(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
