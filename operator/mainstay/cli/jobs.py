"""What a job is waiting for and what to say to it; following it until it stops by itself."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any

from mainstay.cli.cluster import Target
from mainstay.cli.console import fail, note, out
from mainstay.cli.names import Kind, Ref
from mainstay.cli.words import condition, one_line
from mainstay.core import reasons
from mainstay.shell.kube import JOBS, ApiError, Kube, Object, path

BATCH_LABEL = "mainstay.dev/batch"
FINAL = ("Completed", "PartiallyCompleted", "Failed", "Cancelled")
POLL_SECONDS = 0.2
_SAME = re.compile(r"\bstep (\S+), phase \1, task \1:")
AT_ONCE = 16
"""Requests at once where a command is about many jobs."""


def status_of(obj: Object) -> dict[str, Any]:
    """Its status; empty before the operator has seen it."""
    return obj.get("status") or {}


def phase_of(obj: Object) -> str:
    """Where it is, in one word."""
    if obj["metadata"].get("deletionTimestamp"):
        return "Deleting"
    return str(status_of(obj).get("phase") or "Pending")


def is_over(obj: Object) -> bool:
    """It never moves again."""
    return status_of(obj).get("phase") in FINAL


def asks(obj: Object) -> list[dict[str, Any]]:
    """The user actions it waits for."""
    return list(status_of(obj).get("actions") or [])


def waits(obj: Object) -> bool:
    """It stands still for an answer, and nothing else: no wrong one is there."""
    if condition(obj, "InputsValid").get("reason") == reasons.INPUT_INVALID:
        return False
    return phase_of(obj) == "ActionRequired" and bool(asks(obj)) and not status_of(obj).get("resumable")


def batch_of(obj: Object) -> str | None:
    """The batch it belongs to."""
    owners = obj["metadata"].get("ownerReferences") or []
    return next((o["name"] for o in owners if o.get("kind") == "JobBatch"), None)


def declared_wrongly(obj: Object) -> bool:
    """Its spec has a mistake: it goes on by itself when that is corrected."""
    stalled = condition(obj, "Stalled")
    return stalled.get("status") == "True" and stalled.get("reason") == reasons.SPEC_INVALID


def edit_command(target: Target, obj: Object) -> str:
    """What opens a job's spec in an editor."""
    place = f" -n {target.namespace}" if target.namespace != "default" else ""
    return f"kubectl edit pjob {obj['metadata']['name']}{place}"


def next_commands(target: Target, obj: Object) -> list[str]:
    """What a person has to do for it to go on, as commands; none while it needs nobody."""
    name, seen = f"job/{obj['metadata']['name']}", status_of(obj)
    if phase_of(obj) in ("Deleting", *FINAL):
        return []
    if declared_wrongly(obj):
        return [edit_command(target, obj)]
    if phase_of(obj) in ("InProgress", "Pending"):
        return []
    batch = batch_of(obj)
    if phase_of(obj) == "Suspended" and batch is not None:
        return [target.say(f"start batch/{batch}")]
    commands = [target.say(f"input {name} {action['name']} -f values.yaml") for action in asks(obj)]
    if seen.get("resumable"):
        commands.append(target.say(f"resume {name}"))
    elif phase_of(obj) == "Suspended":
        commands.append(target.say(f"start {name}"))
    return commands


def trouble(obj: Object) -> str:
    """What is wrong with it, in one line; empty when nothing is."""
    return _once(_trouble(obj))


def _once(words: str) -> str:
    """A step of one task is named once."""
    return _SAME.sub(r"step \1:", words)


def _trouble(obj: Object) -> str:
    stalled, inputs = condition(obj, "Stalled"), condition(obj, "InputsValid")
    if inputs.get("reason") == reasons.INPUT_INVALID:
        return one_line(f"{inputs['reason']}: {inputs['message']}")
    if stalled.get("status") == "True":
        return one_line(f"{stalled['reason']}: {stalled.get('message', '')}")
    ready = condition(obj, "Ready")
    quiet = (reasons.IN_PROGRESS, reasons.COMPLETED, "")
    if ready.get("reason", "") in quiet and not ready.get("message", "").startswith("every step is done; "):
        return ""
    return one_line(f"{ready['reason']}: {ready.get('message', '')}")


