"""What is promised of stacks and their restarts: at every write and effect, and once nothing is left to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from tests.sim.clock import CLOCK
from tests.sim.oracle import Oracle, OracleError

from mainstay.api.meta import FINALIZER
from mainstay.api.servicestack import ServiceStack
from mainstay.api.stackrestart import OVER, StackRestart, StepName
from mainstay.core import reasons
from mainstay.core.restart.snapshot import STEPS
from mainstay.core.stack.snapshot import Wish, wish_at
from mainstay.core.stack.spec import inputs_of, ports_of, problem_of, readiness_of
from mainstay.core.unit import GONE, LIVE, Unit, UnitSpec
from mainstay.shell.kube import LEASES, RESTARTS, STACKS

if TYPE_CHECKING:
    from tests.sim.api import Ref
    from tests.sim.stacks.world import StackWorld

    from mainstay.runtime.fake_stacks import Key
    from mainstay.shell.store import Object

EXPLAINED = {
    reasons.CRASH_LOOP,
    reasons.NOT_READY,
    reasons.FAILED,
    reasons.HELD_LOCALLY,
    reasons.CONFIG_MAP_NOT_FOUND,
    reasons.SECRET_NOT_FOUND,
    reasons.SECRET_IN_ARGS,
    reasons.CONTROL_API_MISSING,
    "RunAsRootRefused",
}
"""Reasons of a service that is not up, which need no further proof here."""


class StackOracle(Oracle):
    """Beside what the oracle of runs promises."""

    _world: StackWorld

    def __init__(self, world: StackWorld) -> None:
        super().__init__(world)
        self.starts: dict[tuple[str, str], int] = defaultdict(int)  # (stack, service) → starts that counted
        self.ends: dict[str, int] = defaultdict(int)  # uid of a restart → supervisors it ended
        self._service_attempts: dict[tuple[str, str], int] = {}
        self._steps: dict[str, int] = {}  # uid of a restart → furthest step
        self._asked: dict[tuple[str, int], float] = {}  # (uid of a restart, port) → when TERM was first sent

    def rewound(self) -> None:
        super().rewound()
        self._service_attempts.clear()
        self._steps.clear()

    # --- what there is

    def stack_of(self, uid: str) -> ServiceStack | None:
        found = next((s for s in self._world.api.all(STACKS) if s["metadata"]["uid"] == uid), None)
        return ServiceStack.model_validate(found) if found else None

    def stack_at(self, key: Key) -> ServiceStack | None:
        found = self._world.api.get(STACKS, *key)
        return ServiceStack.model_validate(found) if found else None

    def under_way(self, stack: ServiceStack) -> StackRestart | None:
        """The restart that this stack has claimed, and that has begun."""
        claim = stack.status.restart
        for obj in self._world.api.all(RESTARTS):
            if claim is not None and obj["metadata"]["uid"] == claim.uid:
                restart = StackRestart.model_validate(obj)
                return restart if restart.status.phase == "Running" else None
        return None

    def knows(self, plural: str, namespace: str, name: str) -> bool:
        """The operator that acts has seen the newest version of this object, or its end."""
        acting = self._world.acting
        if acting is None or self._world.hasty:
            return False
        current = self._world.api.get(plural, namespace, name)
        known = acting.operator.copies.kind(plural).objects.get((namespace, name))
        if current is None or known is None:
            return current is known
        return bool(known["metadata"]["resourceVersion"] == current["metadata"]["resourceVersion"])

    def knows_all(self, stack: ServiceStack) -> bool:
        """That of the stack and of each of its restarts."""
        place = stack.metadata.namespace, stack.metadata.name
        return self.knows(STACKS, *place) and all(
            self.knows(RESTARTS, place[0], obj["metadata"]["name"])
            for obj in self._world.api.all(RESTARTS)
            if obj["spec"]["stack"] == place[1]
        )

    # --- services

    def starting_service(self, key: Key, spec: UnitSpec) -> None:
        """Only under the claim of this attempt, with its port leased and free, after what it depends on."""
        unit = self._world.host.at(key).peek(spec.name)
        what = f"{key[1]}/{spec.name}"
        if unit.state in LIVE:
            if (unit.attempt, unit.owner_uid) != (spec.attempt, spec.owner_uid):
                raise OracleError(f"{what} is started beside attempt {unit.attempt} of {unit.owner_uid}")
            return
        stack = self.stack_of(spec.owner_uid)
        if stack is None:
            if self.knows(STACKS, *key):
                raise OracleError(f"{what} is started for a stack that is gone")
            return
        if not self.knows_all(stack):
            return
        claim = stack.status.service(spec.name)
        if claim is None or (claim.state, claim.attempt) != ("Starting", spec.attempt):
            raise OracleError(f"{what} is started as attempt {spec.attempt} under the claim {claim}")
        if claim.inputs_hash != spec.inputs_hash:
            raise OracleError(f"{what} is started with other inputs than are claimed")
        if stack.metadata.deletion_timestamp is not None or stack.spec.state == "Stopped":
            raise OracleError(f"{what} is started, and its stack should rest")
        restart = self.under_way(stack)
        if restart is not None and wish_at(restart.spec.mode, restart.status.step) is not Wish.RUN:
            raise OracleError(f"{what} is started in step {restart.status.step}")
        self._port_is_free(key, stack, spec)
        service = next(one for one in stack.spec.services if one.name == spec.name)
        if late := [name for name in service.depends_on if not self._is_up(stack, name)]:
            raise OracleError(f"{what} is started before {late}")

    def _is_up(self, stack: ServiceStack, name: str) -> bool:
        """It serves; or it runs and did when it was last asked."""
        told, scope = (
            stack.status.service(name),
            self._world.host.at((stack.metadata.namespace, stack.metadata.name)),
        )
        asked = told is not None and told.ready and scope.serves(name, probed=False)
        return asked or self._serves(stack, name)

    def _port_is_free(self, key: Key, stack: ServiceStack, spec: UnitSpec) -> None:
        if spec.port is None:
            return
        if spec.port not in self._leases_of(stack.metadata.uid) and self.knows(
            LEASES, "", f"port-{spec.port}"
        ):
            raise OracleError(f"{spec.name} is started on port {spec.port}, which is not leased to it")
        for one in self._world.host.at(key).strangers():
            if one.port == spec.port:
                raise OracleError(f"{spec.name} is started on port {spec.port}, where {one.words} listens")

    def stopping_service(self, key: Key, name: str, *, force: bool) -> None:
        """Only under a claim: that it stops, or that a later attempt is to follow; after those that need it."""
        scope, unit = self._world.host.at(key), self._world.host.at(key).peek(name)
        stack, what = self.stack_at(key), f"{key[1]}/{name}"
        if unit.state not in LIVE or unit.deletion_witnessed:
            return
        if stack is None or not self.knows_all(stack):
            return
        if stack.metadata.uid != unit.owner_uid:
            return
        told = stack.status.service(name)
        rolls = told is not None and told.state == "Starting" and told.attempt > unit.attempt
        if told is None or (told.state != "Stopping" and not rolls):
            raise OracleError(f"{what} is stopped under the claim {told}")
        restart = self.under_way(stack)
        kill = restart is not None and wish_at(restart.spec.mode, restart.status.step) is Wish.KILL
        service = next((one for one in stack.spec.services if one.name == name), None)
        grace = service.program.termination_grace_period_seconds if service else 10
        if force and not kill and (unit.stopping_seconds is None or unit.stopping_seconds < grace):
            raise OracleError(f"{what} is killed after {unit.stopping_seconds} s of {grace}")
        together = stack.metadata.deletion_timestamp is not None or stack.spec.state == "Stopped"
        together = together or told.reason == reasons.RESTARTING
        if together and not force and unit.stopping_seconds is None and not problem_of(stack.spec):
            above = [one.name for one in stack.spec.services if name in one.depends_on]
            if early := [one for one in above if scope.peek(one).state in LIVE]:
                raise OracleError(f"{what} is stopped before {early}")

    # --- restarts

    def ending_supervisor(self, key: Key, *, force: bool) -> None:
        """Only in its step, once nothing lives, and only the one that was claimed."""
        stack = self.stack_at(key)
        if stack is None or not self.knows_all(stack):
            return
        restart = self.under_way(stack)
        step = restart.status.step if restart else None
        if restart is None or step not in (StepName.STOP_SUPERVISOR, StepName.KILL_SUPERVISOR):
            raise OracleError(f"the supervisor of {key[1]} is ended in step {step}")
        scope = self._world.host.at(key)
        if living := scope.living():
            raise OracleError(f"the supervisor of {key[1]} is ended while {living} live")
        claimed, there = restart.status.supervisor, scope.pid
        if claimed is not None and there is not None and there.pid != claimed.pid:
            raise OracleError(
                f"the supervisor of {key[1]} is ended, which is pid {there.pid}, not {claimed.pid}"
            )
        if force is not (step is StepName.KILL_SUPERVISOR):
            raise OracleError(f"the supervisor of {key[1]} is ended in a way that is not that of {step}")
        self.ends[restart.metadata.uid] += there is not None

    def flushing(self, key: Key, ports: Collection[int], *, force: bool) -> None:
        """Only in its step and on assigned ports; nobody if one can't be ended; KILL after TERM and its time."""
        stack = self.stack_at(key)
        if stack is None or not self.knows_all(stack):
            return
        restart = self.under_way(stack)
        if restart is None or restart.status.step is not StepName.FLUSH_PORTS:
            raise OracleError(f"ports {sorted(ports)} of {key[1]} are flushed outside of that step")
        if stray := set(ports) - ports_of(stack.spec).keys():
            raise OracleError(f"ports {sorted(stray)} are flushed, and are not assigned")
        strangers = [one for one in self._world.host.at(key).strangers() if one.port in ports_of(stack.spec)]
        if bound := [one.words for one in strangers if one.protected or one.process is None]:
            raise OracleError(f"strangers are ended although {bound} can't be")
        told = next(one.details for one in restart.status.steps if one.name is StepName.FLUSH_PORTS)
        for one in strangers:
            if one.port in ports and not any(f"port {one.port}: {one.words}" in line for line in told):
                raise OracleError(f"{one.words} is ended before that is told")
            uid = restart.metadata.uid
            asked = self._asked.get((uid, one.port))
            if not force:
                self._asked.setdefault((uid, one.port), CLOCK.seconds)
            elif asked is None or CLOCK.seconds - asked < stack.spec.timeouts.flush_seconds:
                raise OracleError(f"{one.words} is killed before its time")

    # --- writes

    def writing(self, what: str, ref: Ref, body: Any) -> None:
        if what == "delete" and ref[0] == LEASES:
            self._giving_back(body)
        if what == "delete" and ref[0] == RESTARTS:
            self._forgetting(body)
            return
        if what == "status" and ref[0] == STACKS:
            self._stack_status(ref, body)
            return
        if what == "status" and ref[0] == RESTARTS:
            self._restart_status(ref, body)
            return
        super().writing(what, ref, body)

    def _giving_back(self, lease: Object) -> None:
        port, holder = lease["spec"]["port"], lease["spec"]["holder"]["uid"]
        for key, scope in self._world.host.scopes():
            for unit in scope.peek_all():
                if (
                    unit.port == port
                    and unit.state in LIVE
                    and (unit.owner_uid == holder or not self._world.disturbed)
                ):
                    raise OracleError(
                        f"the lease of {port} is deleted while {key[1]}/{unit.name} is {unit.state}"
                    )
        stack = self.stack_of(holder)
        if stack is None or stack.metadata.deletion_timestamp is not None:
            return
        if port in ports_of(stack.spec) and self.knows_all(stack):
            raise OracleError(f"the lease of {port} is deleted, and {stack.metadata.name} declares it")

    def _forgetting(self, obj: Object) -> None:
        restart = StackRestart.model_validate(obj)
        over = restart.status.completed_at
        if restart.status.phase not in OVER or over is None:
            raise OracleError(f"{restart.metadata.name} is deleted as {restart.status.phase}")
        kept = CLOCK.seconds - over.timestamp()
        if kept < restart.spec.ttl_seconds_after_finished - 0.001:
            raise OracleError(f"{restart.metadata.name} is deleted after {kept} s")

    def _leasing(self, lease: Object) -> None:
        spec = lease["spec"]
        if spec["holder"]["kind"] != "ServiceStack":
            super()._leasing(lease)
            return
        stack = self.stack_of(spec["holder"]["uid"])
        place = spec["holder"]["namespace"], spec["holder"]["name"]
        if not self.knows(STACKS, *place):
            return
        if stack is None or spec["port"] not in ports_of(stack.spec):
            raise OracleError(f"port {spec['port']} is leased, and no stack declares it")

    def _letting_go(self, ref: Ref, obj: Object) -> None:
        if ref[0] != STACKS:
            super()._letting_go(ref, obj)
            return
        uid = obj["metadata"]["uid"]
        for unit in self._world.host.at((ref[1], ref[2])).peek_all():
            if unit.state in LIVE and unit.owner_uid == uid:
                raise OracleError(f"{ref[2]} is let go while {unit.name} is {unit.state}")
        if self._leases_of(uid) and not self._world.hasty:
            raise OracleError(f"{ref[2]} is let go with leases {self._leases_of(uid)}")

    def _stack_status(self, ref: Ref, status: Any) -> None:
        obj = self._world.api.objects[ref]
        uid, scope = obj["metadata"]["uid"], self._world.host.at((ref[1], ref[2]))
        forgotten = {at for at in self._service_attempts if at[0] == uid}
        for service in status["services"]:
            name, at = service["name"], (uid, service["name"])
            forgotten.discard(at)
            if service["attempt"] < self._service_attempts.get(at, 0):
                raise OracleError(f"{ref[2]}/{name}: attempt falls to {service['attempt']}")
            self._service_attempts[at] = service["attempt"]
            unit = scope.peek(name)
            if service["state"] in ("Stopped", "Completed") and unit.state in LIVE and unit.owner_uid == uid:
                raise OracleError(f"{ref[2]}/{name}: {service['state']} is written, it is {unit.state}")
        for at in forgotten:  # one that is declared again begins anew
            del self._service_attempts[at]
        if status["phase"] == "Stopped" and scope.living():
            raise OracleError(f"{ref[2]}: Stopped is written while {scope.living()} live")

    def _restart_status(self, ref: Ref, status: Any) -> None:
        obj = self._world.api.objects[ref]
        old, uid, mode = obj.get("status") or {}, obj["metadata"]["uid"], obj["spec"].get("mode", "Full")
        if old.get("phase") in OVER:
            raise OracleError(f"{ref[2]} is {old['phase']}, and is written again")
        place = (ref[1], obj["spec"]["stack"])
        stack = self.stack_at(place)
        if status["phase"] in ("Running", "Completed") and stack is not None and self.knows(STACKS, *place):
            if stack.status.restart is None or stack.status.restart.uid != uid:
                raise OracleError(f"{ref[2]} goes on, and it is not its turn")
            self._no_other(ref, obj)
        names = [str(name) for name in STEPS[mode]]
        at = (
            names.index(status["step"])
            if status.get("step")
            else len(names)
            if status["phase"] == "Completed"
            else 0
        )
        if at < self._steps.get(uid, 0):
            raise OracleError(f"{ref[2]} goes back to {status.get('step')}")
        if at > self._steps.get(uid, 0) + 1 and self._steps.get(uid) is not None:
            raise OracleError(f"{ref[2]} skips to {status.get('step')}")
        self._steps[uid] = at
        if status["phase"] == "Completed":
            self._complete(ref, status, stack, mode)
        elif status["phase"] == "Running" and old.get("step") != status["step"]:
            self._entering(ref, status, stack, mode)

    def _no_other(self, ref: Ref, obj: Object) -> None:
        for other in self._world.api.all(RESTARTS):
            if (
                other["metadata"]["uid"] != obj["metadata"]["uid"]
                and other["spec"]["stack"] == obj["spec"]["stack"]
                and (other.get("status") or {}).get("phase") == "Running"
            ):
                raise OracleError(f"{ref[2]} goes on beside {other['metadata']['name']}")

    def _entering(self, ref: Ref, status: Any, stack: ServiceStack | None, mode: str) -> None:
        """What the steps before promise is so when the next is claimed."""
        if stack is None:
            return
        key = (ref[1], stack.metadata.name)
        scope, step = self._world.host.at(key), status["step"]
        if step in ("StopSupervisor", "KillSupervisor", "StartSupervisor") and (living := scope.living()):
            raise OracleError(f"{ref[2]} is at {step} while {living} live")
        assigned = ports_of(stack.spec)
        strangers = [one.words for one in scope.strangers() if one.port in assigned]
        if step in ("StopServices", "StartServices") and strangers:
            raise OracleError(f"{ref[2]} is at {step} while {strangers} listen")
        claimed = status.get("supervisor")
        if step == "StartServices" and claimed and scope.pid is not None and scope.pid.pid == claimed["pid"]:
            raise OracleError(f"{ref[2]} is at {step} with the old supervisor")

    def _complete(self, ref: Ref, status: Any, stack: ServiceStack | None, mode: str) -> None:
        if any(one["state"] != "Completed" for one in status["steps"]):
            raise OracleError(f"{ref[2]} is Completed with {status['steps']}")
        if [one["name"] for one in status["steps"]] != [str(name) for name in STEPS[mode]]:  # type: ignore[index]
            raise OracleError(f"{ref[2]} is Completed with other steps than those of {mode}")
        if mode == "Flush" or stack is None:
            return
        verified = {one["name"]: one["up"] for one in status["verified"]}
        if verified != {one.name: True for one in stack.spec.services}:
            raise OracleError(f"{ref[2]} is Completed, and verified is {verified}")
        for service in stack.spec.services:
            told = stack.status.service(service.name)
            completed = told is not None and told.state == "Completed"
            if not completed and not self._serves(stack, service.name):
                raise OracleError(f"{ref[2]} is Completed, and {service.name} does not serve")

    # --- after every pass

    def check(self) -> None:
        """One port, one process; and it is leased to whose it is."""
        super().check()
        holders = {x["spec"]["port"]: x["spec"]["holder"]["uid"] for x in self._world.api.all(LEASES)}
        carried = {u.port: u for u in self._world.runtime.peek_all() if u.state in LIVE and u.port}
        for key, scope in self._world.host.scopes():
            for unit in scope.peek_all():
                if unit.state not in LIVE or unit.port is None:
                    continue
                what = f"{key[1]}/{unit.name}"
                leased = holders.get(unit.port, unit.owner_uid) == unit.owner_uid
                if not leased and not self._world.disturbed:
                    raise OracleError(f"{what} lives on {unit.port}, leased to {holders[unit.port]}")
                if (other := carried.setdefault(unit.port, unit)) is not unit:
                    raise OracleError(f"{what} and {other.name} live on {unit.port}")

    # --- once nothing is left to do

    def settled(self) -> None:
        super().settled()
        problems = [p for obj in self._world.api.all(STACKS) for p in self._stack(obj)]
        problems += [p for obj in self._world.api.all(RESTARTS) for p in self._restart(obj)]
        problems += self._left_over()
        if problems:
            raise OracleError("settled, but " + "; ".join(problems))

    def _left_over(self) -> Iterator[str]:
        stacks = {s["metadata"]["uid"]: s for s in self._world.api.all(STACKS)}
        for lease in self._world.api.all(LEASES):
            holder, port = lease["spec"]["holder"], lease["spec"]["port"]
            if holder["kind"] == "ServiceStack" and holder["uid"] not in stacks:
                units = [u for _, s in self._world.host.scopes() for u in s.peek_all()]
                if not any(u.port == port and u.state in LIVE for u in units):
                    yield f"port {port} is leased to {holder['name']}, which is gone"
        for key in self._world.host.known():
            if self._world.api.get(STACKS, *key) is None and not self._world.host.at(key).peek_all():
                yield f"the scope of {key[1]} is left, and its object is gone"

    def _stack(self, obj: Object) -> Iterator[str]:
        stack = ServiceStack.model_validate(obj)
        meta, status, name = stack.metadata, stack.status, stack.metadata.name
        scope = self._world.host.at((meta.namespace, name))
        if meta.deletion_timestamp is not None or FINALIZER not in meta.finalizers:
            yield f"{name} is being deleted, or was never guarded"
            return
        if status.observed_generation != meta.generation:
            yield f"{name}: generation {meta.generation} was not observed"
        if status.restart is not None and self._still(status.restart.uid) is None:
            yield f"{name}: claims a restart that is over"
        declared = {one.name for one in stack.spec.services}
        if strays := {u.name for u in scope.peek_all()} - declared:
            yield f"{name}: units {sorted(strays)} are left"
        if strays := {one.name for one in status.services} - declared:
            yield f"{name}: status tells of {sorted(strays)}"
        assigned = ports_of(stack.spec)
        held = set(self._leases_of(meta.uid))
        others = {x["spec"]["port"] for x in self._world.api.all(LEASES)} - held
        used = {unit.port for unit in scope.peek_all() if unit.state in LIVE}
        if held - used != assigned.keys() - others - used or not assigned.keys() - others <= held:
            yield f"{name}: its leases are {sorted(held)} of {sorted(assigned)}"
        foreign = {one.port for one in scope.strangers()} & assigned.keys()
        told = {one.port for one in status.ports if one.state == "Foreign"}
        if not foreign <= told:
            yield f"{name}: strangers listen on {sorted(foreign)}, it tells {sorted(told)}"
        if status.supervisor is not None and scope.pid is not None and status.supervisor.pid != scope.pid.pid:
            yield f"{name}: its supervisor is pid {scope.pid.pid}, it tells {status.supervisor.pid}"
        if stack.spec.state == "Stopped":
            if status.phase != "Stopped" or scope.living():
                yield f"{name}: Stopped is asked, it is {status.phase} and {scope.living()} live"
            return
        if problem_of(stack.spec):
            if status.phase != "Degraded":
                yield f"{name}: goes in a circle, and is {status.phase}"
            return
        down = [
            p for one in stack.spec.services for p in self._service(stack, one.name, scope.peek(one.name))
        ]
        yield from down
        up = all((told := status.service(one)) and told.state in ("Running", "Completed") for one in declared)
        if up and all(told.ready or told.state == "Completed" for told in status.services) != (
            status.phase == "Running"
        ):
            yield f"{name}: is {status.phase}"

    def _service(self, stack: ServiceStack, name: str, unit: Unit) -> Iterator[str]:
        told = stack.status.service(name)
        what = f"{stack.metadata.name}/{name}"
        if told is None:
            yield f"{what}: nothing is told of it"
            return
        service = next(one for one in stack.spec.services if one.name == name)
        scope = self._world.host.at((stack.metadata.namespace, stack.metadata.name))
        if told.state == "Completed":
            if unit.state not in GONE:
                yield f"{what}: Completed, and it is {unit.state}"
            return
        if told.state == "Running" and told.ready:
            if not self._serves(stack, name) and name not in scope.doomed:
                yield f"{what}: is told to be up, it is {unit.state}"
            if (unit.attempt, unit.owner_uid) != (told.attempt, stack.metadata.uid):
                yield f"{what}: attempt {unit.attempt} of {unit.owner_uid} lives, its status says {told.attempt}"
            if unit.port != service.port and not self._blocked(stack, service.port):
                yield f"{what}: lives on {unit.port}, {service.port} is declared"
            wanted = inputs_of(service, {}).hash
            if wanted and unit.inputs_hash != wanted and not self._blocked(stack, service.port):
                yield f"{what}: it lives with inputs that were changed"
            if not unit.defined:
                yield f"{what}: its files are gone"
            return
        if told.reason in EXPLAINED:
            return
        if told.reason == reasons.DEPENDENCY_NOT_READY:
            if all(self._serves(stack, one) for one in service.depends_on):
                yield f"{what}: waits for what serves"
            return
        if told.reason in (reasons.PORT_FOREIGN, reasons.PORT_TAKEN) and self._blocked(stack, service.port):
            return
        yield f"{what}: {told.state} {told.reason} ({unit.state})"

    def _blocked(self, stack: ServiceStack, port: int | None, seen: tuple[int | None, ...] = ()) -> bool:
        """Somebody else has this port, and keeps it."""
        if port is None:
            return False
        scope = self._world.host.at((stack.metadata.namespace, stack.metadata.name))
        leased = next((x for x in self._world.api.all(LEASES) if x["spec"]["port"] == port), None)
        if leased is not None and leased["spec"]["holder"]["uid"] != stack.metadata.uid:
            return True
        carried = {u.port for u in self._world.runtime.peek_all() if u.state in LIVE}
        if port in carried or any(one.port == port for one in scope.strangers()):
            return True
        declared = {one.name: one.port for one in stack.spec.services}
        return any(  # a neighbour that can't move on itself; those in a ring can
            unit.port == port
            and unit.state in LIVE
            and declared.get(unit.name) not in (port, *seen)
            and self._blocked(stack, declared.get(unit.name), (*seen, port))
            for unit in scope.peek_all()
        )

    def _serves(self, stack: ServiceStack, name: str) -> bool:
        """It runs, and answers if it has a probe; or it has done what it was to do."""
        told = stack.status.service(name)
        if told is not None and told.state == "Completed":
            return True
        scope = self._world.host.at((stack.metadata.namespace, stack.metadata.name))
        service = next((one for one in stack.spec.services if one.name == name), None)
        return scope.serves(name, probed=service is not None and readiness_of(service) is not None)

    def _still(self, uid: str) -> Object | None:
        """A restart that is not over."""
        for obj in self._world.api.all(RESTARTS):
            if obj["metadata"]["uid"] == uid and (obj.get("status") or {}).get("phase") not in OVER:
                return obj
        return None

    def _restart(self, obj: Object) -> Iterator[str]:
        phase = (obj.get("status") or {}).get("phase")
        if phase not in OVER:
            yield f"restart {obj['metadata']['name']} is {phase} at {(obj.get('status') or {}).get('step')}"
