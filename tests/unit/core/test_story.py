"""Events: one per turn, none for what stayed the same."""

from __future__ import annotations

import pytest
from tests.unit.core.worlds import a_condition

from mainstay.api.process import ProcessStatus
from mainstay.api.strategyrun import RunPhase, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.run.story import Event, events


def a_status(
    phase: RunPhase | None,
    reason: str | None,
    *,
    stalled: bool = False,
    port: int | None = None,
    pid: int = 0,
) -> StrategyRunStatus:
    said = [a_condition("Ready", "False", reason)] if reason else []
    said.append(a_condition("Stalled", str(stalled), reason or "None"))
    process = ProcessStatus(pid=pid, start_ticks=1, boot_id="b") if pid else None
    return StrategyRunStatus(phase=phase, attempt=2, port=port, process=process, conditions=tuple(said))


FRESH = a_status(None, None)
STARTING = a_status(RunPhase.STARTING, reasons.STARTING)
STORIES: dict[str, tuple[StrategyRunStatus, StrategyRunStatus, list[tuple[str, str]]]] = {
    "nothing said yet": (FRESH, FRESH, []),
    "claimed": (FRESH, STARTING, []),
    "not ready": (STARTING, a_status(RunPhase.STARTING, reasons.NOT_READY), []),
    "started": (STARTING, a_status(RunPhase.RUNNING, reasons.RUNNING), [("Normal", "Started")]),
    "still runs": (
        a_status(RunPhase.RUNNING, reasons.RUNNING),
        a_status(RunPhase.RUNNING, reasons.RUNNING, port=8001),
        [],
    ),
    "pausing": (STARTING, a_status(RunPhase.PAUSING, reasons.PAUSING), []),
    "paused": (STARTING, a_status(RunPhase.PAUSED, reasons.PAUSED), [("Normal", "Paused")]),
    "resuming": (STARTING, a_status(RunPhase.RESUMING, reasons.RESUMING), []),
    "stopping": (
        STARTING,
        a_status(RunPhase.STOPPING, reasons.STOP_REQUESTED),
        [("Normal", "StopRequested")],
    ),
    "completed": (STARTING, a_status(RunPhase.STOPPING, reasons.COMPLETED), [("Normal", "Completed")]),
    "completed and given back": (
        a_status(RunPhase.STOPPING, reasons.COMPLETED),
        a_status(RunPhase.STOPPED, reasons.COMPLETED),
        [],
    ),
    "failed": (STARTING, a_status(RunPhase.STOPPING, reasons.FAILED), [("Warning", "ProcessFailed")]),
    "crashes": (STARTING, a_status(RunPhase.STARTING, reasons.CRASH_LOOP), [("Warning", "CrashLoopBackOff")]),
    "no port": (FRESH, a_status(RunPhase.PENDING, reasons.POOL_EXHAUSTED), [("Warning", "PoolExhausted")]),
    "refused by the runtime": (
        STARTING,
        a_status(RunPhase.STARTING, "InvalidName", stalled=True),
        [("Warning", "InvalidName")],
    ),
}


@pytest.mark.parametrize(("old", "new", "told"), STORIES.values(), ids=STORIES)
def test_story(old: StrategyRunStatus, new: StrategyRunStatus, told: list[tuple[str, str]]) -> None:
    assert [(event.kind, event.reason) for event in events(old, new)] == told
    assert events(new, new) == ()


STARTED = {
    "with a port": (8001, 77, "pid 77 serves on port 8001, attempt 2"),
    "without": (None, 77, "pid 77 runs, attempt 2"),
    "pid not seen": (None, 0, "the process runs, attempt 2"),
}


@pytest.mark.parametrize(("port", "pid", "words"), STARTED.values(), ids=STARTED)
def test_words_of_a_start(port: int | None, pid: int, words: str) -> None:
    new = a_status(RunPhase.RUNNING, reasons.RUNNING, port=port, pid=pid)
    assert events(STARTING, new) == (Event("Normal", "Started", words),)