def no_resume(target: Target, obj: Object) -> str | None:
    """Why it can't be resumed, as a sentence with a way out; None if it can."""
    name, seen, phase = f"job/{obj['metadata']['name']}", status_of(obj), phase_of(obj)
    match phase:
        case "Deleting":
            return f"{name} is being deleted"
        case "Completed":
            failed = ", ".join(_failed_tasks(obj))
            words = f"; {failed} failed without blocking, and `resume --tasks` runs such a task again only before the job ends"
            return f"{name} is completed" + (words if failed else "; nothing is left to do")
        case "Failed":
            why = (seen.get("lastFailure") or {}).get("message", "")
            return f"{name} failed for good, as its spec.onFailure: Fail asks ({one_line(why)[:200]}); create another job"
        case "Cancelled":
            return f"{name} is cancelled for good; create another job"
        case "PartiallyCompleted":
            return f"{name} is over; nothing is left to do"
    state = obj["spec"].get("state") or "Running"
    if state == "Cancelled":
        return f"{name} is being cancelled"
    if state == "Suspended" or phase == "Suspended":  # asked for, and reached or not yet
        batch = batch_of(obj)
        if batch is not None and state == "Suspended":
            return f"{name} is suspended with its batch; `{target.say(f'start batch/{batch}')}` lets it go on"
        return None
    if declared_wrongly(obj):
        why = one_line(condition(obj, "Stalled").get("message", ""))
        return f"{name} has a mistake in its spec, and goes on by itself when that is corrected: {why}"
    if seen.get("resumable"):
        return None
    if phase == "ActionRequired" and asks(obj):
        first = asks(obj)[0]
        answer = target.say(f"input {name} {first['name']} -f values.yaml")
        return f"{name} did not fail, it waits for input {first['name']} ({first['title']}):\n  {answer}"
    if phase == "InProgress":
        at = seen.get("currentStep")
        told = f" on step {at}" if at else ""
        return (
            f"{name} is in progress{told} ({seen.get('progress', '')} tasks done); there is nothing to resume"
        )
    if phase == "Pending":
        return f"{name} has not begun yet; it starts by itself"
    return f"{name} is {phase} and can't be resumed: {trouble(obj)}"


def _failed_tasks(obj: Object) -> list[str]:
    steps = status_of(obj).get("steps") or []
    tasks = [
        task for step in steps for phase in step.get("phases") or [] for task in phase.get("tasks") or []
    ]
    return [task["name"] for task in tasks if task["state"] == "Failed"]


def ends(target: Target, obj: Object) -> str:
    """Why it stands still, with what to do."""
    one = f"job/{obj['metadata']['name']}"
    lines = [f"{one} is {phase_of(obj)}: {trouble(obj)}"]
    if waits(obj):
        lines = [f"{one} waits for input {a['name']}: {a['title']}" for a in asks(obj)]
    failure = status_of(obj).get("lastFailure")
    if failure and (status_of(obj).get("resumable") or phase_of(obj) == "Failed"):
        lines.append("  " + target.say(f"logs job/{obj['metadata']['name']} {failure['task']}"))
    lines += [f"  {command}" for command in next_commands(target, obj)]
    return "\n".join(lines)


