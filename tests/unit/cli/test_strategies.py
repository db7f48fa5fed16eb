"""`mainstay status` on libraries, strategies and runs of them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli import cluster as talk
from mainstay.cli.app import app
from mainstay.shell.kube import LIBRARIES, RUNS, STRATEGIES

NEW, OLD, OTHER = (f"sha256:{letter * 64}" for letter in "abc")
AT = "2026-01-01T00:00:00Z"


def said(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def revision(content: str) -> dict[str, Any]:
    return {"hash": content, "file": "EmaRsiStrategy.py", "size": 1200, "seenAt": AT}


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A library with a good, a broken and a missing strategy; a run on a fallback, one behind the times."""
    made = Cluster()
    made.add(
        LIBRARIES, "main", {"source": {"directory": "/data/strategies"}, "default": "EmaRsiStrategy"},
        strategies=3, invalid=1, problemCount=1,
        problems=[{"file": "a b.py", "reason": "NameInvalid", "message": "rename it"}],
        conditions=[said("Ready", "False", "NameInvalid", "a b.py: rename it"),
                    said("Watching", "True", "Watching"),
                    said("DefaultAvailable", "True", "DefaultOffered")],
    )  # fmt: skip
    good = {"library": "main", "name": "EmaRsiStrategy", "source": {"file": {"path": "EmaRsiStrategy.py"}},
            "users": [{"name": "research", "endpoint": "http://10.0.0.7"}]}  # fmt: skip
    made.add(
        STRATEGIES, "main.ema-rsi-strategy", good,
        hash=NEW, md5="f" * 32, size=1200, modifiedAt=AT, valid=True, revision=NEW, file="EmaRsiStrategy.py",
        revisions=[revision(NEW), revision(OLD)], usedBy={"count": 3},
        conditions=[said("Ready", "True", "Offered", "revision aaaaaaaaaaaa")],
    )  # fmt: skip
    for name, called, reason in (
        ("main.broken", "Broken", "StrategyInvalid"), ("main.gone", "Gone", "SourceMissing")
    ):  # fmt: skip
        spec = {"name": called, "source": {"file": {"path": f"{called}.py"}}}
        made.add(
            STRATEGIES, name, spec, conditions=[said("Ready", "False", reason, f"{called}.py: line 3: no")]
        )
    for name, asked, content, fallback, resolved in (
        ("a", "EmaRsiStrategy", NEW, False, said("StrategyResolved", "True", "InUse")),
        ("b", "EmaRsiStrategy", OLD, False, said("StrategyResolved", "False", "UpdateIgnored", "later")),
        ("c", "Gone", OTHER, True, said("StrategyResolved", "False", "FallbackInUse", "until it is back")),
    ):
        use = {"name": "EmaRsiStrategy", "hash": content, "file": "EmaRsiStrategy.py", "fallback": fallback}
        spec = {"strategy": {"name": asked}, "program": {"command": ["x"]}}
        conditions = [said("Ready", "True", "Running"), resolved]
        made.add(RUNS, name, spec, phase="Running", strategy=use, conditions=conditions)
    monkeypatch.setattr(talk.Kube, "connect", made.connect)
    with tempfile.TemporaryDirectory(prefix="ms-cli-") as directory:
        (Path(directory) / "home-id").write_text("test\n")
        monkeypatch.setenv("MAINSTAY_HOME", directory)
        yield made


def status(*arguments: str) -> str:
    return CliRunner().invoke(app, ["status", *arguments]).output


def row(text: str, begin: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(begin))


def test_libraries_and_only_what_is_wrong_in_them():
    text = status()
    library = row(text, "main ")
    assert library.split()[:6] == ["main", "3", "1", "1", "EmaRsiStrategy", "/data/strategies"]
    assert "NameInvalid: a b.py: rename it" in library
    assert "StrategyInvalid: Broken.py: line 3: no" in row(text, "  ✗ Broken")
    assert "SourceMissing: Gone.py" in row(text, "  ! Gone")
    assert "ema-rsi-strategy" not in text
    assert "EmaRsiStrategy (fallback)" in row(text, "c ")
    assert "FallbackInUse: until it is back" in row(text, "c ")
    assert "fallback" not in row(text, "a ")


