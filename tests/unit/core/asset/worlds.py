"""An asset and all that a decision about it looks at, as data; and what each plan does to it.

No shell, no API server: what is there in truth (jobs, a batch, cargo), and what was seen of it, so that a plan can be
followed from any state to where nothing is left to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mainstay.api.asset import Asset, AssetState, AssetStatus, CompensationStatus, Holder
from mainstay.api.conditions import find
from mainstay.api.holdings import AssetReport, Holding
from mainstay.api.meta import FINALIZER
from mainstay.core import plan as p
from mainstay.core.asset.decide import AssetPlan, decide
from mainstay.core.asset.snapshot import (
    AssetSnapshot,
    BatchView,
    Claimant,
    HolderState,
    HolderView,
    Looked,
    LookedUp,
    ReportView,
)
from mainstay.core.names import compensation_name
from mainstay.core.snapshot import Problem

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
UID = "11111111-2222-3333-4444-555555555555"
JOB, BATCH = "uid-of-job", "uid-of-batch"
EVERY, MAX_BACKOFF = 30, 600.0
IRON: tuple[Holding, ...] = (Holding(symbol="IRON_ORE", units=40),)
TEMPLATE = {"steps": [{"name": "s", "phases": [{"name": "p", "tasks": [{"name": "sell", "program": {"command": ["sell"]}}]}]}]}  # fmt: skip
PROBE = {"probe": {"http": {"url": "http://127.0.0.1:1/x"}}, "everySeconds": EVERY}
BATCH_NAME = compensation_name("ship-1", UID, 1)


def holdings(**units: int) -> tuple[Holding, ...]:
    return tuple(Holding(symbol=name, units=n) for name, n in units.items())


def a_spec(
    *, probe: bool = True, accepts: bool = False, template: bool = True, **compensation: Any
) -> dict[str, Any]:
    said: dict[str, Any] = {"type": "Ship"}
    if probe:
        said["holdings"] = PROBE
    if accepts:
        said["accepts"] = PROBE
    if template:
        said["compensation"] = {"template": TEMPLATE, **compensation}
    return said


def an_asset(
    spec: dict[str, Any] | None = None, *, deleting: bool = False, finalizer: bool = True, **status: Any
) -> Asset:
    meta = {
        "name": "ship-1",
        "namespace": "default",
        "uid": UID,
        "generation": 1,
        "resourceVersion": "7",
        "deletionTimestamp": NOW if deleting else None,
        "finalizers": [FINALIZER] if finalizer else [],
    }
    made = Asset.model_validate({"metadata": meta, "spec": a_spec() if spec is None else spec})
    return made.model_copy(update={"status": AssetStatus().model_copy(update=status)})


def job_holder(uid: str = JOB, name: str = "haul") -> Holder:
    return Holder(kind="PhasedJob", name=name, uid=uid, since=NOW - timedelta(hours=1))


def batch_holder(uid: str = BATCH, name: str = BATCH_NAME) -> Holder:
    return Holder(kind="JobBatch", name=name, uid=uid, since=NOW - timedelta(hours=1))


def claimed(**fields: Any) -> CompensationStatus:
    """A compensation that was claimed, and is not over."""
    said: dict[str, Any] = {
        "batch": BATCH_NAME,
        "attempt": 1,
        "cause": "HolderCancelled",
        "holdings": IRON,
        "started_at": NOW - timedelta(minutes=5),
    }
    return CompensationStatus(**{**said, **fields})


def failed(failures: int = 1, *, due_in: float = 10.0) -> CompensationStatus:
    """One that left holdings."""
    return claimed(failures=failures, ended_at=NOW, retry_at=NOW + timedelta(seconds=due_in))


def claimant(uid: str = "uid-of-next", *, age: float = 0.0, **fields: Any) -> Claimant:
    return Claimant(name=f"{uid}-job", uid=uid, created=NOW - timedelta(seconds=age), **fields)


def report(number: int = 1, *, at: float = 0.0, asset: str = "ship-1", **said: Any) -> ReportView:
    """What the task of that number told, so many seconds from now."""
    told = AssetReport.model_validate({"ref": asset, **said})
    return ReportView(f"u/t{number}/1", "haul", f"t{number}", NOW + timedelta(seconds=at), told)


@dataclass
class World:
    """Everything outside of `decide`, and the asset."""

    asset: Asset
    holders: dict[str, HolderView] = field(default_factory=dict)  # uid → what became of it; others are gone
    cargo: tuple[Holding, ...] = ()
    probe_fails: str = ""
    looked: Looked | None = None
    purposes: frozenset[str] = frozenset()
    claimants: tuple[Claimant, ...] = ()
    reports: tuple[ReportView, ...] = ()
    batch: BatchView | None = None
    problem: Problem | None = None
    now: datetime = NOW
    next_look: float = 0.0
    plans: list[AssetPlan] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)
    made: int = 0
    gone: bool = False

    def snapshot(self, **changes: Any) -> AssetSnapshot:
        holder = self.asset.status.holder
        view = self.holders.get(holder.uid, HolderView(HolderState.GONE)) if holder else None
        made = AssetSnapshot(
            asset=self.asset,
            now=self.now,
            looked=self.looked,
            purposes=self.purposes,
            next_look_seconds=self.next_look,
            looked_up=LookedUp(accepts=("FUEL",)) if self.asset.spec.accepts else None,
            next_look_up_seconds=300.0,
            holder=view,
            claimants=self.claimants,
            reports=self.reports,
            batch=self.batch,
            problem=self.problem,
        )
        return replace(made, **changes)

    # --- looking

    @property
    def status(self) -> AssetStatus:
        return self.asset.status

    @property
    def holder(self) -> str:
        return self.status.holder.uid if self.status.holder else ""

    def reason(self, kind: str = "Ready") -> str:
        found = find(self.status.conditions, kind)
        return found.reason if found else ""

    def message(self) -> str:
        found = find(self.status.conditions, "Ready")
        return found.message if found else ""

    # --- doing

    def step(self) -> AssetPlan:
        """One pass."""
        plan = decide(self.snapshot())
        self.plans.append(plan)
        match plan:
            case p.Write(status=status):
                self.write(status)
            case p.Act(action=action):
                self.act(action)
            case p.ActAll(actions=actions):
                for action in actions:
                    self.act(action)
            case _:
                pass
        return plan

    def write(self, status: AssetStatus) -> None:
        """Through the wire, as an API server would answer; whoever is given the asset has not ended."""
        status = wired(status)
        self.asset = self.asset.model_copy(update={"status": status})
        if self.holder in {one.uid for one in self.claimants}:
            self.holders.setdefault(self.holder, HolderView(HolderState.ACTIVE))
        if self.batch is not None and self.holder == self.batch.uid:
            state = HolderState.FAILED if self.batch.over else HolderState.ACTIVE
            self.holders.setdefault(self.holder, HolderView(state))

    def act(self, action: p.Action) -> None:
        meta = self.asset.metadata
        match action:
            case p.AddFinalizer():
                meta = meta.model_copy(update={"finalizers": (FINALIZER,)})
                self.asset = self.asset.model_copy(update={"metadata": meta})
            case p.RemoveFinalizer():
                self.gone = True
            case p.ObserveAssets(purpose=purpose):
                self.looks.append(purpose)
                self.look(purpose)
            case p.CreateCompensation():
                assert self.status.compensation is not None
                assert self.status.compensation.ended_at is None
                self.made += 1
                self.batch = BatchView(f"{BATCH}-{self.made}", over=False)
            case p.DeleteCompensation():
                pass
            case _:
                raise AssertionError(action)

    def look(self, *purposes: str) -> None:
        """The probe answers."""
        self.next_look = float(EVERY)
        if self.probe_fails:
            self.looked = Looked(error=self.probe_fails)
        else:
            self.looked, self.purposes = Looked(holdings=self.cargo), self.purposes | set(purposes)

    def settle(self, limit: int = 30) -> p.Wait:
        """Passes until one waits."""
        for _ in range(limit):
            plan = self.step()
            if isinstance(plan, p.Wait) or self.gone:
                return plan if isinstance(plan, p.Wait) else p.Wait()
        raise AssertionError(f"never waits: {self.plans[-6:]}")

    def wait(self, seconds: float) -> None:
        """Time passes; every look is too old by then."""
        self.now += timedelta(seconds=seconds)
        self.purposes = frozenset()
        self.next_look = max(0.0, self.next_look - seconds)


def wired(status: AssetStatus) -> AssetStatus:
    return AssetStatus.model_validate(json.loads(json.dumps(status.wire(), allow_nan=False)))


def refused(old: AssetStatus, new: AssetStatus) -> str:
    """Why the API server would not take a status: the rules of the CRD, written down apart from it; else empty."""
    if new.state is AssetState.FREE and new.holdings:
        return "Free with holdings"
    if old.holder is not None and new.holder is None and new.state is not AssetState.FREE:
        return "its holder was dropped, and it is not Free"
    if old.compensation is not None and (
        new.compensation is None or new.compensation.attempt < old.compensation.attempt
    ):
        return "the attempt of the compensation fell"
    return ""
