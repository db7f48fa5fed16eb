"""Whom a flush of a port never ends, and why in words.

A flush is the one exception to "never a stranger", so it looks for any hint that a process has to do with
Mainstay, also those that are too weak to prove a member: here a doubt is in favour of the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from mainstay.runtime.process import members, proc
from mainstay.runtime.process.members import Scan
from mainstay.runtime.process.unitdir import ScopeDir


def protection(pid: int, scan: Scan, scope: ScopeDir, home_id: str) -> str:
    """Why this process, which is no member of a unit of `scope`, must not be ended; empty for a mere stranger."""
    if pid == 1:
        return "it is pid 1"
    if pid == os.getpid() or pid in _ancestors(scan, os.getpid()):
        return "it is Mainstay itself, or what started it"
    if scan.marks(pid).scope:
        return "it is part of Mainstay"
    recorded = scan.recorded(scope.home)
    own = f"{home_id}/{scope.name}"
    for one in (pid, *_ancestors(scan, pid)):
        words = "it is the process" if one == pid else "it descends from the process"
        marks = scan.marks(one)
        if marks.scope:
            of = proc.environ(one).get(members.SCOPE, "")
            if of == own:
                break  # what a service of this very stack left behind
            return f"it descends from the supervisor of scope {of.partition('/')[2] or '?'}"
        if marks.home and marks.home != home_id:
            return f"{words} of {_unit(marks.name)}, of another home"
        name = marks.name or recorded.get(one, "")
        if (name or marks.home) and not name.startswith(scope.name + "/"):
            return f"{words} of {_unit(name)}"
    if name := _open_unit(pid, scope):
        return f"it has files of {_unit(name)} open"
    return ""


def _ancestors(scan: Scan, pid: int) -> Iterator[int]:
    """Upwards, pid 1 left out."""
    seen = {pid}
    while (one := scan.table.get(pid)) is not None and one.parent > 1 and one.parent not in seen:
        pid = one.parent
        seen.add(pid)
        yield pid


def _unit(mark: str) -> str:
    scope, _, name = mark.partition("/")
    return f"{name} of scope {scope}" if name else "a unit"


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
