"""What may be in the way of a restart. Each is there before it is asked for, and knows what must have become of it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import ClassVar

from tests.integration.stacks.desk import Desk, Seen
from tests.integration.stacks.programs import Foreigner, client, stranger
from tests.support.stage import Object, eventually, start_ticks


class Trouble:
    """One thing in the way of a restart of the stack `backend`."""

    not_in: ClassVar[tuple[str, ...]] = ()
    """Modes in which there is no such thing, or which refuse it."""

    def __init__(self, desk: Desk, mode: str) -> None:
        self.desk = desk
        self.mode = mode
        self.held = ExitStack()

    def begin(self) -> None:
        """Before the restart is asked for."""

    def during(self, name: str) -> None:
        """While it is done."""

    def check(self, restart: Object) -> None:
        """When it is over."""

    def port(self, service: str) -> int:
        return self.desk.ports("backend")[service]

    def details(self, restart: Object, step: str) -> list[str]:
        steps = {one["name"]: one for one in restart["status"]["steps"]}
        return list(steps[step].get("details", ()))


@contextmanager
def in_the_way(troubles: list[Trouble]) -> Iterator[None]:
    """All of them, until the end."""
    with ExitStack() as held:
        for one in troubles:
            held.enter_context(one.held)
            one.begin()
        yield


class Stranger(Trouble):
    """It listens on an assigned port: it is asked to end, and does."""

    not_in = ("Quick",)
    service = "btc_price_watchdog"
    deaf = False
    one: Foreigner

    def begin(self) -> None:
        self.one = self.held.enter_context(stranger(self.port(self.service), deaf=self.deaf))

    def check(self, restart: Object) -> None:
        assert self.one.line() == "asked\n", "it was not asked before it was ended"
        assert self.one.ended_by() == (signal.SIGKILL if self.deaf else 0)
        how = "was killed" if self.deaf else "was asked to stop"
        lines = self.details(restart, "FlushPorts")
        found = [x for x in lines if f"port {self.port(self.service)}: pid {self.one.pid} (" in x]
        assert len(found) == 1, lines
        assert found[0].endswith(how)


class DeafStranger(Stranger):
    """It ignores that it is asked, and is killed."""

    service = "kalshi_api_watchdog"
    deaf = True


class Reserved(Trouble):
    """It listens on a reserved port, which no flush touches."""

    one: Foreigner

    def begin(self) -> None:
        self.one = self.held.enter_context(stranger(self.desk.reserved))

    def check(self, restart: Object) -> None:
        assert self.one.lives


class Client(Trouble):
    """It is connected to a service, no more; and another one to a stranger that is ended."""

    one: Foreigner

    def begin(self) -> None:
        self.one = self.held.enter_context(client(self.port("main_app")))

    def check(self, restart: Object) -> None:
        assert self.one.lives


class DeafService(Trouble):
    """It ignores SIGTERM, and is killed after its grace period."""

    not_in = ("Flush",)
    pid = 0

    def begin(self) -> None:
        self.held.enter_context(self.desk.deaf("backend.trade_executor"))
        self.pid = self.desk.processes("backend")["trade_executor"].pid

    def check(self, restart: Object) -> None:
        asked = ("trade_executor", "stop", self.pid) in self.desk.journal("backend")
        if self.mode == "Emergency":  # TERM comes with KILL then, so that nothing starts it again meanwhile
            assert "trade_executor: killed" in self.details(restart, "KillServices")
            return
        assert asked
        lines = self.details(restart, "StopServices")
        assert [x for x in lines if "killed" in x] == ["trade_executor: killed"], lines
        step = next(x for x in restart["status"]["steps"] if x["name"] == "StopServices")
        assert step["message"] == "8 services stopped, 1 of them killed"


class StaleFiles(Trouble):
    """Its supervisord is dead, its socket is nobody's, and its pid file names a living stranger."""

    one: Foreigner
    lives = False

    def begin(self) -> None:
        self.one = self.held.enter_context(stranger(self.desk.stage.ports[-2]))
        eventually(self.answers, "a socket that answers")
        who = self.desk.supervised("backend")
        os.kill(who.pid, signal.SIGSTOP)  # so that it is still there, and nobody makes another one yet
        self.plant()
        os.kill(who.pid, signal.SIGCONT if self.lives else signal.SIGKILL)

    def plant(self) -> None:
        scope = self.desk.scope("backend")
        file = scope / "supervisor.sock"
        (scope / "supervisord.pid").write_text(f"{self.one.pid}\n")
        file.unlink()
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind(str(file))  # nobody listens on it

    def check(self, restart: Object) -> None:
        assert self.one.lives
        scope = self.desk.scope("backend")

        def own() -> bool:
            with suppress(OSError, ValueError):
                pid = int((scope / "supervisord.pid").read_text())
                return pid == self.desk.supervised("backend").pid
            return False

        eventually(own, "a pid file that is true")
        eventually(self.answers, "a socket that answers")

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as somebody:
            return somebody.connect_ex(str(self.desk.scope("backend") / "supervisor.sock")) == 0


class LyingFiles(StaleFiles):
    """The same under a supervisord that lives and can't be reached any more."""

    lives = True


class StoppedSupervisor(Trouble):
    """Its supervisord hangs."""

    number = signal.SIGSTOP
    who: Seen

    def begin(self) -> None:
        self.who = self.signal()

    def signal(self) -> Seen:
        who = self.desk.supervised("backend")
        with suppress(ProcessLookupError):
            os.kill(who.pid, self.number)
        return who

    def check(self, restart: Object) -> None:
        eventually(lambda: start_ticks(self.who.pid) != self.who.ticks, "the end of the old supervisord")


class KilledSupervisor(StoppedSupervisor):
    """Its supervisord is dead, and its socket and pid file are stale."""

    number = signal.SIGKILL


class SupervisorDiesAt(KilledSupervisor):
    """Its supervisord dies in the middle of it."""

    step = ""

    def begin(self) -> None:
        if self.step == "FlushPorts":  # which is short where nobody is deaf
            self.held.enter_context(stranger(self.port("kalshi_api_watchdog"), deaf=True))
        elif self.step == "StopServices":
            self.held.enter_context(self.desk.deaf("backend.trade_executor"))

    def during(self, name: str) -> None:
        self.desk.at_step(name, self.step)
        self.who = self.signal()


class InFlush(SupervisorDiesAt):
    """While ports are flushed."""

    not_in = ("Quick",)
    step = "FlushPorts"


class InStop(SupervisorDiesAt):
    """While services are stopped."""

    not_in = ("Emergency", "Flush")
    step = "StopServices"


class InStart(SupervisorDiesAt):
    """While services are started."""

    not_in = ("Flush",)
    step = "StartServices"


class InNew(SupervisorDiesAt):
    """As soon as the new one is wanted."""

    not_in = ("Flush",)
    step = "StartSupervisor"


TROUBLES: tuple[type[Trouble], ...] = (
    *(Stranger, DeafStranger, Reserved, Client, DeafService),
    *(StaleFiles, LyingFiles, StoppedSupervisor, KilledSupervisor, InFlush, InStop, InStart, InNew),
)
TOGETHER: dict[str, tuple[type[Trouble], ...]] = {
    "strangers and a deaf service": TROUBLES[:5],
    "a supervisor that hangs": (StoppedSupervisor, Reserved),
    "stale files, and a supervisor that dies again": (StaleFiles, InFlush, InStart),
}
