"""Laws of deciding about jobs: whatever the job, its outcomes and their order, and however far status is taken back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.sim.jobs.pure import Pure, phase, task

from mainstay.api.phasedjob import CLAIMED, FINAL, SETTLED, JobPhase
from mainstay.core import plan as p
from mainstay.core.job.graph import Graph

FEW = settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
OUTPUTS = (None, {"n": 1}, {"t": "x" * 5000})
ENDS = ("ok", "ok", "ok", "ok", "fail", "lost", "unexecuted", "bad outputs", "asks")


@st.composite
def jobs(draw):
    """A job of a few phases, in one step or several, whose tasks depend on earlier ones."""
    names: list[str] = []
    made = []
    for number in range(draw(st.integers(1, 3))):
        tasks = []
        for _ in range(draw(st.integers(1, 4))):
            name = f"t{len(names)}"
            fields = {
                "dependsOn": draw(st.lists(st.sampled_from(names), max_size=2, unique=True)) if names else [],
                "blocking": draw(st.booleans()),
                "retries": draw(st.sampled_from([0, 0, 1, 2])),
                "initialBackoffSeconds": draw(st.sampled_from([0, 1])),
            }
            if draw(st.integers(0, 5)) == 0:
                fields["when"] = draw(st.sampled_from(["false", "inputs.missing", "size(context) > 0"]))
            names.append(name)
            tasks.append(task(name, **fields))
        more = {"completeWhen": "has(inputs.proof)"} if draw(st.integers(0, 4)) == 0 else {}
        made.append(phase(f"p{number}", *tasks, **more))
    cut = draw(st.integers(0, len(made) - 1))
    parts = [made[:cut], made[cut:]] if cut else [made]
    steps = [{"name": f"s{i}", "phases": part} for i, part in enumerate(parts)]
    return {
        "steps": steps,
        "parallelism": draw(st.sampled_from([1, 2, 16])),
        "inputs": draw(st.sampled_from([{}, {}, {"proof": True}])),
        "onFailure": draw(st.sampled_from(["ActionRequired", "ActionRequired", "ActionRequired", "Fail"])),
    }


class Life:
    """A job lived through; every execution is judged."""

    def __init__(self, spec, rng, *, ends=ENDS):
        self.world = Pure.of(spec)
        self.rng = rng
        self.ends = ends
        self.seen = 0
        self.succeeded: dict[str, dict] = {}
        self.past = [self.world.job]

    def judge(self):
        """What was executed since, against what is true."""
        world = self.world
        phases = [[t.name for t in ph.tasks] for each in world.graph.phases.values() for ph in each]
        for name, _ in world.executed[self.seen :]:
            assert name not in self.succeeded, f"{name} is executed again"
            known = world.tasks()
            for before in world.graph.tasks[name].depends_on:
                assert before in self.succeeded or known[before].reason == "AlreadyDone"
            for earlier in phases[: next(i for i, names in enumerate(phases) if name in names)]:
                assert all(known[n].state in SETTLED for n in earlier)
                assert not set(earlier) & set(world.living())
        self.seen = len(world.executed)
        assert not [one for one, count in Counter(world.executed).items() if count > 1]
        assert len(world.living()) <= world.job.spec.parallelism

    def step(self):
        world = self.world
        s = world.snapshot()
        plan = world.decide()
        assert plan == world.decide()
        assert world.snapshot() == s
        assert world.step() == plan
        if isinstance(plan, p.Write):
            assert plan.status != s.status
            again = world.decide()
            assert not (isinstance(again, p.Write) and again.status == world.job.status)
        self.judge()
        self.past.append(world.job)
        return plan

    def settle(self):
        for _ in range(80):
            if isinstance(self.step(), p.Wait):
                return
        raise AssertionError("never waits")

    def something_ends(self):
        world = self.world
        name = self.rng.choice(world.living())
        how = self.rng.choice(self.ends)
        if how == "lost":
            world.lose(name)
        elif how == "unexecuted":
            world.units[name] = replace(world.units[name], started_at=None)
            world.lose(name)
        elif how == "fail":
            world.end(name, 1)
        elif how == "bad outputs":
            world.end(name, 0, outputs=b"[")
        elif how == "asks":
            world.end(name, 0, outputs={"actionRequired": {"title": "?"}})
            self.succeeded[name] = {}
        else:
            outputs = self.rng.choice(OUTPUTS)
            world.end(name, 0, outputs=outputs)
            self.succeeded[name] = outputs or {}

    def live(self, *, back=0):
        """To the end, or to where only a person can help. `back`: so often status comes from an older time."""
        for _ in range(300):
            self.settle()
            if back and self.rng.random() < 0.15:
                back -= 1
                then = self.rng.randrange(len(self.past))
                status = self.past[then].status
                self.world.job = self.world.job.model_copy(update={"status": status})
                del self.past[then + 1 :]  # what came after is no past any more
                continue
            if self.world.living():
                self.something_ends()
                self.world.wait(self.rng.choice([0, 0.3, 2]))
            elif any(t.state == "Retrying" for t in self.world.tasks().values()):
                self.world.wait(60)
            elif not self.person():
                return
            else:
                self.settle()
        raise AssertionError("no end is reached")

    def person(self):
        """Answers and resumes; False when there is nothing to do for one."""
        status, world = self.world.job.status, self.world
        if status.phase in FINAL:
            return False
        assert status.phase is JobPhase.ACTION_REQUIRED, (status.phase, world.condition())
        if status.resumable:
            if status.resumes > 6:
                return False
            if status.resumes > 3:
                self.ends = ("ok",)
            self.resume()
        else:
            assert status.actions
            given = {a.name: "x" for a in status.actions}
            world.edit(inputs={**world.job.spec.inputs, **given})
        return True

    def resume(self):
        world = self.world
        failed = [n for n, t in world.tasks().items() if t.state == "Failed"]
        if self.rng.random() < 0.3 and failed:
            world.edit(resumeTasks=[self.rng.choice(failed)])
            self.settle()
        before, planned = world.tasks(), world.job.status.resume_plan
        world.edit(resumeNonce=world.job.spec.resume_nonce + 1)
        plan = self.step()
        assert isinstance(plan, p.Write)
        assert plan.status.handled_resume_nonce == world.job.spec.resume_nonce
        after = world.tasks()
        for name, t in after.items():
            if name not in planned:
                assert t == before[name], f"{name} is touched, and not in the plan {planned}"
            elif before[name].state == "Failed" != t.state:
                assert t.failures == t.losses == 0
        order = list(Graph.of(world.job.spec).tasks)
        assert list(planned) == sorted(planned, key=order.index)
        assert not {n for n in planned if before[n].state in ("Completed", "ActionRequired")}


def finished(life):
    world = life.world
    assert not world.living()
    for name, t in world.tasks().items():
        assert t.state not in CLAIMED
        if name in life.succeeded and t.state != "ActionRequired":
            assert t.state == "Completed", f"{name} had completed and is {t.state}"
            kept = world.stored[name][1] if t.outputs else world.job.status.context.get(name, {})
            assert kept == life.succeeded[name]


@given(jobs(), st.randoms(use_true_random=False))
@FEW
def test_an_undisturbed_life(spec, rng):
    life = Life(spec, rng)
    life.live()
    finished(life)


@given(jobs(), st.randoms(use_true_random=False))
@FEW
def test_status_comes_back_from_an_older_time(spec, rng):
    """Nothing is executed again after exit 0, wherever status stands; the end is reached all the same."""
    life = Life(spec, rng, ends=("ok", "ok", "ok", "lost"))
    life.live(back=4)
    finished(life)


@given(
    jobs(),
    st.randoms(use_true_random=False),
    st.integers(0, 30),
    st.sampled_from(["cancel", "delete", "suspend"]),
)
@FEW
def test_it_is_ended_at_any_time(spec, rng, passes, how):
    life = Life(spec, rng)
    world = life.world
    for _ in range(passes):
        if isinstance(life.step(), p.Wait):
            if not world.living():
                break
            life.something_ends()
    executed = len(world.executed)
    if how == "delete":
        world.delete()
    else:
        world.edit(state={"cancel": "Cancelled", "suspend": "Suspended"}[how])
    claimed = sum(1 for t in world.tasks().values() if t.state == "Starting")
    for _ in range(60):
        plan = life.step()
        if world.gone:
            break
        if isinstance(plan, p.Wait):
            if not world.living():
                break
            world.end(rng.choice(world.living()), None)
            life.past.clear()
    assert not world.living()
    if how == "delete":
        assert world.gone
        assert len(world.executed) == executed
    elif how == "cancel":
        assert world.job.status.phase in FINAL
        assert len(world.executed) == executed
    else:
        assert len(world.executed) <= executed + claimed
        assert world.job.status.phase in (JobPhase.SUSPENDED, *FINAL)
