"""`mainstay resume`: paused runs go on; failed jobs go on after what is completed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Optional

import typer

from mainstay.cli.cluster import Target, call, get
from mainstay.cli.console import fail, misuse, note, out
from mainstay.cli.jobs import (
    AT_ONCE,
    Asked,
    asks,
    batch_of,
    change,
    follow_all,
    jobs_of,
    no_resume,
    phase_of,
)
from mainstay.cli.meant import meant
from mainstay.cli.names import Kind, Ref, refs
from mainstay.cli.options import (
    ContextOption,
    DryRunOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    NoTimeoutOption,
    target_of,
)
from mainstay.cli.verbs import refuse_held, set_state
from mainstay.shell.kube import BATCHES, ApiError, Kube, Object, path

RUN_SECONDS = 60.0
_DONE = ("Completed", "Skipped")


def resume(
    names: Annotated[
        list[str], typer.Argument(help="Runs by name; job/NAME, batch/NAME.", metavar="NAME...")
    ],
    tasks: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Option(
            "--tasks",
            help="Failed non-blocking tasks of completed phases that run again too, as a,b (one job).",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--jobs", help="Jobs of the batch, as a,b. Default: all resumable ones.", show_default=False
        ),
    ] = None,
    namespace: NamespaceOption = "default",
    wait: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--wait/--no-wait",
            help="Wait until the run is as asked, the job completed. Default: runs are waited for, jobs go on in the "
            "background.",
            show_default=False,
        ),
    ] = None,
    timeout: NoTimeoutOption = None,
    dry_run: DryRunOption = False,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Resume paused or stopped runs under the same run id, and failed jobs after what they completed.

    A job (raises spec.resumeNonce) repeats nothing that is completed; --dry-run tells what would run again.
    """
    target = target_of(home, namespace, kubeconfig, context)
    if (tasks, jobs) != (None, None) and all("/" in name for name in names):
        _options_fit(_by_kind(refs(names)), tasks, jobs)  # it can be told without asking
    found = meant(target, names, "resume")
    by_kind = _by_kind([one.ref for one in found])
    _options_fit(by_kind, tasks, jobs)
    refuse_held(target, found)
    for one in found:
        if one.ref.kind is Kind.JOB and (why := no_resume(target, one.obj)) is not None:
            fail(why)
    if bots := [one.name for one in by_kind[Kind.RUN]]:
        seconds = RUN_SECONDS if timeout is None else timeout
        set_state(target, bots, "Running", wait is not False, seconds, dry_run)
    if by_kind[Kind.JOB] or by_kind[Kind.BATCH]:
        call(
            target,
            lambda kube: _resume(
                kube, target, by_kind, _list(tasks), _list(jobs), bool(wait), timeout, dry_run
            ),
        )


def _by_kind(wanted: list[Ref]) -> dict[Kind, list[Ref]]:
    return {kind: [one for one in wanted if one.kind is kind] for kind in Kind}


def _options_fit(by_kind: dict[Kind, list[Ref]], tasks: str | None, jobs: str | None) -> None:
    if tasks is not None and (len(by_kind[Kind.JOB]) != 1 or by_kind[Kind.BATCH]):
        misuse("--tasks goes with one job, as in: mainstay resume job/NAME --tasks a,b")
    if jobs is not None and (len(by_kind[Kind.BATCH]) != 1 or by_kind[Kind.JOB]):
        misuse("--jobs goes with one batch, as in: mainstay resume batch/NAME --jobs a,b")


