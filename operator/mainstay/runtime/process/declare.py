"""From a declared unit to the files its fence reads. Refuses what can never start, in plain words."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mainstay.core.expand import expand
from mainstay.runtime.base import UnitRefusedError, UnitSpec
from mainstay.runtime.process import cgroups, members, records
from mainstay.runtime.process.scope import AUTORESTART, PROGRAM, Scope
from mainstay.runtime.process.unitdir import UnitDir

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARGUMENT_BYTES = 128 * 1024 - 1  # MAX_ARG_STRLEN of Linux: one argument or variable
TOTAL_BYTES = 1536 * 1024  # below a quarter of the usual 8 MB stack, which bounds argv and environment


@dataclass(frozen=True, slots=True)
class Account:
    """The Unix user a program runs as."""

    name: str
    home: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def account(user: str | None) -> Account:
    """The user to run as; ours if none is asked. Refuses unknown ones, and any other than ours without root."""
    if user is None:
        try:
            mine = pwd.getpwuid(os.getuid())
        except KeyError:  # a container with a bare uid
            return Account(str(os.getuid()), os.environ.get("HOME", "/"), os.getuid(), os.getgid(), ())
        return Account(mine.pw_name, mine.pw_dir, mine.pw_uid, mine.pw_gid, ())
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise UnitRefusedError("UserUnknown", f"there is no Unix user {user!r} on this machine") from None
    if os.getuid() != 0 and found.pw_uid != os.getuid():
        raise UnitRefusedError(
            "UserNotPermitted",
            f"only root can run a program as {user!r}; start Mainstay as root, or leave program.user out",
        )
    return Account(
        found.pw_name,
        found.pw_dir,
        found.pw_uid,
        found.pw_gid,
        tuple(os.getgrouplist(found.pw_name, found.pw_gid)),
    )


def working_directory(home: str, unit: UnitDir, asked: str | None) -> str:
    """Absolute path of the directory to start in."""
    if not asked or asked == "$(DATA_DIR)":
        return unit.data
    if asked.startswith("/"):
        return os.path.normpath(asked)
    path = os.path.normpath(os.path.join(home, asked))
    if path != home and not path.startswith(home.rstrip("/") + "/"):
        raise UnitRefusedError(
            "WorkingDirRefused",
            f"program.workingDir {asked!r} leads out of Mainstay's home; give an absolute path instead",
        )
    return path


def base_environment(who: Account, extra: Mapping[str, str]) -> dict[str, str]:
    """The clean environment every program starts from."""
    env = {
        "HOME": who.home,
        "USER": who.name,
        "PATH": os.environ.get("PATH") or DEFAULT_PATH,
        "LANG": os.environ.get("LANG") or "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }
    if zone := os.environ.get("TZ"):
        env["TZ"] = zone
    return env | dict(extra)


def environment(
    scope: Scope, unit: UnitDir, spec: UnitSpec, who: Account, extra: Mapping[str, str]
) -> dict[str, str]:
    """Everything the program finds in its environment; ours wins."""
    env = base_environment(who, extra) | dict(spec.env)
    env[members.UNIT] = f"{scope.home_id}/{spec.owner_uid}"
    env[members.NAME] = unit.mark
    env["MAINSTAY_INPUTS"] = spec.inputs_hash
    env["ATTEMPT"] = str(spec.attempt)
    env["DATA_DIR"] = unit.data
    if spec.port is not None:
        env["CONTROL_API_PORT"] = str(spec.port)
    if spec.config is not None:
        env["CONFIG_PATH"] = unit.file(spec.config_name)
    return env


def refuse_oversize(argv: list[str], env: Mapping[str, str]) -> None:
    """What execve would refuse, said before it does."""
    texts = [*argv, *(f"{name}={value}" for name, value in env.items())]
    sizes = [len(os.fsencode(text)) for text in texts]
    if max(sizes) > ARGUMENT_BYTES or sum(sizes) + 9 * len(sizes) > TOTAL_BYTES:
        raise UnitRefusedError(
            "ArgumentsTooLong",
            "an argument or variable is longer than 128 KiB, or all together longer than 1.5 MiB; "
            "put it into the configuration file",
        )
    for text in texts:
        if "\0" in text:
            raise UnitRefusedError("InvalidArgument", "an argument or variable holds a NUL character")
    for name in env:
        if not name or "=" in name:
            raise UnitRefusedError("InvalidArgument", f"{name!r} can't be the name of a variable")


def compose(
    scope: Scope,
    unit: UnitDir,
    spec: UnitSpec,
    *,
    extra: Mapping[str, str],
    clean: float = 0.0,
    ours: Mapping[str, str] | None = None,
    more: Iterable[tuple[str, str]] = (),
) -> tuple[bytes, Account]:
    """The content of `spec`, and the user to run as. Writes no file; makes the cgroups that it names.

    `ours` are variables and `more` entries beyond those that every unit has. Raises UnitRefusedError.
    """
    if not spec.argv or not spec.argv[0]:
        raise UnitRefusedError("InvalidArgument", "program.command names no program")
    if spec.config is not None and (not spec.config_name.startswith("config") or "/" in spec.config_name):
        raise UnitRefusedError(
            "InvalidArgument", f"{spec.config_name!r} can't be the name of a configuration file"
        )
    who = account(spec.user)
    env = environment(scope, unit, spec, who, extra) | dict(ours or {})
    argv = [expand(argument, env) for argument in spec.argv]
    cwd = working_directory(scope.dir.home, unit, spec.working_dir)
    refuse_oversize(argv, env)
    if spec.nice is not None and spec.nice < 0 and os.getuid() != 0:
        raise UnitRefusedError("LimitUnsupported", "program.nice below 0 needs an operator that runs as root")
    groups = cgroups.prepare(unit.mark, scope.home_id, spec.limits)

    entries = [
        ("unit", env[members.UNIT]),
        ("name", unit.mark),
        ("owner", spec.owner_uid),
        ("attempt", str(spec.attempt)),
        ("port", str(spec.port or "")),
        ("inputs", spec.inputs_hash),
        ("policy", str(spec.restart.policy)),
        ("initial", str(spec.restart.initial_backoff_seconds)),
        ("max", str(spec.restart.max_backoff_seconds)),
        ("grace", str(spec.grace_seconds)),
        ("clean", f"{clean:.3f}"),
        ("cwd", cwd),
        ("umask", f"{spec.umask:o}"),
        ("cgroups", "\n".join(groups)),
        *more,
    ]
    if spec.nice is not None:
        entries.append(("nice", str(spec.nice)))
    if spec.limits is not None and spec.limits.open_files is not None:
        entries.append(("nofile", str(spec.limits.open_files)))
    if other_user(spec, who):
        entries += [("uid", str(who.uid)), ("gid", str(who.gid)), ("groups", ",".join(map(str, who.groups)))]
    entries += [("a", argument) for argument in argv]
    entries += [("e", f"{name}={value}") for name, value in env.items()]
    try:
        return records.encode(entries, "\0"), who
    except ValueError as error:
        raise UnitRefusedError("InvalidArgument", str(error)) from None


def other_user(spec: UnitSpec, who: Account) -> bool:
    """Whether the program runs as another Unix user than we do."""
    return spec.user is not None and who.uid != os.getuid()


def write_spec(
    scope: Scope, unit: UnitDir, spec: UnitSpec, *, extra: Mapping[str, str], clean: float = 0.0
) -> bool:
    """Write the unit's files, durable when this returns. True if supervisord must reread its section.

    `clean` is the CLOCK_BOOTTIME at which no process of the unit lived: it spares the fence a look at /proc.
    Raises UnitRefusedError before anything is written.
    """
    content, who = compose(scope, unit, spec, extra=extra, clean=clean)
    unit.create()
    if spec.config is not None:
        records.write_if_changed(unit.file(spec.config_name), spec.config)
    if other_user(spec, who):
        let_user_in(unit, spec, who)
    records.write_if_changed(unit.file("run"), scope.run_text(unit.path))
    records.write(unit.file("spec"), content)
    records.sweep(unit.path)
    records.sync_directory(unit.path)
    return write_section(unit, str(spec.restart.policy))


def write_section(unit: UnitDir, policy: str) -> bool:
    """Write supervisord's section of a unit: constant text but for its name and one of three words."""
    section = PROGRAM.format(name=unit.name, autorestart=AUTORESTART[policy]).encode()
    if not records.write_if_changed(unit.conf, section):
        return False
    records.sync_directory(unit.scope.conf_d)
    return True


