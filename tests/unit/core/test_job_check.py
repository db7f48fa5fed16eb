"""What is wrong with a declaration, with the place named."""

from __future__ import annotations

import pytest
from tests.sim.jobs.pure import Pure, one, phase, phases, task

from mainstay.core.job.check import problems
from mainstay.core.job.graph import Graph


def program(**fields):
    return {"program": {"command": ["x"], **fields}}


def env(*variables):
    return task("a", **program(env=list(variables)))


def step(name, *parts):
    return {"name": name, "phases": list(parts)}


SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}
MAP = {"configMapKeyRef": {"name": "c", "key": "k"}}
ACTION = {"name": "ask", "action": {"title": "x"}}
AT = "spec.steps[0].phases[0].tasks[0]"

CASES = {
    "two steps": (
        {"steps": [step("s", phase("p", "a")), step("s", phase("q", "b"))]},
        "spec.steps",
        "two steps",
    ),
    "two phases": (phases(phase("p", "a"), phase("p", "b")), "spec.steps", "two phases are called p"),
    "two tasks": (phases(phase("p", "a"), phase("q", "a")), "spec.steps", "two tasks are called a"),
    "a task of a step's name": (
        {"steps": [{"name": "a", "task": program()}, step("s", phase("p", "a"))]},
        "spec.steps",
        "two tasks are called a",
    ),
    "a task of an action's name": ({"steps": [ACTION, step("s", phase("p", "ask"))]}, "spec.steps", "ask"),
    "too many tasks": (
        phases(*(phase(f"p{i}", *(f"t{i}-{n}" for n in range(51))) for i in range(4))),
        "spec.steps",
        "204 tasks",
    ),
    "step's when": ({"steps": [{**step("s", phase("p", "a")), "when": "1 +"}]}, "spec.steps[0].when", "1 +"),
    "completeWhen": (
        phases(phase("p", "a", completeWhen="nope")),
        "spec.steps[0].phases[0].completeWhen",
        "nope",
    ),
    "when": (one(task("a", when="size(inputs)")), f"{AT}.when", "not a boolean"),
    "when of a step's task": (
        {"steps": [{"name": "a", "task": {**program(), "when": "x"}}]},
        "spec.steps[0].task.when",
        "x",
    ),
    "action's schema": (
        {"steps": [{"name": "ask", "action": {"title": "x", "schema": {"type": "nothing"}}}]},
        "spec.steps[0].action.schema",
        "schema",
    ),
    "action's schema from elsewhere": (
        {"steps": [{"name": "ask", "action": {"title": "x", "schema": {"$ref": "http://x/y"}}}]},
        "spec.steps[0].action.schema",
        "",
    ),
    "depends on nothing": (one(task("a", dependsOn=["b"])), f"{AT}.dependsOn", "b is no task"),
    "depends on a later phase": (
        phases(phase("p", task("a", dependsOn=["b"])), phase("q", "b")),
        f"{AT}.dependsOn",
        "b is of a later phase",
    ),
    "depends on itself": (one(task("a", dependsOn=["a"])), f"{AT}.dependsOn", "a → a"),
    "a cycle": (
        one("z", task("a", dependsOn=["b"]), task("b", dependsOn=["c"]), task("c", dependsOn=["a"])),
        "spec.steps[0].phases[0].tasks[1].dependsOn",
        "a → b → c → a",
    ),
    "argv": (one(task("a", **program(args=["x" * 65536] * 2))), f"{AT}.program.command", "131072"),
    "workingDir": (one(task("a", **program(workingDir="/a/../b"))), f"{AT}.program.workingDir", ".."),
    "our variable": (env({"name": "RUN_ID", "value": "1"}), f"{AT}.program.env[RUN_ID]", "set by Mainstay"),
    "our prefix": (env({"name": "MAINSTAY_X", "value": "1"}), f"{AT}.program.env[MAINSTAY_X]", "Mainstay"),
    "value and source": (
        env({"name": "A", "value": "1", "valueFrom": SECRET}),
        f"{AT}.program.env[A]",
        "value or valueFrom",
    ),
    "two sources": (
        env({"name": "A", "valueFrom": {**SECRET, **MAP}}),
        f"{AT}.program.env[A].valueFrom",
        "one",
    ),
    "no source": (env({"name": "A", "valueFrom": {}}), f"{AT}.program.env[A].valueFrom", "exactly one"),
    "a secret in argv": (
        one(task("a", **program(args=["$(A)"], env=[{"name": "A", "valueFrom": SECRET}]))),
        f"{AT}.program.args",
        "arguments are public",
    ),
    "a control port": (one(task("a", **program(args=["$(CONTROL_API_PORT)"]))), f"{AT}.program.args", "port"),
    "a step's task": (
        {"steps": [{"name": "a", "task": program(workingDir="..")}]},
        "spec.steps[0].task.program.workingDir",
        "..",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_is_named_with_its_place(case):
    spec, place, words = CASES[case]
    spec = spec if "steps" in spec else one(spec)
    world = Pure.of(spec)
    found = list(problems(world.job.spec, Graph.of(world.job.spec)))
    assert any(where == place and words in what for where, what in found), found


@pytest.mark.parametrize("case", CASES)
def test_starts_nothing_and_says_so(case):
    spec, *_ = CASES[case]
    world = Pure.of(spec if "steps" in spec else one(spec))
    world.settle()
    assert world.condition() == ("False", "SpecInvalid")
    assert world.condition("Stalled") == ("True", "SpecInvalid")
    assert str(world.job.status.phase) == "Pending"
    assert not world.executed


def test_nothing_is_wrong_with_the_registration_job():
    from tests.sim.jobs.sample import registration

    world = Pure.of(registration())
    assert list(problems(world.job.spec, world.graph)) == []


def test_dependencies_across_phases_and_steps():
    spec = {
        "steps": [
            {"name": "first", "task": program()},
            step("s", phase("p", "a"), phase("q", task("b", dependsOn=["a", "first"]))),
        ]
    }
    world = Pure.of(spec)
    assert list(problems(world.job.spec, world.graph)) == []
    world.run()
    assert [name for name, _ in world.executed] == ["first", "a", "b"]