def test_as_json():
    told = json.loads(CliRunner().invoke(app, ["status", "-o", "json"]).stdout)
    (library,) = told["libraries"]
    assert [one["name"] for one in library["notReady"]] == ["Broken", "Gone"]
    assert library["problems"][0]["file"] == "a b.py"
    runs = {run["name"]: run for run in told["runs"]}
    assert (runs["c"]["strategy"], runs["c"]["fallback"], runs["c"]["revision"]) == (
        "EmaRsiStrategy",
        True,
        OTHER,
    )
    assert runs["a"]["strategyProblem"] == ""
    assert json.loads(CliRunner().invoke(app, ["status", "strategy/Broken", "-o", "json"]).stdout)["kind"]


@pytest.mark.parametrize(
    ("default", "reason", "cell", "words"),
    [
        ("Absent", "DefaultNotFound", "Absent (missing)", "the default Absent is not there: users of"),
        ("Gone", "DefaultNotFound", "Gone (missing)", "the default Gone is not there: users of"),
        ("Broken", "DefaultNotFound", "Broken (invalid)", "the default Broken is invalid: users of"),
        (None, "NoDefault", "", "no default: users of"),
    ],
)
@pytest.mark.parametrize("command", [[], ["library/main"]])
def test_a_default_that_can_not_be_had(
    cluster: Cluster, default: str | None, reason: str, cell: str, words: str, command: list[str]
):
    (url,) = (url for url in cluster.objects if url.endswith("/main"))
    cluster.objects[url]["spec"]["default"] = default
    cluster.objects[url]["status"]["conditions"][2] = said("DefaultAvailable", "False", reason)
    text = row(status(*command), "main ")
    assert cell in text
    assert words in text
    assert """kubectl patch slib main --type merge -p '{"spec":{"default":"NAME"}}'""" in text


def test_a_default_whose_file_can_not_be_read_is_invalid(cluster: Cluster):
    (url,) = (url for url in cluster.objects if url.endswith("/main"))
    cluster.objects[url]["spec"]["default"] = "Large"
    cluster.objects[url]["status"]["conditions"][2] = said("DefaultAvailable", "False", "DefaultNotFound")
    problem = {"file": "Large.py", "reason": "FileTooLarge", "message": "too large"}
    cluster.objects[url]["status"]["problems"] = [problem]
    assert "Large (invalid)" in status()


def test_a_default_that_is_there_asks_for_nothing():
    assert "kubectl patch slib" not in status()


def test_strategies_of_no_library(cluster: Cluster):
    spec = {"library": "lab", "source": {"inline": "x"}}
    cluster.add(STRATEGIES, "bad", spec, conditions=[said("Ready", "False", "StrategyInvalid", "no")])
    cluster.add(STRATEGIES, "good", {"library": "other", "source": {"inline": "x"}})
    text = status()
    assert "there is no StrategyLibrary of this name" in row(text, "lab ")
    assert "other" not in text


@pytest.mark.parametrize("name", ["strategy/EmaRsiStrategy", "strat/main.ema-rsi-strategy"])
def test_a_strategy_in_depth(name: str):
    text = status(name)
    assert text.splitlines()[0].split() == [
        "strategy/main.ema-rsi-strategy", "EmaRsiStrategy", "library", "main"
    ]  # fmt: skip
    assert row(text, "hash").endswith(NEW)
    assert row(text, "md5").endswith("f" * 32)
    assert row(text, "size").endswith("1200 bytes")
    assert AT in row(text, "modified")
    assert "research (http://10.0.0.7)" in row(text, "external")
    assert row(text, NEW).split()[-1] == "a"
    assert row(text, OLD).split()[-1] == "b"
    assert row(text, OTHER).split() == [OTHER, "c", "(fallback)"]
    assert "mainstay rollback a bbbbbbbbbbbb\n" in text
    assert (
        f"""kubectl patch srun a --type merge -p '{{"spec":{{"strategy":{{"revision":"{OLD}"}}}}}}'""" in text
    )


def test_a_strategy_whose_user_runs_another():
    assert "c names it and runs EmaRsiStrategy cccccccccccc" in status("strategy/Gone")


