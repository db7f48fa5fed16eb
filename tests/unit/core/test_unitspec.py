"""A declaration, resolved."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.core.worlds import UID, a_run

from mainstay.api.strategyrun import StrategyInUse
from mainstay.core.expand import expand
from mainstay.core.plan import DefineUnit, StartUnit
from mainstay.core.unit import UnitSpec
from mainstay.core.unitspec import SourceNotFoundError, Sources, secret_refs, unit_spec

START = StartUnit(attempt=4, port=8001, inputs_hash="sha256:x", paused=True)
SOURCES = Sources(
    {("settings", "a"): "one", ("settings", "file.toml"): "x = 1\n"},
    {("exchange", "key"): b"s3cret", ("exchange", "file"): b"\xff\x00raw", ("exchange", "odd"): b"\xff"},
)


def of(kind: str, name: str, key: str, *, optional: bool | None = None) -> dict[str, Any]:
    return {"valueFrom": {kind: {"name": name, "key": key, "optional": optional}}}


ENV: dict[str, tuple[dict[str, Any], str | None]] = {
    "literal": ({"value": "x $(A)"}, "x $(A)"),
    "nothing said": ({}, ""),
    "ConfigMap": (of("configMapKeyRef", "settings", "a"), "one"),
    "ConfigMap missing": (of("configMapKeyRef", "settings", "no", optional=True), None),
    "Secret": (of("secretKeyRef", "exchange", "key"), "s3cret"),
    "Secret that is no UTF-8": (of("secretKeyRef", "exchange", "odd"), "\udcff"),
    "optional Secret missing": (of("secretKeyRef", "exchange", "no", optional=True), None),
}


@pytest.mark.parametrize(("source", "value"), ENV.values(), ids=ENV)
def test_env(source: dict[str, Any], value: str | None) -> None:
    run = a_run(program={"command": ["bot"], "env": [{"name": "V", **source}]})
    spec = unit_spec(run, START, SOURCES)
    assert spec.env == {"RUN_ID": UID} | ({} if value is None else {"V": value})


@pytest.mark.parametrize("where", ["env", "config"])
def test_a_missing_secret_is_named(where: str) -> None:
    missing = {"name": "exchange", "key": "gone"}
    env = [{"name": "V", "valueFrom": {"secretKeyRef": missing}}] if where == "env" else []
    config = {"configFrom": {"secret": missing}} if where == "config" else {}
    run = a_run(program={"command": ["bot"], "env": env}, **config)
    assert secret_refs(run) == (("exchange", "gone"),)
    with pytest.raises(SourceNotFoundError, match="Secret exchange with key gone"):
        unit_spec(run, START, SOURCES)


CONFIGS: dict[str, tuple[dict[str, Any], str, bytes | None]] = {
    "none": ({}, "config", None),
    "rendered": ({"config": {"format": "JSON", "values": {"a": 1}}}, "config.json", b'{\n  "a": 1\n}\n'),
    "of a ConfigMap": (
        {"configFrom": {"configMap": {"name": "settings", "key": "file.toml"}}},
        "config.toml",
        b"x = 1\n",
    ),
    "of a Secret, byte for byte": (
        {"configFrom": {"secret": {"name": "exchange", "key": "file"}}},
        "config",
        b"\xff\x00raw",
    ),
    "optional and missing": (
        {"configFrom": {"secret": {"name": "exchange", "key": "no.yaml", "optional": True}}},
        "config.yaml",
        None,
    ),
    "a hidden file has no suffix": (
        {"configFrom": {"configMap": {"name": "settings", "key": ".env", "optional": True}}},
        "config",
        None,
    ),
    "the last suffix counts": (
        {"configFrom": {"configMap": {"name": "settings", "key": "a.b.json", "optional": True}}},
        "config.json",
        None,
    ),
}


@pytest.mark.parametrize(("declared", "name", "data"), CONFIGS.values(), ids=CONFIGS)
def test_config(declared: dict[str, Any], name: str, data: bytes | None) -> None:
    spec = unit_spec(a_run(**declared), START, SOURCES)
    assert (spec.config_name, spec.config) == (name, data)


IDENTITIES: dict[str, tuple[str | None, str | None, str]] = {
    "its own": (None, None, UID),
    "brought along": (None, "from-elsewhere", "from-elsewhere"),
    "what was written once stays": ("written", "from-elsewhere", "written"),
}


@pytest.mark.parametrize(("written", "declared", "identity"), IDENTITIES.values(), ids=IDENTITIES)
def test_run_id(written: str | None, declared: str | None, identity: str) -> None:
    run = a_run(run_id=declared, status={"run_id": written})
    assert unit_spec(run, START, SOURCES).env["RUN_ID"] == identity


def test_the_claim_is_taken_over_and_defaults_are_filled_in() -> None:
    run = a_run(program={"command": ["python3", "-u"], "args": ["$(RUN_ID)"], "umask": "022"})
    spec = unit_spec(run, START, SOURCES)
    assert (spec.name, spec.owner_uid) == ("default.bot", UID)
    assert (spec.attempt, spec.port, spec.inputs_hash, spec.paused) == (4, 8001, "sha256:x", True)
    assert spec.argv == ("python3", "-u", "$(RUN_ID)"), "some names are known to the runtime only"
    assert (spec.umask, spec.grace_seconds, spec.restart.policy) == (0o022, 30.0, "Always")
    again = unit_spec(run, DefineUnit(4, 8001, "sha256:x"), SOURCES)
    assert not again.paused


def test_secrets_are_in_no_repr() -> None:
    env = [{"name": "V", **of("secretKeyRef", "exchange", "key")}]
    secret = {"secret": {"name": "exchange", "key": "key"}}
    spec = unit_spec(a_run(program={"command": ["bot"], "env": env}, configFrom=secret), START, SOURCES)
    assert spec.env["V"] == "s3cret"
    assert spec.config == b"s3cret"
    assert "s3cret" not in repr(spec) + repr(SOURCES)


# --- with a strategy

USE = StrategyInUse(name="Safe", hash="sha256:" + "ab" * 32, file="Safe.py", fallback=True)
PLACE = "/snap/abab/Safe.py"


def with_use(**spec: Any) -> UnitSpec:
    run = a_run(strategy={"name": "Ema"}, status={"strategy": USE}, **spec)
    return unit_spec(run, START, replace(SOURCES, strategy_path=PLACE))


def test_a_program_is_told_the_strategy_in_use() -> None:
    """The fallback's name and path where a fallback is in use, not those of what was asked."""
    mine = [{"name": "STRATEGY_NAME", "value": "mine"}, {"name": "A", "value": "1"}]
    spec = with_use(program={"command": ["bot"], "env": mine})
    assert spec.env == {
        "A": "1",
        "RUN_ID": UID,
        "STRATEGY_NAME": "Safe",
        "STRATEGY_PATH": PLACE,
        "STRATEGY_HASH": USE.hash,
    }


