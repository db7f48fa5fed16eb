"""A Runtime in memory: deterministic, without clocks or processes, and scriptable. It ships with the package.

It obeys the same contract tests as the real ones. Time passes only through `advance`; programs do only what a
test tells them: `crash`, `exit_with`, `ignore_term`, `set_ready`, `occupy`, `brake`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mainstay.api.program import Readiness, RestartPolicyType
from mainstay.runtime import effects
from mainstay.runtime.base import (
    GONE,
    Exit,
    PauseCall,
    ProbeResult,
    ProcessId,
    RuntimeUnavailableError,
    Unit,
    UnitRefusedError,
    UnitSpec,
    UnitState,
)

BOOT = "fake-boot"


@dataclass(slots=True)
class _Record:
    spec: UnitSpec
    state: UnitState = UnitState.EXITED
    leader: ProcessId | None = None
    attempt: int = 0  # of the present or latest process
    inputs_hash: str = ""
    port: int | None = None
    started_at: float | None = None
    restarts: int = 0
    streak: int = 0
    exit: Exit | None = None
    stopping_since: float | None = None
    backoff_until: float = 0.0
    paused: bool = False
    held: bool = False
    deleting: bool = False
    defined: bool = True
    calls: list[str] = field(default_factory=list)


class FakeRuntime:
    """Implements Runtime. Every method that acts counts in `acts`, as (verb, unit)."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.available = True
        self.acts: list[tuple[str, str]] = []
        self.started: list[UnitSpec] = []  # every process that was ever executed
        self._records: dict[str, _Record] = {}
        self._next_pid = 100
        self._ignores_term: set[str] = set()
        self._not_ready: dict[str, str] = {}
        self._foreign: dict[int, str] = {}
        self._refused: dict[str, UnitRefusedError] = {}
        self._queues: set[asyncio.Queue[str]] = set()

    # -- the script ------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass; delays that end are over."""
        self.now += seconds
        for name, record in self._records.items():
            if record.state is UnitState.BACKOFF and record.backoff_until <= self.now:
                self._execute(name, record)

    def crash(self, name: str, *, code: int | None = None, signal: int | None = 9, stderr: str = "") -> None:
        """The leader ends by itself; what follows is the restart policy's."""
        record = self._records[name]
        record.exit = Exit(None if signal else code, signal, tuple(stderr.splitlines()[-5:]))
        record.leader = None
        policy = record.spec.restart.policy
        again = policy is RestartPolicyType.ALWAYS or (
            policy is RestartPolicyType.ON_FAILURE and (signal is not None or code != 0)
        )
        if record.stopping_since is not None or not again:
            record.state = UnitState.EXITED
        else:
            self._restart(name, record)
        self._tell(name)

    def exit_with(self, name: str, code: int) -> None:
        """The leader exits with this code."""
        self.crash(name, code=code, signal=None)

    def ignore_term(self, name: str, ignores: bool = True) -> None:
        """Whether a stop needs force."""
        (self._ignores_term.add if ignores else self._ignores_term.discard)(name)

    def set_ready(self, name: str, ready: bool = True, message: str = "not ready") -> None:
        """What a probe of this unit answers."""
        if ready:
            self._not_ready.pop(name, None)
        else:
            self._not_ready[name] = message
        self._tell(name)

    def occupy(self, port: int, who: str | None) -> None:
        """A stranger listens on this port; None: no longer."""
        if who is None:
            self._foreign.pop(port, None)
        else:
            self._foreign[port] = who

    def refuse(self, name: str, error: UnitRefusedError | None) -> None:
        """Whether `start` and `define` of this unit are refused."""
        if error is None:
            self._refused.pop(name, None)
        else:
            self._refused[name] = error

    def brake(self, name: str) -> None:
        """What `mainstay stop --offline` does."""
        record = self._records[name]
        record.held = True
        if record.state not in GONE:
            record.exit = Exit(None, 15)
            self._become(record, UnitState.HELD)
        self._tell(name)

    def release(self, name: str) -> None:
        """Undo `brake`."""
        record = self._records[name]
        record.held = False
        self._unhold(name, record)

    def undefine(self, name: str) -> None:
        """Somebody deleted its files."""
        self._records[name].defined = False
        self._tell(name)

    def lose_everything(self) -> None:
        """A reboot: processes are gone, records stay."""
        for name, record in self._records.items():
            record.state, record.leader = UnitState.EXITED, None
            record.stopping_since = None
            self._tell(name)

    # -- Runtime ---------------------------------------------------------------------------------

    async def observe(self, name: str) -> Unit:
        """See Runtime."""
        self._check()
        record = self._records.get(name)
        if record is None:
            return Unit(name, UnitState.ABSENT, defined=False)
        live = record.state not in GONE
        executing = record.state in (UnitState.RUNNING, UnitState.PAUSED, UnitState.STOPPING)
        spec = record.spec
        return Unit(
            name=name,
            state=record.state,
            owner_uid=spec.owner_uid,
            attempt=record.attempt if executing else spec.attempt,
            port=record.port if executing else spec.port,
            inputs_hash=record.inputs_hash if executing else spec.inputs_hash,
            leader=record.leader if live else None,
            started_at=record.started_at,
            restarts=record.restarts,
            exit=record.exit,
            stopping_seconds=None if record.stopping_since is None else self.now - record.stopping_since,
            pause_marked=record.paused,
            held_locally=record.held,
            deletion_witnessed=record.deleting,
            grace_seconds=spec.grace_seconds,
            defined=record.defined,
        )

    async def names(self) -> Sequence[str]:
        """See Runtime."""
        self._check()
        return sorted(self._records)

    async def units(self) -> Sequence[Unit]:
        """See Runtime."""
        return [await self.observe(name) for name in sorted(self._records)]

    async def start(self, spec: UnitSpec) -> None:
        """See Runtime."""
        self._check(spec.name)
        record = self._records.get(spec.name)
        if record is not None and record.state not in GONE:
            if record.state is UnitState.STOPPING:
                raise RuntimeUnavailableError(f"{spec.name} is still stopping")
            if record.attempt != spec.attempt:
                raise RuntimeUnavailableError(f"attempt {record.attempt} of {spec.name} still lives")
            return
        with effects.effect("fake start"):
            self.acts.append(("start", spec.name))
            if record is None:
                record = self._records[spec.name] = _Record(spec)
            same = record.attempt == spec.attempt and record.leader is None and record.started_at is not None
            record.spec, record.defined = spec, True
            record.paused, record.stopping_since, record.deleting = spec.paused, None, False
            if not same:
                record.restarts = record.streak = 0
            record.attempt = spec.attempt
            if record.paused or record.held:
                self._become(record, UnitState.HELD)
            elif same:
                self._restart(spec.name, record)
            else:
                self._execute(spec.name, record)
        self._tell(spec.name)

    async def define(self, spec: UnitSpec) -> None:
        """See Runtime."""
        self._check(spec.name)
        self.acts.append(("define", spec.name))
        record = self._records.setdefault(spec.name, _Record(spec))
        record.spec, record.defined = spec, True
        self._tell(spec.name)

    async def stop(
        self, name: str, *, grace_seconds: float, force: bool = False, deleting: bool = False
    ) -> None:
        """See Runtime."""
        self._check()
        record = self._records.get(name)
        if record is None:
            return
        with effects.effect("fake stop"):
            self.acts.append(("stop", name))
            record.deleting = record.deleting or deleting
            if record.state in GONE:
                return
            if record.stopping_since is None:
                record.stopping_since = self.now
            record.state = UnitState.STOPPING
            if force or name not in self._ignores_term:
                record.exit = Exit(None, 9 if force else 15)
                record.state, record.leader = UnitState.EXITED, None
        self._tell(name)

    async def pause(self, name: str, call: PauseCall | None = None) -> None:
        """See Runtime."""
        self._check()
        record = self._records.get(name)
        if record is None:
            return
        self.acts.append(("pause", name))
        record.paused = True
        if call is not None:
            record.calls.append(call.path)
        if record.state is UnitState.RUNNING:
            record.state = UnitState.PAUSED
        elif record.state in (UnitState.BACKOFF, UnitState.WAITING):
            record.state = UnitState.HELD
        self._tell(name)

    async def resume(self, name: str, call: PauseCall | None = None) -> None:
        """See Runtime."""
        self._check()
        record = self._records.get(name)
        if record is None:
            return
        self.acts.append(("resume", name))
        record.paused = False
        if call is not None:
            record.calls.append(call.path)
        if record.state is UnitState.PAUSED:
            record.state = UnitState.RUNNING
        self._unhold(name, record)

    async def remove(self, name: str, owner_uid: str) -> None:
        """See Runtime."""
        self._check()
        record = self._records.get(name)
        if record is None or record.spec.owner_uid != owner_uid:
            return
        if record.state not in GONE:
            raise RuntimeUnavailableError(f"{name} still lives ({record.state})")
        with effects.effect("fake remove"):
            self.acts.append(("remove", name))
            del self._records[name]
        self._tell(name)

    async def probe(self, name: str, readiness: Readiness, port: int | None) -> ProbeResult:
        """See Runtime."""
        self._check()
        record = self._records.get(name)
        state = record.state if record is not None else UnitState.ABSENT
        if state is not UnitState.RUNNING:
            return ProbeResult(False, f"the unit is {state}")
        if readiness.none is None and (message := self._not_ready.get(name)):
            return ProbeResult(False, message)
        return ProbeResult(True)

    async def strategies(self) -> Collection[str]:
        """See Runtime."""
        return {
            record.spec.env["STRATEGY_HASH"]
            for record in self._records.values()
            if "STRATEGY_HASH" in record.spec.env
        }

    async def foreign_ports(self, ports: Iterable[int], name: str) -> Mapping[int, str]:
        """See Runtime."""
        self._check()
        found = {port: self._foreign[port] for port in ports if port in self._foreign}
        wanted = set(ports)
        for other, record in self._records.items():
            if (
                other != name
                and record.port in wanted
                and record.leader
                and record.state is UnitState.RUNNING
            ):
                found.setdefault(record.port or 0, f"pid {record.leader.pid} ({record.spec.argv[0]})")
        return found

    async def changes(self) -> AsyncIterator[str]:
        """See Runtime."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    # -- within ----------------------------------------------------------------------------------

    def _check(self, name: str = "") -> None:
        if not self.available:
            raise RuntimeUnavailableError("the fake runtime was told to be away")
        if name in self._refused:
            raise self._refused[name]

    def _tell(self, name: str) -> None:
        for queue in self._queues:
            queue.put_nowait(name)

    def _become(self, record: _Record, state: UnitState) -> None:
        self._next_pid += 1
        record.state = state
        record.leader = ProcessId(self._next_pid, self._next_pid, BOOT)

    def _execute(self, name: str, record: _Record) -> None:
        if record.leader is None:
            self._become(record, UnitState.RUNNING)
        record.state = UnitState.RUNNING
        record.attempt = record.spec.attempt
        record.inputs_hash, record.port = record.spec.inputs_hash, record.spec.port
        record.started_at = self.now
        self.started.append(replace(record.spec))
        self._tell(name)

    def _restart(self, name: str, record: _Record) -> None:
        """As the fence does: held first, then the delay."""
        policy = record.spec.restart
        lived = self.now - (record.started_at or self.now)
        record.streak = 1 if lived > policy.max_backoff_seconds else record.streak + 1
        delay = min(policy.max_backoff_seconds, policy.initial_backoff_seconds * 2 ** (record.streak - 1))
        record.backoff_until = self.now + delay
        record.restarts += 1
        if record.paused or record.held:
            self._become(record, UnitState.HELD)
        elif delay > 0:
            self._become(record, UnitState.BACKOFF)
        else:
            self._execute(name, record)

    def _unhold(self, name: str, record: _Record) -> None:
        if record.state is UnitState.HELD and not record.paused and not record.held:
            if record.backoff_until > self.now:
                record.state = UnitState.BACKOFF
            else:
                self._execute(name, record)
        self._tell(name)
