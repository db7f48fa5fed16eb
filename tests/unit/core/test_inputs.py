"""What rolls a process, what does not, and what is refused before it starts."""

from __future__ import annotations

from typing import Any

import pytest

from mainstay.api.strategyrun import StrategyRunSpec
from mainstay.core import reasons
from mainstay.core.inputs import config_map_refs, inputs_of

TEXTS = {("settings", "a"): "1", ("settings", "b"): "2"}
BASE: dict[str, Any] = {
    "program": {
        "command": ["python3", "bot.py"],
        "args": ["--port", "$(CONTROL_API_PORT)"],
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "exchange", "key": "apiKey"}}},
            {"name": "MODE", "value": "paper"},
        ],
    },
    "controlApi": {},
    "config": {"values": {"symbol": "BTC/USDT"}},
}


def a_spec(changes: dict[str, Any] | None = None) -> StrategyRunSpec:
    """BASE with fields replaced, those of `program` one by one."""
    said = dict(changes or {})
    program = {**BASE["program"], **said.pop("program", {})}
    return StrategyRunSpec.model_validate({**BASE, **said, "program": program})


def hash_of(
    changes: dict[str, Any] | None = None, texts: dict[tuple[str, str], str | None] | None = None
) -> str:
    inputs = inputs_of(a_spec(changes), TEXTS if texts is None else texts)
    assert inputs.problem is None
    return inputs.hash


STAYS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "paused": {"state": "Paused"},
    "stopped": {"state": "Stopped"},
    "owner": {"owner": {"userId": "u-7"}},
    "pause method": {"pause": {"method": "HTTP", "http": {"path": "/p"}}},
    "restart nonce": {"restartNonce": 9},
    "run id": {"runId": "brought-along"},
    "readiness": {"program": {"readiness": {"http": {"path": "/health"}}}},
    "grace": {"program": {"terminationGracePeriodSeconds": 5}},
    "runtime written out": {"runtime": "Process"},
    "pool written out": {"controlApi": {"pool": "default"}},
    "format written out": {"config": {"format": "YAML", "values": {"symbol": "BTC/USDT"}}},
    "keys of the configuration in another order": {
        "config": {"values": {"symbol": "BTC/USDT"}, "format": "YAML"}
    },
}


@pytest.mark.parametrize("changes", STAYS.values(), ids=STAYS)
def test_does_not_roll(changes: dict[str, Any]) -> None:
    assert hash_of(changes) == hash_of()


ROLLS: dict[str, dict[str, Any]] = {
    "command": {"program": {"command": ["python3", "other.py"]}},
    "args": {"program": {"args": []}},
    "where one argument ends": {"program": {"args": ["--port $(CONTROL_API_PORT)"]}},
    "env": {"program": {"env": [*BASE["program"]["env"][:2], {"name": "MODE", "value": "live"}]}},
    "another secret": {
        "program": {
            "env": [
                BASE["program"]["env"][0],
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "exchange", "key": "other"}}},
                BASE["program"]["env"][2],
            ]
        }
    },
    "directory": {"program": {"workingDir": "/srv"}},
    "user": {"program": {"user": "bot"}},
    "umask": {"program": {"umask": "022"}},
    "niceness": {"program": {"nice": 5}},
    "limits": {"program": {"limits": {"openFiles": 64}}},
    "configuration": {"config": {"values": {"symbol": "ETH/USDT"}}},
    "format": {"config": {"format": "JSON", "values": {"symbol": "BTC/USDT"}}},
    "no configuration": {"config": None},
    "a fixed port": {"controlApi": {"port": 8001}},
    "another pool": {"controlApi": {"pool": "other"}},
    "restart policy": {"restartPolicy": {"policy": "Never"}},
    "backoff": {"restartPolicy": {"maxBackoffSeconds": 10}},
}


@pytest.mark.parametrize("changes", ROLLS.values(), ids=ROLLS)
def test_rolls(changes: dict[str, Any]) -> None:
    assert hash_of(changes) != hash_of()