def test_arguments_are_left_to_the_launcher_which_knows_the_environment() -> None:
    spec = with_use(
        program={"command": ["bot"], "args": ["--strategy=$(STRATEGY_PATH)", "$$(STRATEGY_NAME)"]}
    )
    assert spec.argv == ("bot", "--strategy=$(STRATEGY_PATH)", "$$(STRATEGY_NAME)")
    assert expand(spec.argv[1], spec.env) == f"--strategy={PLACE}"
    assert expand(spec.argv[2], spec.env) == "$(STRATEGY_NAME)"


VALUES: dict[str, tuple[Any, Any]] = {
    "a text": ("$(STRATEGY_NAME)", "Safe"),
    "within a text": ("run $(STRATEGY_NAME) at $(STRATEGY_PATH)", f"run Safe at {PLACE}"),
    "its hash": ("$(STRATEGY_HASH)", USE.hash),
    "a list": (["$(STRATEGY_NAME)", 1, None, True], ["Safe", 1, None, True]),
    "deep": ({"a": [{"b": ["$(STRATEGY_NAME)"]}]}, {"a": [{"b": ["Safe"]}]}),
    "escaped": ("$$(STRATEGY_NAME)", "$(STRATEGY_NAME)"),
    "unknown": ("$(HOME) $(CONTROL_API_PORT)", "$(HOME) $(CONTROL_API_PORT)"),
    "a dollar": ("5 $", "5 $"),
    "a key": ({"$(STRATEGY_NAME)": 1}, {"$(STRATEGY_NAME)": 1}),
    "a number": (1.5, 1.5),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_config_values_tell_the_strategy_in_use(value: Any, expected: Any) -> None:
    spec = with_use(config={"format": "JSON", "values": {"v": value}})
    assert json.loads(spec.config or b"") == {"v": expected}


@pytest.mark.parametrize("value", [value for value, _ in VALUES.values()], ids=VALUES)
def test_without_a_strategy_nothing_is_expanded(value: Any) -> None:
    run = a_run(config={"format": "JSON", "values": {"v": value}})
    spec = unit_spec(run, START, SOURCES)
    assert json.loads(spec.config or b"") == {"v": value}
    assert not any(name.startswith("STRATEGY_") for name in spec.env)
