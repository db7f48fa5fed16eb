"""What the policies say of jobs: secrets by reference only, locked steps, and no new steps while a job runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.integration.api.client import Answer, Api, action, batch, job, path, phases, program, step

JOB, BATCH = "PhasedJob", "JobBatch"
REF = {"secretKeyRef": {"name": "s", "key": "k"}}
OPERATOR = {"user": "mainstay-operator", "groups": ("mainstay:operators", "system:masters")}
LOGIN = action("login", "password", "pin")
CANARY = "hunter2-canary"

LITERALS: dict[str, tuple[Any, str]] = {
    "a text": ({"password": CANARY}, ".password is a secret"),
    "a number": ({"pin": 1234}, ".pin is a secret"),
    "null": ({"pin": None}, ".pin is a secret"),
    "empty": ({"password": ""}, ".password is a secret"),
    "an object": ({"password": {"value": CANARY}}, ".password is a secret"),
    "a list": ({"password": [CANARY]}, ".password is a secret"),
    "a reference with more beside it": ({"password": {**REF, "value": CANARY}}, ".password is a secret"),
    "a reference with more in it": (
        {"password": {"secretKeyRef": {"name": "s", "key": "k", "value": CANARY}}},
        ".password is a secret",
    ),
    "half a reference": ({"password": {"secretKeyRef": {"name": "s"}}}, ".password is a secret"),
    "a reference to numbers": (
        {"password": {"secretKeyRef": {"name": 1, "key": 2}}},
        ".password is a secret",
    ),
    "an empty reference": ({"password": {"secretKeyRef": {}}}, ".password is a secret"),
    "a reference that is a text": ({"password": {"secretKeyRef": CANARY}}, ".password is a secret"),
    "the second field": ({"password": REF, "pin": CANARY}, ".pin is a secret"),
    "no object": (CANARY, " has secret fields: it must be an object"),
    "a list for an object": ([CANARY], " has secret fields: it must be an object"),
}
FITTING: dict[str, Any] = {
    "both by reference": {"password": REF, "pin": REF},
    "one left out": {"password": REF},
    "none": {},
    "another field": {"email": "a@b.c", "deep": {"password": "not asked for as a secret"}},
}


def refused(answer: Answer, words: str) -> None:
    assert answer.code in {403, 422}, answer.body
    assert words in answer.message, answer.message
    assert CANARY not in json.dumps(answer.body)


@pytest.mark.parametrize("case", LITERALS)
def test_a_literal_in_a_secret_field(api: Api, case: str) -> None:
    value, words = LITERALS[case]
    inputs = {"login": value}
    refused(api.create(job(LOGIN, inputs=inputs), dry=True), f"spec.inputs.login{words}")
    refused(api.create(job(LOGIN, inputs=inputs), dry=True, **OPERATOR), f"spec.inputs.login{words}")
    refused(api.create(batch(LOGIN, inputs=inputs), dry=True), f"spec.template.inputs.login{words}")
    refused(
        api.create(batch(LOGIN, jobs=[{"name": "one"}, {"name": "two", "inputs": inputs}]), dry=True),
        f"spec.jobs[two].inputs.login{words}",
    )


@pytest.mark.parametrize("case", FITTING)
def test_references_and_other_fields(api: Api, case: str) -> None:
    inputs = {"login": FITTING[case], "other": {"password": "of no action"}}
    api.create(job(step("a"), LOGIN, inputs=inputs), dry=True).ok()
    api.create(batch(LOGIN, inputs=inputs, jobs=[{"name": "one", "inputs": inputs}]), dry=True).ok()


def test_every_way_to_give_it_later(api: Api) -> None:
    stored = api.create(job(LOGIN)).ok()
    bad = {"spec": {"inputs": {"login": {"password": CANARY}}}}
    words = "spec.inputs.login.password is a secret"
    refused(api.patch(JOB, "j", bad), words)
    refused(api.patch(JOB, "j", bad, **OPERATOR), words)
    refused(api.request("PUT", path(JOB, "j"), {**stored, "spec": stored["spec"] | bad["spec"]}), words)
    apply = api.request(
        "PATCH",
        path(JOB, "j"),
        job(LOGIN, **bad["spec"]),
        kind="application/apply-patch+yaml",
        fieldManager="t",
    )
    refused(apply, words)
    api.patch(JOB, "j", {"spec": {"inputs": {"login": {"password": REF}}}}).ok()
    refused(api.patch(JOB, "j", bad), words)


def test_a_field_that_becomes_a_secret_later(api: Api) -> None:
    api.create(job(action("login"), inputs={"login": {"password": "x"}})).ok()
    refused(api.patch(JOB, "j", {"spec": {"steps": [LOGIN]}}), "spec.inputs.login.password is a secret")


def test_a_task_that_asks(api: Api) -> None:
    """What it asks stands in status alone."""
    api.create(job(step("probe"))).ok()
    asks = {"name": "probe", "step": "probe", "title": "Code?", "secretFields": ["code"]}
    api.patch(JOB, "j", {"status": {"phase": "ActionRequired", "actions": [asks]}}, "status", **OPERATOR).ok()
    refused(api.patch(JOB, "j", {"spec": {"inputs": {"probe": {"code": CANARY}}}}), "spec.inputs.probe.code")
    api.patch(JOB, "j", {"spec": {"inputs": {"probe": {"code": REF}}}}).ok()


def test_an_older_literal_keeps_nothing_from_ending(api: Api) -> None:
    """An input that was there before its task asked for a secret: finalizers and states are written all the same."""
    api.create(job(step("probe"), inputs={"probe": {"code": CANARY}})).ok()
    asks = {"name": "probe", "step": "probe", "title": "Code?", "secretFields": ["code"]}
    api.patch(JOB, "j", {"status": {"actions": [asks]}}, "status").ok()
    api.patch(JOB, "j", {"metadata": {"finalizers": ["mainstay.dev/teardown"]}}, **OPERATOR).ok()
    api.patch(JOB, "j", {"spec": {"state": "Cancelled"}}).ok()
    refused(api.patch(JOB, "j", {"spec": {"inputs": {"more": 1}}}), "spec.inputs.probe.code")
    api.patch(JOB, "j", {"metadata": {"finalizers": None}}, **OPERATOR).ok()


# --- steps


def state(*steps: tuple[str, str], phase: str = "ActionRequired") -> dict[str, Any]:
    return {"status": {"phase": phase, "steps": [{"name": n, "state": s} for n, s in steps]}}


A, B, C = step("a"), step("b"), step("c")
CHANGED = step("a", retries=1)


@pytest.mark.parametrize("done", ["Completed", "Skipped"])
@pytest.mark.parametrize(
    "steps",
    [[CHANGED, B], [B], [step("x"), B], [{"name": "a", "action": {"title": "t"}}, B]],
    ids=["changed", "removed", "renamed", "another kind"],
)
def test_a_step_that_is_done_is_locked(api: Api, done: str, steps: list[dict[str, Any]]) -> None:
    api.create(job(A, B)).ok()
    api.patch(JOB, "j", state(("a", done), ("b", "Failed")), "status").ok()
    refused(api.patch(JOB, "j", {"spec": {"steps": steps}}), "step a of spec.steps is done and locked")
    refused(api.patch(JOB, "j", {"spec": {"steps": steps}}, **OPERATOR), "step a of spec.steps")


@pytest.mark.parametrize("left", ["Pending", "ActionRequired", "Failed"])
def test_other_steps_may_change(api: Api, left: str) -> None:
    api.create(job(A, B)).ok()
    api.patch(JOB, "j", state(("a", "Completed"), ("b", left)), "status").ok()
    api.patch(JOB, "j", {"spec": {"steps": [A, step("b", retries=2), C]}}).ok()
    api.patch(JOB, "j", {"spec": {"steps": [A, C]}}).ok()


def test_no_step_changes_while_the_job_runs(api: Api) -> None:
    api.create(job(A, B)).ok()
    api.patch(JOB, "j", state(("a", "Completed"), ("b", "InProgress"), phase="InProgress"), "status").ok()
    for steps in ([A, step("b", retries=2)], [A, B, C], [CHANGED, B], [A]):
        refused(api.patch(JOB, "j", {"spec": {"steps": steps}}), "can't change while the job is in progress")
    refused(api.patch(JOB, "j", {"spec": {"steps": [A]}}), "`mainstay pause job/j`")
    api.patch(JOB, "j", {"spec": {"inputs": {"x": 1}, "resumeNonce": 1, "state": "Suspended"}}).ok()
    api.patch(JOB, "j", {"status": {"phase": "Suspended"}}, "status").ok()
    api.patch(JOB, "j", {"spec": {"steps": [A, step("b", retries=2)]}}).ok()


# --- size: what admission grants is enough for the largest objects


SECRETS = [f"s{n}" for n in range(32)]
ALL_REFS = dict.fromkeys(SECRETS, REF)


def large_phases(count: int, tasks: int) -> list[tuple[str, list[dict[str, Any]]]]:
    return [
        (f"p{p}", [{"name": f"t{p}-{t}", **program(args=["x" * 40])} for t in range(tasks)])
        for p in range(count)
    ]


LARGE: dict[str, dict[str, Any]] = {
    "32 steps of one task": job(*(step(f"s{n}") for n in range(32))),
    "200 tasks in 32 steps": job(*(phases(f"s{n}", (f"p{n}", [{"name": f"t{n}-{t}", **program()} for t in range(6 + (n < 8))])) for n in range(32))),
    "16 phases": job(phases("s", *large_phases(16, 12))),
    "64 tasks in a phase": job(phases("s", *large_phases(3, 64))),
    "as many tasks as the schema lets, 1 MB": job(phases("s", *large_phases(16, 64)), phases("z", *((f"z{n}", t) for n, (_, t) in enumerate(large_phases(16, 64))))),
    "32 actions with 32 secrets each, all given": job(
        *(action(f"a{n}", *SECRETS) for n in range(32)), inputs={f"a{n}": ALL_REFS for n in range(32)}
    ),
    "inputs of 1 MB": job(*(action(f"a{n}", *SECRETS) for n in range(32)), inputs={f"i{n}": {"k": "x"} for n in range(50_000)}),
}  # fmt: skip
LARGE_BATCHES: dict[str, dict[str, Any]] = {
    "1000 jobs": batch(action("login", "password"), jobs=[{"name": f"j{n}", "inputs": {"login": {"password": REF}}} for n in range(1000)]),
    "1000 jobs, 32 actions with 32 secrets each": batch(
        *(action(f"a{n}", *SECRETS) for n in range(32)), jobs=[{"name": f"j{n}", "inputs": {"x": n}} for n in range(1000)]
    ),
    "1000 jobs that answer 4 actions": batch(
        *(action(f"a{n}", "x", "y") for n in range(4)),
        jobs=[{"name": f"j{n}", "inputs": {f"a{m}": {"x": REF, "y": REF} for m in range(4)}} for n in range(1000)],
    ),
    "15,000 references": batch(
        *(action(f"a{n}", *SECRETS[:16]) for n in range(32)),
        jobs=[{"name": f"j{n}", "inputs": {f"a{m}": dict.fromkeys(SECRETS[:16], REF) for m in range(32)}} for n in range(29)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LARGE)
def test_the_largest_jobs(api: Api, case: str) -> None:
    """Created, and then every step changed but one that is locked, under both policies and all rules."""
    document = LARGE[case]
    stored = api.create(document).ok()
    names = [s["name"] for s in document["spec"]["steps"]]
    api.patch(JOB, "j", state(*((n, "Completed") for n in names[:-1]), (names[-1], "Failed")), "status").ok()
    last = {**document["spec"]["steps"][-1], "title": "changed"}
    steps = [*document["spec"]["steps"][:-1], last]
    api.patch(JOB, "j", {"spec": {"steps": steps, "inputs": {"more": {"x": 1}}}}).ok()
    if len(names) > 1:
        bad = [{**document["spec"]["steps"][0], "title": "changed"}, *steps[1:]]
        refused(api.patch(JOB, "j", {"spec": {"steps": bad}}), f"step {names[0]} of spec.steps")
    assert len(stored["spec"]["steps"]) == len(names)


@pytest.mark.parametrize("case", LARGE_BATCHES)
def test_the_largest_batches(api: Api, case: str) -> None:
    document = LARGE_BATCHES[case]
    api.create(document, dry=True).ok()
    name = document["spec"]["template"]["steps"][-1]["name"]
    secret = document["spec"]["template"]["steps"][-1]["action"]["secretFields"][-1]
    jobs = [*document["spec"]["jobs"][:-1], {"name": "last", "inputs": {name: {secret: CANARY}}}]
    bad = {**document, "spec": {**document["spec"], "jobs": jobs}}
    refused(api.create(bad, dry=True), f"spec.jobs[last].inputs.{name}.{secret} is a secret")
