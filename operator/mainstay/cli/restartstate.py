"""What a StackRestart came to: its steps, its verification, and restarts as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from mainstay.cli.cluster import Target
from mainstay.cli.console import BELOW, Rows, out, show, table
from mainstay.cli.words import age, condition, lasted, one_line
from mainstay.shell.kube import Object

OVER = ("Completed", "Failed")
MARKS = {
    "Completed": ("✓", "green"),
    "Failed": ("✗", "red"),
    "Pending": ("·", "dim"),
    "Running": ("▸", "cyan"),
}
NAME_WIDTH = 15
"""The longest name of a step: StartSupervisor."""
TOOK_WIDTH = 7
ONE_UNIT = 120
"""From here on, a duration is told in one unit."""


def phase_of(obj: Object) -> str:
    """Where a restart is, in one word."""
    return str((obj.get("status") or {}).get("phase") or "Pending")


def mode_of(obj: Object) -> str:
    """Its mode: none means Full."""
    return str(obj["spec"].get("mode") or "Full")


def steps_of(obj: Object) -> list[dict[str, Any]]:
    """Its steps, in order."""
    return list((obj.get("status") or {}).get("steps") or [])


def why(obj: Object) -> str:
    """Why it is where it is, in words."""
    stalled, ready = condition(obj, "Stalled"), condition(obj, "Ready")
    told = stalled if stalled.get("status") == "True" else ready
    return one_line(f"{told.get('reason', '')}: {told.get('message', '')}").strip(": ") if told else ""


def failed_step(obj: Object) -> dict[str, Any]:
    """The step that failed; empty if none did."""
    return next((step for step in steps_of(obj) if step.get("state") == "Failed"), {})


def failure(obj: Object) -> str:
    """What the step that failed says."""
    return one_line(failed_step(obj).get("message") or "")


def spent(part: dict[str, Any]) -> str:
    """How long a step or a restart took, or has taken up to now, as `0.4 s`; empty before it began."""
    if not part.get("startedAt"):
        return ""
    end = datetime.fromisoformat(part["completedAt"]) if part.get("completedAt") else datetime.now(UTC)
    seconds = max((end - datetime.fromisoformat(part["startedAt"])).total_seconds(), 0)
    return f"{seconds:.1f} s" if seconds < ONE_UNIT else lasted(seconds)


def clock(at: str | None) -> str:
    """A time of the day to the millisecond, UTC."""
    if not at:
        return ""
    return datetime.fromisoformat(at).astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def marked(state: str, words: str) -> Text:
    """Words with the sign of a state before them."""
    sign, style = MARKS.get(state, MARKS["Running"])
    return Text(f"{sign} ", style=style) + Text(words)


def step_line(step: dict[str, Any], *, at: bool = False) -> Text:
    """One step in a line: its sign, its name, how long it took and what it came to; with `at` when it was begun."""
    state = step.get("state", "Pending")
    took = "" if state == "Running" else spent(step)
    line = marked(state, f"{step['name']:<{NAME_WIDTH}}")
    if at:
        line += Text(f"  {clock(step.get('startedAt')):<12}")
    words = one_line(step.get("message") or "")
    line += Text(f"  {took:>{TOOK_WIDTH}}  {words}", style="red" if state == "Failed" else "")
    line.rstrip()
    return line


def detail_line(words: str) -> Text:
    """One detail of a step, below it."""
    return Text(BELOW + one_line(words), style="dim")


def verified_table(obj: Object) -> Rows:
    """The verification at the end, service by service, those that are down first."""
    made = table("SERVICE", "VERIFIED", "MESSAGE")
    for one in sorted((obj.get("status") or {}).get("verified") or [], key=lambda one: bool(one["up"])):
        state = "Completed" if one["up"] else "Failed"
        up = Text("up" if one["up"] else "down", style=MARKS[state][1])
        words = one_line(one.get("message") or "").removeprefix("up, ")
        made.add_row(marked(state, one["name"]), up, words)
    return made


def latest_first(restarts: Sequence[Object]) -> list[Object]:
    """Restarts, the one asked for last first."""
    return sorted(
        restarts, key=lambda r: (r["metadata"]["creationTimestamp"], r["metadata"]["name"]), reverse=True
    )


def brief(restart: Object) -> str:
    """A restart in a few words: what, what became of it, when."""
    seen, phase = restart.get("status") or {}, phase_of(restart)
    if phase in OVER:
        when = f"{age(seen.get('completedAt') or restart['metadata']['creationTimestamp'])} ago"
        return f"{mode_of(restart)} {phase} {when}"
    return f"{mode_of(restart)} {phase}" + (f" at {seen['step']}" if seen.get("step") else "")


def restarts_table(restarts: Sequence[Object]) -> Rows:
    """Restarts as a table, in the given order."""
    made = table("RESTART", "MODE", "STATE", "STEP", "TOOK", "AGE", "MESSAGE")
    for one in restarts:
        seen, phase = one.get("status") or {}, phase_of(one)
        made.add_row(
            one["metadata"]["name"],
            mode_of(one),
            Text(phase, style=MARKS.get(phase, MARKS["Running"])[1]),
            "" if phase == "Completed" else str(seen.get("step") or ""),
            spent(seen),
            age(one["metadata"]["creationTimestamp"]),
            "" if phase == "Completed" else failure(one) or why(one),
        )
    return made


def show_restart(target: Target, obj: Object) -> None:
    """Print one restart in depth: each step with its time and details, the verification, and what to do next."""
    seen, meta, stack = obj.get("status") or {}, obj["metadata"], obj["spec"]["stack"]
    phase = phase_of(obj)
    facts = [f"srestart/{meta['name']}", phase]
    if took := spent(seen):
        facts.append(f"{'took' if phase in OVER else 'for'} {took}")
    out.print(Text("   ".join(facts), style="bold"))
    facts = [
        f"{mode_of(obj)} restart of stack/{stack}" if mode_of(obj) != "Flush" else f"Flush of stack/{stack}"
    ]
    facts.append(f"asked for {age(meta['creationTimestamp'])} ago")
    if owner := (obj["spec"].get("owner") or {}).get("userId"):
        facts.append(f"owner {owner}")
    out.print(Text("   ".join(facts)))
    if phase != "Completed" and (words := why(obj)):
        out.print(Text(words))
    show_steps(obj, details=True)
    if seen.get("verified"):
        out.print()
        show(verified_table(obj))
    out.print(Text(f"\n{target.say(f'status stack/{stack}')}"))


def show_steps(obj: Object, *, details: bool) -> None:
    """Print the steps of a restart, each with its time of day (UTC)."""
    verified = (obj.get("status") or {}).get("verified")
    if steps := steps_of(obj):
        out.print()
    for step in steps:
        out.print(step_line(step, at=True))
        told = details and not (step["name"] == "Verify" and verified)  # a table tells that
        for words in (step.get("details") or []) if told else []:
            out.print(detail_line(words))
