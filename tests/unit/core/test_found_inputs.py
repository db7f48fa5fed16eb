"""What is declared in other words is the same, and what can't be said is refused rather than garbled."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mainstay.api.strategyrun import Config, StrategyRunSpec
from mainstay.core import reasons
from mainstay.core.inputs import inputs_of
from mainstay.core.render import DEPTH_MAX, ConfigInvalidError, render
from mainstay.core.snapshot import Inputs


def _inputs(program: dict[str, Any] | None = None, **spec: Any) -> Inputs:
    declared = {"program": {"command": ["bot"], **(program or {})}, **spec}
    return inputs_of(StrategyRunSpec.model_validate(declared), {})


WRITTEN_OUT: dict[str, dict[str, Any]] = {
    "no field of the restart policy": {"restartPolicy": {}},
    "every field of the restart policy": {
        "restartPolicy": {"policy": "Always", "initialBackoffSeconds": 1, "maxBackoffSeconds": 300}
    },
    "no limit": {"program": {"limits": {}}},
    "the umask": {"program": {"umask": "077"}},
    "the umask, with a zero more": {"program": {"umask": "0077"}},
    "the niceness": {"program": {"nice": 0}},
}


@pytest.mark.parametrize("spec", WRITTEN_OUT.values(), ids=WRITTEN_OUT)
def test_a_default_written_out_rolls_nothing(spec: dict[str, Any]) -> None:
    assert _inputs(**spec) == _inputs()


CHANGED: dict[str, dict[str, Any]] = {
    "the restart policy": {"restartPolicy": {"policy": "Never"}},
    "a limit": {"program": {"limits": {"openFiles": 64}}},
    "the umask": {"program": {"umask": "022"}},
    "the niceness": {"program": {"nice": 5}},
}


@pytest.mark.parametrize("spec", CHANGED.values(), ids=CHANGED)
def test_what_the_process_sees_rolls_it(spec: dict[str, Any]) -> None:
    assert _inputs(**spec).hash != _inputs().hash


def test_a_reference_that_is_not_optional_may_say_so() -> None:
    def env(**more: Any) -> dict[str, Any]:
        ref = {"name": "a", "key": "b", **more}
        return {"env": [{"name": "A", "valueFrom": {"secretKeyRef": ref}}]}

    assert _inputs(env()) == _inputs(env(optional=False))
    assert _inputs(env()) != _inputs(env(optional=True))


def _nested(depth: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for _ in range(depth):
        values = {"a": values}
    return values


def test_a_configuration_nested_too_deeply_is_told_as_a_problem() -> None:
    assert _inputs(config={"values": _nested(DEPTH_MAX)}).problem is None
    problem = _inputs(config={"values": _nested(300)}).problem
    assert problem is not None
    assert problem[0] == reasons.CONFIG_INVALID


@pytest.mark.parametrize("mark", ["\x85", "\u2028", "\u2029", "\ufeff"], ids=ascii)
def test_yaml_keeps_the_line_breaks_of_unicode(mark: str) -> None:
    values = {"a": f"x{mark}y", f"k{mark}": [mark]}
    assert yaml.safe_load(render(Config(values=values))) == values


@pytest.mark.parametrize("mark", ["\0", "\n", "\r"], ids=ascii)
def test_env_refuses_what_no_variable_can_hold(mark: str) -> None:
    with pytest.raises(ConfigInvalidError, match="line break or NUL"):
        render(Config(format="Env", values={"A": f"x{mark}y"}))