def test_two_of_one_name(cluster: Cluster):
    spec = {"library": "lab", "name": "Broken", "source": {"inline": "x"}}
    cluster.add(STRATEGIES, "lab.broken", spec)
    assert "say which: strategy/main.broken, strategy/lab.broken" in " ".join(
        status("strategy/Broken").split()
    )


def test_a_library_in_depth():
    text = status("library/main")
    assert row(text, "EmaRsiStrategy").split()[:4] == ["EmaRsiStrategy", "True", "aaaaaaaaaaaa", "3"]
    assert "StrategyInvalid" in row(text, "Broken")
    assert row(text, "a b.py").split()[2:] == ["NameInvalid", "rename", "it"]


def test_users_of_each_strategy_of_a_library(cluster: Cluster):
    (url,) = (url for url in cluster.objects if url.endswith("/main.ema-rsi-strategy"))
    names = [f"bot-{i:02}" for i in range(20)]
    cluster.objects[url]["status"]["usedBy"] = {"count": 31, "runs": names, "external": ["research"]}
    assert "bot-00, bot-01, " in row(status("library/main"), "EmaRsiStrategy")
    assert "bot-07 and 23 more" in row(status("library/main"), "EmaRsiStrategy")


def test_long_file_names_and_what_is_told_of_them(cluster: Cluster):
    (url,) = (url for url in cluster.objects if url.endswith("/main"))
    long = "x" * 200 + ".py"
    message = f"{long[:120]!r}: names of strategies are letters"
    problem = {"file": long, "reason": "NameInvalid", "message": message}
    cluster.objects[url]["status"]["problems"] = [problem]
    line = row(status("library/main"), "xxx")
    assert len(line) < 120
    assert line.split()[0].endswith("x.py")
    assert line.split()[1:] == ["NameInvalid", "names", "of", "strategies", "are", "letters"]


def test_a_file_is_named_once_in_the_row_of_its_library(cluster: Cluster):
    (url,) = (url for url in cluster.objects if url.endswith("/main"))
    cluster.objects[url]["status"]["conditions"][0]["message"] = "a b.py: 'a b.py': rename it, and 1 more"
    assert "NameInvalid: a b.py: rename it, and 1 more" in row(status(), "main ")


def test_times_are_told_to_the_second(cluster: Cluster):
    (url,) = (url for url in cluster.objects if url.endswith("/main.ema-rsi-strategy"))
    cluster.objects[url]["status"]["modifiedAt"] = "2026-01-01T00:00:00.123456Z"
    assert row(status("strategy/EmaRsiStrategy"), "modified").split()[1] == AT


@pytest.mark.parametrize("name", ["Vanished", "main/Vanished", "main.vanished"])
def test_a_strategy_that_is_gone_and_who_asks_for_it(cluster: Cluster, name: str):
    cluster.add(RUNS, "d", {"strategy": {"name": "Vanished"}, "program": {"command": ["x"]}})
    text = " ".join(status(f"strategy/{name}").split())
    assert "A run that asks for it: d." in text
    assert """kubectl patch srun d --type merge -p '{"spec":{"strategy":{"name":"OTHER"}}}'""" in text


def test_a_strategy_that_nobody_asks_for():
    text = status("strategy/EmaRsiStratgy")
    assert "Called alike: EmaRsiStrategy." in text
    assert "asks for it" not in text


def test_a_strategy_of_a_library(cluster: Cluster):
    spec = {"library": "lab", "name": "Broken", "source": {"inline": "x"}}
    cluster.add(STRATEGIES, "lab.broken", spec)
    assert status("strategy/lab/Broken").startswith("strategy/lab.broken ")
    assert status("strategy/main/Broken").startswith("strategy/main.broken ")
    assert "no Strategy" in status("strategy/lab/EmaRsiStrategy")
    assert status("strategy/lab/x/y").startswith("error:")


def test_a_run_in_depth():
    text = status("c")
    assert row(text, "asks for").endswith("Gone of library main")
    assert row(text, "runs").endswith(f"EmaRsiStrategy (fallback), revision {OTHER}")
    assert row(text, "StrategyResolved").endswith("False FallbackInUse: until it is back")


def test_none_of_that_name():
    assert "There is a StrategyRun of this name: run/a" in " ".join(status("strategy/a").split())
