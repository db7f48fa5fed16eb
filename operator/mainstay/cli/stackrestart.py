"""Asking for a restart of a stack, and following it step by step."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import typer
from rich.text import Text

from mainstay.api.meta import API_VERSION, NAME_MAX
from mainstay.cli.cluster import Target, call
from mainstay.cli.console import err, fail, misuse, note, out, show
from mainstay.cli.health import operator_trouble
from mainstay.cli.meant import MODES
from mainstay.cli.restartstate import (
    OVER,
    detail_line,
    failed_step,
    failure,
    mode_of,
    phase_of,
    spent,
    step_line,
    steps_of,
    verified_table,
    why,
)
from mainstay.cli.stacks import the_stack
from mainstay.cli.words import lasted, one_line, print_yaml
from mainstay.shell.kube import RESTARTS, STACKS, ApiError, Kube, Object, path

POLL_SECONDS = 0.2
QUIET_SECONDS = 5.0
"""How long nothing may happen before it is asked whether the operator works."""
TAKEN_UP_SECONDS = 30.0
"""How long a restart may stand unseen where it can't be asked whether an operator works."""
INTERRUPTED = 130
NAMES_TRIED = 100


@dataclass(frozen=True, slots=True)
class Wish:
    """How a command wants its restart."""

    mode: str
    wait: bool
    timeout: float | None
    verbose: bool
    dry_run: bool
    verb: str = "restart"
    """The command, as an example is told."""


def mode(word: str) -> str:
    """Read --mode; ends the command if it is none."""
    found = MODES.get(word.lower())
    if found is None:
        misuse(f"--mode {word} is unknown; it is full, quick, emergency or flush")
    return found


def restart_name(stack: str, mode: str, at: datetime, again: int = 1) -> str:
    """STACK-TIME-MODE, so that they sort by time; the stack's part is cut where the whole is too long for a name."""
    tail = f"-{at:%Y%m%d-%H%M%S}-{mode.lower()}" + (f"-{again}" if again > 1 else "")
    return stack[: NAME_MAX - len(tail)].rstrip("-.") + tail


def restart_stack(target: Target, name: str | None, wish: Wish) -> None:
    """Create a StackRestart of that stack, or of the only one; with `wait` follow it to its end."""
    made: list[Object] = []

    async def work(kube: Kube) -> str | None:
        stack = await the_stack(kube, target, name, wish.verb)
        possible(target, stack, wish)
        at = datetime.now(UTC)
        if wish.dry_run:
            print_yaml({"apiVersion": API_VERSION, "kind": "StackRestart", **_body(target, stack, wish, at)})
            return None
        made.append(await _create(kube, target, stack, wish, at))
        out.print(f"stackrestart/{made[0]['metadata']['name']} created")
        if not wish.wait:
            return None
        return await Follower(kube, target, made[0], wish).to_its_end()

    try:
        if (problem := call(target, work)) is not None:
            fail(problem)
    except KeyboardInterrupt:
        if not made:
            raise
        restart = made[0]["metadata"]["name"]
        note(
            f"\n{restart} goes on by itself.\n"
            f"  {target.say(f'status srestart/{restart}')}   shows how far it is\n"
            f"  kubectl get srestart {restart}{_where(target)} -w   follows it\n"
            f"  kubectl delete srestart {restart}{_where(target)}   gives it up; the stack then goes on as declared"
        )
        raise typer.Exit(INTERRUPTED) from None


def _where(target: Target) -> str:
    return f" -n {target.namespace}" if target.namespace != "default" else ""


def possible(target: Target, stack: Object, wish: Wish) -> None:
    """End the command where there is nothing to restart."""
    name = stack["metadata"]["name"]
    if stack["metadata"].get("deletionTimestamp"):
        fail(f"stack/{name} is being deleted")
    if stack["spec"].get("state") == "Stopped" and wish.mode != "Flush":
        fail(
            f"stack/{name} is stopped, there is nothing to restart; "
            f"`{target.say(f'start stack/{name}')}` starts it"
        )


def _body(target: Target, stack: Object, wish: Wish, at: datetime, again: int = 1) -> Object:
    name = stack["metadata"]["name"]
    owner = stack["spec"].get("owner")
    return {
        "metadata": {"name": restart_name(name, wish.mode, at, again), "namespace": target.namespace},
        "spec": {"stack": name, "mode": wish.mode, **({"owner": owner} if owner else {})},
    }


async def _create(kube: Kube, target: Target, stack: Object, wish: Wish, at: datetime) -> Object:
    """Create it under a name that is free."""
    again = 1
    while True:
        try:
            body = _body(target, stack, wish, at, again)
            return await kube.create(RESTARTS, "StackRestart", target.namespace, body)
        except ApiError as error:
            if error.reason != "AlreadyExists" or again == NAMES_TRIED:
                raise
        again += 1


