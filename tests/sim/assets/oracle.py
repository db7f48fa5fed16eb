"""What must be true of assets at every step, and what must be true once nothing is left to do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.sim.jobs.oracle import JobOracle, OracleError, condition, flat

from mainstay.api.asset import ASSET_ANNOTATION
from mainstay.api.jobbatch import BatchPhase
from mainstay.api.meta import FINALIZER
from mainstay.api.phasedjob import FINAL
from mainstay.core import reasons
from mainstay.core.batch.decide import OVER
from mainstay.core.names import task_key
from mainstay.core.unit import LIVE, UnitSpec
from mainstay.shell.kube import ASSETS, BATCHES, JOBS

if TYPE_CHECKING:
    from tests.sim.api import Ref
    from tests.sim.assets.fleet import Entry
    from tests.sim.assets.world import AssetWorld

    from mainstay.runtime.fake_tasks import Ending
    from mainstay.shell.store import Object

WAITS = (reasons.ASSET_HELD, reasons.ASSET_UNKNOWN, reasons.ASSET_NOT_FOUND, reasons.WAITING_FOR_ASSET)
STRANDED = (reasons.NO_COMPENSATION, reasons.HOLDER_COMPLETED, reasons.UNCLAIMED)
"""Why holdings may stay where they are: only a person, or a job with TakeOver, can do something."""


@dataclass(frozen=True)
class Known:
    """What was ever known of a job."""

    name: str
    group: str  # itself, or its batch where that is a compensation: these act together
    exclusive: frozenset[str]
    take_over: frozenset[str]


@dataclass(frozen=True)
class Reported:
    """What one task delivered, and wrote down."""

    factory: str
    symbol: str
    units: int


class AssetOracle(JobOracle):
    """Beside what is true of jobs: who has a ship, who acts on it, and where everything went."""

    _world: AssetWorld

    def __init__(self, world: AssetWorld) -> None:
        super().__init__(world)
        self.jobs: dict[str, Known] = {}
        self.reported: dict[tuple[str, str], Reported] = {}
        self._told: set[tuple[str, str]] = set()  # (uid of the job, task) that a status told as completed
        self._named: set[str] = set()  # uids of compensations that were holders
        self._made_of: dict[str, str] = {}  # name of a compensation → uid of the last one

    def watched(self, plural: str, deleted: bool, obj: Object) -> None:
        """Remember every job that ever was."""
        meta = obj["metadata"]
        if plural == BATCHES and _asset_of(obj) is not None:
            self._made_of[meta["name"]] = meta["uid"]
        if plural != JOBS or deleted or meta["uid"] in self.jobs:
            return
        batch = self._batch(obj)
        compensates = batch is not None and _asset_of(batch) is not None
        claims = obj["spec"].get("assets", ())
        self.jobs[meta["uid"]] = Known(
            name=meta["name"],
            group=batch["metadata"]["uid"] if batch is not None and compensates else meta["uid"],
            exclusive=frozenset(c["ref"] for c in claims if c.get("mode") != "Shared"),
            take_over=frozenset(c["ref"] for c in claims if c.get("mode") == "TakeOver"),
        )

    # --- as it happens: processes, and what they do

    def starting(self, spec: UnitSpec) -> None:
        if spec.owner_uid in self._world.forgotten and self._owner(spec.owner_uid) is None:
            return  # it was deleted by force while this was on its way
        super().starting(spec)

    def executed_now(self, spec: UnitSpec) -> None:
        super().executed_now(spec)
        me = self.jobs[spec.owner_uid]
        for unit in self._world.runtime.peek_all():
            other = self.jobs.get(unit.owner_uid)
            if unit.state not in LIVE or other is None or other.group == me.group:
                continue
            if both := me.exclusive & other.exclusive:
                raise OracleError(f"{spec.name} begins, and {unit.name} acts on {sorted(both)} too")
        for ref in me.exclusive:
            self._has(spec.owner_uid, ref, f"{spec.name} begins")

    def _has(self, uid: str, ship: str, what: str) -> None:
        asset = self._asset(ship)
        holder = (asset or {}).get("status", {}).get("holder")
        if holder is None and ship in self._world.touched:
            return
        if holder is None or holder["uid"] not in (uid, self.jobs[uid].group):
            raise OracleError(f"{what}, and {ship} is {holder and holder['name']}'s")

    def traded(self, entry: Entry) -> None:
        """Something happened to a good."""
        if not entry.by:
            return
        self._has(entry.by, entry.ship, f"{entry.task} of {self.jobs[entry.by].name} {entry.verb}")
        bought = [e for e in self._world.fleet.bought(entry.by) if e.task == entry.task]
        if entry.verb == "buys" and len(bought) > 1 and entry.ship not in self._world.loaded:
            raise OracleError(f"{self.jobs[entry.by].name} buys {entry.symbol} a second time")

    def ended(self, spec: UnitSpec, ending: Ending) -> None:
        super().ended(spec, ending)
        task = task_key(spec.name)[2]
        outputs = self.completed.get((spec.owner_uid, task), {})
        told = outputs.get("assets", {}).get("factory", {}).get("deliveries", ())
        if told and ending.code == 0 and not ending.lost:
            ref = json.loads(spec.inputs or b"{}")["assets"]["factory"]["ref"]
            one = Reported(ref, told[0]["symbol"], told[0]["units"])
            self.reported[spec.owner_uid, task] = one

    def _kept(self, uid: str, task: str) -> dict[str, Any]:
        return {k: v for k, v in super()._kept(uid, task).items() if k != "assets"}

    # --- as it happens: writes

    def writing(self, what: str, ref: Ref, body: Any) -> None:
        gone = what == "delete" and ref[0] == JOBS and self._batch(body) is None
        if not gone:  # its batch was deleted by force
            super().writing(what, ref, body)
        match what, ref[0]:
            case "status", "assets":
                self._asset_status(ref, body)
            case "status", "phasedjobs":
                uid = self._world.api.objects[ref]["metadata"]["uid"]
                self._told |= {(uid, t) for t, told in flat(body).items() if told["state"] == "Completed"}
            case "create", "jobbatches":
                self._compensating(ref, body)
            case "remove finalizer", "assets":
                self._letting_asset_go(ref)
            case _:
                pass

    def _asset_status(self, ref: Ref, new: Any) -> None:
        obj, name = self._world.api.objects[ref], ref[2]
        old = obj.get("status", {})
        was, now = old.get("holder"), new.get("holder")
        cargo = self._cargo(name)
        if new["state"] == "Free" and now is not None:
            raise OracleError(f"{name} is Free, and {now['name']}'s")
        if new["state"] == "Free" and cargo and name not in self._world.loaded:
            raise OracleError(f"{name} is said to be Free with {cargo} in it")
        if (was and was["uid"]) != (now and now["uid"]):
            self._handed(obj, new, was, now, cargo)
        before, after = old.get("compensation"), new.get("compensation")
        if after and after["attempt"] != (before or {}).get("attempt", 0):
            self._claimed(name, before, was, cargo)
        self._counted(name, old, new)
        self._world.touched.discard(name) if now is not None else None

    def _handed(self, obj: Object, new: Any, was: Any, now: Any, cargo: dict[str, int]) -> None:
        name = obj["metadata"]["name"]
        to = now["name"] if now else "nobody"
        if was is not None:
            self._left(name, was, to)
        if was is not None and now is None and cargo and name not in self._world.loaded:
            raise OracleError(f"{name} becomes nobody's with {cargo} in it")
        if now is not None and now["kind"] == "PhasedJob":
            self._given(name, now, cargo)
        if now is not None and now["kind"] == "JobBatch":
            self._named.add(now["uid"])
            if new["compensation"]["batch"] != now["name"] or "endedAt" in new["compensation"]:
                raise OracleError(f"{name} is given to {to}, which is not its compensation")
            if was is not None and self._phase(JOBS, was["uid"]) == "Completed":
                raise OracleError(f"{name} is given to {to}, and {was['name']} completed")

    def _left(self, name: str, was: Any, to: str) -> None:
        """Whoever had it is over, and nothing of it lives."""
        job = was["kind"] == "PhasedJob"
        phase = self._phase(JOBS if job else BATCHES, was["uid"])
        over = {str(p) for p in (FINAL if job else OVER)}
        if phase is not None and phase not in over:
            raise OracleError(f"{name} goes from {was['name']} to {to}, and that is {phase}")
        if live := self._live(was["uid"]):
            raise OracleError(f"{name} goes from {was['name']} to {to}, and {live} live")

    def _given(self, name: str, now: Any, cargo: dict[str, int]) -> None:
        job = self._owner(now["uid"])
        if job is None and name in self._world.touched:
            return  # it had it, and nobody has heard that it is gone
        had = job is not None and name in [a["ref"] for a in job.get("status", {}).get("assets", ())]
        take = name in self.jobs[now["uid"]].take_over
        if cargo and not had and not take and name not in self._world.loaded:
            raise OracleError(f"{name} is given to {now['name']} with {cargo} in it")
        if name not in self.jobs[now["uid"]].exclusive:
            raise OracleError(f"{name} is given to {now['name']}, which does not claim it")
        if live := [
            u.name
            for u in self._world.runtime.peek_all()
            if u.state in LIVE
            and u.owner_uid in self.jobs
            and u.owner_uid != now["uid"]
            and name in self.jobs[u.owner_uid].exclusive
        ]:
            raise OracleError(f"{name} is given to {now['name']}, and {live} act on it")

    def _claimed(self, name: str, before: Any, was: Any, cargo: dict[str, int]) -> None:
        """A compensation is claimed: once, for something, and of nobody who may go on."""
        if before is not None and "endedAt" not in before:
            raise OracleError(f"{name}: another compensation is claimed beside {before['batch']}")
        if was is not None:
            self._left(name, was, "a compensation")
        if not cargo and name not in self._world.loaded:
            raise OracleError(f"{name}: a compensation is claimed, and it is empty")

    def _compensating(self, ref: Ref, body: Object) -> None:
        owner = _asset_of(body)
        if owner is None:
            return
        asset = self._world.api.get(ASSETS, ref[1], owner)
        claim = (asset or {}).get("status", {}).get("compensation") or {}
        touched = owner in self._world.touched
        if not touched and (claim.get("batch") != ref[2] or "endedAt" in claim):
            raise OracleError(f"{ref[2]} is made, and {claim.get('batch')} is claimed")
        if self._made_of.get(ref[2]) in self._named and owner not in self._world.nulled:
            raise OracleError(f"{ref[2]} is made a second time")
        for batch in self._world.api.all(BATCHES):
            other = _asset_of(batch)
            over = batch.get("status", {}).get("phase") in {str(p) for p in OVER}
            if other is not None and other == owner and not over and not touched:
                raise OracleError(f"{ref[2]} is made beside {batch['metadata']['name']}")

    def _counted(self, name: str, old: Any, new: Any) -> None:
        """Totals only grow, and never beyond what was reported."""
        told, before = _totals(new), _totals(old)
        for symbol in before:
            if told[symbol] < before[symbol]:
                raise OracleError(f"{name}: its total of {symbol} falls to {told[symbol]}")
        most = self.delivered(name)
        for symbol, units in told.items():
            if units > most[symbol]:
                raise OracleError(f"{name}: {units} {symbol} are counted, {most[symbol]} were delivered")

    def _making(self, ref: Ref, body: Object) -> None:
        batch = self._batch(body)
        short = ref[2].removeprefix(f"{batch['metadata']['name']}-") if batch is not None else ""
        if batch is not None and short not in batch.get("status", {}).get("created", ()):
            self._made.discard((batch["metadata"]["uid"], ref[2]))  # it was gone before anybody saw it
        super()._making(ref, body)

    def _letting_asset_go(self, ref: Ref) -> None:
        obj = self._world.api.objects[ref]
        if (cargo := self._cargo(ref[2])) and ref[2] not in self._world.loaded:
            raise OracleError(f"{ref[2]} is let go with {cargo} in it")
        if holder := obj.get("status", {}).get("holder"):
            raise OracleError(f"{ref[2]} is let go, and {holder['name']} has it")

    # --- once nothing is left to do

    def settled(self) -> None:
        super().settled()
        problems = [p for asset in self._world.api.all(ASSETS) for p in self._asset_problems(asset)]
        fleet = self._world.fleet
        problems += [
            f"{name}: its cargo is not what the ledger says"
            for name in fleet.ships
            if fleet.balance(name) != +Counter(fleet.cargo(name))
        ]
        if problems:
            raise OracleError("settled, but " + "; ".join(problems))

    def _asset_problems(self, obj: Object) -> Iterator[str]:
        meta, status = obj["metadata"], obj.get("status", {})
        name, state, holder = meta["name"], status.get("state"), status.get("holder")
        if name in self._world.fleet.accepts:
            told, most = _totals(status), self.delivered(name)
            least = self.delivered(name, told=True)
            for symbol in most:
                if not least[symbol] <= told[symbol] <= most[symbol]:
                    yield f"{name}: {told[symbol]} {symbol} are counted, {most[symbol]} were delivered"
            return
        cargo = self._cargo(name)
        seen = {h["symbol"]: h["units"] for h in status.get("holdings", ())}
        if seen != cargo and name not in self._world.fleet.failing:
            yield f"{name}: has {cargo}, and is said to have {seen}"
        over = {str(p) for p in FINAL}
        if (
            "deletionTimestamp" in meta
            and (FINALIZER in meta.get("finalizers", ()))
            and not cargo
            and not holder
        ):
            yield f"{name} is being deleted, and is empty"
        if cargo and state not in ("Held", "HeldOrphaned", "Unknown"):
            yield f"{name}: has {cargo}, and is {state}"
        reason = condition(obj, "Ready")[1]
        if state == "HeldOrphaned" and reason not in STRANDED and not self._world.disturbed:
            yield f"{name}: is stranded ({reason})"
        if state == "HeldOrphaned" and reason == reasons.NO_COMPENSATION and "compensation" in obj["spec"]:
            yield f"{name}: is stranded though it has a template"
        if not cargo and holder is not None:
            phase = self._phase(JOBS if holder["kind"] == "PhasedJob" else BATCHES, holder["uid"])
            if (
                phase is None
                or phase in over
                or phase in {str(p) for p in BatchPhase} & {str(p) for p in OVER}
            ):
                yield f"{name}: is empty, and {holder['name']} ({phase}) has it"

    def _job(self, obj: Object) -> Iterator[str]:
        reason = condition(obj, "Ready")[1]
        if "deletionTimestamp" in obj["metadata"] or reason not in WAITS:
            yield from super()._job(obj)
            return
        name, mine = (
            obj["metadata"]["name"],
            {obj["metadata"]["uid"], self.jobs[obj["metadata"]["uid"]].group},
        )
        refs = sorted(self.jobs[obj["metadata"]["uid"]].exclusive)
        waits = next((r for r in refs if self._holder_uid(r) not in mine), None)
        asset = self._asset(waits) if waits else None
        if any(self._asset(claim["ref"]) is None for claim in obj["spec"]["assets"]):
            return  # it takes nothing before it can have everything
        if waits is None:
            yield f"{name} waits for nothing ({reason})"
        elif asset is not None and "deletionTimestamp" not in asset["metadata"]:
            state = asset.get("status", {}).get("state")
            holder = asset.get("status", {}).get("holder")
            batch = self._batch(obj)
            if batch is not None and batch["metadata"]["name"] in set(self.left_over()):
                return
            if state == "Free":
                yield f"{name} waits for {waits}, which is Free"
            elif state == "Held" and holder is not None:
                phase = self._phase(JOBS, holder["uid"]) or self._phase(BATCHES, holder["uid"])
                if phase in (None, *(str(p) for p in FINAL)):
                    yield f"{name} waits for {waits}, and {holder['name']} ({phase}) has it"

    def _batch_problems(self, obj: Object) -> Iterator[str]:
        """As of every batch; a job that only a person can help counts as one that needs action."""
        found = list(super()._batch_problems(obj))
        jobs = list(self._jobs_of(obj["metadata"]["uid"]))
        if any(condition(job, "Stalled")[0] == "True" for job in jobs):
            found = [one for one in found if "counts (" not in one]
        yield from found

    # --- helpers

    def left_over(self) -> Iterator[str]:
        """Compensations that go on, of an asset that a person made forget them: a person deletes them."""
        for batch in self._world.api.all(BATCHES):
            name = _asset_of(batch)
            asset = self._asset(name) if name in self._world.nulled else None
            holder = (asset or {}).get("status", {}).get("holder") or {}
            over = batch.get("status", {}).get("phase") in {str(p) for p in OVER}
            going = "deletionTimestamp" in batch["metadata"]
            if asset is not None and not over and not going and holder.get("uid") != batch["metadata"]["uid"]:
                yield batch["metadata"]["name"]

    def delivered(self, factory: str, *, told: bool = False) -> Counter[str]:
        """What tasks reported to have delivered; `told`: as far as their jobs knew it, and were not deleted by force."""
        total: Counter[str] = Counter()
        for (uid, task), one in self.reported.items():
            if told and (uid in self._world.forgotten or (uid, task) not in self._told):
                continue
            if one.factory == factory:
                total[one.symbol] += one.units
        return total

    def _cargo(self, name: str) -> dict[str, int]:
        return self._world.fleet.cargo(name) if name in self._world.fleet.ships else {}

    def _asset(self, name: str) -> Object | None:
        return next((a for a in self._world.api.all(ASSETS) if a["metadata"]["name"] == name), None)

    def _holder_uid(self, name: str) -> str | None:
        holder = (self._asset(name) or {}).get("status", {}).get("holder") or {}
        uid: str | None = holder.get("uid")
        return uid

    def _phase(self, plural: str, uid: str) -> str | None:
        """What it is; None when it is gone."""
        found = next((o for o in self._world.api.all(plural) if o["metadata"]["uid"] == uid), None)
        return None if found is None else found.get("status", {}).get("phase", "Pending")

    def _live(self, uid: str) -> list[str]:
        """Units that live of a job, or of the jobs of a compensation."""
        return [
            u.name
            for u in self._world.runtime.peek_all()
            if u.state in LIVE
            and (u.owner_uid == uid or ((k := self.jobs.get(u.owner_uid)) and k.group == uid))
        ]


def _asset_of(batch: Object) -> str | None:
    """The asset that a batch empties."""
    name: str | None = batch["metadata"].get("annotations", {}).get(ASSET_ANNOTATION)
    return name


def _totals(status: Object) -> Counter[str]:
    return Counter({one["symbol"]: one["units"] for one in status.get("delivered", ())})
