"""`mainstay status job/NAME` and `batch/NAME`: everything about one, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from mainstay.cli.answer import listed
from mainstay.cli.cluster import Target
from mainstay.cli.console import Rows, out, show, table
from mainstay.cli.jobs import (
    asks,
    batch_of,
    declared_wrongly,
    edit_command,
    next_commands,
    phase_of,
    status_of,
    trouble,
)
from mainstay.cli.words import age, condition, one_line, took
from mainstay.shell.kube import Object

MARKS = {
    "Completed": ("✓", "green"),
    "Failed": ("✗", "red"),
    "Cancelled": ("✗", "red"),
    "Skipped": ("-", "dim"),
    "ActionRequired": ("!", "yellow"),
    "PartiallyCompleted": ("!", "yellow"),
    "Retrying": ("↻", "yellow"),
    "Suspended": ("‖", "yellow"),
    "Pending": ("·", "dim"),
}
BUSY = ("▸", "cyan")
INDENT = "  "


def mark(state: str, name: str, depth: int = 0) -> Text:
    """A name with the sign of its state before it."""
    sign, style = MARKS.get(state, BUSY)
    return Text(INDENT * depth) + Text(f"{sign} ", style=style) + Text(name)


def coloured(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=MARKS.get(state, BUSY)[1])


def show_job(target: Target, job: Object, assets: Rows) -> None:
    """Print a job's assets, its steps, phases and tasks, what stopped it and how it goes on."""
    seen, meta = status_of(job), job["metadata"]
    name = f"job/{meta['name']}"
    facts = [name if target.namespace == "default" else f"{target.namespace} {name}", phase_of(job)]
    if seen.get("progress"):
        facts.append(f"{seen['progress']} tasks")
    if seen.get("resumes"):
        facts.append(f"resumed {seen['resumes']}x")
    facts.append(f"age {age(meta['creationTimestamp'])}")
    if (batch := batch_of(job)) is not None:
        facts.append(f"of batch/{batch}")
    if (job["spec"].get("owner") or {}).get("userId"):
        facts.append(f"owner {job['spec']['owner']['userId']}")
    out.print(Text("   ".join(facts), style="bold"))
    last = seen.get("lastFailure") if seen.get("resumable") or phase_of(job) == "Failed" else None
    words = trouble(job)
    if words and not (
        last and one_line(last["message"]) in words
    ):  # a failure is told below, with what to do
        out.print(Text(words))
    if assets.rows:
        out.print()
        show(assets)
    out.print()
    show(_tree(job))
    _tell_next(target, job)


def _tree(job: Object) -> Rows:
    made = table("STEP", "STATE", "ATTEMPT", "TOOK", "MESSAGE")
    for depth, part, attempt in _parts(job):
        words = one_line(str(part.get("message") or ""))
        made.add_row(
            mark(part["state"], part["name"], depth), coloured(part["state"]), attempt, took(part), words
        )
    return made


