"""A run's next status: its phase told in conditions.

Ready says whether what is observed is what spec asks: a Stopped run is Ready too, so that `kubectl wait`
and GitOps tools end. Serving says whether the process answers. Stalled needs a person (kstatus).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mainstay.api.conditions import Condition, ConditionStatus, find, merge
from mainstay.api.conditions import condition as observed
from mainstay.api.strategyrun import RunPhase, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.plan import Plan, Wait, Write
from mainstay.core.snapshot import RunSnapshot
from mainstay.core.strategy.resolve import same_program, short

_SETTLED = (RunPhase.RUNNING, RunPhase.PAUSED, RunPhase.STOPPED)
_HOLDS_PORT = (
    RunPhase.STARTING,
    RunPhase.RUNNING,
    RunPhase.PAUSING,
    RunPhase.PAUSED,
    RunPhase.RESUMING,
    RunPhase.STOPPING,
)


def outlook(
    s: RunSnapshot,
    phase: RunPhase,
    reason: str,
    message: str,
    *,
    ready: bool | None = None,
    serving: bool = False,
    stalled: bool = False,
    port_trouble: tuple[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> StrategyRunStatus:
    """The status that says `phase`, with `changes` of its other fields.

    `ready` None means: still being worked on, Unknown before it was ever settled. `port_trouble` is
    (reason, message) when a port is wanted and can't be had.
    """
    generation = s.run.metadata.generation
    status = s.status.model_copy(
        update={
            "observed_generation": generation,
            "run_id": s.status.run_id or s.spec.run_id or s.uid,
            "phase": phase,
            **_in_whose_place(s),
            **(changes or {}),
            **({} if s.live else {"process": None}),
        }
    )
    truth = _ready(s, phase, ready)
    working = truth is not ConditionStatus.TRUE and not stalled

    def condition(kind: str, value: ConditionStatus | bool, why: str, words: str = "") -> Condition:
        return observed(kind, value, why, words, now=s.now, generation=generation)

    conditions = [
        condition("Ready", truth, reason, message),
        condition("Serving", serving, reason),
        condition("Reconciling", working, reason),
        condition("Stalled", stalled, reason, message if stalled else ""),
    ]
    if s.spec.control_api is not None:
        if port_trouble is not None:
            conditions.append(condition("PortAllocated", False, *port_trouble))
        elif status.port is not None and phase in _HOLDS_PORT:
            conditions.append(condition("PortAllocated", True, reasons.LEASED, str(status.port)))
        else:
            conditions.append(condition("PortAllocated", False, reasons.RELEASED))
    if (told := _told(s, status)) is not None:
        conditions.append(condition("StrategyResolved", *told))
    elif s.strategy.unread and (known := find(s.status.conditions, "StrategyResolved")):
        conditions.append(known)
    if s.unit.held_locally:
        conditions.append(
            condition(
                "HeldLocally",
                True,
                reasons.HELD_LOCALLY,
                f"stopped on its host; `mainstay release {s.run.metadata.name}` lets it run again",
            )
        )
    held_port = status.port if phase in _HOLDS_PORT else None
    return status.model_copy(
        update={
            "endpoint": f"http://127.0.0.1:{held_port}" if held_port else None,
            "conditions": merge(s.status.conditions, conditions, s.now),
        }
    )


def _told(s: RunSnapshot, status: StrategyRunStatus) -> tuple[bool, str, str] | None:
    """What is said of its strategy; that it has what it asked for only once it has."""
    told, use, has = s.strategy.told, s.strategy.use, status.strategy
    if told is None or not told[0] or not s.live or use is None or has is None or same_program(use, has):
        return told
    words = f"runs {has.name} {short(has.hash)}; {use.name} {short(use.hash)} is taken when it can be started again"
    return False, reasons.UPDATE_WAITING, words


def _in_whose_place(s: RunSnapshot) -> Mapping[str, Any]:
    """Whether it is a fallback may change while the same code goes on; one that was forgotten is told by its inputs."""
    use = s.strategy.use
    same = same_program(use, s.status.strategy) or s.inputs_hash == s.status.inputs_hash
    return {"strategy": use} if use is not None and same else {}


def _ready(s: RunSnapshot, phase: RunPhase, ready: bool | None) -> ConditionStatus:
    if ready is not None:
        return ConditionStatus.TRUE if ready else ConditionStatus.FALSE
    if phase in _SETTLED:
        return ConditionStatus.TRUE
    return ConditionStatus.FALSE if s.status.conditions else ConditionStatus.UNKNOWN


def settle(s: RunSnapshot, status: StrategyRunStatus, wait: Wait | None = None) -> Plan[StrategyRunStatus]:
    """Write the status if it says anything new, otherwise wait: nothing is written when nothing changed."""
    return (wait or Wait()) if status == s.status else Write(status)
