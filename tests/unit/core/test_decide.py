"""A table per phase: unit, wish and leases → plan."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.words import DELETE, NONCE, OTHERS, PAUSE, PORT, ROLL, RUN, STOP, U, check, unit
from tests.unit.core.worlds import (
    OLD_HASH,
    OTHER_UID,
    PROBLEM,
)

from mainstay.api.strategyrun import RunPhase
from mainstay.core import reasons
from mainstay.core.snapshot import Inputs
from mainstay.core.unit import Exit, Unit

ON_FAILURE, NEVER = ({"restart_policy": {"policy": policy}} for policy in ("OnFailure", "Never"))
Case = tuple[Unit, dict[str, Any], dict[str, Any], str]
OLDER = {"attempt": 0, "inputs_hash": OLD_HASH}

STARTING: dict[str, Case] = {
    "no lease yet": (unit(U.ABSENT), RUN, {"leased": ()}, "lease 8000"),
    "leased": (unit(U.ABSENT), RUN, {}, "start 1:8000"),
    "leased, to be paused": (unit(U.ABSENT), PAUSE, {}, "start 1:8000 paused"),
    "no port asked": (
        unit(U.ABSENT),
        {"api": None, "status": {"port": None}},
        {"leased": ()},
        "start 1:-",
    ),
    "another lease is left": (unit(U.ABSENT), RUN, {"leased": (PORT, 8002)}, "give back port-8002"),
    "taken by another": (unit(U.ABSENT), RUN, {"leased": (), "taken": OTHERS}, "Starting Starting 1:8001"),
    "taken, and no other is free": (
        unit(U.ABSENT),
        RUN,
        {"leased": (), "taken": OTHERS, "pool": (PORT,)},
        "Pending PoolExhausted 1:8000",
    ),
    "a stranger listens": (unit(U.ABSENT), RUN, {"foreign": {PORT: "nc"}}, "Starting Starting 1:8001"),
    "an earlier attempt lives": (unit(U.RUNNING, **OLDER), RUN, {}, "stop"),
    "an earlier attempt stops": (
        unit(U.STOPPING, **OLDER, stopping_seconds=10.0),
        RUN,
        {},
        "wait 20",
    ),
    "an earlier attempt won't stop": (unit(U.STOPPING, **OLDER, stopping_seconds=30.0), RUN, {}, "kill"),
    "an earlier attempt ended": (unit(U.EXITED, **OLDER), RUN, {}, "start 1:8000"),
    "it waits": (unit(U.WAITING), RUN, {}, "poll"),
    "it crashed": (unit(U.BACKOFF), RUN, {}, "Starting CrashLoopBackOff 1:8000"),
    "it serves": (unit(U.RUNNING), RUN, {}, "Running Running 1:8000"),
    "it does not serve": (unit(U.RUNNING), RUN, {"ready": False}, "Starting NotReady 1:8000"),
    "it is held and should be": (unit(U.HELD), PAUSE, {}, "Paused Paused 1:8000"),
    "it is paused and should be": (unit(U.PAUSED), PAUSE, {}, "Paused Paused 1:8000"),
    "it is paused and should run": (unit(U.PAUSED), RUN, {}, "Resuming Resuming 1:8000"),
    "it is held and should run": (unit(U.HELD), RUN, {}, "Resuming Resuming 1:8000"),
    "it runs and should pause": (unit(U.RUNNING), PAUSE, {}, "Pausing Pausing 1:8000"),
    "it waits and should pause": (unit(U.WAITING), PAUSE, {}, "Pausing Pausing 1:8000"),
    "it ended": (unit(U.EXITED), RUN, {}, "Starting Starting 2:8000"),
    "something stops it": (unit(U.STOPPING), RUN, {}, "Stopping StopRequested 1:8000"),
    "stop before the start": (unit(U.ABSENT), STOP, {}, "Stopping StopRequested 1:8000"),
    "stop at once": (unit(U.WAITING), STOP, {}, "Stopping StopRequested 1:8000"),
    "delete at once": (unit(U.WAITING), DELETE, {}, "Stopping Deleting 1:8000"),
    "braked": (unit(U.HELD, held_locally=True), RUN, {}, "Stopping HeldLocally 1:8000"),
    "changed while it lives": (unit(U.RUNNING), ROLL, {}, "Starting InputsChanged 2:8000"),
    "changed while an earlier attempt lives": (unit(U.RUNNING, **OLDER), ROLL, {}, "stop"),
    "changed before the start": (unit(U.EXITED, **OLDER), ROLL, {}, "Starting Starting 1:8000"),
    "the lease went to another": (
        unit(U.RUNNING),
        RUN,
        {"leased": (), "taken": OTHERS},
        "Stopping PortLost 1:8000",
    ),
    "the lease vanished": (unit(U.RUNNING), RUN, {"leased": ()}, "lease 8000"),
    "it lives on another port": (unit(U.RUNNING, port=8002), RUN, {}, "Starting Starting 1:8002"),
    "it lives as a later attempt": (unit(U.RUNNING, attempt=4), RUN, {}, "Starting Starting 4:8000"),
}
RUNNING: dict[str, Case] = {
    "nothing to do": (unit(U.RUNNING), {"reason": reasons.RUNNING}, {}, "Running Running 1:8000"),
    "no longer serving": (unit(U.RUNNING), RUN, {"ready": False}, "Running NotReady 1:8000"),
    "definition lost": (unit(U.RUNNING, defined=False), RUN, {}, "define"),
    "crashed": (unit(U.BACKOFF), RUN, {}, "Starting CrashLoopBackOff 1:8000"),
    "found paused": (unit(U.PAUSED), RUN, {}, "Resuming Resuming 1:8000"),
    "runs on though a pause was begun": (
        unit(U.RUNNING, pause_marked=True),
        RUN,
        {},
        "Resuming Resuming 1:8000",
    ),
    "found held": (unit(U.HELD), RUN, {}, "Resuming Resuming 1:8000"),
    "gone": (unit(U.ABSENT), RUN, {}, "Starting Starting 2:8000"),
    "ended": (unit(U.EXITED), RUN, {}, "Starting Starting 2:8000"),
    "ended well, on failure only": (
        unit(U.EXITED, exit=Exit(0)),
        ON_FAILURE,
        {},
        "Stopping Completed 1:8000",
    ),
    "ended badly, on failure only": (
        unit(U.EXITED, exit=Exit(1)),
        ON_FAILURE,
        {},
        "Starting Starting 2:8000",
    ),
    "ended badly, never again": (
        unit(U.EXITED, exit=Exit(None, 9)),
        NEVER,
        {},
        "Stopping ProcessFailed 1:8000",
    ),
    "ended well, never again": (
        unit(U.EXITED, exit=Exit(0)),
        NEVER,
        {},
        "Stopping Completed 1:8000",
    ),
    "pause": (unit(U.RUNNING), PAUSE, {}, "Pausing Pausing 1:8000"),
    "pause while it crashes": (unit(U.BACKOFF), PAUSE, {}, "Pausing Pausing 1:8000"),
    "stop": (unit(U.RUNNING), STOP, {}, "Stopping StopRequested 1:8000"),
    "delete": (unit(U.RUNNING), DELETE, {}, "Stopping Deleting 1:8000"),
    "brake": (unit(U.RUNNING, held_locally=True), RUN, {}, "Stopping HeldLocally 1:8000"),
    "restart": (unit(U.RUNNING), NONCE, {}, "Starting RestartRequested 2:8000"),
    "changed": (unit(U.RUNNING), ROLL, {}, "Starting InputsChanged 2:8000"),
    "changed, its lease is lost": (unit(U.RUNNING), ROLL, {"leased": ()}, "Stopping InputsChanged 1:8000"),
    "changed, its port is another's": (
        unit(U.RUNNING),
        ROLL,
        {"leased": (), "taken": OTHERS},
        "Stopping InputsChanged 1:8000",
    ),
    "changed, its port left the pool": (
        unit(U.RUNNING),
        ROLL,
        {"pool": (8001,)},
        "Stopping InputsChanged 1:8000",
    ),
    "changed to another port": (
        unit(U.RUNNING),
        ROLL | {"api": {"port": 8001}},
        {},
        "Stopping InputsChanged 1:8000",
    ),
    "changed to no port": (unit(U.RUNNING), ROLL | {"api": None}, {}, "Stopping InputsChanged 1:8000"),
    "changed without a port": (
        unit(U.RUNNING, port=None),
        ROLL | {"api": None, "status": {"port": None}},
        {"leased": ()},
        "Starting InputsChanged 2:-",
    ),
    "stop comes before restart": (unit(U.RUNNING), STOP | NONCE, {}, "Stopping StopRequested 1:8000"),
    "an earlier attempt lives": (unit(U.RUNNING, attempt=0), RUN, {}, "Stopping Superseded 1:8000"),
    "the lease vanished": (unit(U.RUNNING), RUN, {"leased": ()}, "lease 8000"),
    "the lease went to another": (
        unit(U.RUNNING),
        RUN,
        {"leased": (), "taken": OTHERS},
        "Stopping PortLost 1:8000",
    ),
    "not resumed by a full pool": (unit(U.RUNNING), RUN, {"older_waiting": 9}, "Running Running 1:8000"),
}
PAUSING: dict[str, Case] = {
    "runs": (unit(U.RUNNING), PAUSE, {}, "pause"),
    "waits out a crash": (unit(U.BACKOFF), PAUSE, {}, "pause"),
    "paused": (unit(U.PAUSED), PAUSE, {}, "Paused Paused 1:8000"),
    "held": (unit(U.HELD), PAUSE, {}, "Paused Paused 1:8000"),
    "ended": (unit(U.EXITED), PAUSE, {}, "Starting Starting 2:8000"),
    "gone": (unit(U.ABSENT), PAUSE, {}, "Starting Starting 2:8000"),
    "run again": (unit(U.RUNNING, pause_marked=True), RUN, {}, "Resuming Resuming 1:8000"),
    "starts again before its pause": (unit(U.WAITING), PAUSE, {}, "pause"),
    "stop at once": (unit(U.RUNNING), STOP, {}, "Stopping StopRequested 1:8000"),
    "restart": (unit(U.RUNNING), PAUSE | NONCE, {}, "Starting RestartRequested 2:8000"),
}
PAUSED: dict[str, Case] = {
    "found running": (unit(U.RUNNING), PAUSE, {}, "pause"),
    "definition lost": (unit(U.PAUSED, defined=False), PAUSE, {}, "define"),
    "killed": (unit(U.EXITED), PAUSE, {}, "Starting Starting 2:8000"),
    "resume": (unit(U.PAUSED), RUN, {}, "Resuming Resuming 1:8000"),
    "stop": (unit(U.PAUSED), STOP, {}, "Stopping StopRequested 1:8000"),
    "delete": (unit(U.PAUSED), PAUSE | DELETE, {}, "Stopping Deleting 1:8000"),
    "changed": (unit(U.PAUSED), PAUSE | ROLL, {}, "Starting InputsChanged 2:8000"),
    "the lease vanished": (unit(U.PAUSED), PAUSE, {"leased": ()}, "lease 8000"),
}
RESUMING: dict[str, Case] = {
    "paused": (unit(U.PAUSED), RUN, {}, "resume"),
    "held": (unit(U.HELD), RUN, {}, "resume"),
    "runs": (unit(U.RUNNING), RUN, {}, "Running Running 1:8000"),
    "runs, its pause is not lifted": (unit(U.RUNNING, pause_marked=True), RUN, {}, "resume"),
    "runs, not ready": (unit(U.RUNNING), RUN, {"ready": False}, "Resuming NotReady 1:8000"),
    "starts again": (unit(U.WAITING), RUN, {}, "poll"),
    "pause after all, still paused": (unit(U.PAUSED), PAUSE, {}, "Paused Paused 1:8000"),
    "pause after all": (unit(U.RUNNING), PAUSE, {}, "Pausing Pausing 1:8000"),
    "stop at once": (unit(U.PAUSED), STOP, {}, "Stopping StopRequested 1:8000"),
}
STOPPING: dict[str, Case] = {
    "lives": (unit(U.RUNNING), STOP, {}, "stop"),
    "lives, paused": (unit(U.PAUSED), STOP, {}, "stop"),
    "finished before the next wish": (unit(U.RUNNING), RUN, {}, "stop"),
    "within its grace": (unit(U.STOPPING, stopping_seconds=29.5), STOP, {}, "wait 0.5"),
    "past its grace": (unit(U.STOPPING, stopping_seconds=30.0), STOP, {}, "kill"),
    "gone: port first": (unit(U.EXITED), STOP, {}, "give back port-8000"),
    "gone, port back": (unit(U.EXITED), STOP, {"leased": ()}, "Stopped Stopped 1:8000"),
    "gone, port rests": (unit(U.EXITED), STOP, {"quarantine": 30}, "Stopped Stopped 1:8000"),
    "gone, to run again": (unit(U.EXITED), RUN, {}, "Starting Starting 2:8000"),
    "gone, to run again paused": (unit(U.EXITED), PAUSE, {}, "Starting Starting 2:8000"),
    "gone, to run again, pool full": (
        unit(U.EXITED),
        RUN,
        {"leased": (), "pool": ()},
        "Pending PoolExhausted 1:8000",
    ),
    "deleted, gone, port rests: said first": (
        unit(U.ABSENT),
        DELETE,
        {"quarantine": 30},
        "Stopping Deleting 1:8000",
    ),
    "deleted, gone: unit first": (unit(U.EXITED), DELETE, {}, "forget"),
    "deleted, then the port": (unit(U.ABSENT), DELETE, {}, "give back port-8000"),
    "deleted, then the object": (unit(U.ABSENT), DELETE, {"leased": ()}, "let go"),
    "completed": (unit(U.EXITED), {"reason": reasons.COMPLETED}, {"leased": ()}, "Stopped Completed 1:8000"),
    "failed": (unit(U.EXITED), {"reason": reasons.FAILED}, {"leased": ()}, "Failed ProcessFailed 1:8000"),
    "braked": (unit(U.EXITED, held_locally=True), RUN, {"leased": ()}, "Stopped HeldLocally 1:8000"),
}
FRESH = {"status": {"attempt": 0, "port": None, "inputs_hash": None, "handled_restart_nonce": None}}
RESTING: dict[str, Case] = {
    "new": (unit(U.ABSENT), FRESH, {"leased": ()}, "Starting Starting 1:8000"),
    "new, to be paused": (unit(U.ABSENT), FRESH | PAUSE, {"leased": ()}, "Starting Starting 1:8000"),
    "new, stopped": (unit(U.ABSENT), FRESH | STOP, {"leased": ()}, "Stopped Stopped 0:-"),
    "new, can't start": (
        unit(U.ABSENT),
        FRESH,
        {"leased": (), "inputs": Inputs(problem=PROBLEM)},
        "Pending ConfigMapNotFound 0:-",
    ),
    "new, no pool": (unit(U.ABSENT), FRESH, {"leased": (), "pool": None}, "Pending PoolNotFound 0:-"),
    "no port, but a lease: said first": (unit(U.ABSENT), RUN, {"pool": ()}, "Pending PoolExhausted 1:8000"),
    "starts where it was": (
        unit(U.ABSENT),
        {"status": {"port": 8002}},
        {"leased": ()},
        "Starting Starting 2:8002",
    ),
    "stopped, a lease is left": (unit(U.ABSENT), STOP, {}, "give back port-8000"),
    "lives and should not": (unit(U.RUNNING), STOP, {}, "Stopping StopRequested 1:8000"),
    "forgotten by the API": (unit(U.RUNNING), FRESH, {}, "Starting Starting 1:8000"),
    "deleted": (unit(U.ABSENT), DELETE, {"leased": ()}, "let go"),
    "deleted, a record is left": (unit(U.EXITED), DELETE, {"leased": ()}, "forget"),
}
ENDED: dict[str, Case] = {
    "says so": (unit(U.EXITED), {"reason": reasons.COMPLETED}, {"leased": ()}, "Stopped Completed 1:8000"),
    "a lease is left": (unit(U.EXITED), {"reason": reasons.COMPLETED}, {}, "give back port-8000"),
    "changed": (
        unit(U.EXITED),
        {"reason": reasons.COMPLETED} | ROLL,
        {"leased": ()},
        "Starting Starting 2:8000",
    ),
    "restart": (
        unit(U.EXITED),
        {"reason": reasons.COMPLETED} | NONCE,
        {"leased": ()},
        "Starting Starting 2:8000",
    ),
    "stop": (unit(U.EXITED), {"reason": reasons.COMPLETED} | STOP, {"leased": ()}, "Stopped Stopped 1:8000"),
    "deleted": (unit(U.ABSENT), {"reason": reasons.COMPLETED} | DELETE, {"leased": ()}, "let go"),
}
FOREIGN = {"owner_uid": OTHER_UID}
PREDECESSOR: dict[str, Case] = {
    "seen": (unit(U.RUNNING, **FOREIGN), FRESH, {"leased": ()}, "Pending PredecessorStopping 0:-"),
    "said": (
        unit(U.RUNNING, **FOREIGN),
        FRESH | {"reason": reasons.PREDECESSOR},
        {"leased": ()},
        "stop",
    ),
    "gone": (unit(U.EXITED, **FOREIGN), FRESH | {"reason": reasons.PREDECESSOR}, {"leased": ()}, "forget"),
    "deleted beside it": (
        unit(U.RUNNING, **FOREIGN),
        FRESH | DELETE,
        {"leased": ()},
        "Pending PredecessorStopping 0:-",
    ),
    "deleted beside it, said": (
        unit(U.RUNNING, **FOREIGN),
        FRESH | DELETE | {"reason": reasons.PREDECESSOR},
        {"leased": ()},
        "stop",
    ),
    "deleted beside its record": (
        unit(U.EXITED, **FOREIGN),
        FRESH | DELETE | {"reason": reasons.PREDECESSOR},
        {"leased": ()},
        "forget",
    ),
}
TABLES: dict[tuple[RunPhase | None, str], dict[str, Case]] = {
    (RunPhase.STARTING, "Starting"): STARTING,
    (RunPhase.RUNNING, "Running"): RUNNING,
    (RunPhase.PAUSING, "Pausing"): PAUSING,
    (RunPhase.PAUSED, "Paused"): PAUSED,
    (RunPhase.RESUMING, "Resuming"): RESUMING,
    (RunPhase.STOPPING, "Stopping"): STOPPING,
    (RunPhase.PENDING, "Pending"): RESTING,
    (RunPhase.STOPPED, "Stopped"): ENDED,
    (RunPhase.FAILED, "Failed"): RESTING | {"lives and should not": STARTING["stop at once"]},
    (None, "no phase"): RESTING | PREDECESSOR,
}
ALL = [
    pytest.param(
        phase,
        *case,
        id=f"{name}: {words}",
    )
    for (phase, name), table in TABLES.items()
    for words, case in table.items()
]


@pytest.mark.parametrize(("phase", "seen", "asked", "about", "plan"), ALL)
def test_table(
    phase: RunPhase | None, seen: Unit, asked: dict[str, Any], about: dict[str, Any], plan: str
) -> None:
    check(phase, seen, asked, about, plan)
