"""Logs of stacks: each service writes its own files in the scope of its stack, and so does the supervisor."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep as pause
from typing import IO, NoReturn

import typer

from mainstay.cli.cluster import Target, connection, missing
from mainstay.cli.console import fail, note
from mainstay.cli.home import Home
from mainstay.cli.names import Kind, Ref
from mainstay.cli.tails import POLL_SECONDS, print_files, start_of
from mainstay.core.names import stack_scope
from mainstay.runtime.process.unitdir import ScopeDir
from mainstay.shell.kube import Object, path

TAIL_OF_EACH = 10
"""Lines of each stream where the logs of several services are printed together, as kubectl has it for selectors."""
ANSWER_SECONDS = 3.0


def split(name: str) -> tuple[str, str | None]:
    """stack/NAME/SERVICE as stack/NAME and the service; other names as they are."""
    parts = name.split("/")
    if len(parts) == 3 and parts[0].lower().partition(".")[0] in (
        "stack",
        "stacks",
        "servicestack",
        "servicestacks",
    ):
        return "/".join(parts[:2]), parts[2]
    return name, None


def scope_of(home: Home, namespace: str, stack: str) -> ScopeDir:
    """The stack's scope, whether or not it is there, or has an object."""
    return ScopeDir(home.root, stack_scope(namespace, stack))


def here(home: Home, namespace: str, stack: str) -> bool:
    """Whether a stack of that name left files on this machine."""
    return os.path.isdir(scope_of(home, namespace, stack).path)


def one_service(home: Home, namespace: str, stack: str, service: str) -> Path:
    """Directory of a service's logs, or the end of the command."""
    scope = scope_of(home, namespace, stack)
    directory = Path(scope.units, service, "log")
    if service not in scope.unit_names() or not directory.is_dir():
        _explain(home, namespace, stack, service)
        there = ", ".join(scope.unit_names()) or "none"
        fail(f"{service} of stack/{stack} has written nothing on this machine (there are logs of: {there})")
    return directory


@dataclass(slots=True)
class _Stream:
    """One log of several that are printed together: its whole lines, each with the name of its service."""

    path: Path
    sink: IO[bytes]
    prefix: bytes
    position: int = 0
    begun: bytes = field(default=b"", repr=False)

    def tail(self, lines: int, *, last: bool) -> None:
        """Print the last lines, and go on after them."""
        self.position = start_of(self.path, lines)
        self.more(last=last)

    def more(self, *, last: bool = False) -> None:
        """Print what was added since; a line that is not ended yet waits, but for the `last` time."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self.position:
                    self.position = 0  # it was rotated under us
                file.seek(self.position)
                added = file.read()
        except FileNotFoundError:
            return
        self.position += len(added)
        *whole, self.begun = (self.begun + added).split(b"\n")
        if last and self.begun:
            whole, self.begun = [*whole, self.begun], b""
        if whole:
            self.sink.writelines(self.prefix + line + b"\n" for line in whole)
            self.sink.flush()


def all_services(home: Home, namespace: str, stack: str, tail: int | None, *, follow: bool) -> None:
    """Print what each service wrote, each line after its service's name; with `follow` as they write."""
    scope = scope_of(home, namespace, stack)
    if not scope.unit_names():
        _explain(home, namespace, stack)
        fail(f"no service of stack/{stack} in namespace {namespace} has written anything on this machine")
    lines = TAIL_OF_EACH if tail is None else tail
    streams: dict[Path, _Stream] = {}
    _tails(scope, streams, lines, last=not follow)
    if not follow:
        if not any(stream.position for stream in streams.values()):
            note(f"the services of stack/{stack} have written nothing yet")
        return
    try:
        while True:
            _tails(scope, streams, -1, last=False)  # of a service that came later: from its first line
            for stream in streams.values():
                stream.more()
            pause(POLL_SECONDS)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _tails(scope: ScopeDir, streams: dict[Path, _Stream], lines: int, *, last: bool) -> None:
    names = scope.unit_names()
    wide = max(map(len, names), default=0)
    for name in names:
        for kind, sink in (("stdout", sys.stdout.buffer), ("stderr", sys.stderr.buffer)):
            path = Path(scope.unit(name).logs, f"{kind}.log")
            if path not in streams:
                streams[path] = _Stream(path, sink, f"{name:<{wide}} | ".encode())
                streams[path].tail(lines, last=last)


def supervisor(scope: ScopeDir, words: str, tail: int, *, follow: bool) -> None:
    """Print what a scope's supervisord wrote."""
    path = Path(scope.path, "supervisord.log")
    if not path.exists():
        fail(f"{words} has no supervisor's log on this machine ({path})")
    print_files([(path, sys.stdout.buffer)], tail, follow=follow)


def _explain(home: Home, namespace: str, stack: str, service: str = "") -> None:
    """Where the API answers and knows better than the files why there is nothing: end the command with that."""
    target = Target(home, namespace)
    if target.config_file is None and not target.named:
        return

    async def look() -> str:
        async with connection(target) as kube:
            obj = await kube.get(path(Kind.STACK.plural, namespace, stack))
            if obj is None:
                gone = here(home, namespace, stack)
                return "" if gone else await missing(kube, target, Ref(Kind.STACK, stack))
            return _no_service(obj, service)

    try:
        words = asyncio.run(asyncio.wait_for(look(), ANSWER_SECONDS))
    except Exception:  # the files are all there is
        return
    if words:
        fail(words)


def _no_service(stack: Object, service: str) -> str:
    name = stack["metadata"]["name"]
    services = [one["name"] for one in stack["spec"]["services"]]
    if service and service not in services:
        return f"stack/{name} has no service {service}; it has: {', '.join(services)}"
    seen = (stack.get("status") or {}).get("services") or ()
    told: dict[str, str] = next((one for one in seen if one["name"] == service), {})
    if told.get("message"):
        return f"{service} of stack/{name} has written nothing yet: {told['state']}: {told['message']}"
    return ""


def refuse_task(name: str, second: str) -> NoReturn:
    """The second argument is a task's or a service's name; a run has neither."""
    fail(f"{name} is a run and has no {second}: a job is job/{name}, and a stack stack/{name}")
