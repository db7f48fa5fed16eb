"""A run and all that a decision about it looks at, as data; and what each action does to it.

No runtime, no API server: a few lines of what the contract promises, so that a plan can be followed from any
state to where nothing is left to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from mainstay.api.conditions import Condition, ConditionStatus
from mainstay.api.meta import FINALIZER
from mainstay.api.ports import lease_name
from mainstay.api.process import ProcessStatus
from mainstay.api.strategyrun import RunPhase, StrategyRun, StrategyRunStatus
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.run.decide import RunPlan, decide
from mainstay.core.snapshot import Inputs, LeaseView, PortView, RunSnapshot
from mainstay.core.unit import GONE, LIVE, Exit, ProbeResult, ProcessId, Unit, UnitState

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
UID = "11111111-2222-3333-4444-555555555555"
OTHER_UID = "99999999-2222-3333-4444-555555555555"
NAME = "default.bot"
POOL = (8000, 8001, 8002)
HASH = "sha256:now"
OLD_HASH = "sha256:before"
GENERATION = 3
SERVING_PHASES = (RunPhase.STARTING, RunPhase.RUNNING, RunPhase.RESUMING)
PROBLEM = (reasons.CONFIG_MAP_NOT_FOUND, "ConfigMap c with key k does not exist.")


def a_condition(kind: str, value: str, reason: str, *, generation: int = GENERATION) -> Condition:
    return Condition(
        type=kind,
        status=ConditionStatus(value),
        reason=reason,
        last_transition_time=NOW,
        observed_generation=generation,
    )


def a_run(
    *, deleting: bool = False, finalizer: bool = True, status: dict[str, Any] | None = None, **spec: Any
) -> StrategyRun:
    """A run; `spec` and `status` in the models' own words. `reason` in status is that of Ready."""
    said = dict(status or {})
    reason = said.pop("reason", None)
    if reason:
        said.setdefault("conditions", (a_condition("Ready", "False", reason),))
    meta = {
        "name": "bot",
        "namespace": "default",
        "uid": UID,
        "generation": GENERATION,
        "resourceVersion": "7",
        "creationTimestamp": NOW,
        "deletionTimestamp": NOW if deleting else None,
        "finalizers": [FINALIZER] if finalizer else [],
    }
    declared = {"program": {"command": ["bot"]}, **spec}
    run = StrategyRun.model_validate({"metadata": meta, "spec": declared})
    return run.model_copy(update={"status": StrategyRunStatus().model_copy(update=said)})


def a_unit(state: UnitState = UnitState.ABSENT, **changes: Any) -> Unit:
    """A unit of the run, as it is observed in that state."""
    if state is UnitState.ABSENT:
        return Unit(NAME, state, defined=False)
    live = state in LIVE
    said: dict[str, Any] = {
        "owner_uid": UID,
        "attempt": 1,
        "inputs_hash": HASH,
        "leader": ProcessId(100, 1000, "boot") if live else None,
        "started_at": 1_000_000.0,
        "stopping_seconds": 0.0 if state is UnitState.STOPPING else None,
        "pause_marked": state is UnitState.PAUSED,
    }
    return Unit(NAME, state, **{**said, **changes})


def a_lease(port: int) -> LeaseView:
    return LeaseView(lease_name(port), port, f"lease-{port}", "5")


