"""Stories of jobs, each told to a world of its own. Their logs are the golden files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.sim.api import NAMESPACE
from tests.sim.jobs.sample import OUTPUTS, account_setup, action, registration, task
from tests.sim.jobs.tasks import HANGS, Act
from tests.sim.jobs.world import JobWorld

from mainstay.runtime.base import UnitRefusedError
from mainstay.shell.kube import BATCHES, CONFIG_MAPS, JOBS

Story = Callable[[JobWorld], None]
STORIES: dict[str, Story] = {}
KNOWN: dict[str, str] = {}
"""Stories that do not end well yet, and why."""
LIMITS = {"two_jobs_share_a_small_machine": 3}

BAD = Act(1, stderr="boom")
LARGE = {"text": "x" * 6000}


def story(tell: Story) -> Story:
    STORIES[tell.__name__] = tell
    return tell


def play(name: str, seed: int = 1, *, crash_at: int | None = None) -> JobWorld:
    """Tell a story to a new world; every step of it is judged by the oracle. `crash_at`: see JobWorld."""
    world = JobWorld(seed, limit=LIMITS.get(name, 128))
    world.crash_at = crash_at
    for work, outputs in OUTPUTS.items():
        world.runtime.play(work, Act(outputs=outputs))
    world.secret("cw", pw="canary")
    STORIES[name](world)
    return world


def up(world: JobWorld, spec: dict[str, Any] | None = None) -> None:
    world.start_operator()
    world.job("reg", spec or account_setup())


def lives(world: JobWorld, *tasks: str, job: str = "reg") -> None:
    """Passes and time until all of these live at once."""
    names = [f"{job}/{name}" for name in tasks]
    world.until(lambda: all(world.unit(name).state == "Running" for name in names))


def one_phase(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"steps": [{"name": "only", "phases": [{"name": "p", "tasks": list(tasks)}]}], **fields}


def chain(*names: str, **fields: Any) -> dict[str, Any]:
    """A phase per task."""
    phases = [{"name": f"p-{name}", "tasks": [task(name)]} for name in names]
    return {"steps": [{"name": "all", "phases": phases}], **fields}


# --- the registration job


@story
def happy_path(world: JobWorld) -> None:
    up(world, registration())
    world.converge()
    assert world.phase("reg") == "Completed"
    assert world.status("reg")["context"] == OUTPUTS


def _fails_and_resumes(world: JobWorld, name: str, after: str | None) -> None:
    world.runtime.play(name, BAD, Act(outputs=OUTPUTS.get(name)))
    up(world, registration())
    world.converge()
    status = world.status("reg")
    assert (status["phase"], status.get("lastCompletedPhase")) == ("ActionRequired", after)
    assert (status["lastFailure"]["task"], status["currentStep"]) == (name, "accountSetup")
    executed = world.executions("reg")
    done = {t for t, s in world.states("reg").items() if s == "Completed"}
    world.say("user: resumeNonce 1")
    world.resume("reg")
    world.converge()
    assert world.phase("reg") == "Completed"
    assert {t: n for t, n in world.executions("reg").items() if t in done} == {t: executed[t] for t in done}


@story
def phase1_fails_and_is_resumed(world: JobWorld) -> None:
    _fails_and_resumes(world, "cloudwaitressAccount", "detailsExtraction")


@story
def phase2_fails_and_is_resumed(world: JobWorld) -> None:
    _fails_and_resumes(world, "restaurantRegistration", "phase1")


@story
def phase3_fails_and_is_resumed(world: JobWorld) -> None:
    _fails_and_resumes(world, "optionSets", "phase2")


@story
def phase4_fails_and_is_resumed(world: JobWorld) -> None:
    _fails_and_resumes(world, "itemTags", "phase3")


@story
def fails_twice(world: JobWorld) -> None:
    world.runtime.play("itemTags", BAD, BAD, Act())
    up(world)
    world.converge()
    for number in (1, 2):
        world.say(f"user: resumeNonce {number}")
        world.resume("reg")
        world.converge()
    assert world.phase("reg") == "Completed"
    assert world.executions("reg")["itemTags"] == 3


@story
def sub_steps_switched_off(world: JobWorld) -> None:
    spec = registration()
    config = spec["inputs"]["config"]
    config["menu"] = {"selected": False, "images": True, "optionSets": True, "itemTags": True}
    config["account"]["register"] = False
    config["stepsEnabled"]["codeGeneration"] = False
    up(world, spec)
    world.converge()
    states = world.states("reg")
    off = {"cloudwaitressAccount", "codeGeneration", "uploadImages", "websiteConfig"}
    off |= {"menuImport", "optionSets", "itemTags"}
    assert {t for t, s in states.items() if s == "Skipped"} == off
    assert world.phase("reg") == "Completed"


@story
def users_act(world: JobWorld) -> None:
    up(world, registration(answered=False))
    world.converge()
    assert [a["name"] for a in world.status("reg")["actions"]] == ["companySelection"]
    world.say("user: an answer that does not fit")
    world.answer("reg", companySelection={"firm": "x"})
    world.converge()
    world.say("user: the right one")
    world.answer("reg", companySelection={"company": "Trattoria"})
    world.converge()
    world.say("user: a password in the clear")
    world.answer("reg", configuration={"email": "a@example.com", "password": "canary"})
    world.converge()
    assert "canary" not in str(world.status("reg"))
    world.say("user: by reference")
    secret = {"secretKeyRef": {"name": "cw", "key": "pw"}}
    world.answer("reg", configuration={"email": "a@example.com", "password": secret})
    world.converge()
    assert world.phase("reg") == "Completed"
    assert "canary" not in str(world.status("reg"))


@story
def a_task_asks(world: JobWorld) -> None:
    asks = {"title": "Which contact?", "schema": {"enum": [1, 2]}}
    world.runtime.play("contactSearch", Act(outputs={"contacts": 2, "actionRequired": asks}))
    up(world, registration())
    world.converge()
    assert world.phase("reg") == "ActionRequired"
    assert world.states("reg")["contactSearch"] == "ActionRequired"
    world.say("user: 3, then 2")
    world.answer("reg", contactSearch=3)
    world.converge()
    world.answer("reg", contactSearch=2)
    world.converge()
    assert world.phase("reg") == "Completed"
    assert world.status("reg")["context"]["contactSearch"] == {"contacts": 2}


@story
def a_sub_step_asks_while_another_fails(world: JobWorld) -> None:
    asks = {"title": "Which images?"}
    world.runtime.play("uploadImages", Act(outputs={"actionRequired": asks}, seconds=1.0))
    world.runtime.play("cloudwaitressAccount", Act(1, seconds=3.0), Act())
    up(world)
    world.converge()
    assert "uploadImages" not in world.status("reg")["resumePlan"]
    world.say("user: resumeNonce 1")
    world.resume("reg")
    world.converge()
    world.say("user: answers")
    world.answer("reg", uploadImages=["a.png"])
    world.converge()
    assert world.phase("reg") == "Completed"
    assert world.executions("reg")["uploadImages"] == 1


@story
def cancelled_in_mid_phase(world: JobWorld) -> None:
    world.runtime.play("uploadImages", HANGS)
    world.runtime.play("codeGeneration", HANGS)
    world.runtime.ignore_term(f"{NAMESPACE}.reg_codeGeneration")
    up(world)
    lives(world, "uploadImages", "codeGeneration", "cloudwaitressAccount", "createOnboardingUser")
    world.say("user: Cancelled")
    world.edit("reg", state="Cancelled")
    world.converge()
    assert world.phase("reg") == "Cancelled"


@story
def suspended_in_mid_phase(world: JobWorld) -> None:
    up(world)
    lives(world, "uploadImages", "codeGeneration")
    world.say("user: Suspended")
    world.edit("reg", state="Suspended")
    world.converge()
    assert world.phase("reg") == "Suspended"
    world.say("user: Running")
    world.edit("reg", state="Running")
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def created_suspended(world: JobWorld) -> None:
    up(world, account_setup(state="Suspended", resumeNonce=4))
    world.converge()
    assert not world.runtime.started
    world.say("user: Running")
    world.edit("reg", state="Running")
    world.converge()
    assert world.status("reg").get("resumes", 0) == 0


@story
def failed_and_suspended(world: JobWorld) -> None:
    world.runtime.play("restaurantRegistration", BAD, Act())
    up(world)
    world.converge()
    world.say("user: Suspended, and resumeNonce 1")
    world.edit("reg", state="Suspended")
    world.converge()
    world.resume("reg")
    world.converge()
    assert world.phase("reg") == "Suspended"
    world.say("user: Running")
    world.edit("reg", state="Running")
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def deleted_in_mid_phase(world: JobWorld) -> None:
    world.runtime.play("uploadImages", HANGS)
    world.runtime.play("codeGeneration", HANGS)
    world.runtime.ignore_term(f"{NAMESPACE}.reg_codeGeneration")
    world.runtime.play("createOnboardingUser", Act(outputs=LARGE, seconds=0.1))
    up(world)
    lives(world, "uploadImages", "codeGeneration")
    world.until(lambda: world.states("reg")["createOnboardingUser"] == "Completed")
    world.say("user: deletes it")
    world.remove("reg")
    world.converge()
    assert world.api.get(JOBS, NAMESPACE, "reg") is None
    assert not world.runtime.peek_all()
    assert not list(world.api.all(CONFIG_MAPS))


@story
def deleted_while_retrying(world: JobWorld) -> None:
    """A record of a failed attempt, a claim of the next, and something that lives."""
    bad = task("bad", retries=3, initialBackoffSeconds=2)
    world.runtime.play("bad", Act(1, seconds=0.5))
    world.runtime.play("slow", HANGS)
    world.runtime.ignore_term(f"{NAMESPACE}.reg_slow")
    up(world, one_phase(bad, task("slow")))
    world.until(lambda: world.states("reg").get("bad") == "Retrying")
    world.until(lambda: world.tasks("reg")["bad"]["attempt"] == 2)
    world.say("user: deletes it")
    world.remove("reg")
    world.converge()
    assert world.executions_ever("bad") == 1


@story
def deleted_before_anything(world: JobWorld) -> None:
    up(world)
    world.until(lambda: bool(world.get("reg")["metadata"].get("finalizers")))
    world.say("user: deletes it")
    world.remove("reg")
    world.converge()
    assert not world.runtime.started


@story
def operator_crashes_in_mid_phase(world: JobWorld) -> None:
    up(world, registration())
    lives(world, "uploadImages", "codeGeneration")
    world.say("the operator dies, tasks end, another operator comes")
    world.crash_operator()
    world.advance(20)
    world.start_operator()
    world.converge()
    assert world.phase("reg") == "Completed"
    assert set(world.executions("reg").values()) == {1}


@story
def etcd_restored_in_mid_phase(world: JobWorld) -> None:
    world.runtime.play("codeGeneration", Act(outputs=LARGE, seconds=1.0))
    up(world, registration())
    lives(world, "uploadImages", "codeGeneration")
    saved = world.backup()
    lives(world, "menuImport")
    world.say("etcd is restored from when phase 1 ran")
    world.restore(saved)
    world.converge()
    assert world.phase("reg") == "Completed"
    assert set(world.executions("reg").values()) == {1}


@story
def etcd_restored_to_before_the_job_began(world: JobWorld) -> None:
    up(world)
    saved = world.backup()
    lives(world, "optionSets")
    world.say("etcd is restored from when the job was new")
    world.restore(saved)
    world.converge()
    assert world.phase("reg") == "Completed"
    assert set(world.executions("reg").values()) == {1}


@story
def etcd_restored_with_large_outputs(world: JobWorld) -> None:
    world.runtime.play("codeGeneration", Act(outputs=LARGE, seconds=1.0))
    up(world)
    saved = world.backup()
    lives(world, "optionSets")
    world.say("etcd is restored from when the job was new; outputs do not fit status")
    world.restore(saved)
    world.converge()
    assert world.phase("reg") == "Completed"
    assert set(world.executions("reg").values()) == {1}


@story
def etcd_restored_to_before_a_resume(world: JobWorld) -> None:
    world.runtime.play("restaurantRegistration", BAD, Act())
    up(world)
    world.converge()
    saved = world.backup()
    world.say("user: resumeNonce 1; etcd is restored to before it, the nonce is raised again")
    world.resume("reg")
    world.converge()
    assert world.phase("reg") == "Completed"
    world.restore(saved)
    world.converge()
    world.resume("reg")
    world.converge()
    assert world.phase("reg") == "Completed"
    assert world.executions("reg")["restaurantRegistration"] == 2


@story
def machine_reboots_in_mid_phase(world: JobWorld) -> None:
    up(world, registration())
    lives(world, "uploadImages", "codeGeneration")
    world.say("reboot: operator and processes are gone")
    world.crash_operator()
    world.runtime.lose_everything()
    world.advance(30)
    world.start_operator()
    world.converge()
    assert world.phase("reg") == "Completed"
    assert all(n <= 2 for n in world.executions("reg").values())


@story
def retries_with_backoff(world: JobWorld) -> None:
    world.runtime.play("restaurantRegistration", BAD, BAD, Act())
    up(world, account_setup(restaurantRegistration={"retries": 2, "initialBackoffSeconds": 4}))
    world.converge()
    assert world.phase("reg") == "Completed"
    assert world.tasks("reg")["restaurantRegistration"]["attempt"] == 3


@story
def retries_run_out(world: JobWorld) -> None:
    world.runtime.play("restaurantRegistration", BAD, BAD, BAD, Act())
    up(world, account_setup(restaurantRegistration={"retries": 2}))
    world.converge()
    assert world.phase("reg") == "ActionRequired"
    world.say("user: resumeNonce 1")
    world.resume("reg")
    world.converge()
    assert world.tasks("reg")["restaurantRegistration"]["attempt"] == 4


@story
def lost_again_and_again(world: JobWorld) -> None:
    world.runtime.play("itemTags", *[Act(lost=True)] * 4, Act())
    up(world)
    world.converge()
    assert world.reason("reg") == "TaskFailed"
    world.say("user: resumeNonce 1")
    world.resume("reg")
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def lost_before_it_was_executed(world: JobWorld) -> None:
    world.runtime.play("itemTags", *[Act(lost=True, executed=False)] * 6, Act())
    up(world)
    world.converge()
    assert world.phase("reg") == "Completed"
    assert world.tasks("reg")["itemTags"]["attempt"] == 7


@story
def stopped_from_outside(world: JobWorld) -> None:
    world.runtime.play("uploadImages", HANGS, Act())
    up(world)
    lives(world, "uploadImages")
    world.say("somebody stops the unit, and then lets it be")
    world.stop_from_outside("reg", "uploadImages")
    world.runtime.play("uploadImages", Act())
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def timeouts(world: JobWorld) -> None:
    world.runtime.play("menuImport", HANGS)
    up(world, account_setup(menuImport={"timeoutSeconds": 20, "retries": 1, "blocking": True}))
    world.converge()
    assert world.phase("reg") == "ActionRequired"
    assert world.tasks("reg")["menuImport"]["reason"] == "TimedOut"


@story
def a_non_blocking_task_fails(world: JobWorld) -> None:
    world.runtime.play("menuImport", BAD)
    world.runtime.play("createOnboardingUser", BAD)
    up(world)
    world.converge()
    assert world.phase("reg") == "Completed"
    states = world.states("reg")
    assert {t for t, s in states.items() if s == "Failed"} == {"menuImport", "createOnboardingUser"}
    assert {t for t, s in states.items() if s == "Skipped"} == {
        "syncOnboardingUser",
        "optionSets",
        "itemTags",
    }


@story
def a_named_task_is_run_again_by_a_resume(world: JobWorld) -> None:
    world.runtime.play("createOnboardingUser", BAD, Act(outputs=OUTPUTS["createOnboardingUser"]))
    world.runtime.play("codeGeneration", BAD)
    world.runtime.play("optionSets", BAD, Act())
    up(world)
    world.converge()
    world.say("user: resumeNonce 1, resumeTasks createOnboardingUser")
    world.resume("reg", resumeTasks=["createOnboardingUser"])
    world.converge()
    assert world.phase("reg") == "Completed"
    states = world.states("reg")
    assert states["syncOnboardingUser"] == "Completed"
    assert (states["codeGeneration"], states["websiteConfig"]) == ("Failed", "Skipped")


@story
def on_failure_fail(world: JobWorld) -> None:
    world.runtime.play("restaurantRegistration", BAD)
    up(world, account_setup(onFailure="Fail"))
    world.converge()
    assert world.phase("reg") == "Failed"
    world.say("user: resumeNonce 1, in vain")
    world.resume("reg")
    world.converge()
    assert world.phase("reg") == "Failed"


@story
def resumed_while_it_runs(world: JobWorld) -> None:
    world.runtime.play("restaurantRegistration", BAD, Act())
    up(world)
    lives(world, "uploadImages")
    world.say("user: resumeNonce 1 while it runs: no effect")
    world.resume("reg")
    world.converge()
    assert world.phase("reg") == "ActionRequired"
    assert world.status("reg").get("resumes", 0) == 0


# --- smaller jobs


@story
def large_outputs(world: JobWorld) -> None:
    world.runtime.play("a", Act(outputs=LARGE))
    world.runtime.play("b", Act(outputs={"n": 1}))
    up(world, one_phase(task("a"), task("b"), task("c", dependsOn=["a", "b"], when="context.a.text != ''")))
    world.converge()
    assert world.phase("reg") == "Completed"
    assert world.tasks("reg")["a"]["outputs"]["size"] > 6000
    assert "a" not in world.status("reg")["context"]


@story
def large_outputs_are_taken_away(world: JobWorld) -> None:
    world.runtime.play("a", Act(outputs=LARGE, seconds=1))
    world.runtime.play("b", Act(seconds=5))
    up(world, chain("a", "b", "c"))
    world.until(lambda: world.states("reg").get("a") == "Completed")
    world.say("user: deletes every ConfigMap")
    world.robbed.add("reg")
    for kept in list(world.api.all(CONFIG_MAPS)):
        world.api.remove(CONFIG_MAPS, NAMESPACE, kept["metadata"]["name"])
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def outputs_that_can_not_be_read(world: JobWorld) -> None:
    world.runtime.play("a", Act(outputs=b"[1"), Act(outputs=b'{"n": NaN}'), Act(outputs={"n": 1}))
    up(world, chain("a", "b"))
    world.converge()
    for number in (1, 2):
        assert world.tasks("reg")["a"]["reason"] == "OutputsInvalid"
        world.say(f"user: resumeNonce {number}")
        world.resume("reg")
        world.converge()
    assert world.phase("reg") == "Completed"


@story
def proved_to_be_done(world: JobWorld) -> None:
    spec = chain("collect", "sell")
    phase = spec["steps"][0]["phases"][0]
    phase["completeWhen"] = "has(inputs.cargo) && inputs.cargo == 'IRON'"
    spec["steps"][0]["phases"][1]["tasks"][0]["dependsOn"] = ["collect"]
    up(world, {**spec, "inputs": {"cargo": "IRON"}})
    world.job("other", {**spec, "inputs": {"cargo": "GOLD"}})
    world.converge()
    assert world.executions("reg") == {"sell": 1}
    assert world.executions("other") == {"collect": 1, "sell": 1}


@story
def proved_when_it_is_resumed(world: JobWorld) -> None:
    world.runtime.play("collect", BAD)
    spec = chain("collect", "sell")
    spec["steps"][0]["phases"][0]["completeWhen"] = "has(inputs.cargo)"
    up(world, spec)
    world.converge()
    world.say("user: it is there now; resumeNonce 1")
    world.resume("reg", inputs={"cargo": "IRON"})
    world.converge()
    assert world.phase("reg") == "Completed"
    assert world.executions("reg") == {"collect": 1, "sell": 1}


@story
def an_expression_fails_and_is_corrected(world: JobWorld) -> None:
    spec = chain("a", "b")
    spec["steps"][0]["phases"][1]["tasks"][0]["when"] = "inputs.go"
    up(world, spec)
    world.converge()
    assert world.tasks("reg")["b"]["reason"] == "ExpressionFailed"
    world.say("user: inputs.go true; resumeNonce 1")
    world.resume("reg", inputs={"go": True})
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def a_step_s_condition_fails_and_is_corrected(world: JobWorld) -> None:
    first = {"name": "a", "when": "inputs.a", "task": {"program": {"command": ["a"]}}}
    second = {"name": "b", "task": {"program": {"command": ["b"]}}}
    up(world, {"steps": [first, second]})
    world.converge()
    assert world.phase("reg") == "ActionRequired"
    world.say("user: inputs.a false; resumeNonce 1")
    world.resume("reg", inputs={"a": False})
    world.converge()
    assert world.executions("reg") == {"b": 1}


@story
def two_at_a_time(world: JobWorld) -> None:
    up(world, one_phase(*(task(name) for name in "abcde"), parallelism=2))
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def two_jobs_share_a_small_machine(world: JobWorld) -> None:
    world.start_operator()
    for name in ("one", "two"):
        world.job(name, one_phase(*(task(t) for t in "abcd")))
    world.converge()
    assert (world.phase("one"), world.phase("two")) == ("Completed", "Completed")


@story
def secret_comes_late(world: JobWorld) -> None:
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}]
    up(world, one_phase(task("a", program={"command": ["a"], "env": env})))
    world.until(lambda: world.reason("reg") == "SecretNotFound")
    world.say("user: creates the Secret")
    world.secret("late", k="canary")
    world.converge()
    assert world.phase("reg") == "Completed"
    assert world.executions("reg") == {"a": 1}


@story
def secret_never_comes(world: JobWorld) -> None:
    """A start that lacks something is tried again and again, and nothing is written meanwhile."""
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}]
    up(world, one_phase(task("a", program={"command": ["a"], "env": env})))
    world.until(lambda: world.reason("reg") == "SecretNotFound")
    before = world.api.versions()
    world.say("nobody creates the Secret")
    for _ in range(200):
        if not world._any_pass(resync=True):
            world.advance(0.25)
        assert world.api.versions() == before, "it writes"


@story
def refused_by_the_runtime(world: JobWorld) -> None:
    unit = f"{NAMESPACE}.reg_a"
    world.runtime.refuse(unit, UnitRefusedError("RunAsRootRefused", "set program.user"))
    up(world, chain("a", "b"))
    world.converge()
    assert world.phase("reg") == "ActionRequired"
    world.say("it can be started now; user: resumeNonce 1")
    world.runtime.refuse(unit, None)
    world.resume("reg")
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def a_mistake_in_the_declaration(world: JobWorld) -> None:
    spec = one_phase(task("a", dependsOn=["b"]), task("b", dependsOn=["a"]))
    up(world, spec)
    world.converge()
    assert world.reason("reg") == "SpecInvalid"
    world.say("user: corrects it")
    world.edit("reg", steps=one_phase(task("a", dependsOn=["b"]), task("b"))["steps"])
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def deleted_and_created_again(world: JobWorld) -> None:
    """The finalizer was taken away: a task of the earlier job still lives under the name."""
    world.runtime.play("a", HANGS)
    world.runtime.ignore_term(f"{NAMESPACE}.reg_a")
    up(world, chain("a", "b"))
    lives(world, "a")
    world.say("user: takes the finalizer, deletes and creates the job again")
    world.api.set_finalizers((JOBS, NAMESPACE, "reg"), world.get("reg"), [])
    world.remove("reg")
    world.runtime.play("a", Act())
    world.job("reg", chain("a", "b"))
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def deleted_with_a_predecessor_s_record(world: JobWorld) -> None:
    """Records of an earlier job of the name, which nobody saw deleted, are in the way of nothing."""
    up(world, chain("a", "b"))
    lives(world, "b")
    world.say("user: takes the finalizer, deletes; creates it again, deletes that")
    world.api.set_finalizers((JOBS, NAMESPACE, "reg"), world.get("reg"), [])
    world.remove("reg")
    world.job("reg", chain("a", "b", "c"), state="Suspended")
    world.converge()
    world.remove("reg")
    world.converge()
    assert world.api.get(JOBS, NAMESPACE, "reg") is None


@story
def two_operators(world: JobWorld) -> None:
    world.start_operator("one")
    world.start_operator("two")
    world.job("reg", account_setup())
    for turn in range(24):
        instance = world.operators[turn % 2]
        late = list(instance.inbox)
        instance.inbox.clear()
        if key := instance.pick(world.rng):
            world.turn(instance, key)
        elif turn % 3 == 0:
            world.advance(0.4)
        instance.inbox[:0] = late
        instance.deliver()
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def runtime_away(world: JobWorld) -> None:
    up(world, chain("a", "b"))
    world.until(lambda: world.states("reg").get("a") == "Starting")
    world.say("the runtime is away for a while")
    world.runtime.available = False
    for _ in range(20):
        world._any_pass(resync=False)
        world.advance(1)
    world.say("and is back")
    world.runtime.available = True
    world.converge()
    assert world.phase("reg") == "Completed"


@story
def action_first(world: JobWorld) -> None:
    spec = chain("a")
    up(world, {"steps": [action("ask", "Say something", "word"), *spec["steps"]]})
    world.converge()
    world.say("user: Suspended, then answers, then Running")
    world.edit("reg", state="Suspended")
    world.converge()
    world.answer("reg", ask={"word": "x"})
    world.converge()
    assert not world.runtime.started
    world.edit("reg", state="Running")
    world.converge()
    assert world.phase("reg") == "Completed"


# --- batches


def batch(world: JobWorld, *names: str, spec: dict[str, Any] | None = None, **fields: Any) -> None:
    template = spec or chain("a", "b")
    world.start_operator()
    world.batch("many", template=template, jobs=[{"name": n, "inputs": {"n": n}} for n in names], **fields)


def batch_status(world: JobWorld) -> dict[str, Any]:
    obj = world.api.get(BATCHES, NAMESPACE, "many")
    assert obj is not None
    status: dict[str, Any] = obj["status"]
    return status


@story
def batch_of_three_with_one_resumed(world: JobWorld) -> None:
    spec = account_setup()
    spec["steps"][0]["phases"][0]["tasks"][0]["when"] = "true"
    world.runtime.play("restaurantRegistration", Act())
    batch(world, "x", "y", "z", spec=spec, parallelism=2)
    world.until(lambda: world.api.get(JOBS, NAMESPACE, "many-y") is not None)
    world.runtime.fail_once.add((f"{NAMESPACE}.many-y_restaurantRegistration", 1))
    world.converge()
    status = batch_status(world)
    assert (status["phase"], status["counts"]["completed"]) == ("ActionRequired", 2)
    assert status["needsAction"] == ["y"]
    world.say("user: resumeNonce 1 of many-y")
    world.resume("many-y")
    world.converge()
    assert batch_status(world)["phase"] == "Completed"


@story
def batch_that_fails_in_part(world: JobWorld) -> None:
    world.runtime.fail_once.add((f"{NAMESPACE}.many-y_a", 1))
    batch(world, "x", "y", "z", spec=chain("a", "b", onFailure="Fail"), parallelism=1)
    world.converge()
    assert batch_status(world)["phase"] == "PartiallyCompleted"


@story
def batch_suspended_and_cancelled(world: JobWorld) -> None:
    batch(world, "x", "y", "z", parallelism=2)
    world.until(lambda: len(world.living()) == 2)
    world.say("user: Suspended")
    world.api.edit(BATCHES, NAMESPACE, "many", state="Suspended")
    world.converge()
    assert batch_status(world)["phase"] == "Suspended"
    world.say("user: Running, then Cancelled")
    world.api.edit(BATCHES, NAMESPACE, "many", state="Running")
    world.until(lambda: len(world.living()) == 2)
    world.api.edit(BATCHES, NAMESPACE, "many", state="Cancelled")
    world.converge()
    assert batch_status(world)["phase"] == "Cancelled"


@story
def batch_whose_job_is_deleted_by_hand(world: JobWorld) -> None:
    batch(world, "x", "y", "z", parallelism=2)
    world.until(lambda: len(world.living()) == 2)
    world.say("user: deletes many-y")
    world.remove("many-y")
    world.converge()
    status = batch_status(world)
    assert (status["phase"], status["counts"]["cancelled"]) == ("PartiallyCompleted", 1)
    assert world.api.get(JOBS, NAMESPACE, "many-y") is None


@story
def batch_deleted(world: JobWorld) -> None:
    batch(world, "x", "y", "z", parallelism=2)
    world.until(lambda: len(world.living()) == 2)
    world.say("user: deletes the batch")
    world.remove("many", BATCHES)
    world.converge()
    assert not list(world.api.all(JOBS))
    assert not list(world.api.all(BATCHES))
    assert not world.runtime.peek_all()


@story
def batch_with_a_name_taken(world: JobWorld) -> None:
    world.job("many-y", chain("q"))
    batch(world, "x", "y")
    world.converge()
    assert batch_status(world)["counts"]["completed"] == 1
    world.say("user: deletes the job that is in the way")
    world.remove("many-y")
    world.converge()
    assert batch_status(world)["phase"] == "Completed"


@story
def batch_that_grows_and_shrinks(world: JobWorld) -> None:
    batch(world, "x", "y")
    world.converge()
    world.say("user: x is out of the list, z is in it")
    jobs = [{"name": n, "inputs": {}} for n in ("y", "z")]
    world.api.edit(BATCHES, NAMESPACE, "many", jobs=jobs)
    world.converge()
    status = batch_status(world)
    assert (status["counts"]["total"], status["counts"]["completed"]) == (3, 3)


@story
def batch_and_a_crash(world: JobWorld) -> None:
    batch(world, "x", "y", "z", parallelism=2)
    world.until(lambda: len(world.living()) == 2)
    world.say("the operator dies, another comes later")
    world.crash_operator()
    world.advance(10)
    world.start_operator()
    world.converge()
    assert batch_status(world)["phase"] == "Completed"