@dataclass(slots=True)
class Follower:
    """Tells what becomes of one restart."""

    kube: Kube
    target: Target
    made: Object
    wish: Wish
    said: str = ""
    begun: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    details: set[tuple[str, str]] = field(default_factory=set)
    """Details told, with their step."""
    seen: Any = None
    """The status as it was last told."""
    quiet_since: float = 0.0

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.made["metadata"]["name"])

    @property
    def stack(self) -> str:
        """Name of its stack."""
        return str(self.made["spec"]["stack"])

    async def to_its_end(self) -> str | None:
        """Tell each step as it begins and ends. None if the restart was completed; otherwise why not, and what to do."""
        began = self.quiet_since = time.monotonic()
        asked = began
        with err.status("waiting for the operator") if err.is_terminal else nullcontext() as spinner:
            while True:
                obj = await self.kube.get(path(RESTARTS, self.target.namespace, self.name))
                now = time.monotonic()
                if obj is None or obj["metadata"]["uid"] != self.made["metadata"]["uid"]:
                    return f"{self.name} was deleted while it was waited for" + self._ways(of_restart=False)
                if obj.get("status") != self.seen:
                    self.seen, self.quiet_since = obj.get("status"), now
                self._tell_steps(obj)
                if phase_of(obj) in OVER:
                    break
                if spinner is not None:
                    spinner.update(_under_way(obj))
                if phase_of(obj) == "Pending":
                    await self._tell_waiting(obj)
                if now - max(asked, self.quiet_since) > QUIET_SECONDS:
                    asked = now
                    if problem := await self._silence(obj, now):
                        return problem
                if self.wish.timeout is not None and now - began > self.wish.timeout:
                    words = self._where(obj)
                    return (
                        f"{self.name} is not over after {self.wish.timeout:.0f} s, and goes on by itself: {words}"
                        + self._ways()
                    )
                await asyncio.sleep(POLL_SECONDS)
        return self._end(obj)

    def _ways(self, *, of_restart: bool = True) -> str:
        ways = [f"status stack/{self.stack}", *([f"status srestart/{self.name}"] if of_restart else [])]
        return "".join(f"\n  {self.target.say(way)}" for way in ways)

    def _tell_steps(self, obj: Object) -> None:
        for step in steps_of(obj):
            name, state = step["name"], step.get("state", "Pending")
            if state == "Pending":
                continue
            if name not in self.begun:
                self.begun.add(name)
                if self.wish.verbose or (state == "Running" and not err.is_terminal):
                    err.print(step_line({**step, "state": "Running", "message": ""}))
            if self.wish.verbose:
                for line in step.get("details") or []:
                    if (name, line) not in self.details:
                        self.details.add((name, line))
                        err.print(detail_line(line))
            if state in ("Completed", "Failed") and name not in self.ended:
                self.ended.add(name)
                err.print(step_line({**step, "message": "failed"} if state == "Failed" else step))

    async def _tell_waiting(self, obj: Object) -> None:
        """Say behind which restart it waits."""
        words, other = why(obj), await self._other()
        if other is not None and other in self.said:
            return
        if other is not None and other not in words:
            words = f"waits for restart {other}"
        if words and words != self.said:
            self.said = words
            note(f"{self.name}: {words}")

    async def _other(self) -> str | None:
        """The restart under way on its stack, if that is another one."""
        stack = await self.kube.get(path(STACKS, self.target.namespace, self.stack))
        under_way = ((stack or {}).get("status") or {}).get("restart") or {}
        if not under_way or under_way.get("uid") == self.made["metadata"]["uid"]:
            return None
        return str(under_way["name"])

    async def _silence(self, obj: Object, now: float) -> str | None:
        """Why nothing happens, if that is because nobody works at it."""
        untouched = not obj.get("status")
        trouble = await operator_trouble(self.target)
        long = now - self.quiet_since > TAKEN_UP_SECONDS
        if not trouble and untouched and long and await self._other() is None:
            trouble = "nobody has looked at it; does an operator work on this cluster?"
        if not trouble:
            return None
        if untouched:
            back = f"kubectl delete srestart {self.name}{_where(self.target)}"
            return (
                f"{self.name} has not been begun: {trouble}\n"
                f"It begins once an operator works; `{back}` takes it back."
            )
        return f"{self.name} stands still: {trouble}\nIt goes on once an operator works." + self._ways()

    def _where(self, obj: Object) -> str:
        """How far it is, in words."""
        if phase_of(obj) == "Pending":
            return self.said or "nobody has looked at it"
        return f"it is at step {(obj.get('status') or {}).get('step') or '?'}"

    def _end(self, obj: Object) -> str | None:
        seen = obj.get("status") or {}
        if seen.get("verified"):
            show(verified_table(obj))
        took = spent(seen)
        if phase_of(obj) == "Completed":
            out.print(f"stackrestart/{self.name} completed" + (f" in {took}" if took else ""))
            return None
        at = failed_step(obj).get("name") or seen.get("step")
        words = failure(obj) or why(obj) or "no reason is given"
        of = (
            f"{mode_of(obj)} restart of stack/{self.stack}"
            if mode_of(obj) != "Flush"
            else f"flush of stack/{self.stack}"
        )
        return f"{of} failed" + (f" at step {at}" if at else "") + f": {words}" + self._ways()


def _under_way(obj: Object) -> Text:
    """What is shown beside the spinner."""
    running = next((step for step in steps_of(obj) if step.get("state") == "Running"), None)
    if running is None:
        return Text("waiting" if phase_of(obj) == "Pending" else "between two steps")
    began = running.get("startedAt")
    seconds = (datetime.now(UTC) - datetime.fromisoformat(began)).total_seconds() if began else 0
    return Text(f"{running['name']}  {lasted(seconds)}  {one_line(running.get('message') or '')}")