CONTENT: dict[str, tuple[dict[tuple[str, str], str | None], bool]] = {
    "the same": ({("settings", "a"): "1"}, False),
    "another key": ({("settings", "a"): "1", ("settings", "b"): "9"}, False),
    "its own key": ({("settings", "a"): "9"}, True),
    "emptied": ({("settings", "a"): ""}, True),
}


@pytest.mark.parametrize(("texts", "rolls"), CONTENT.values(), ids=CONTENT)
def test_content_of_a_config_map(texts: dict[tuple[str, str], str | None], rolls: bool) -> None:
    assert (hash_of(texts=texts) != hash_of()) is rolls


def test_an_optional_key_rolls_when_it_appears() -> None:
    ref = {"name": "settings", "key": "a", "optional": True}
    changes = {"program": {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": ref}}]}}
    missing = hash_of(changes, texts={})
    assert missing != hash_of(changes)
    assert missing == hash_of(changes, texts={("settings", "a"): None})


def test_the_configuration_file_of_a_config_map_is_an_input() -> None:
    changes = {"config": None, "configFrom": {"configMap": {"name": "settings", "key": "b"}}}
    assert config_map_refs(a_spec(changes)) == (("settings", "a"), ("settings", "b"))
    assert hash_of(changes) != hash_of(changes, texts={**TEXTS, ("settings", "b"): "9"})


def secret_in(where: str, text: str) -> dict[str, Any]:
    return {"program": {where: [text]}}


REFUSED: dict[str, tuple[dict[str, Any], dict[tuple[str, str], str | None], str, str]] = {
    "secret in args": (secret_in("args", "--key=$(KEY)"), TEXTS, reasons.SECRET_IN_ARGS, "$(KEY)"),
    "secret in command": (secret_in("command", "$(KEY)"), TEXTS, reasons.SECRET_IN_ARGS, "$(KEY)"),
    "a port that is not leased": (
        {"controlApi": None},
        TEXTS,
        reasons.CONTROL_API_MISSING,
        "controlApi: {}",
    ),
    "no such ConfigMap": ({}, {}, reasons.CONFIG_MAP_NOT_FOUND, "settings"),
    "no such key": ({}, {("settings", "a"): None}, reasons.CONFIG_MAP_NOT_FOUND, "key a"),
    "null in TOML": (
        {"config": {"format": "TOML", "values": {"a": None}}},
        TEXTS,
        reasons.CONFIG_INVALID,
        "spec.config.values.a",
    ),
    "no UTF-8": (
        {"config": {"format": "JSON", "values": {"a": "\ud800"}}},
        TEXTS,
        reasons.CONFIG_INVALID,
        "",
    ),
}


@pytest.mark.parametrize(("changes", "texts", "reason", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(
    changes: dict[str, Any], texts: dict[tuple[str, str], str | None], reason: str, words: str
) -> None:
    inputs = inputs_of(a_spec(changes), texts)
    assert inputs.problem is not None
    assert inputs.problem[0] == reason
    assert words in inputs.problem[1]


TAKEN: dict[str, dict[str, Any]] = {
    "an escaped secret": secret_in("args", "$$(KEY)"),
    "a shell's own variable": secret_in("args", "$KEY"),
    "a plain variable": secret_in("args", "$(MODE)"),
    "a ConfigMap's": secret_in("args", "$(A)"),
    "an unknown name": secret_in("args", "$(NOPE)"),
}


@pytest.mark.parametrize("changes", TAKEN.values(), ids=TAKEN)
def test_not_refused(changes: dict[str, Any]) -> None:
    assert inputs_of(a_spec(changes), TEXTS).problem is None


def test_one_reference_that_is_not_optional_is_enough() -> None:
    refs = [{"name": "settings", "key": "a", "optional": optional} for optional in (True, False)]
    env = [{"name": f"V{i}", "valueFrom": {"configMapKeyRef": ref}} for i, ref in enumerate(refs)]
    assert inputs_of(a_spec({"program": {"env": env}}), {}).problem is not None
    assert inputs_of(a_spec({"program": {"env": env[:1]}}), {}).problem is None
