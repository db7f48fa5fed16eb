"""`mainstay rollback`, and which strategy `mainstay run -s` means."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import yaml
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli import cluster as talk
from mainstay.cli.app import app
from mainstay.shell.kube import LIBRARIES, RUNS, STRATEGIES, path

NEW, OLD, OLDER, OTHER = (f"sha256:{letter * 64}" for letter in "abcd")
ALIKE = "sha256:" + "b" * 63 + "0"
AT = "2026-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Cluster()
    made.add(LIBRARIES, "main", {"source": {"directory": "/data/strategies"}})
    revisions = [{"hash": h, "file": "Ema.py", "size": 9, "seenAt": AT} for h in (NEW, OLD, OLDER)]
    spec = {"name": "Ema", "source": {"file": {"path": "Ema.py"}}}
    made.add(STRATEGIES, "main.ema", spec, revision=NEW, revisions=revisions)
    ready = [{"type": "Ready", "status": "True", "reason": "Paused"}]
    for name, asked, content in (
        ("new", {"name": "Ema"}, NEW),
        ("old", {"name": "Ema", "revision": OLD}, OLD),
        ("oldest", {"name": "Ema", "revision": OLDER}, OLDER),
        ("foreign", {"name": "Ema"}, OTHER),
        ("gone", {"name": "Gone"}, OTHER),
        ("plain", None, None),
    ):
        use = {"strategy": {"name": asked["name"], "hash": content}} if asked and content else {}
        spec = {"program": {"command": ["x"]}, **({"strategy": asked} if asked else {})}
        made.add(RUNS, name, spec, phase="Paused", conditions=ready, **use)
    monkeypatch.setattr(talk.Kube, "connect", made.connect)
    with tempfile.TemporaryDirectory(prefix="ms-cli-") as directory:
        monkeypatch.setenv("MAINSTAY_HOME", directory)
        yield made


def said(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert "Traceback" not in result.output
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "content"),
    [
        (["new"], OLD),
        (["old"], OLDER),
        (["new", "cccccc"], OLDER),
        (["new", "CCCCCCCC"], OLDER),
        (["new", OLDER], OLDER),
        (["old", "aaaaaa"], NEW),
        (["old", "--off"], None),
        (["foreign", "dddddd"], OTHER),
        (["gone", "dddddd"], OTHER),
        (["gone", NEW], NEW),
    ],
)
def test_what_is_asked_for(cluster: Cluster, arguments: list[str], content: str | None):
    code, text = said("rollback", *arguments)
    assert code == 0, text
    (patch,) = cluster.patches
    assert patch == (
        path(RUNS, "default", arguments[0]), {"spec": {"strategy": {"revision": content}}}
    )  # fmt: skip
    assert ("--off` lets it follow" in text) is (content is not None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["oldest"], f"there is none before cccccccccccc of Ema: {NEW}"),
        (["foreign"], f"not one of the revisions that are kept of Ema; say which one: {NEW}"),
        (["new", "ccccc"], "at least the first 6 digits"),
        (["new", "zzzzzz"], "at least the first 6 digits"),
        (["new", "eeeeee"], f"no revision that is kept of Ema: {NEW}"),
        (["new", "e" * 64], f"no revision that is kept of Ema: {NEW}"),
        (["gone"], "its list of revisions went with it"),
        (["plain"], "uses no strategy"),
        (["nobody"], "no StrategyRun"),
        (["job/x"], "rollback is for runs"),
        (["new", "cccccc", "--off"], "goes without a revision"),
    ],
)
def test_refusals_say_what_there_is(cluster: Cluster, arguments: list[str], says: str):
    code, text = said("rollback", *arguments)
    assert code == 1
    assert says in text
    assert cluster.patches == []


def test_a_beginning_of_two(cluster: Cluster):
    revisions = cluster.objects[path(STRATEGIES, "default", "main.ema")]["status"]["revisions"]
    revisions.append({"hash": ALIKE, "file": "Ema.py", "size": 9, "seenAt": AT})
    code, text = said("rollback", "new", "bbbbbb")
    assert code == 1
    assert "the beginning of 2 revisions" in text


def test_off_where_it_follows_already(cluster: Cluster):
    assert said("rollback", "new", "--off") == (0, "new follows the newest revision of Ema already")
    assert cluster.patches == []


def test_a_dry_run_prints_what_it_stands_for(cluster: Cluster):
    told = yaml.safe_load(CliRunner().invoke(app, ["rollback", "new", "--dry-run"]).stdout)
    assert told["spec"] == {"strategy": {"name": "Ema", "revision": OLD}}
    assert cluster.patches == []


def test_a_paused_run_takes_it_later():
    assert "takes it when it is resumed" in said("rollback", "new")[1]


def test_status_of_a_run_that_was_rolled_back():
    assert "follow the newest again: mainstay rollback old --off" in said("status", "old")[1]


# --- run -s


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Ema", {"name": "Ema"}),
        ("main/Ema", {"library": "main", "name": "Ema"}),
        ("Ema.py", {"name": "Ema"}),
        ("lab/Ema.py", {"library": "lab", "name": "Ema"}),
        ("main.ema", {"name": "Ema"}),
    ],
)
def test_a_strategy_by_its_names(text: str, asked: dict[str, str]):
    result = CliRunner().invoke(app, ["run", "x", "-s", text, "--dry-run", "--", "x"])
    assert yaml.safe_load(result.stdout)["spec"]["strategy"] == asked


@pytest.mark.parametrize("text", ["a/b/c", "/Ema", "lab/", "", "main.nobody", "a b", "Ema.lua"])
def test_what_is_no_name_of_a_strategy(text: str):
    code, told = said("run", "x", "-s", text, "--dry-run", "--", "x")
    assert code == 1
    assert f"--strategy {text}: " in told or f"--strategy {text}:" in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Emma", "library main has no strategy Emma; called alike: Ema"),
        ("Zzzzzz", "`mainstay status library/main` lists what it has"),
        ("lab/Ema", "no library lab in namespace default (there are: main)"),
        ("Ema", ""),
    ],
)
def test_a_name_that_nobody_has_is_noted(text: str, says: str):
    code, told = said("run", "x", "-s", text, "--no-wait", "--", "x")
    assert code == 0
    assert told == f"strategyrun/x created {says}".strip() or (says and says in told)


def test_a_run_that_does_not_come_up_stays_in_words():
    code, told = said("run", "x", "--timeout", "0", "--", "x")
    assert code == 1
    assert "x is not as asked after 0 s: nobody has looked at it" in told
    assert "kubectl delete srun x takes it away" in told