@dataclass
class World:
    """Everything outside of `decide`. `run` None: the object is gone."""

    run: StrategyRun | None
    unit: Unit = field(default_factory=a_unit)
    leases: dict[int, LeaseView] = field(default_factory=dict)
    taken: dict[int, str] = field(default_factory=dict)
    foreign: dict[int, str] = field(default_factory=dict)
    pool: tuple[int, ...] | None = POOL
    older_waiting: int = 0
    quarantine: int = 0
    inputs: Inputs = field(default_factory=lambda: Inputs(HASH))
    now: datetime = NOW
    ready: bool = True

    def snapshot(self) -> RunSnapshot:
        assert self.run is not None
        asked = self.run.status.phase in SERVING_PHASES and self.unit.state is UnitState.RUNNING
        return RunSnapshot(
            run=self.run,
            unit=self.unit,
            now=self.now,
            inputs=self.inputs,
            leases=tuple(self.leases.values()),
            ports=PortView(
                pool_found=self.pool is not None,
                ports=self.pool or (),
                taken=dict(self.taken),
                foreign=dict(self.foreign),
                older_waiting=self.older_waiting,
                quarantine_seconds=self.quarantine,
            ),
            probe=ProbeResult(self.ready, "" if self.ready else "connection refused") if asked else None,
        )

    def decide(self) -> RunPlan:
        return decide(self.snapshot())

    # -- effects

    def apply(self, plan: p.Write[StrategyRunStatus] | p.Act) -> None:
        """What the API server and the runtime make of it."""
        assert self.run is not None
        match plan:
            case p.Write(status=status):
                wire = json.loads(json.dumps(status.wire()))
                self.run = self.run.model_copy(update={"status": StrategyRunStatus.model_validate(wire)})
            case p.Act(action=p.AddFinalizer()):
                self._finalizers(FINALIZER)
            case p.Act(action=p.RemoveFinalizer()):
                self._finalizers()
                self.run = None if self.run.metadata.deletion_timestamp else self.run
            case p.Act(action=p.CreateLease(port=port)):
                if port not in self.taken:
                    self.leases[port] = a_lease(port)
            case p.Act(action=p.DeleteLease(name=name)):
                self.leases = {k: v for k, v in self.leases.items() if v.name != name}
            case p.Act(action=action):
                self.unit = _effect(self.unit, action)

    def _finalizers(self, *names: str) -> None:
        assert self.run is not None
        meta = self.run.metadata.model_copy(update={"finalizers": names})
        self.run = self.run.model_copy(update={"metadata": meta})

    def pass_time(self, seconds: float) -> None:
        """Time passes: delays end, TERM is obeyed."""
        self.now += timedelta(seconds=seconds)
        match self.unit.state:
            case UnitState.WAITING | UnitState.BACKOFF:
                marked = self.unit.pause_marked
                self.unit = replace(self.unit, state=UnitState.HELD if marked else UnitState.RUNNING)
            case UnitState.STOPPING if self.unit.stopping_seconds is not None:
                self.unit = replace(self.unit, state=UnitState.EXITED, leader=None, stopping_seconds=None)


def _effect(unit: Unit, action: p.Action) -> Unit:
    """As the contract of Runtime says. What it would refuse fails the test."""
    live = unit.state in LIVE
    match action:
        case p.StartUnit() if live:
            assert unit.state is not UnitState.STOPPING, "started while it stops"
            assert unit.attempt == action.attempt, "started while another attempt lives"
            return unit
        case p.StartUnit():
            held = action.paused or unit.held_locally
            return a_unit(
                UnitState.HELD if held else UnitState.WAITING,
                attempt=action.attempt,
                port=action.port,
                inputs_hash=action.inputs_hash,
                held_locally=unit.held_locally,
                pause_marked=action.paused,
                leader=ProcessId((unit.leader.pid if unit.leader else 100) + 1, 1000, "boot"),
            )
        case p.DefineUnit():
            return replace(unit, defined=True)
        case p.StopUnit() if live and action.force:
            return replace(unit, state=UnitState.EXITED, leader=None, stopping_seconds=None)
        case p.StopUnit() if live:
            return replace(unit, state=UnitState.STOPPING, stopping_seconds=unit.stopping_seconds or 0.0)
        case p.PauseUnit() if unit.state is UnitState.RUNNING:
            return replace(unit, state=UnitState.PAUSED, pause_marked=True)
        case p.PauseUnit() if unit.state in {UnitState.WAITING, UnitState.BACKOFF}:
            return replace(unit, state=UnitState.HELD, pause_marked=True)
        case p.ResumeUnit() if unit.state in {UnitState.PAUSED, UnitState.HELD} and not unit.held_locally:
            return replace(unit, state=UnitState.RUNNING, pause_marked=False)
        case p.ResumeUnit():
            return replace(unit, pause_marked=False)
        case p.RemoveUnit():
            assert unit.state in GONE, "removed while it lives"
            assert unit.owner_uid in {"", action.owner_uid}, "another owner's unit removed"
            return a_unit()
        case _:
            return unit


# -- random ones

PHASES = st.sampled_from([None, *RunPhase])
REASONS = st.sampled_from(
    [
        *(None, reasons.RUNNING, reasons.STARTING, reasons.NOT_READY, reasons.STOP_REQUESTED),
        *(reasons.RESTART_REQUESTED, reasons.INPUTS_CHANGED, reasons.COMPLETED, reasons.FAILED),
        *(reasons.PREDECESSOR, reasons.STOPPED, reasons.CRASH_LOOP),
    ]
)
PORTS = st.sampled_from([None, *POOL, 9000])