def _parts(job: Object) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(depth, step or phase or task, attempt); a step of one task is one line."""
    for step in status_of(job).get("steps") or []:
        phases = step.get("phases") or []
        if len(phases) == 1 and phases[0]["name"] == step["name"]:
            (task,) = phases[0].get("tasks") or [{}]
            if task.get("state", step["state"]) not in ("Pending", "Skipped"):
                yield 0, {**step, **{k: v for k, v in task.items() if v}}, _attempt(task)
            else:
                yield 0, step, ""
            continue
        yield 0, step, ""
        for phase in phases:
            yield 1, {**phase, "message": phase.get("message") if phase["state"] != "Failed" else ""}, ""
            for task in phase.get("tasks") or []:
                yield 2, task, _attempt(task)


def _attempt(task: dict[str, Any]) -> str:
    return str(task["attempt"]) if task.get("attempt") else ""


def _tell_next(target: Target, job: Object) -> None:
    """What a person has to do, with the exact commands."""
    seen, name = status_of(job), f"job/{job['metadata']['name']}"
    stands = phase_of(job) in ("ActionRequired", "Suspended")
    if asks(job) and stands:
        out.print()
        out.print(listed(target, job), markup=False)
    failure = seen.get("lastFailure")
    if failure and (seen.get("resumable") or phase_of(job) == "Failed"):
        out.print()
        where = f"task {failure['task']} of step {failure['step']}, phase {failure['phase']}"
        if failure["task"] == failure["step"] == failure["phase"]:
            where = f"step {failure['step']}"
        out.print(f"last failure, {age(failure['time'])} ago: {where}", markup=False)
        out.print(f"  {failure['reason']}: {one_line(failure['message'])}", markup=False)
        out.print(f"  {target.say(f'logs {name} ' + failure['task'])}", markup=False)
    commands = next_commands(target, job)
    if declared_wrongly(job) and commands:
        out.print()
        out.print(f"{commands[-1]}   # it goes on by itself when its spec is corrected", markup=False)
    elif seen.get("resumable") and commands:
        again = ", ".join(seen.get("resumePlan") or [])
        words = f"# runs {again}; what is wrong with the step itself: {edit_command(target, job)} first"
        out.print(f"  {commands[-1]}   {words}", markup=False)
    elif stands and not asks(job) and commands:
        out.print()
        out.print("\n".join(commands), markup=False)


def show_batch(target: Target, batch: Object, jobs: dict[str, Object]) -> None:
    """Print a batch and each of its jobs, those that need somebody first."""
    seen, meta = status_of(batch), batch["metadata"]
    facts = [f"batch/{meta['name']}", phase_of(batch), f"age {age(meta['creationTimestamp'])}"]
    owners = meta.get("ownerReferences") or []
    facts += [f"compensation of asset/{one['name']}" for one in owners if one["kind"] == "Asset"]
    out.print(Text("   ".join(facts), style="bold"))
    if words := condition(batch, "Ready").get("message"):
        out.print(Text(one_line(words)))
    out.print()
    if jobs:
        show(jobs_table(target, list(jobs.values()), namespaces=False))
    missing = [job["name"] for job in batch["spec"]["jobs"] if job["name"] not in jobs]
    gone = [name for name in missing if name in (seen.get("created") or [])]
    waiting = len(missing) - len(gone)
    if waiting:
        out.print(f"{waiting} not made yet" if jobs else f"none of its {waiting} jobs is made yet")
    if gone:
        out.print(f"{len(gone)} deleted by hand, and not made again: {', '.join(gone[:20])}")
    if phase_of(batch) == "Suspended":
        out.print()
        out.print(target.say(f"start batch/{meta['name']}"), markup=False)
    elif resumable := [name for name, job in jobs.items() if status_of(job).get("resumable")]:
        some = f" --jobs {resumable[0]}" if len(resumable) > 1 else ""
        out.print()
        out.print(f"{target.say('resume batch/' + meta['name'])}   # {len(resumable)} can be resumed"
                  + (f"; one of them with{some}" if some else ""), markup=False)  # fmt: skip


def needs_someone(job: Object) -> bool:
    """It goes no further by itself."""
    return phase_of(job) in ("ActionRequired", "Failed") or (
        condition(job, "Stalled").get("status") == "True"
    )


def jobs_table(target: Target, jobs: list[Object], *, namespaces: bool = True) -> Rows:
    """Return jobs as a table, those that need somebody first."""
    heads = ("JOB", "STATE", "STEP", "PHASE", "TASKS", "AGE", "NEXT", "MESSAGE")
    made = table(*(("NAMESPACE", *heads) if namespaces else heads))
    for job in sorted(jobs, key=lambda j: (not needs_someone(j), *_key(j))):
        seen, meta = status_of(job), job["metadata"]
        here = Target(target.home, meta["namespace"]) if namespaces else target
        commands = next_commands(here, job)
        row = (
            meta["name"],
            coloured(phase_of(job)),
            seen.get("currentStep") or "",
            (seen.get("currentPhase") or "") if seen.get("currentPhase") != seen.get("currentStep") else "",
            seen.get("progress") or "",
            age(meta["creationTimestamp"]),
            commands[0] if commands else "",
            trouble(job),
        )
        made.add_row(*((meta["namespace"], *row) if namespaces else row))
    return here_alone(target, made, jobs)


def batches_table(target: Target, batches: list[Object]) -> Rows:
    """Return batches as a table, those that need somebody first."""
    made = table(
        "NAMESPACE", "BATCH", "STATE", "DONE", "RUNNING", "ACTION", "FAILED", "AGE", "NEXT", "MESSAGE"
    )
    for batch in sorted(batches, key=lambda b: (not needs_someone(b), *_key(b))):
        seen, meta = status_of(batch), batch["metadata"]
        counts = seen.get("counts") or {}
        here = Target(target.home, meta["namespace"])
        stuck = int(counts.get("actionRequired") or 0) > 0
        made.add_row(
            meta["namespace"],
            meta["name"],
            coloured(phase_of(batch)),
            seen.get("progress") or "",
            str(counts.get("inProgress", "")),
            str(counts.get("actionRequired", "")),
            str(counts.get("failed", "")),
            age(meta["creationTimestamp"]),
            here.say(f"status batch/{meta['name']}") if stuck else "",
            trouble(batch),
        )
    return here_alone(target, made, batches)


def here_alone(target: Target, made: Rows, objects: Sequence[Object]) -> Rows:
    """The table without its namespaces, where all are the one that was asked for."""
    places = {obj["metadata"]["namespace"] for obj in objects}
    return made if places - {target.namespace} else made.without("NAMESPACE")


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def summary(obj: Object) -> dict[str, Any]:
    """A job or batch for -o json."""
    seen, meta = status_of(obj), obj["metadata"]
    told = {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "state": phase_of(obj),
        "progress": seen.get("progress", ""),
        "ready": condition(obj, "Ready").get("status", "Unknown"),
        "reason": condition(obj, "Ready").get("reason", ""),
        "message": condition(obj, "Ready").get("message", ""),
        "created": meta["creationTimestamp"],
    }
    if obj["spec"].get("steps"):
        told |= {
            "step": seen.get("currentStep"),
            "phase": seen.get("currentPhase"),
            "resumable": seen.get("resumable", False),
            "waitsFor": [action["name"] for action in asks(obj)],
            "assets": obj["spec"].get("assets") or [],
            "batch": batch_of(obj),
        }
    else:
        told["counts"] = seen.get("counts") or {}
    return told
