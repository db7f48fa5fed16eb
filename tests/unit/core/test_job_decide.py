"""Deciding about a job, pass by pass: what is claimed, written and done."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.sim.jobs.pure import NOW, OTHER_UID, Pure, a_unit, ended, one, phase, phases, task

from mainstay.api.phasedjob import JOB_TASKS_MAX, JobPhase
from mainstay.core import plan as p
from mainstay.core.job.decide import LAZY_SECONDS, decide
from mainstay.core.job.draft import INLINE_BYTES
from mainstay.core.snapshot import Problem
from mainstay.core.unit import UnitState


def written(plan):
    assert isinstance(plan, p.Write), plan
    return plan.status


def acts(plan):
    return plan.actions if isinstance(plan, p.ActAll) else (plan.action,) if isinstance(plan, p.Act) else ()


def begun(spec, *, passes=3, **job):
    """Guarded, claimed and started."""
    world = Pure.of(spec, **job)
    for _ in range(passes):
        world.step()
    return world


# --- claims


def test_claim_then_start():
    world = Pure.of(one("a"), finalizer=False)
    assert world.step() == p.Act(p.AddFinalizer())
    status = written(world.step())
    assert (world.states(), str(status.phase)) == ({"a": "Starting"}, "InProgress")
    assert not world.executed
    assert world.step() == p.ActAll((p.StartTask("a", 1),))
    assert isinstance(world.step(), p.Wait)
    assert world.executed == [("a", 1)]


def test_nothing_is_claimed_that_was_not_looked_at():
    world = Pure.of(one("a", "b"))
    units = {"a": a_unit("a")}
    status = written(world.decide(units=units))
    states = {t.name: str(t.state) for t in status.steps[0].phases[0].tasks}
    assert states == {"a": "Starting", "b": "Pending"}


@pytest.mark.parametrize(
    ("parallelism", "slots", "claimed"), [(16, 99, 4), (3, 99, 3), (1, 99, 1), (3, 2, 2), (2, 0, 0)]
)
def test_room(parallelism, slots, claimed):
    world = Pure.of(one(*"abcd", parallelism=parallelism))
    world.slots = slots
    world.step()
    assert list(world.states().values()).count("Starting") == claimed
    if not claimed:
        assert world.condition()[1] == "WaitingForSlot"
        assert world.job.status.phase is JobPhase.PENDING


def test_the_room_of_a_task_that_ended_is_taken_in_the_same_write():
    world = begun(one(*"abc", parallelism=2))
    world.end("a")
    world.step()
    assert world.states() == {"a": "Completed", "b": "Starting", "c": "Starting"}


def test_a_task_that_waits_for_room_beside_one_that_asks():
    """Depends on what was proved; waits for the machine, not for the user."""
    spec = phases(
        phase("p", "x", completeWhen="true"),
        phase("q", "asks", task("b", dependsOn=["x"])),
        parallelism=1,
    )
    world = Pure.of(spec)
    world.slots = 1
    world.units["b"] = ended("b", owner_uid=OTHER_UID)
    for _ in range(3):
        world.step()
    world.end("asks", outputs={"actionRequired": {"title": "?"}})
    world.units["b"] = a_unit("b", UnitState.RUNNING, owner_uid=OTHER_UID)
    world.step()
    assert world.states() == {"x": "Skipped", "asks": "ActionRequired", "b": "Pending"}
    assert world.job.status.phase is JobPhase.IN_PROGRESS
    del world.units["b"]
    world.slots = 0
    world.settle()
    assert world.condition()[1] == "WaitingForSlot"


def test_retries_wait_out_their_backoff():
    world = begun(one(task("a", retries=1, initialBackoffSeconds=8)))
    world.end("a", 1)
    world.step()
    assert world.states() == {"a": "Retrying"}
    assert world.step() == p.Wait(8.0)
    world.wait(7.9)
    assert isinstance(world.step(), p.Wait)
    world.wait(0.1)
    world.settle()
    assert world.executed == [("a", 1), ("a", 2)]


def test_a_lost_attempt_is_run_again_at_once_in_one_write():
    world = begun(one("a"))
    world.lose("a")
    world.step()
    assert (world.states(), world.reasons()) == ({"a": "Starting"}, {"a": "Lost"})
    world.settle()
    assert world.executed == [("a", 1), ("a", 2)]


def test_a_start_that_is_refused_fails_the_task():
    world = begun(one(task("a", retries=5)), passes=1)
    world.problems["a"] = Problem("RunAsRootRefused", "no", needs_person=True, retry_seconds=60, refused=True)
    world.settle()
    assert world.states() == {"a": "Failed"}
    assert world.condition() == ("False", "TaskFailed")


def test_a_start_that_lacks_something_waits():
    world = begun(one("a"), passes=1)
    world.problems["a"] = Problem("SecretNotFound", "no s", needs_person=True, retry_seconds=5)
    wait = world.settle()
    assert world.states() == {"a": "Starting"}
    assert world.condition() == ("False", "SecretNotFound")
    assert wait.seconds <= 5
    world.problems.clear()
    world.settle()
    assert world.executed == [("a", 1)]


# --- dependencies, conditions, failures


def test_skips_tell_why():
    spec = one(
        task("off", when="false"),
        task("bad", blocking=False),
        task("good"),
        task("after-off", dependsOn=["off"]),
        task("after-bad", dependsOn=["good", "bad"]),
        task("after-after-bad", dependsOn=["after-bad"]),
        task("after-good", dependsOn=["good"]),
        task("broken", when="inputs.x", blocking=False),
        task("after-broken", dependsOn=["broken"]),
    )
    world = Pure.of(spec)
    world.run(bad=1)
    assert world.reasons() == {
        "off": "ConditionFalse",
        "bad": "ProcessFailed",
        "after-off": "DependencySkipped",
        "after-bad": "DependencyFailed",
        "after-after-bad": "DependencyFailed",
        "broken": "ExpressionFailed",
        "after-broken": "DependencyFailed",
    }
    assert world.job.status.phase is JobPhase.COMPLETED
    assert "bad, broken" in world.message()


def test_a_whole_step_is_skipped():
    step = phases(phase("p", "a"))["steps"][0]
    world = Pure.of({"steps": [{**step, "when": "has(inputs.x)"}]})
    world.run()
    assert (world.states(), world.reasons()) == ({"a": "Skipped"}, {"a": "StepSkipped"})
    assert world.job.status.phase is JobPhase.COMPLETED


def test_outputs_are_what_conditions_see():
    world = begun(
        one("a", task("b", dependsOn=["a"], when="context.a.n > 1 && tasks.a.state == 'Completed'"))
    )
    world.end("a", outputs={"n": 2})
    world.settle()
    assert world.executed == [("a", 1), ("b", 1)]


def test_after_a_blocking_failure_what_runs_is_finished_and_nothing_starts():
    world = begun(one("bad", "slow", task("later", dependsOn=["slow"])))
    world.end("bad", 1)
    world.settle()
    assert world.job.status.phase is JobPhase.IN_PROGRESS
    world.end("slow")
    world.settle()
    assert world.states() == {"bad": "Failed", "slow": "Completed", "later": "Pending"}
    assert world.job.status.phase is JobPhase.ACTION_REQUIRED
    assert world.job.status.resume_plan == ("bad", "later")


def test_the_last_failure_is_told_with_its_time_each_time():
    world = Pure.of(one("a"))
    world.run(a=1)
    first = world.job.status.last_failure
    world.wait(60)
    world.edit(resumeNonce=1)
    world.run(a=1)
    second = world.job.status.last_failure
    assert (first.message, first.task) == (second.message, second.task)
    assert second.time > first.time


def test_on_failure_fail_is_final():
    world = Pure.of(one("a", onFailure="Fail"))
    world.run(a=1)
    assert world.job.status.phase is JobPhase.FAILED
    world.edit(resumeNonce=1, state="Cancelled")
    world.settle()
    assert (world.job.status.phase, world.job.status.resumes) == (JobPhase.FAILED, 0)
    assert world.executed == [("a", 1)]


# --- users


ASK = {"name": "ask", "action": {"title": "Say", "schema": {"type": "string"}, "description": "much"}}


@pytest.mark.parametrize(
    ("inputs", "condition"),
    [({}, "InputMissing"), ({"ask": 3}, "InputInvalid"), ({"other": "x"}, "InputMissing")],
)
def test_an_action_waits(inputs, condition):
    world = Pure.of({"steps": [ASK, *one("a")["steps"]], "inputs": inputs})
    world.settle()
    assert world.job.status.phase is JobPhase.ACTION_REQUIRED
    assert world.condition("InputsValid") == ("False", condition)
    assert not world.job.status.resumable
    assert world.settle() == p.Wait()


def test_an_action_that_was_answered_in_advance_asks_nobody():
    world = Pure.of({"steps": [ASK, *one("a")["steps"]], "inputs": {"ask": "x"}})
    world.run()
    assert world.job.status.phase is JobPhase.COMPLETED
    assert not any(isinstance(pl, p.Write) and pl.status.actions for pl in world.plans)


def test_a_task_asks_and_others_go_on():
    world = begun(one("asks", "slow", task("after", dependsOn=["asks"])))
    world.end("asks", outputs={"n": 1, "actionRequired": {"title": "Which?", "schema": {"enum": [1]}}})
    world.settle()
    assert world.states() == {"asks": "ActionRequired", "slow": "Starting", "after": "Pending"}
    assert world.job.status.phase is JobPhase.IN_PROGRESS
    assert [(a.name, a.step) for a in world.job.status.actions] == [("asks", "step")]
    world.end("slow")
    world.settle()
    assert world.job.status.phase is JobPhase.ACTION_REQUIRED
    world.edit(inputs={"asks": 2})
    world.settle()
    assert world.condition("InputsValid")[1] == "InputInvalid"
    world.edit(inputs={"asks": 1})
    world.run()
    assert world.executed == [("asks", 1), ("slow", 1), ("after", 1)]
    assert (world.job.status.context, world.job.status.actions) == ({"asks": {"n": 1}}, ())


# --- outputs


def test_small_outputs_are_in_status_and_large_ones_are_not():
    world = begun(one("small", "large", "none", "last"))
    world.end("small", outputs={"n": 1})
    world.end("none")
    world.end("large", outputs={"t": "x" * INLINE_BYTES})
    world.wait(LAZY_SECONDS)
    world.settle()
    assert world.job.status.context == {"small": {"n": 1}}
    assert world.stored == {"large": (1, {"t": "x" * INLINE_BYTES})}
    refs = {n: t.outputs.size for n, t in world.tasks().items() if t.outputs}
    assert refs == {"large": INLINE_BYTES + 9}


def test_many_small_outputs_stay_within_the_context():
    names = [f"t{i}" for i in range(20)]
    world = begun(one(*names, parallelism=20))
    for name in names:
        world.end(name, outputs={"t": "x" * 4000})
    world.settle()
    assert world.job.status.phase is JobPhase.COMPLETED
    assert 3 < len(world.job.status.context) < 8
    assert len(world.stored) + len(world.job.status.context) == 20


def test_large_outputs_are_seen_in_the_pass_that_takes_them_in():
    world = begun(one("a", task("b", dependsOn=["a"], when="size(context.a.t) > 10")))
    world.end("a", outputs={"t": "x" * 9000})
    world.settle()
    assert world.states() == {"a": "Completed", "b": "Starting"}


@pytest.mark.parametrize("outputs", [None, {"n": 1}, {"t": "x" * 9000}])
def test_what_the_unit_remembers_is_never_executed_again(outputs):
    """Status comes back from before the task, at every point of its story."""
    world = Pure.of(one("a", "b", task("c", dependsOn=["a"])))
    past = []
    for _ in range(40):
        past.append(world.job)
        if isinstance(world.step(), p.Wait):
            if not world.living():
                break
            world.end(world.living()[0], outputs=outputs)
            world.wait(2)
    assert world.job.status.phase is JobPhase.COMPLETED
    final, executed = world.job.status.context, list(world.executed)
    for job in past:
        back = replace(world, job=job, stored={}, executed=[], plans=[])
        back.run()
        assert (back.job.status.phase, back.executed) == (JobPhase.COMPLETED, [])
        assert back.job.status.context == final
        kept = {n for n, t in back.tasks().items() if t.outputs}
        assert kept == ({"a", "b", "c"} if outputs and "t" in outputs else set())
    assert len(executed) == 3


# --- resume


def test_the_nonce_at_creation_and_while_it_runs_has_no_effect():
    world = begun(one("a", resumeNonce=7))
    assert world.job.status.handled_resume_nonce == 7
    world.edit(resumeNonce=8)
    world.settle()
    assert (world.job.status.handled_resume_nonce, world.job.status.resumes) == (8, 0)
    world.end("a", 1)
    world.settle()
    assert world.job.status.resumable
    assert isinstance(world.step(), p.Wait)


def test_a_resume_is_one_write_with_its_nonce():
    world = Pure.of(phases(phase("p", "a"), phase("q", "b", "c")))
    world.run(b=1)
    world.edit(resumeNonce=1)
    status = written(world.step())
    assert (status.handled_resume_nonce, status.resumes, status.resumable, status.resume_plan) == (
        1,
        1,
        False,
        (),
    )
    assert world.states() == {"a": "Completed", "b": "Starting", "c": "Completed"}
    assert world.tasks()["b"].attempt == 2


def test_a_step_s_own_condition_is_asked_again_by_a_resume():
    world = Pure.of({"steps": [{"name": "a", "when": "inputs.x", "task": {"program": {"command": ["a"]}}}]})
    world.settle()
    assert world.condition()[1] == "TaskFailed"
    world.edit(resumeNonce=1, inputs={"x": False})
    world.run()
    assert (world.states(), world.executed) == ({"a": "Skipped"}, [])


# --- suspended, cancelled, deleted


def test_suspended_finishes_what_runs():
    world = begun(one("a", task("b", dependsOn=["a"])))
    world.edit(state="Suspended")
    world.settle()
    assert (world.job.status.phase, world.condition()[1]) == (JobPhase.IN_PROGRESS, "Suspending")
    world.end("a")
    world.settle()
    assert (world.job.status.phase, world.states()) == (
        JobPhase.SUSPENDED,
        {"a": "Completed", "b": "Pending"},
    )
    assert world.condition()[0] == "True"


def test_suspended_before_a_claim_was_started():
    world = begun(one("a"), passes=1)
    world.edit(state="Suspended")
    world.settle()
    assert world.executed == [("a", 1)]


def test_cancelled_stops_and_skips():
    world = begun(phases(phase("p", "a", "b"), phase("q", "c")))
    world.end("a")
    world.edit(state="Cancelled")
    world.step()
    assert set(acts(world.step())) == {p.StopTask("b", 30.0)}
    assert world.step() == p.Wait(30.0)
    world.units["b"] = replace(world.units["b"], stopping_seconds=30.0)
    assert set(acts(world.step())) == {p.StopTask("b", 30.0, force=True)}
    world.settle()
    assert world.job.status.phase is JobPhase.CANCELLED
    assert world.states() == {"a": "Completed", "b": "Failed", "c": "Skipped"}
    world.edit(state="Running", resumeNonce=1)
    world.settle()
    assert world.job.status.phase is JobPhase.CANCELLED


def test_a_stop_whose_signal_was_lost_is_told_again():
    world = begun(one("a"))
    world.edit(state="Cancelled")
    world.step()
    world.units["a"] = replace(
        world.units["a"], state=UnitState.STOPPING, stopping_seconds=1.0, stop_told=False
    )
    assert set(acts(world.step())) == {p.StopTask("a", 30.0)}


def test_deletion_order():
    world = begun(one("a", "b"))
    world.end("a", outputs={"t": "x" * 9000})
    world.wait(2)
    world.settle()
    assert world.stored
    world.delete()
    world.settle()
    assert world.units["b"].state is UnitState.STOPPING
    assert all(a.deleting for pl in world.plans[-3:] for a in acts(pl) if isinstance(a, p.StopTask))
    world.end("b", None)
    assert world.step() == p.Act(p.RemoveRecords())
    assert world.step() == p.Act(p.RemoveFinalizer())
    assert world.gone


def test_deleting_starts_nothing_that_was_claimed():
    world = begun(one("a", "b"))
    world.lose("a")
    world.step()
    assert world.tasks()["a"].attempt == 2
    world.delete()
    world.settle()
    assert world.executed == [("a", 1), ("b", 1)]


def test_deleted_without_our_finalizer_is_left_alone():
    assert Pure.of(one("a"), deleting=True, finalizer=False).decide() == p.Wait()


@pytest.mark.parametrize("state", [UnitState.RUNNING, UnitState.EXITED])
def test_a_predecessor_is_ended_and_forgotten_first(state):
    world = Pure.of(one("a"))
    world.units["a"] = a_unit("a", state, owner_uid=OTHER_UID, attempt=9)
    if state is UnitState.RUNNING:
        world.settle()
        assert world.reasons() == {"a": "PredecessorStopping"}
        world.units["a"] = ended("a", None, attempt=9, owner_uid=OTHER_UID)
    world.settle()
    assert world.executed == [("a", 1)]


# --- writes


def test_completions_that_let_nothing_start_are_told_together():
    world = begun(one("a", "b", "c"))
    world.end("a", outputs={"n": 1})
    wait = world.step()
    assert isinstance(wait, p.Wait)
    assert 0 < wait.seconds <= LAZY_SECONDS
    world.wait(LAZY_SECONDS / 2)
    world.end("b")
    assert isinstance(world.step(), p.Wait)
    world.wait(LAZY_SECONDS / 2)
    world.step()
    assert world.states()["a"] == world.states()["b"] == "Completed"
    assert world.job.status.context == {"a": {"n": 1}}


def test_completions_that_let_something_start_are_told_at_once():
    world = begun(one("a", "slow", task("b", dependsOn=["a"])))
    world.end("a")
    assert isinstance(world.step(), p.Write)


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_clock_that_jumps_keeps_no_completion_back(seconds):
    world = begun(one("a", "b"))
    world.end("a", ended_at=NOW.timestamp() - seconds)
    assert isinstance(world.step(), p.Write)


def test_a_final_job_only_observes():
    world = Pure.of(one("a"))
    world.run()
    before = world.job.status
    world.edit(inputs={"x": 1})
    status = written(world.step())
    assert status.observed_generation == 2
    assert status.model_copy(update={"observed_generation": 1, "conditions": ()}) == before.model_copy(
        update={"conditions": ()}
    )
    assert world.settle() == p.Wait()


LONG = "n" * 59


def largest(**fields):
    """As many tasks as a job may have, with the longest names, each in a phase of its own as far as they go."""
    names = [f"{LONG}{i:03}a" for i in range(JOB_TASKS_MAX)]
    steps = [
        {
            "name": f"{LONG}s{s:02}",
            "phases": [phase(f"{LONG}p{n[-4:-1]}", task(n, **fields)) for n in names[s * 16 : s * 16 + 16]],
        }
        for s in range(13)
    ]
    return {"steps": steps}


@pytest.mark.parametrize("code", [0, 1])
def test_the_status_of_the_largest_job_stays_below_64_kib(code):
    world = Pure.of(largest(blocking=False))
    said = {"last_lines": ("ü" * 400,) * 5, "outputs": {"t": "x" * 5000}}
    world.units = {name: ended(name, code, **said) for name in world.graph.tasks}
    if code == 0:
        world.stored = dict.fromkeys(world.graph.tasks, (1, said["outputs"]))
    for _ in range(300):
        plan = world.step()
        if isinstance(plan, p.Wait):
            break
        if isinstance(plan, p.Write):
            wire = len(json.dumps(plan.status.wire(), ensure_ascii=False).encode())
            assert wire <= 64 * 1024, (wire, world.job.status.progress)
    assert world.job.status.phase is JobPhase.COMPLETED
    assert world.job.status.progress == ("200/200" if code == 0 else "0/200")


def test_decide_changes_nothing_it_is_given():
    world = begun(one("a", "b"))
    world.end("a", outputs={"n": 1})
    s = world.snapshot()
    before = s.job.model_copy(deep=True)
    assert decide(s) == decide(s)
    assert s.job == before