def let_user_in(unit: UnitDir, spec: UnitSpec, who: Account) -> None:
    """Let another user through to DATA_DIR and CONFIG_PATH, and to nothing else."""
    for path in (unit.scope.path, unit.scope.units, unit.path):
        os.chmod(path, 0o711)  # noqa: S103 - to pass through, not to look
    os.chown(unit.data, who.uid, who.gid)
    if spec.config is not None:
        os.chown(unit.file(spec.config_name), who.uid, who.gid)
    path = unit.path
    while path != "/":
        path = os.path.dirname(path)
        seen = os.stat(path)
        allowed = (
            seen.st_mode & 0o001
            or (seen.st_uid == who.uid and seen.st_mode & 0o100)
            or (seen.st_gid in who.groups and seen.st_mode & 0o010)
        )
        if not allowed:
            raise UnitRefusedError(
                "UserNotPermitted",
                f"user {who.name!r} can't enter {path}, where its configuration and data would be; "
                "set MAINSTAY_HOME to a place that user can reach",
            )


def restore_sections(scope: Scope) -> None:
    """Make conf.d hold exactly one whole section per unit directory: the answer to CANT_REREAD."""
    wanted = {}
    for name in scope.dir.unit_names():
        unit = scope.dir.unit(name)
        if (spec := unit.spec()) is not None and spec.policy in AUTORESTART:
            wanted[os.path.basename(unit.conf)] = (unit, spec.policy)
    for entry in os.listdir(scope.dir.conf_d):
        if entry not in wanted:
            records.discard(f"{scope.dir.conf_d}/{entry}")
    for unit, policy in wanted.values():
        write_section(unit, policy)
    records.sync_directory(scope.dir.conf_d)
