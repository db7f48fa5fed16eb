"""Libraries, strategies and references to them that admission refuses, with the field named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.integration.api.client import Api, library, path, run, strategy

L, S = "spec.source", "spec.strategy"
GOOD = "sha256:" + "a" * 64


def directory(text: str) -> dict[str, Any]:
    return library(source={"directory": text})


def limit(value: Any) -> dict[str, Any]:
    return library(rollout={"maxUnavailable": value})


def uses(**ref: Any) -> dict[str, Any]:
    return run(strategy={"name": "Ema", **ref})


def from_file(name: str) -> dict[str, Any]:
    return strategy(source={"file": {"path": name}})


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    # libraries
    "library of 254": (library("a" * 254), "metadata.name", "no more than 253"),
    "library that climbs": (library("../x"), "metadata.name", "RFC 1123"),
    "library with a lookalike": (library("mаin"), "metadata.name", "RFC 1123"),
    "two sources": (
        library(source={"directory": "/x", "configMaps": {"matchLabels": {"a": "b"}}}),
        L,
        "exactly one of directory and configMaps",
    ),
    "no source": (library(source={}), L, "exactly one of directory and configMaps"),
    "source missing": (library(source=None), L, "Required value"),
    "directory that climbs": (directory("../../x"), f"{L}.directory", "`..` segment"),
    "directory that climbs later": (directory("/a/../../etc"), f"{L}.directory", "`..` segment"),
    "directory that climbs last": (directory("/a/.."), f"{L}.directory", "`..` segment"),
    "directory with NUL": (directory("/a\0b"), f"{L}.directory", "should match"),
    "directory with a newline": (directory("/a\nb"), f"{L}.directory", "should match"),
    "no directory": (directory(""), f"{L}.directory", "at least 1 char"),
    "directory of 3073": (directory("/" + "a" * 3072), f"{L}.directory", "may not be more than 3072"),
    "no labels": (
        library(source={"configMaps": {"matchLabels": {}}}),
        f"{L}.configMaps.matchLabels",
        "at least 1",
    ),
    "default that climbs": (library(default="../x"), "spec.default", "should match"),
    "default with a lookalike": (library(default="Еma"), "spec.default", "should match"),
    "default of 101": (library(default="a" * 101), "spec.default", "may not be more than 100"),
    "no pattern": (library(include=[]), "spec.include", "at least 1 items"),
    "17 patterns": (library(include=["*"] * 17), "spec.include", "at most 16 items"),
    "pattern with a slash": (library(include=["../*"]), "spec.include[0]", "should match"),
    "pattern with NUL": (library(include=["a\0"]), "spec.include[0]", "should match"),
    "debounce below 0": (library(debounceMilliseconds=-1), "spec.debounceMilliseconds", "greater than"),
    "debounce of an hour": (library(debounceMilliseconds=3600000), "spec.debounceMilliseconds", "less than"),
    "rescan at once": (library(rescanSeconds=0), "spec.rescanSeconds", "greater than"),
    "files of 2^63": (library(maxFileBytes=2**63), "spec.maxFileBytes", "must be of type integer"),
    "files of a GB": (library(maxFileBytes=2**30), "spec.maxFileBytes", "less than"),
    "no history": (library(revisionHistoryLimit=0), "spec.revisionHistoryLimit", "greater than"),
    "history of 51": (library(revisionHistoryLimit=51), "spec.revisionHistoryLimit", "less than"),
    # strategies
    "strategy of 254": (strategy("a" * 254), "metadata.name", "no more than 253"),
    "strategy in capitals": (strategy("Ema"), "metadata.name", "RFC 1123"),
    "both file and inline": (
        strategy(source={"file": {"path": "a.py"}, "inline": "x"}),
        L,
        "exactly one of file, configMap and inline",
    ),
    "nothing at all": (strategy(source={}), L, "exactly one of file, configMap and inline"),
    "file that climbs": (from_file("../x"), f"{L}.file.path", "should match"),
    "file elsewhere": (from_file("/etc/passwd"), f"{L}.file.path", "should match"),
    "file in a directory": (from_file("a/b.py"), f"{L}.file.path", "should match"),
    "hidden file": (from_file(".x.py"), f"{L}.file.path", "should match"),
    "file with NUL": (from_file("a\0.py"), f"{L}.file.path", "should match"),
    "file with a newline": (from_file("a\n.py"), f"{L}.file.path", "should match"),
    "file with a lookalike": (from_file("Еma.py"), f"{L}.file.path", "should match"),
    "file of 256": (from_file("a" * 256), f"{L}.file.path", "may not be more than 255"),
    "inline of 300 KB": (strategy(source={"inline": "x" * 300_000}), f"{L}.inline", "may not be more than 262144"),
    "257 users": (strategy(users=[{"name": f"u{n}"} for n in range(257)]), "spec.users", "at most 256 items"),
    "a user twice": (strategy(users=[{"name": "u"}, {"name": "u"}]), "spec.users[1]", "Duplicate value"),
    "user without a name": (strategy(users=[{"name": ""}]), "spec.users[0].name", "at least 1 char"),
    "suffix of a file": (
        strategy(source={"file": {"path": "a.py"}}, suffix=".py"),
        "spec.suffix",
        "suffix is for inline sources",
    ),
    "suffix that climbs": (strategy(suffix="./../x"), "spec.suffix", "should match"),
    "name that climbs": (strategy(name="../x"), "spec.name", "should match"),
    "name with a lookalike": (strategy(name="Еma"), "spec.name", "should match"),
    "name with a newline": (strategy(name="Ema\n"), "spec.name", "should match"),
    "name of 101": (strategy(name="a" * 101), "spec.name", "may not be more than 100"),
    "library of it climbs": (strategy(library="../x"), "spec.library", "should match"),
    "library of it of 254": (strategy(library="a" * 254), "spec.library", "may not be more than"),
    # runs
    "run of a name that climbs": (uses(name="../../x"), f"{S}.name", "should match"),
    "run of a path": (uses(name="/etc/passwd"), f"{S}.name", "should match"),
    "run of a file name": (uses(name="Ema.py"), f"{S}.name", "should match"),
    "run of a lookalike": (uses(name="Еma"), f"{S}.name", "should match"),
    "run of NUL": (uses(name="a\0"), f"{S}.name", "should match"),
    "run of 254": (uses(name="a" * 254), f"{S}.name", "may not be more than 100"),
    "run of nothing": (run(strategy={}), f"{S}.name", "Required value"),
    "run of a library of 254": (uses(library="a" * 254), f"{S}.library", "may not be more than"),
    "run of a library that climbs": (uses(library="../x"), f"{S}.library", "should match"),
    "revision that is none": (uses(revision="latest"), f"{S}.revision", "should match"),
    "revision of a path": (uses(revision="sha256:../../" + "a" * 58), f"{S}.revision", "should match"),
    "revision in capitals": (uses(revision=GOOD.upper()), f"{S}.revision", "should match"),
    "revision with capital digits": (uses(revision="sha256:" + "A" * 64), f"{S}.revision", "should match"),
    "revision too short": (uses(revision=GOOD[:-1]), f"{S}.revision", "should match"),
    "revision too long": (uses(revision=GOOD + "a"), f"{S}.revision", "may not be more than 71"),
    "revision and a newline": (uses(revision=GOOD[:-1] + "\n"), f"{S}.revision", "should match"),
    "policy in lower case": (
        run(strategy={"name": "E"}, strategyUpdatePolicy="restart"),
        "spec.strategyUpdatePolicy",
        "supported values",
    ),
    "fallback in lower case": (
        run(strategy={"name": "E"}, fallbackPolicy="keepLast"),
        "spec.fallbackPolicy",
        "supported values",
    ),
    "fallback without a strategy": (run(fallbackPolicy="Stop"), S, "are for runs with a strategy"),
    "update policy without a strategy": (run(strategyUpdatePolicy="Ignore"), S, "are for runs with a strategy"),
}  # fmt: skip
for reserved in ("STRATEGY_NAME", "STRATEGY_PATH", "STRATEGY_HASH"):
    REFUSED[f"env {reserved}"] = (
        run(program={"command": ["x"], "env": [{"name": reserved, "value": "y"}]}),
        "spec.program.env[0].name",
        "set by Mainstay",
    )


@pytest.mark.parametrize("case", REFUSED)
def test_refused(api: Api, case: str) -> None:
    document, field, text = REFUSED[case]
    api.create(document, dry=True).refuses(field, text)


@pytest.mark.parametrize(
    "value",
    [0, -1, "101%", "x", "", "%", "-1%", "1.5%", " 1%", "１%", "010%", 2**31, 2**63, 1.5, None, True, [1]],
)
def test_limits(api: Api, value: Any) -> None:
    answer = api.create(limit(value), dry=True)
    if value is None:  # dropped by the API server before it validates
        assert "maxUnavailable" not in answer.ok()["spec"]["rollout"]
        return
    assert answer.code == 422, answer.body
    assert {field for field, _ in answer.causes} >= {"spec.rollout.maxUnavailable"}, answer.causes


@pytest.mark.parametrize("number", ["NaN", "1e999", "01"])
def test_a_limit_that_is_no_number(api: Api, number: str) -> None:
    text = json.dumps(limit(7)).replace('"maxUnavailable": 7', f'"maxUnavailable": {number}')
    answer = api.request("POST", path("StrategyLibrary"), text, dryRun="All", fieldValidation="Strict")
    assert answer.code == 400, answer.body


ALLOWED: dict[str, dict[str, Any]] = {
    "limit of 1": limit(1),
    "limit of 0%: at least one all the same": limit("0%"),
    "limit of 100%": limit("100%"),
    "dots that are no segment": directory("/a/..b/c../..."),
    "relative": directory("samples/strategies"),
    "inline of 262144": strategy(source={"inline": "x" * 262_144}),
    "256 users": strategy(users=[{"name": f"u{n}"} for n in range(256)]),
    "nothing in it": strategy(source={"inline": ""}),
    "text": strategy(source={"inline": "x"}, suffix=".txt"),
    "revision": uses(revision=GOOD),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(api: Api, case: str) -> None:
    api.create(ALLOWED[case], dry=True).ok()


FIXED = {
    "name": ({"name": "Other"}, "spec.name"),
    "name taken away": ({"name": None}, "spec.name"),
    "library": ({"library": "other"}, "spec.library"),
    "library taken away": ({"library": None}, "spec.library"),
}


@pytest.mark.parametrize("case", FIXED)
def test_what_never_changes(api: Api, case: str) -> None:
    change, field = FIXED[case]
    api.create(strategy(name="Ema", library="mine")).ok()
    api.patch("Strategy", "s", {"spec": change}).refuses(field, "can't be")
    api.patch("Strategy", "s", {"spec": {"source": {"inline": "y"}}}).ok()


def test_a_name_that_was_left_out(api: Api) -> None:
    api.create(strategy()).ok()
    api.patch("Strategy", "s", {"spec": {"name": "Ema"}}).refuses("spec.name", "can't be")
    api.patch("Strategy", "s", {"spec": {"library": "main"}}).ok()  # that is what it was


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (library(Source={}), 'unknown field "spec.Source"'),
        (library(source={"directory": "/x", "Recursive": True}), 'unknown field "spec.source.Recursive"'),
        (strategy(source={"inline": "x", "url": "http://x"}), 'unknown field "spec.source.url"'),
        (uses(Revision=GOOD), 'unknown field "spec.strategy.Revision"'),
    ],
    ids=["library", "source", "strategy", "run"],
)
def test_unknown_fields(api: Api, document: dict[str, Any], field: str) -> None:
    answer = api.create(document, dry=True)
    assert answer.code == 400
    assert f"strict decoding error: {field}" in answer.message
