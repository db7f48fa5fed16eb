"""Memory and CPU limits of a whole tree: one cgroup per unit, version 2 or 1; enforced or refused."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from mainstay.api.program import Limits
from mainstay.runtime.base import UnitRefusedError

UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
PERIOD = 100_000  # microseconds


def memory_bytes(text: str) -> int:
    """512Mi as bytes."""
    return int(text[:-2]) * UNITS[text[-2:]]


def cpu_quota(text: str) -> int:
    """CPUs as microseconds of CPU time per period."""
    cpus = int(text[:-1]) / 1000 if text.endswith("m") else float(text)
    return max(1000, int(cpus * PERIOD))


def _mounts() -> dict[str, str]:
    """Controller → mount point; version 2 under the name ''."""
    found: dict[str, str] = {}
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, point, kind, options, *_ = line.split()
            if kind == "cgroup2":
                found.setdefault("", point)
            elif kind == "cgroup":
                for controller in {"memory", "cpu"} & set(options.split(",")):
                    found.setdefault(controller, point)
    return found


def _own_group() -> str:
    """Our group in version 2: children may be made in it only, when it was delegated to us."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            if line.startswith("0::"):
                return line[3:].strip().lstrip("/")
    return ""


def _get(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _set(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def _version2(point: str, name: str, wanted: dict[str, str]) -> str | None:
    """Make the group in a subtree that may have controllers: the root's, or our parent's if delegated."""
    controllers = {file.partition(".")[0] for file in wanted}
    own = _own_group()
    for base in dict.fromkeys((point, os.path.dirname(os.path.join(point, own)))):
        top = os.path.join(base, "mainstay")
        try:
            available = set(_get(os.path.join(base, "cgroup.controllers")).split())
            if not controllers <= available:
                continue
            enable = " ".join(f"+{controller}" for controller in sorted(controllers))
            _set(os.path.join(base, "cgroup.subtree_control"), enable)
            os.makedirs(os.path.join(top, name), exist_ok=True)
            _set(os.path.join(top, "cgroup.subtree_control"), enable)
            for file, value in wanted.items():
                _set(os.path.join(top, name, file), value)
        except OSError:
            continue
        return os.path.join(top, name)
    return None


def _version1(point: str, name: str, wanted: dict[str, str]) -> str | None:
    path = os.path.join(point, "mainstay", name)
    try:
        os.makedirs(path, exist_ok=True)
        for file, value in wanted.items():
            _set(os.path.join(path, file), value)
    except OSError:
        return None
    return path


def group_name(mark: str, home_id: str) -> str:
    """Directory name of a unit's group."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", f"{home_id}.{mark}")


def prepare(mark: str, home_id: str, limits: Limits | None) -> tuple[str, ...]:
    """Make the groups that enforce these limits; the fence joins them. Raises UnitRefusedError."""
    if limits is None or (limits.memory is None and limits.cpu is None):
        return ()
    name = group_name(mark, home_id)
    mounts = _mounts()
    modern: dict[str, str] = {}
    legacy: dict[str, dict[str, str]] = {}
    if limits.memory is not None:
        modern["memory.max"] = str(memory_bytes(limits.memory))
        legacy["memory"] = {"memory.limit_in_bytes": modern["memory.max"]}
    if limits.cpu is not None:
        modern["cpu.max"] = f"{cpu_quota(limits.cpu)} {PERIOD}"
        legacy["cpu"] = {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": str(cpu_quota(limits.cpu))}
    if "" in mounts and (group := _version2(mounts[""], name, modern)):
        return (group,)
    groups = []
    for controller, wanted in legacy.items():
        group = _version1(mounts[controller], name, wanted) if controller in mounts else None
        if group is None:
            raise UnitRefusedError(
                "LimitUnsupported",
                f"limits.{controller} needs a cgroup that Mainstay may write, and there is none here; "
                "run Mainstay as root or under a delegated systemd slice, or leave the limit out",
            )
        groups.append(group)
    return tuple(groups)


def discard(mark: str, home_id: str) -> None:
    """Remove a unit's groups; they must be empty."""
    name = group_name(mark, home_id)
    for point in _mounts().values():
        with suppress(OSError):
            os.rmdir(os.path.join(point, "mainstay", name))
