"""Whom a flush of a port never ends, and why in words.

A flush is the one exception to "never a stranger", so it looks for any hint that a process has to do with
Mainstay, also those that are too weak to prove a member: here a doubt is in favour of the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from mainstay.runtime.process import members, proc
from mainstay.runtime.process.members import Scan
from mainstay.runtime.process.unitdir import UNIT_NAME, ScopeDir, stack_of

SYSTEM = "system"
"""The scope below whose supervisord the operator starts all others: what these leave comes to it, so to be adopted
by it proves nothing. What is its own carries marks."""
ANOTHER = ", of another home of Mainstay"


def protection(pid: int, scan: Scan, scope: ScopeDir, home_id: str) -> str:
    """Why this process, which is no member of a unit of `scope`, must not be ended; empty for a mere stranger."""
    if pid == 1:
        return "it is pid 1"
    if pid == os.getpid() or pid in _ancestors(scan, os.getpid()):
        return "it is Mainstay itself, or what started it"
    if scan.marks(pid).scope:
        return "it is part of Mainstay"
    recorded = scan.recorded(scope.home)
    for one in (pid, *_ancestors(scan, pid)):
        words = "it is the process" if one == pid else "it descends from the process"
        marks = scan.marks(one)
        if marks.scope:
            of = proc.environ(one).get(members.SCOPE, "")
            if of == f"{home_id}/{scope.name}" or (of == f"{home_id}/{SYSTEM}" and not marks.name):
                break  # what a service of this very stack left behind
            return f"it descends from the supervisor of {_scope(of, scope.home, home_id)}"
        if marks.home and marks.home != home_id:
            return f"{words} of {_foreign_unit(marks.name, one)}"
        name = marks.name or recorded.get(one, "")
        if (name or marks.home) and not name.startswith(scope.name + "/"):
            return f"{words} of {_unit(name, scope.home)}"
    if name := _open_unit(pid, scope):
        return f"it has files of {_unit(name, scope.home)} open"
    return ""


def _ancestors(scan: Scan, pid: int) -> Iterator[int]:
    """Upwards, pid 1 left out."""
    seen = {pid}
    while (one := scan.table.get(pid)) is not None and one.parent > 1 and one.parent not in seen:
        pid = one.parent
        seen.add(pid)
        yield pid


def _unit(mark: str, home: str) -> str:
    """A unit of this home as people know it."""
    scope, _, name = mark.partition("/")
    match scope:
        case "runs":
            return f"run {name}"
        case "jobs":
            return "a task"
        case "system":
            return f"{name} of Mainstay itself"
    if not name:
        return "a unit"
    key = stack_of(home, scope)
    return f"service {name} of {'a stack' if key is None else 'stack ' + '/'.join(key)}"


def _foreign_unit(mark: str, pid: int) -> str:
    """The same of another home: what its stack is called, its environment alone tells."""
    env = proc.environ(pid)
    stack, service = env.get("STACK_NAME", ""), env.get("SERVICE_NAME", "")
    if mark.startswith("stack-") and UNIT_NAME.fullmatch(stack) and UNIT_NAME.fullmatch(service):
        return f"service {service} of stack {stack}{ANOTHER}"
    return _unit(mark, "") + ANOTHER


def _scope(mark: str, home: str, home_id: str) -> str:
    """A scope as people know it, by the mark of its supervisor."""
    of, _, name = mark.partition("/")
    key = stack_of(home, name) if of == home_id else None
    known = {"runs": "runs", "jobs": "tasks", SYSTEM: "Mainstay itself"}
    words = known.get(name, "a stack") if key is None else f"stack {'/'.join(key)}"
    return words if of == home_id else words + ANOTHER


def _open_unit(pid: int, scope: ScopeDir) -> str:
    """The mark of another scope's unit whose lock, log or data it has open."""
    base = os.path.realpath(f"{scope.home}/scopes") + "/"
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return ""
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        match target.removeprefix(base).split("/"):
            case [other, "units", unit, *_] if target.startswith(base) and other != scope.name:
                return f"{other}/{unit}"
    return ""
