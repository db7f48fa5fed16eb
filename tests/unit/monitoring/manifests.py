"""What manifests/monitoring and docs/metrics.md have, in the form the tests look at it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "manifests/monitoring"
SERIES = re.compile(r"\b(mainstay[_:][a-z0-9_:]+)\s*(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
OF_HISTOGRAMS = ("_bucket", "_sum", "_count")


def groups() -> list[dict[str, Any]]:
    """The groups of the PrometheusRule."""
    return yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]["groups"]


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    rules = [rule for group in groups() for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


def records() -> dict[str, str]:
    """Every recording rule's expression by its name."""
    rules = [rule for group in groups() for rule in group["rules"]]
    return {rule["record"]: rule["expr"] for rule in rules if "record" in rule}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return json.loads((MONITORING / "grafana-dashboard.json").read_text())


def panels() -> list[dict[str, Any]]:
    """Every panel that shows something; rows apart."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """Every query of the dashboard by "panel/refId", with Grafana's variables filled in."""
    return {
        f"{panel['title']}/{target['refId']}": filled(target["expr"])
        for panel in panels()
        for target in panel["targets"]
    }


def filled(expr: str) -> str:
    """Put in what Grafana would."""
    return expr.replace("$__rate_interval", "2m").replace("$job", ".*")


def documented() -> dict[str, str]:
    """Every metric of docs/metrics.md with its type."""
    rows = re.findall(
        r"^\| `(mainstay_[a-z_]+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
    )
    return dict(rows)


def used(expr: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Each series of ours that an expression selects, with its matchers (label, operator, value)."""
    return [(name, MATCHER.findall(inside)) for name, inside in SERIES.findall(expr)]


def family(name: str, known: dict[str, str]) -> str:
    """The metric that a series belongs to: of x_bucket x, if that is a histogram."""
    for suffix in OF_HISTOGRAMS:
        if known.get(name.removesuffix(suffix)) == "histogram":
            return name.removesuffix(suffix)
    return name


def run(promtool: Path, *args: str | Path) -> str:
    """Run promtool; its output. AssertionError with all it said if it objects."""
    done = subprocess.run(
        [promtool, *args], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"promtool {args[0]} {args[1]}:\n{done.stdout}{done.stderr}"
    return done.stdout


def write_rules(directory: Path, rules: list[dict[str, Any]], *, every: str = "30s") -> Path:
    """Write rules as the file rules.yaml of Prometheus."""
    file = directory / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "one", "interval": every, "rules": rules}]}))
    return file
