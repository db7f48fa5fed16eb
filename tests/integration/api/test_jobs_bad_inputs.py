"""Bad jobs: what admission refuses, with the field; what only the operator can see, as a condition that says where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.api.client import Api, action, batch, job, path, phases, program, step
from tests.support.plane import RealPlane
from tests.support.stage import Stage, staged

from mainstay.shell.kube import BATCHES, JOBS
from mainstay.shell.kube import path as url

S = "spec.steps[0]"
TASK = {"name": "t", **program()}


def tasks(*some: dict[str, Any]) -> dict[str, Any]:
    return phases("s", ("p", list(some)))


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    # names: each becomes a file's, and an identifier in expressions
    "step that climbs": (job(step("../x")), f"{S}.name", "should match"),
    "step with a slash": (job(step("a/b")), f"{S}.name", "should match"),
    "step with a dot": (job(step("a.b")), f"{S}.name", "should match"),
    "step with an underscore": (job(step("a_b")), f"{S}.name", "should match"),
    "step with a lookalike": (job(step("аccount")), f"{S}.name", "should match"),
    "step with a newline": (job(step("a\nb")), f"{S}.name", "should match"),
    "step with a NUL": (job(step("a\0")), f"{S}.name", "should match"),
    "step that begins with a digit": (job(step("1a")), f"{S}.name", "should match"),
    "step that ends with a dash": (job(step("a-")), f"{S}.name", "should match"),
    "step of 254": (job(step("a" * 254)), f"{S}.name", "may not be more than 63"),
    "step without a name": (job({"task": program()}), f"{S}.name", "Required value"),
    "phase that climbs": (job(phases("s", ("..", [TASK]))), f"{S}.phases[0].name", "should match"),
    "task that climbs": (job(tasks({**TASK, "name": "../t"})), f"{S}.phases[0].tasks[0].name", "should match"),
    "dependency that climbs": (
        job(tasks({**TASK, "dependsOn": ["../x"]})),
        f"{S}.phases[0].tasks[0].dependsOn[0]",
        "should match",
    ),
    "job of 254": (job(name="a" * 254), "metadata.name", "no more than 253"),
    "job of 64": (job(name="a" * 64), "metadata.name", "Too long"),
    "job that climbs": (job(name="../x"), "metadata.name", "RFC 1123"),
    "job in the batch that climbs": (batch(jobs=[{"name": "../x"}]), "spec.jobs[0].name", "should match"),
    "job in the batch of 41": (batch(jobs=[{"name": "a" * 41}]), "spec.jobs[0].name", "may not be more than 40"),
    "job in the batch in capitals": (batch(jobs=[{"name": "A"}]), "spec.jobs[0].name", "should match"),
    # the same name twice in one list
    "two steps of a name": (job(step("a"), step("a")), "spec.steps[1]", "Duplicate value"),
    "two phases of a name": (
        job(phases("s", ("p", [TASK]), ("p", [{**TASK, "name": "u"}]))),
        f"{S}.phases[1]",
        "Duplicate value",
    ),
    "two tasks of a name": (job(tasks(TASK, TASK)), f"{S}.phases[0].tasks[1]", "Duplicate value"),
    "two jobs of a name": (batch(jobs=[{"name": "x"}, {"name": "x"}]), "spec.jobs[1]", "Duplicate value"),
    # enums and their case
    "state running": (job(state="running"), "spec.state", "supported values"),
    "state Paused": (job(state="Paused"), "spec.state", "supported values"),
    "state of a batch in capitals": (batch(state="CANCELLED"), "spec.state", "supported values"),
    "onFailure fail": (job(onFailure="fail"), "spec.onFailure", "supported values"),
    "runtime Pod": (job(runtime="Pod"), "spec.runtime", "supported values"),
    # numbers
    "nonce -1": (job(resumeNonce=-1), "spec.resumeNonce", "greater than or equal to 0"),
    "nonce 2^63": (job(resumeNonce=2**63), "spec.resumeNonce", "must be of type integer"),
    "nonce as text": (job(resumeNonce="1"), "spec.resumeNonce", "must be of type integer"),
    "parallelism 0": (job(parallelism=0), "spec.parallelism", "greater than or equal to 1"),
    "parallelism 65": (job(parallelism=65), "spec.parallelism", "less than or equal to 64"),
    "parallelism of a batch 0": (batch(parallelism=0), "spec.parallelism", "greater than or equal to 1"),
    "retries -1": (job(step("a", retries=-1)), f"{S}.task.retries", "greater than or equal to 0"),
    "timeout 0": (job(step("a", timeoutSeconds=0)), f"{S}.task.timeoutSeconds", "greater than or equal to 1"),
    "timeout 1e300": (job(step("a", timeoutSeconds=1e300)), f"{S}.task.timeoutSeconds", "must be of type integer"),
    "backoff -1": (
        job(step("a", initialBackoffSeconds=-1)),
        f"{S}.task.initialBackoffSeconds",
        "greater than or equal to 0",
    ),
    # missing, empty, null and wrong types
    "no steps": (job() | {"spec": {}}, "spec.steps", "Required value"),
    "empty steps": (job() | {"spec": {"steps": []}}, "spec.steps", "at least 1 items"),
    "null step": (job(None), "spec.steps[0]", "must be of type object"),  # type: ignore[arg-type]
    "no phases": (job({"name": "s", "phases": []}), f"{S}.phases", "at least 1 items"),
    "no tasks": (job(phases("s", ("p", []))), f"{S}.phases[0].tasks", "at least 1 items"),
    "no program": (job({"name": "s", "task": {}}), f"{S}.task.program", "Required value"),
    "no command": (job({"name": "s", "task": {"program": {}}}), f"{S}.task.program.command", "Required value"),
    "action without a title": (job({"name": "s", "action": {}}), f"{S}.action.title", "Required value"),
    "inputs as a list": (job(inputs=[1]), "spec.inputs", "must be of type object"),
    "inputs as text": (job(inputs="x"), "spec.inputs", "must be of type object"),
    "schema as text": (job(action("a", schema="x")), f"{S}.action.schema", "must be of type object"),
    "empty expression": (job(step("a", when="")), f"{S}.task.when", "at least 1 chars"),
    "a batch of no jobs": (batch() | {"spec": {"template": {"steps": [step("a")]}, "jobs": []}}, "spec.jobs", "at least 1 items"),
    # size
    "10,000 steps": (job(*(step(f"s{n}") for n in range(10_000))), "spec.steps", "at most 32 items"),
    "10,000 tasks": (
        job(tasks(*({**TASK, "name": f"t{n}"} for n in range(10_000)))),
        f"{S}.phases[0].tasks",
        "at most 64 items",
    ),
    "10,000 phases": (
        job(phases("s", *((f"p{n}", [{**TASK, "name": f"t{n}"}]) for n in range(10_000)))),
        f"{S}.phases",
        "at most 16 items",
    ),
    "10,000 dependencies": (
        job(tasks({**TASK, "dependsOn": ["t"] * 10_000})),
        f"{S}.phases[0].tasks[0].dependsOn",
        "at most 64 items",
    ),
    "10,000 secret fields": (
        job(action("a", *(f"f{n}" for n in range(10_000)))),
        f"{S}.action.secretFields",
        "at most 32 items",
    ),
    "10,000 tasks to resume": (job(resumeTasks=["t"] * 10_000), "spec.resumeTasks", "at most 64 items"),
    "10,000 jobs": (batch(jobs=[{"name": f"j{n}"} for n in range(10_000)]), "spec.jobs", "at most 1000 items"),
    "an expression of 3 kB": (job(step("a", when="x" * 3000)), f"{S}.task.when", "may not be more than 2048"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(api: Api, case: str) -> None:
    document, field, text = REFUSED[case]
    api.create(document, dry=True).refuses(field, text)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (job(stpes=[]), "spec.stpes"),
        (job(step("a") | {"Task": {}}), "spec.steps[0].Task"),
        (job(step("a", retry=3)), "spec.steps[0].task.retry"),
        (job(action("a", secretfields=["x"])), "spec.steps[0].action.secretfields"),
        (job(tasks({**TASK, "dependson": ["x"]})), "spec.steps[0].phases[0].tasks[0].dependson"),
        (batch(job=[]), "spec.job"),
        (batch(jobs=[{"name": "x", "input": {}}]), "spec.jobs[0].input"),
        (batch({**step("a"), "completeWhen": "true"}), "spec.template.steps[0].completeWhen"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_unknown_fields(api: Api, document: dict[str, Any], field: str) -> None:
    answer = api.create(document, dry=True)
    assert answer.code == 400
    assert f'strict decoding error: unknown field "{field}"' in answer.message


def test_duplicate_keys(api: Api) -> None:
    text = json.dumps(job()).replace('"spec": {', '"spec": {"state": "Running", "state": "Suspended", ')
    answer = api.request("POST", path("PhasedJob"), text, dryRun="All", fieldValidation="Strict")
    assert answer.code == 400
    assert 'duplicate field "spec.state"' in answer.message


def test_an_object_of_1_6_mb(api: Api) -> None:
    answer = api.create(job(inputs={"x": "y" * 1_600_000}))
    assert answer.code in {413, 500}, answer.code
    assert "too large" in answer.message


# --- what only the operator sees


@pytest.fixture(scope="module")
def stage(plane: RealPlane, api: Api) -> Iterator[Stage]:  # noqa: ARG001
    """After `api`: its policies are in force here too."""
    with staged(plane) as one:
        yield one


def of(*names: str, **more: Any) -> list[dict[str, Any]]:
    """Tasks, each depending on the one before it, the first on the last."""
    around = [names[-1], *names[:-1]]
    return [{"name": n, "dependsOn": [d], **program(), **more} for n, d in zip(names, around, strict=True)]


SEEN: dict[str, tuple[dict[str, Any], str]] = {
    "a cycle of one": (job(tasks(*of("a"))), "a cycle: a → a"),
    "a cycle of three": (
        job(tasks(*of("a", "b", "c"))),
        "spec.steps[0].phases[0].tasks[0].dependsOn: a cycle: ",
    ),
    "a dependency that is nowhere": (
        job(tasks({**TASK, "dependsOn": ["x"]})),
        "tasks[0].dependsOn: x is no task",
    ),
    "a dependency of a later phase": (
        job(phases("s", ("p", [{**TASK, "dependsOn": ["u"]}]), ("q", [{**TASK, "name": "u"}]))),
        "tasks[0].dependsOn: u is of a later phase",
    ),
    "two tasks of a name in two phases": (
        job(phases("s", ("p", [TASK]), ("q", [TASK]))),
        "two tasks are called t",
    ),
    "two phases of a name in two steps": (
        job(phases("s", ("p", [TASK])), phases("z", ("p", [{**TASK, "name": "u"}]))),
        "two phases are called p",
    ),
    "a task of an action's name": (job(action("t"), tasks(TASK)), "a task and an action are both called t"),
    "201 tasks": (
        job(phases("s", *((f"p{p}", [{**TASK, "name": f"t{p}-{t}"} for t in range(51)]) for p in range(4)))),
        "204 tasks; a job has at most 200",
    ),
    "an expression that is none": (job(step("a", when="1 +")), "spec.steps[0].task.when: '1 +'"),
    "an expression of an unknown name": (job(step("a", when="system.exit")), "spec.steps[0].task.when"),
    "a schema that is none": (
        job(action("a", schema={"type": "nonsense"})),
        "spec.steps[0].action.schema",
    ),
    "a schema that fetches": (
        job(action("a", schema={"$ref": "http://127.0.0.1:1/x"})),
        "references to elsewhere are refused",
    ),
    "a variable that is ours": (
        job(step("a", **program(env=[{"name": "MAINSTAY_UNIT", "value": "x"}]))),
        "env[MAINSTAY_UNIT]: this variable is set by Mainstay",
    ),
    "a secret in the arguments": (
        job(
            step(
                "a",
                **program(
                    args=["$(KEY)"],
                    env=[{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                ),
            )
        ),
        "$(KEY) comes from a Secret, and arguments are public",
    ),
    "a directory that climbs": (
        job(step("a", **program(workingDir="../x"))),
        "workingDir: it must not contain",
    ),
    "argv of 200 kB": (job(step("a", **program(args=["x" * 50_000] * 4))), "longer than 131072"),
}


def put(stage: Stage, document: dict[str, Any], name: str) -> None:
    plural = JOBS if document["kind"] == "PhasedJob" else BATCHES
    body = {**document, "metadata": {"name": name, "namespace": stage.namespace}}
    stage.client.ok("POST", url(plural, stage.namespace), body)


def until(stage: Stage, name: str, is_so: Any, plural: str = JOBS) -> dict[str, Any]:
    from tests.support.stage import eventually

    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(stage.client.get(url(plural, stage.namespace, name)) or {})
        return bool(is_so(found))

    eventually(look, f"{name}: {found.get('status')}")
    return found


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), {})


@pytest.mark.parametrize("case", SEEN)
def test_the_operator_says_where(stage: Stage, case: str) -> None:
    """Nothing starts, the place is named, and a correction is all it needs."""
    document, words = SEEN[case]
    name = "bad-" + "".join(c if c.isalnum() else "-" for c in case.lower())
    put(stage, document, name)
    obj = until(stage, name, lambda o: condition(o, "Stalled").get("status") == "True")
    assert condition(obj, "Stalled")["reason"] == "SpecInvalid"
    assert words in condition(obj, "Stalled")["message"], condition(obj, "Stalled")["message"]
    states = [t["state"] for s in obj["status"]["steps"] for p in s.get("phases", []) for t in p["tasks"]]
    assert set(states) <= {"Pending"}
    right = {"spec": {"steps": [step("fine", **program(command=["true"]))]}}
    stage.client.merge(url(JOBS, stage.namespace, name), right)
    until(stage, name, lambda o: (o.get("status") or {}).get("phase") == "Completed")


def test_others_go_on_beside_a_bad_one(stage: Stage) -> None:
    put(stage, job(tasks(*of("a", "b"))), "cycle")
    put(stage, job(step("fine", **program(command=["true"]))), "beside")
    until(stage, "beside", lambda o: (o.get("status") or {}).get("phase") == "Completed")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"vat": "x"}, "spec.inputs.ask.vat"),
        ({"more": 1}, "spec.inputs.ask"),
        ("text", "spec.inputs.ask"),
        ([], "spec.inputs.ask"),
        ({"vat": None}, "spec.inputs.ask.vat"),
    ],
    ids=["pattern", "unknown", "text", "list", "null"],
)
def test_an_input_that_does_not_fit(stage: Stage, value: Any, words: str) -> None:
    schema = {
        "type": "object",
        "properties": {"vat": {"type": "string", "pattern": "^[A-Z]{2}$"}},
        "additionalProperties": False,
    }
    name = f"input-{abs(hash(str(value))) % 10**8}"
    put(stage, job(action("ask", schema=schema), inputs={"ask": value}), name)
    obj = until(stage, name, lambda o: condition(o, "InputsValid").get("reason") == "InputInvalid")
    assert words in condition(obj, "InputsValid")["message"]
    assert obj["status"]["phase"] == "ActionRequired"
    patch = {"spec": {"inputs": {"ask": {"vat": "DE", "more": None}}}}
    stage.client.merge(url(JOBS, stage.namespace, name), patch)
    until(stage, name, lambda o: o["status"]["phase"] == "Completed")