def _list(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


async def _resume(
    kube: Kube,
    target: Target,
    by_kind: dict[Kind, list[Ref]],
    tasks: list[str],
    chosen: list[str],
    wait: bool,
    timeout: float | None,
    dry_run: bool,
) -> None:
    asked: list[Asked] = []
    for one in by_kind[Kind.JOB]:
        job = await get(kube, target, one)
        if (why := no_resume(target, job)) is not None:
            fail(why)
        if dry_run:
            _tell_plan(target, job, tasks)
        else:
            asked.append(await _resume_job(kube, target, job, tasks))
    for one in by_kind[Kind.BATCH]:
        asked += await _resume_batch(kube, target, await get(kube, target, one), chosen, dry_run)
    if wait and asked:
        await follow_all(kube, target, asked, timeout, questions=not by_kind[Kind.JOB])


def _request(job: Object, tasks: list[str]) -> dict[str, Any]:
    """The change of spec that resumes it."""
    spec, seen = job["spec"], job.get("status") or {}
    change: dict[str, Any] = {}
    if (spec.get("state") or "Running") == "Suspended" and batch_of(job) is None:
        change["state"] = "Running"
    if seen.get("resumable"):
        known = int(spec.get("resumeNonce") or 0), int(seen.get("handledResumeNonce") or 0)
        change["resumeNonce"] = max(known) + 1
        if tasks or spec.get("resumeTasks"):
            change["resumeTasks"] = tasks or None  # those of an earlier resume are not meant
    return change


async def _resume_job(kube: Kube, target: Target, job: Object, tasks: list[str]) -> Asked:
    if tasks:
        _plan(job, tasks)
    answer = await change(kube, target, job["metadata"]["name"], _request(job, tasks))
    if isinstance(answer, ApiError):
        raise answer
    out.print(_told(job))
    return Asked.of(answer)


def _told(job: Object) -> str:
    seen = job.get("status") or {}
    name = Ref(Kind.JOB, job["metadata"]["name"]).told
    if not seen.get("resumable"):
        return f"{name} state: Running"
    after = seen.get("lastCompletedPhase")
    return f"{name} resumed " + (f"after phase {after}" if after else "from its beginning")


# -- what it would do


def _plan(job: Object, tasks: list[str]) -> tuple[str, ...]:
    """Names of tasks that run again, or are decided upon anew, in order: what the operator itself would do."""
    from pydantic import ValidationError

    from mainstay.api.phasedjob import PhasedJob, TaskState
    from mainstay.core.job.draft import Draft
    from mainstay.core.job.graph import Graph
    from mainstay.core.job.resume import reset
    from mainstay.core.job.snapshot import JobSnapshot

    try:
        parsed = PhasedJob.model_validate(job)
    except ValidationError as error:
        fail(f"job/{job['metadata']['name']} can't be read: {error.errors()[0]['msg']}")
    parsed = parsed.model_copy(update={"spec": parsed.spec.model_copy(update={"resume_tasks": tasks})})
    draft = Draft(JobSnapshot(job=parsed, graph=Graph.of(parsed.spec), now=datetime.now(UTC)))
    before = {name: task.state for name, task in draft.tasks.items()}
    plan = reset(draft)
    for name in tasks:
        if name not in before:
            fail(f"--tasks {name}: no task of this job; it has: {', '.join(before)}")
        if name not in plan:
            why = {
                TaskState.COMPLETED: "it is completed, and never runs again",
                TaskState.FAILED: "its step is done, and locked",
            }.get(before[name], f"it is {before[name]}, and did not fail")
            fail(f"--tasks {name}: {why}")
    return plan


def _tell_plan(target: Target, job: Object, tasks: list[str]) -> None:
    """Print what a resume would do, by step and phase."""
    seen, name = job.get("status") or {}, job["metadata"]["name"]
    if not seen.get("resumable"):
        out.print(f"job/{name} is suspended and did not fail; resume lets it go on (spec.state: Running)")
        return
    plan = set(_plan(job, tasks))
    after = seen.get("lastCompletedPhase")
    out.print(f"job/{name} would go on " + (f"after phase {after}" if after else "from its beginning"))
    again: list[str] = []
    kept: list[str] = []
    left: list[str] = []
    for step in seen.get("steps") or []:
        locked = step["state"] in _DONE
        if not step.get("phases"):
            (kept if locked else again).append(f"{step['name']}: {_action(job, step)}")
        for phase in step.get("phases") or []:
            place = step["name"] if phase["name"] == step["name"] else f"{step['name']} / {phase['name']}"
            parts = phase["tasks"]
            if some := [_task(t) for t in parts if t["name"] in plan]:
                again.append(some[0] if place == parts[0]["name"] else f"{place}: {', '.join(some)}")
            done = [t for t in parts if t["name"] not in plan and t["state"] in (*_DONE, "ActionRequired")]
            if done:
                words = ", ".join(t["name"] + _aside(t) for t in done)
                words = words if place == words else f"{place}: {words}"
                kept.append(words + (" (step locked)" if locked else ""))
            left += [
                t["name"] for t in parts if t["name"] not in plan and t["state"] == "Failed" and not locked
            ]
    _block("runs:", again)
    _block("stays as it is, and never runs again:", kept)
    if left:
        more = target.say(f"resume job/{name} --tasks {','.join(left)}")
        _block("failed without blocking, and is left alone:", [f"{', '.join(left)}   ({more} runs it too)"])


def _block(title: str, lines: list[str]) -> None:
    if lines:
        out.print(title)
        for line in lines:
            out.print(f"  {line}")


def _action(job: Object, step: dict[str, Any]) -> str:
    match step["state"]:
        case "Completed":
            return "answered (step locked)"
        case "Skipped":
            return "skipped (step locked)"
    return "answered in advance" if step["name"] in (job["spec"].get("inputs") or {}) else "asks a user"


def _task(task: dict[str, Any]) -> str:
    name = str(task["name"])
    tried = int(task.get("attempt") or 0)
    if task["state"] == "Failed":
        return f"{name} (failed, attempt {tried + 1} follows)"
    if task["state"] == "Skipped":
        return f"{name} (was skipped, decided anew)"
    return name


def _aside(task: dict[str, Any]) -> str:
    asides = {"Skipped": " (skipped)", "ActionRequired": " (waits for input)"}
    return asides.get(task["state"], "")


# -- batches


async def _resume_batch(
    kube: Kube, target: Target, batch: Object, chosen: list[str], dry_run: bool
) -> list[Asked]:
    """Resume the chosen jobs, or all that can be; a line for each."""
    name = batch["metadata"]["name"]
    jobs = await jobs_of(kube, target, batch)
    state = batch["spec"].get("state") or "Running"
    if state == "Cancelled":
        fail(f"batch/{name} is cancelled for good; create another one")
    if chosen:
        short = [word.rpartition("/")[2] for word in chosen]
        short = [word if word in jobs else word.removeprefix(f"{name}-") for word in short]
        if unknown := [word for word in short if word not in jobs]:
            there = ", ".join(list(jobs)[:20]) + (", ..." if len(jobs) > 20 else "")
            fail(f"batch/{name} has no job {', '.join(unknown)}; it has: {there or 'none yet'}")
        if state == "Suspended":
            fail(f"batch/{name} is suspended; `{target.say(f'start batch/{name}')}` first")
        picked = {word: jobs[word] for word in short}
    else:
        picked = {
            word: job
            for word, job in jobs.items()
            if (job.get("status") or {}).get("resumable") and phase_of(job) in ("ActionRequired", "Suspended")
        }
        if not picked and state != "Suspended":
            fail(_none_resumable(target, batch, jobs))
    if dry_run:
        _tell_plans(target, name, state, picked)
        return []
    if state == "Suspended":
        await kube.patch(path(BATCHES, target.namespace, name), {"spec": {"state": "Running"}})
        out.print(f"jobbatch/{name} state: Running")
    return await _resume_jobs(kube, target, picked)


def _tell_plans(target: Target, name: str, state: str, picked: dict[str, Object]) -> None:
    if state == "Suspended":
        out.print(f"batch/{name} is suspended; resume lets it go on (spec.state: Running)")
    for number, job in enumerate(picked.values()):
        if number:
            out.print()
        why = no_resume(target, job) if state != "Suspended" else None
        if why is not None:
            note(why)
        else:
            _tell_plan(target, job, [])


async def _resume_jobs(kube: Kube, target: Target, picked: dict[str, Object]) -> list[Asked]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(job: Object) -> Object | ApiError | str:
        seen = job.get("status") or {}
        if not seen.get("resumable"):
            return no_resume(target, job) or f"job/{job['metadata']['name']} did not fail"
        async with gate:
            return await change(kube, target, job["metadata"]["name"], _request(job, []))

    answers = await asyncio.gather(*(one(job) for job in picked.values()))
    asked, refused = [], []
    for job, answer in zip(picked.values(), answers, strict=True):
        if isinstance(answer, str):
            refused.append(answer)
        elif isinstance(answer, ApiError):
            refused.append(f"job/{job['metadata']['name']}: {answer.message}")
        else:
            out.print(_told(job))
            asked.append(Asked.of(answer))
    if refused:
        fail("\n".join(refused))
    return asked


def _none_resumable(target: Target, batch: Object, jobs: dict[str, Object]) -> str:
    """Why there is nothing to resume, with what is there instead."""
    name = batch["metadata"]["name"]
    words = f"no job of batch/{name} can be resumed: none of its {len(jobs)} jobs failed and is resumable"
    waiting = [job for job in jobs.values() if asks(job)]
    if waiting:
        many = "1 waits" if len(waiting) == 1 else f"{len(waiting)} wait"
        first = waiting[0]
        answer = target.say(f"input job/{first['metadata']['name']} {asks(first)[0]['name']} -f values.yaml")
        words += f"\n  {many} for input, for example: {answer}"
    return words + f"\n  {target.say(f'status batch/{name}')}"