# -- following


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of a job: what its status must have taken in before it counts as an answer."""

    name: str
    uid: str
    generation: int
    nonce: int = 0

    @classmethod
    def of(cls, obj: Object) -> Asked:
        """From the answer to a write."""
        meta = obj["metadata"]
        return cls(meta["name"], meta["uid"], meta["generation"], int(obj["spec"].get("resumeNonce") or 0))

    def taken_in(self, obj: Object) -> bool:
        """The operator has seen it."""
        seen = status_of(obj)
        handled = seen.get("handledResumeNonce")
        waits = obj["spec"].get("state") in ("Suspended", "Cancelled")  # a nonce is kept meanwhile
        return int(seen.get("observedGeneration") or 0) >= self.generation and (
            waits or (handled is not None and int(handled) >= self.nonce)
        )


async def follow(
    kube: Kube,
    target: Target,
    asked: Asked,
    timeout: float | None,
    *,
    until: str = "Completed",
    questions: bool = False,
) -> str | None:
    """Tell how the job goes until it stands still. None if that is at `until`; otherwise why, with what to do.

    With `questions` the next question is an end like another.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    said = ""
    while True:
        obj = await kube.get(path(JOBS, target.namespace, asked.name))
        if obj is None or obj["metadata"]["uid"] != asked.uid:
            return f"job/{asked.name} was deleted"
        phase = phase_of(obj)
        if asked.taken_in(obj):
            if phase == until:
                out.print(f"{Ref(Kind.JOB, asked.name).told} is {phase}")
                return None
            if questions and waits(obj):
                note(ends(target, obj))
                return None
            if _stands(obj) and not _leaving(obj, until):
                return ends(target, obj)
            words = _progress(obj)
            if words != said:
                said = words
                note(f"{asked.name}: {words}")
        if deadline is not None and time.monotonic() > deadline:
            return (
                f"job/{asked.name} is {phase} after {timeout:.0f} s: {said or trouble(obj) or 'the operator has not seen the change'}\n"
                f"  {target.say(f'status job/{asked.name}')}"
            )
        await asyncio.sleep(POLL_SECONDS)


def _stands(obj: Object) -> bool:
    """It goes no further by itself; one that has not begun, when its spec has a mistake."""
    phase = phase_of(obj)
    return phase not in ("InProgress", "Pending", "Deleting") or (
        phase == "Pending" and condition(obj, "Stalled").get("status") == "True"
    )


def _leaving(obj: Object, until: str) -> bool:
    """On the way to Cancelled it may stay in any phase for as long as something runs."""
    return until == "Cancelled" and not is_over(obj)


def _progress(obj: Object) -> str:
    seen = status_of(obj)
    if seen.get("phase") == "Pending":
        return one_line(f"Pending: {condition(obj, 'Ready').get('message') or 'not begun'}")
    where = [seen.get("currentStep"), seen.get("currentPhase")]
    place = " / ".join(dict.fromkeys(part for part in where if part))
    busy = [
        f"{t['name']}{'' if t['state'] in ('Starting', 'Running') else ' ' + t['state']}"
        for step in seen.get("steps") or []
        for phase in step.get("phases") or []
        for t in phase.get("tasks") or []
        if t["state"] in ("Starting", "Running", "Retrying", "Stopping")
    ]
    ready = condition(obj, "Ready")
    words = f"{seen.get('progress', '')} tasks, on {place}" + (f": {', '.join(busy)}" if busy else "")
    if condition(obj, "Stalled").get("status") == "True":
        words += one_line(f"; {ready.get('reason')}: {ready.get('message', '')}")
    return words


async def follow_all(
    kube: Kube,
    target: Target,
    asked: list[Asked],
    timeout: float | None,
    *,
    until: str = "Completed",
    questions: bool = False,
) -> None:
    """Follow them at once; ends the command if one does not come to `until`."""
    told = await asyncio.gather(
        *(follow(kube, target, one, timeout, until=until, questions=questions) for one in asked)
    )
    if problems := [words for words in told if words is not None]:
        fail("\n".join(problems))


# -- jobs of a batch


async def jobs_of(kube: Kube, target: Target, batch: Object) -> dict[str, Object]:
    """Jobs of a batch by their name within it."""
    meta = batch["metadata"]
    found = {}
    query = {"labelSelector": f"{BATCH_LABEL}={meta['name']}"}
    async for page in kube.pages(path(JOBS, target.namespace), query):
        for job in page["items"]:
            if any(o["uid"] == meta["uid"] for o in job["metadata"].get("ownerReferences") or []):
                found[job["metadata"]["name"].removeprefix(f"{meta['name']}-")] = job
    return found


async def change(kube: Kube, target: Target, name: str, spec: dict[str, Any]) -> Object | ApiError:
    """Merge fields into a job's spec; a refusal is returned."""
    try:
        return await kube.patch(path(JOBS, target.namespace, name), {"spec": spec})
    except ApiError as error:
        return error