@st.composite
def statuses(draw: st.DrawFn) -> dict[str, Any]:
    """Any status, also such as no operator would have written: a person may have edited it."""
    return {
        "phase": draw(PHASES),
        "reason": draw(REASONS),
        "run_id": draw(st.sampled_from([None, UID, "brought-along"])),
        "attempt": draw(st.integers(0, 3)),
        "port": draw(PORTS),
        "inputs_hash": draw(st.sampled_from([HASH, HASH, OLD_HASH, None])),
        "handled_restart_nonce": draw(st.sampled_from([None, 0, 1])),
        "observed_generation": draw(st.sampled_from([0, GENERATION])),
        "stopped_at": draw(st.sampled_from([None, NOW - timedelta(seconds=20)])),
        "process": draw(st.sampled_from([None, ProcessStatus(pid=100, start_ticks=1000, boot_id="boot")])),
    }


@st.composite
def units(draw: st.DrawFn) -> Unit:
    """Any unit that can be observed."""
    state = draw(st.sampled_from(UnitState))
    if state is UnitState.ABSENT:
        return a_unit()
    code = draw(st.sampled_from([None, 0, 1]))
    return a_unit(
        state,
        owner_uid=draw(st.sampled_from([UID, UID, UID, "", OTHER_UID])),
        attempt=draw(st.integers(0, 3)),
        port=draw(PORTS),
        inputs_hash=draw(st.sampled_from([HASH, HASH, OLD_HASH, ""])),
        exit=draw(st.sampled_from([None, Exit(code, None if code is not None else 9)])),
        stopping_seconds=draw(st.sampled_from([None, 3.0, 40.0])) if state is UnitState.STOPPING else None,
        held_locally=draw(st.sampled_from([False, False, False, True])),
        pause_marked=state is UnitState.PAUSED or draw(st.booleans()),
        defined=draw(st.sampled_from([True, True, False])),
        restarts=draw(st.integers(0, 2)),
    )


def _hashed(run: StrategyRun, unit: Unit) -> tuple[StrategyRun, Unit]:
    """The hash covers `controlApi`: what carries the present one has the port that is asked for.

    And a claim and its process were made of the same inputs.
    """
    api = run.spec.control_api

    def fits(port: int | None) -> bool:
        return (port is None) == (api is None) and (api is None or api.port in {None, port})

    if run.status.inputs_hash == HASH and not fits(run.status.port):
        run = run.model_copy(update={"status": run.status.model_copy(update={"inputs_hash": OLD_HASH})})
    if unit.attempt == run.status.attempt:
        unit = replace(unit, inputs_hash=run.status.inputs_hash or "")
    if unit.inputs_hash in {HASH, ""} and not fits(unit.port):
        unit = replace(unit, inputs_hash=OLD_HASH)
    return run, unit


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Any run in any state, with any unit, leases and ports."""
    run = a_run(
        deleting=draw(st.sampled_from([False, False, False, True])),
        finalizer=draw(st.sampled_from([True, True, True, False])),
        status=draw(statuses()),
        state=draw(st.sampled_from(["Running", "Running", "Paused", "Stopped"])),
        control_api=draw(st.sampled_from([None, {}, {}, {"port": 8001}, {"port": 9000}])),
        restart_policy=draw(st.sampled_from([None, {"policy": "OnFailure"}, {"policy": "Never"}])),
        restart_nonce=draw(st.integers(0, 1)),
        run_id=draw(st.sampled_from([None, "brought-along"])),
    )
    unit = draw(units())
    run, unit = _hashed(run, unit)
    mine = draw(st.sets(st.sampled_from([*POOL, 9000]), max_size=2))
    others = draw(st.sets(st.sampled_from([*POOL, 9000]), max_size=4)) - mine
    listening = draw(st.sets(st.sampled_from(POOL), max_size=2))
    return World(
        run=run,
        unit=unit,
        leases={port: a_lease(port) for port in sorted(mine)},
        taken=dict.fromkeys(sorted(others), "StrategyRun default/other"),
        foreign={port: "pid 7 (nc)" for port in sorted(listening) if port != unit.port},
        pool=draw(st.sampled_from([POOL, POOL, POOL, (9000,), None])),
        older_waiting=draw(st.sampled_from([0, 0, 1, 3])),
        quarantine=draw(st.sampled_from([0, 0, 30])),
        inputs=draw(st.sampled_from([Inputs(HASH), Inputs(HASH), Inputs(HASH), Inputs(problem=PROBLEM)])),
        ready=draw(st.sampled_from([True, True, False])),
    )
