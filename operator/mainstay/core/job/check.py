"""What is wrong with a job's declaration, with the place named. A job with a problem starts nothing.

Names across lists, cycles and expressions are beyond what a schema can say; and a few rules of programs, which
the schema of a StrategyRun has, would cost the API server more than it grants in lists within lists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mainstay.api.phasedjob import JOB_TASKS_MAX, JobTemplate, Task, UserAction
from mainstay.api.program import ARGV_MAX, RESERVED_ENV, RESERVED_ENV_PREFIX, Program
from mainstay.core.answers import SchemaError, check_schema
from mainstay.core.expand import referenced
from mainstay.core.expressions import ExpressionError, compiled, named_assets, unknown_fields
from mainstay.core.job.graph import Graph

Problem = tuple[str, str]
"""(place, what is wrong there)"""


def problems(spec: JobTemplate, graph: Graph) -> Iterator[Problem]:
    """Everything that is wrong, in the order of the declaration."""
    yield from _names(graph)
    if len(graph.tasks) > JOB_TASKS_MAX:
        yield "spec.steps", f"{len(graph.tasks)} tasks; a job has at most {JOB_TASKS_MAX}"
    yield from _assets(spec)
    assets = {claim.name for claim in spec.assets}
    known: set[str] = set()
    for index, step in enumerate(spec.steps):
        where = f"spec.steps[{index}]"
        yield from _expression(f"{where}.when", step.when, assets)
        if step.action is not None:
            yield from _action(f"{where}.action", step.action)
        for number, phase in enumerate(graph.phases[step.name]):
            inside = f"{where}.task" if step.task else f"{where}.phases[{number}]"
            yield from _expression(f"{inside}.completeWhen", phase.complete_when, assets)
            here = {task.name for task in phase.tasks}
            for position, task in enumerate(phase.tasks):
                place = inside if step.task else f"{inside}.tasks[{position}]"
                yield from _task(place, task, known | here, graph)
                yield from _expression(f"{place}.when", task.when, assets)
            known |= here
    if cycle := _cycle(graph):
        yield _place_of(spec, graph, cycle[0]), f"a cycle: {' → '.join(cycle)}"


def _names(graph: Graph) -> Iterator[Problem]:
    """Steps, phases and tasks are told apart by name alone, in status and in expressions."""
    for what, names in (
        ("step", [step.name for step in graph.steps]),
        ("phase", [phase.name for phases in graph.phases.values() for phase in phases]),
        ("task", [t.name for phases in graph.phases.values() for p in phases for t in p.tasks]),
    ):
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "spec.steps", f"two {what}s are called {name}"
    if both := sorted(graph.actions.keys() & graph.tasks.keys()):
        yield "spec.steps", f"a task and an action are both called {both[0]}; an input could belong to either"


def _task(place: str, task: Task, known: set[str], graph: Graph) -> Iterator[Problem]:
    for name in task.depends_on:
        if name not in known:
            later = name in graph.tasks
            why = "is of a later phase" if later else "is no task of this job"
            yield f"{place}.dependsOn", f"{name} {why}"
    yield from program_problems(f"{place}.program", task.program)


def program_problems(place: str, program: Program) -> Iterator[Problem]:
    """What the schema of a StrategyRun says in rules."""
    if sum(len(a) for a in (*program.command, *program.args)) > ARGV_MAX:
        yield f"{place}.command", f"command and args are longer than {ARGV_MAX} characters together"
    if ".." in (program.working_dir or "").split("/"):
        yield f"{place}.workingDir", "it must not contain a `..` segment"
    secret = set()
    for var in program.env:
        where = f"{place}.env[{var.name}]"
        if var.name in RESERVED_ENV or var.name.startswith(RESERVED_ENV_PREFIX):
            yield where, "this variable is set by Mainstay"
        if var.value is not None and var.value_from is not None:
            yield where, "set value or valueFrom, not both"
        if var.value_from is not None:
            given = [ref for ref in (var.value_from.secret_key_ref, var.value_from.config_map_key_ref) if ref]
            if len(given) != 1:
                yield f"{where}.valueFrom", "set exactly one of secretKeyRef and configMapKeyRef"
            if var.value_from.secret_key_ref:
                secret.add(var.name)
    used = referenced((*program.command, *program.args))
    if named := sorted(used & secret):
        yield (
            f"{place}.args",
            f"$({named[0]}) comes from a Secret, and arguments are public; read the environment",
        )
    if "CONTROL_API_PORT" in used:
        yield f"{place}.args", "a task has no control port"


def _action(place: str, action: UserAction) -> Iterator[Problem]:
    try:
        check_schema(action.json_schema)
    except SchemaError as error:
        yield f"{place}.schema", str(error)


def _assets(spec: JobTemplate) -> Iterator[Problem]:
    refs = [claim.ref for claim in spec.assets]
    for ref in sorted({ref for ref in refs if refs.count(ref) > 1}):
        yield "spec.assets", f"asset {ref} is named twice"


def _expression(place: str, expression: str | None, assets: Collection[str]) -> Iterator[Problem]:
    if expression is None:
        return
    try:
        compiled(expression)
    except ExpressionError as error:
        yield place, f"{expression!r}: {error}"
    else:
        for name in named_assets(expression):
            if name not in assets:
                yield place, f"{expression!r}: spec.assets has none that is called {name}"
        yield from ((place, f"{expression!r}: {what}") for what in unknown_fields(expression))


def _cycle(graph: Graph) -> list[str] | None:
    """One cycle, its first task repeated at the end."""
    state: dict[str, int] = {}  # 1: on the path, 2: done
    path: list[str] = []

    def visit(name: str) -> list[str] | None:
        state[name] = 1
        path.append(name)
        for after in graph.tasks[name].depends_on:
            if after not in graph.tasks:
                continue
            if state.get(after) == 1:
                return [*path[path.index(after) :], after]
            if after not in state and (found := visit(after)):
                return found
        path.pop()
        state[name] = 2
        return None

    return next((found for name in graph.tasks if name not in state and (found := visit(name))), None)


def _place_of(spec: JobTemplate, graph: Graph, task: str) -> str:
    where = graph.places[task]
    index = next(i for i, step in enumerate(spec.steps) if step.name == where.step)
    number = next(i for i, phase in enumerate(graph.phases[where.step]) if phase.name == where.phase)
    position = next(i for i, t in enumerate(graph.phases[where.step][number].tasks) if t.name == task)
    return f"spec.steps[{index}].phases[{number}].tasks[{position}].dependsOn"
