"""Which port a run claims."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.worlds import POOL, World, a_run

from mainstay.core import reasons
from mainstay.core.run.ports import NoPort, choose

OTHER = "StrategyRun default/other"
STRANGER = "pid 7 (nc)"


def chosen(
    world: dict[str, Any], had: int | None = None, api: dict[str, Any] | None = None
) -> int | NoPort | None:
    """A choice; `had` is the port of status."""
    run = a_run(control_api=api or {}, status={"port": had})
    return choose(World(run=run, **world).snapshot())


CHOICES: dict[str, tuple[dict[str, Any], int | None, dict[str, Any], int]] = {
    "the first": ({}, None, {}, 8000),
    "the next, where the first is leased": ({"taken": {8000: OTHER}}, None, {}, 8001),
    "the next, where a stranger listens": ({"foreign": {8000: STRANGER}}, None, {}, 8001),
    "past both": ({"taken": {8000: OTHER}, "foreign": {8001: STRANGER}}, None, {}, 8002),
    "sticky": ({}, 8002, {}, 8002),
    "sticky, before those who wait": ({"older_waiting": 9}, 8002, {}, 8002),
    "not sticky where taken": ({"taken": {8002: OTHER}}, 8002, {}, 8000),
    "not sticky where a stranger listens": ({"foreign": {8002: STRANGER}}, 8002, {}, 8000),
    "not sticky outside of the pool": ({}, 9000, {}, 8000),
    "fixed": ({}, None, {"port": 8001}, 8001),
    "fixed, though it had another": ({}, 8002, {"port": 8001}, 8001),
    "one is left for who waited longer": ({"older_waiting": 1}, None, {}, 8000),
    "two are left": ({"older_waiting": 2}, None, {}, 8000),
    "shared with another pool": ({"pool": (8001, 8002, 9000), "taken": {8001: OTHER}}, None, {}, 8002),
}


@pytest.mark.parametrize(("world", "port", "api", "choice"), CHOICES.values(), ids=CHOICES)
def test_a_port(world: dict[str, Any], port: int | None, api: dict[str, Any], choice: int) -> None:
    assert chosen(world, port, api) == choice


FULL = dict.fromkeys(POOL, OTHER)
NONE: dict[str, tuple[dict[str, Any], int | None, dict[str, Any], str, bool, str]] = {
    "no such pool": ({"pool": None}, 8000, {}, reasons.POOL_NOT_FOUND, True, "PortPool default"),
    "all leased": ({"taken": FULL}, 8000, {}, reasons.POOL_EXHAUSTED, False, "all 3 ports"),
    "strangers on all": (
        {"foreign": dict.fromkeys(POOL, STRANGER)},
        None,
        {},
        reasons.POOL_EXHAUSTED,
        False,
        "all 3",
    ),
    "others have waited longer": ({"older_waiting": 3}, None, {}, reasons.POOL_EXHAUSTED, False, ""),
    "the last goes to who waited": (
        {"taken": {8000: OTHER, 8001: OTHER}, "older_waiting": 1},
        None,
        {},
        reasons.POOL_EXHAUSTED,
        False,
        "",
    ),
    "fixed and leased": ({"taken": FULL}, None, {"port": 8001}, reasons.PORT_TAKEN, False, OTHER),
    "fixed, and a stranger": (
        {"foreign": {8001: STRANGER}},
        None,
        {"port": 8001},
        reasons.PORT_TAKEN,
        False,
        STRANGER,
    ),
    "fixed, outside": ({}, None, {"port": 9000}, reasons.PORT_NOT_IN_POOL, True, "port 9000"),
}


@pytest.mark.parametrize(("world", "port", "api", "reason", "person", "words"), NONE.values(), ids=NONE)
def test_no_port(
    world: dict[str, Any], port: int | None, api: dict[str, Any], reason: str, person: bool, words: str
) -> None:
    choice = chosen(world, port, api)
    assert isinstance(choice, NoPort)
    assert (choice.reason, choice.needs_person) == (reason, person)
    assert words in choice.message


def test_none_is_wanted() -> None:
    assert choose(World(run=a_run(status={"port": 8000}), pool=None).snapshot()) is None


def test_words_of_a_full_pool_stay_whoever_holds_it() -> None:
    first, second = (chosen({"taken": dict.fromkeys(POOL, who)}) for who in ("a", "b"))
    assert first == second
