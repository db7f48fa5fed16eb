"""What a task came to: each claimed state held against each thing a unit can be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.sim.jobs.pure import NOW, OTHER_UID, Pure, a_unit, ended, one, task

from mainstay.api.phasedjob import TaskState, TaskStatus
from mainstay.core.job.tasks import LOSSES, OutputsError, judge, read_outputs
from mainstay.core.unit import Exit, Outcome, UnitState

ASKS = {"actionRequired": {"title": "x"}}
UNITS = {
    "absent": a_unit("t"),
    "runs": a_unit("t", UnitState.RUNNING, attempt=2),
    "runs, older": a_unit("t", UnitState.RUNNING, attempt=1),
    "runs, newer": a_unit("t", UnitState.RUNNING, attempt=3),
    "stopping": a_unit("t", UnitState.STOPPING, attempt=2),
    "exit 0": ended("t", attempt=2),
    "exit 0, older": ended("t", attempt=1),
    "exit 0, newer": ended("t", attempt=3),
    "exit 0, asks": ended("t", attempt=2, outputs=ASKS),
    "exit 0, not JSON": ended("t", attempt=2, outputs=b"x"),
    "exit 0, stopped": ended("t", attempt=2, stopping_seconds=1.0),
    "exit 1": ended("t", 1, attempt=2),
    "exit 1, older": ended("t", 1, attempt=1),
    "exit 1, older, stopped": ended("t", 1, attempt=1, stopping_seconds=1.0),
    "exit 1, newer": ended("t", 1, attempt=3),
    "timed out": ended("t", None, attempt=2, timed_out=True),
    "timed out, stopped": ended("t", None, attempt=2, timed_out=True, stopping_seconds=1.0),
    "lost": ended("t", None, attempt=2, lost=True),
    "lost unexecuted": ended("t", None, attempt=2, lost=True, started_at=None),
    "stopped from outside": ended("t", None, attempt=2, stopping_seconds=1.0),
    "another's": ended("t", attempt=2, owner_uid=OTHER_UID),
}

NEWER = {
    "runs, newer": "Starting#3",
    "exit 0, newer": "Completed#3",
    "exit 1, newer": "Failed#3 ProcessFailed",
}
"""Whatever status says: what the unit remembers of a later attempt counts."""
UNCLAIMED = {
    **NEWER,
    "exit 0": "Completed#2",
    "exit 0, older": "Completed#2",
    "exit 0, asks": "ActionRequired#2 ActionRequired",
    "exit 0, stopped": "Completed#2",
}
CLAIMED = {
    **UNCLAIMED,
    "exit 0, not JSON": "Failed#2 OutputsInvalid",
    "exit 1": "Failed#2 ProcessFailed",
    "timed out": "Failed#2 TimedOut",
    "timed out, stopped": "Failed#2 TimedOut",
    "lost": "Retrying#2 Lost",
    "lost unexecuted": "Retrying#2 NeverStarted",
    "stopped from outside": "Retrying#2 Interrupted",
}
STOPPED = ("exit 1", "timed out", "timed out, stopped", "lost", "lost unexecuted", "stopped from outside")
STOPPING = {
    **CLAIMED,
    **dict.fromkeys(STOPPED, "Failed#2 Cancelled"),
    **dict.fromkeys(
        ("absent", "exit 1, older, stopped"), "Skipped#2 Cancelled"
    ),  # nothing can start any more
}
BECOMES = {
    TaskState.PENDING: UNCLAIMED,
    TaskState.RETRYING: UNCLAIMED,
    TaskState.STARTING: CLAIMED,
    TaskState.RUNNING: CLAIMED,
    TaskState.STOPPING: STOPPING,
    TaskState.ACTION_REQUIRED: NEWER,
    TaskState.COMPLETED: {},
    TaskState.FAILED: {},
    TaskState.SKIPPED: {},
}
"""Claimed state → unit → what it becomes; what is not named stays as it was."""


def judged(state, unit, *, retries=0, **status):
    world = Pure.of(one(task("t", retries=retries)))
    s = world.snapshot(units={"t": unit})
    began = NOW - timedelta(seconds=0.2)
    t = TaskStatus(**{"name": "t", "state": state, "attempt": 2, "started_at": began, **status})
    return t, judge(s, world.graph.tasks["t"], t).status


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("state", TaskState)
def test_every_state_and_every_unit(state, unit):
    before, after = judged(state, UNITS[unit])
    if unit in BECOMES[state]:
        assert f"{after.state}#{after.attempt} {after.reason}".strip() == BECOMES[state][unit]
    else:
        assert after == before


def test_an_attempt_that_runs_is_told_as_running_after_a_second():
    for seconds, state in ((0.9, "Starting"), (1.0, "Running"), (5, "Running")):
        unit = a_unit("t", UnitState.RUNNING, attempt=2, started_at=NOW.timestamp() - seconds)
        assert judged(TaskState.STARTING, unit)[1].state == state
    unknown = a_unit("t", UnitState.WAITING, attempt=2, started_at=None)
    assert judged(TaskState.STARTING, unknown)[1].state == "Starting"


@pytest.mark.parametrize(
    ("failures", "retries", "state", "wait"),
    [
        (0, 0, "Failed", None),
        (0, 1, "Retrying", 1),
        (1, 2, "Retrying", 2),
        (5, 9, "Retrying", 32),
        (9, 99, "Retrying", 300),
        (1, 1, "Failed", None),
        (9, 3, "Failed", None),
    ],
)
def test_failures_are_retried_with_backoff(failures, retries, state, wait):
    _, t = judged(TaskState.RUNNING, UNITS["exit 1"], retries=retries, failures=failures)
    assert (t.state, t.failures) == (state, failures + 1)
    assert t.retry_at == (None if wait is None else NOW + timedelta(seconds=wait))


@pytest.mark.parametrize(
    ("losses", "retries", "state"), [(0, 0, "Retrying"), (2, 0, "Retrying"), (3, 0, "Failed")]
)
def test_losses_have_a_budget_of_their_own(losses, retries, state):
    _, t = judged(TaskState.RUNNING, UNITS["lost"], retries=retries, losses=losses)
    assert (t.state, t.losses, t.failures, t.retry_at) == (state, losses + 1, 0, None)
    assert judged(TaskState.RUNNING, UNITS["lost"], retries=9, losses=LOSSES)[1].state == "Retrying"


def test_what_never_ran_costs_nothing():
    _, t = judged(TaskState.STARTING, UNITS["lost unexecuted"], losses=3)
    assert (t.state, t.losses, t.failures) == ("Retrying", 3, 0)


def test_a_failure_tells_the_last_lines():
    unit = ended("t", 3, attempt=2, last_lines=("one", " two "))
    assert judged(TaskState.RUNNING, unit)[1].message == "ended with exit code 3, stderr: one | two"
    killed = ended("t", None, attempt=2)
    assert "signal 15" in judged(TaskState.RUNNING, killed)[1].message
    long = ended("t", 3, attempt=2, last_lines=("x" * 400,) * 5)
    assert len(judged(TaskState.RUNNING, long)[1].message) <= 1024
    assert len(judged(TaskState.RUNNING, long, retries=3)[1].message) <= 1024


def test_completed_at_is_when_it_ended():
    unit = ended("t", attempt=2, ended_at=NOW.timestamp() - 30)
    assert judged(TaskState.RUNNING, unit)[1].completed_at == NOW - timedelta(seconds=30)


# --- outputs

DEEP = b'{"a":' * 400 + b"1" + b"}" * 400
GOOD = {
    "nothing": (None, {}),
    "empty": (b"", {}),
    "blank": (b" \n", {}),
    "object": (b'{"a": [1, null, "x"]}', {"a": [1, None, "x"]}),
    "UTF-16": ('{"a": "ü"}'.encode("utf-16"), {"a": "ü"}),
    "an emoji in two escapes": (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
    "large numbers": (b'{"a": 1e308, "b": 9223372036854775807}', {"a": 1e308, "b": 2**63 - 1}),
}
BAD = {
    "not JSON": b"[1",
    "a list": b"[1]",
    "a text": b'"x"',
    "null": b"null",
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": [-Infinity]}',
    "a number beyond every float": b'{"a": 1e999}',
    "a whole number beyond every float": b'{"a": 1' + b"0" * 400 + b"}",
    "half a character": b'{"a": "\\ud83d"}',
    "half a character as a key": b'{"\\udc00": 1}',
    "not UTF-8": b'{"a": "\xff"}',
    "nested without end": b"[" * 100_000,
    "nested too deep": DEEP,
}


def outcome(outputs, problem=""):
    return Outcome(1, Exit(0), 0.0, outputs=outputs, outputs_problem=problem)


@pytest.mark.parametrize("case", GOOD)
def test_outputs(case):
    written, meant = GOOD[case]
    assert read_outputs(outcome(written)) == meant


@pytest.mark.parametrize("case", BAD)
def test_outputs_that_can_not_be_taken(case):
    with pytest.raises(OutputsError) as caught:
        read_outputs(outcome(BAD[case]))
    assert caught.value.reason == "OutputsInvalid"


def test_outputs_that_are_too_large():
    with pytest.raises(OutputsError) as caught:
        read_outputs(outcome(None, "the outputs are larger than 900 KiB"))
    assert caught.value.reason == "OutputsTooLarge"
    with pytest.raises(OutputsError) as caught:
        read_outputs(outcome(None, "permission denied"))
    assert caught.value.reason == "OutputsInvalid"


@pytest.mark.parametrize("asks", [1, {}, {"title": 3}, {"title": "x", "schema": {"type": "nothing"}}])
def test_an_ask_that_is_none(asks):
    unit = ended("t", attempt=2, outputs={"actionRequired": asks})
    _, t = judged(TaskState.RUNNING, unit)
    assert (t.state, t.reason) == ("Failed", "OutputsInvalid")
    assert "actionRequired" in t.message


def test_an_ask_too_large_for_status():
    schema = {"enum": ["x" * 1000] * 100}
    unit = ended("t", attempt=2, outputs={"actionRequired": {"title": "x", "schema": schema}})
    assert judged(TaskState.RUNNING, unit)[1].reason == "OutputsInvalid"
