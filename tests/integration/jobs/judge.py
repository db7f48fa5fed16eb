"""The judge of jobs: reads the journal that every program writes, and looks at processes all the time."""

from __future__ import annotations

import os
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.integration.jobs.workshop import tasks_of
from tests.support.stage import Object, start_ticks

LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Line:
    """One line of the journal."""

    number: int
    word: str  # begin | end
    unit: str
    uid: str
    attempt: int
    pid: int
    rest: tuple[str, ...]  # of begin: digest of the context, tokens seen; of end: exit code, token

    @property
    def task(self) -> str:
        return self.unit.partition("_")[2]

    @property
    def seen(self) -> dict[str, str]:
        return {} if self.rest[1] == "-" else dict(x.split("=") for x in self.rest[1].split(","))

    @property
    def good(self) -> bool:
        return self.word == "end" and self.rest[0] == "0"


class Journal:
    """What the programs wrote."""

    def __init__(self, judge: Path) -> None:
        self._file = judge / "journal"
        self._violations = judge / "violations"

    def lines(self, uid: str = "", task: str = "") -> list[Line]:
        text = self._file.read_text() if self._file.exists() else ""
        found = []
        whole = text.rpartition("\n")[0]  # the last line may be under way
        for number, line in enumerate(whole.splitlines()):
            word, unit, owner, attempt, pid, *rest = line.split()
            if uid in ("", owner):
                found.append(Line(number, word, unit, owner, int(attempt), int(pid), tuple(rest)))
        return [line for line in found if task in ("", line.task)]

    def begun(self, uid: str, task: str) -> list[int]:
        """Attempts whose program was executed, in order."""
        return [line.attempt for line in self.lines(uid, task) if line.word == "begin"]

    def ended(self, uid: str, task: str, attempt: int | None = None) -> bool:
        """Whether a program of it came to its end."""
        return any(line.word == "end" and attempt in (None, line.attempt) for line in self.lines(uid, task))

    def good(self, uid: str, task: str) -> list[int]:
        """Attempts that ended with exit code 0."""
        return [line.attempt for line in self.lines(uid, task) if line.good]

    def violations(self) -> list[str]:
        return self._violations.read_text().splitlines() if self._violations.exists() else []

    def verdict(
        self,
        obj: Object,
        needs: dict[str, set[str]] | None = None,
        cut: frozenset[tuple[str, int]] = frozenset(),
    ) -> list[str]:
        """What is wrong with the story of one job. `needs`: whose outputs a task must have seen.

        `cut` names (task, attempt) whose program or shim was killed: what they ended with need not have counted.
        """
        uid, wrong = obj["metadata"]["uid"], list(self.violations())
        lines = [line for line in self.lines(uid) if not (line.good and (line.task, line.attempt) in cut)]
        good: dict[str, list[Line]] = defaultdict(list)
        for line in lines:
            if line.good:
                good[line.task].append(line)
        begins = Counter((line.task, line.attempt) for line in lines if line.word == "begin")
        wrong += [
            f"attempt {n} of {task} began {count} times" for (task, n), count in begins.items() if count > 1
        ]
        for name, task in tasks_of(obj).items():
            ends = [line.attempt for line in good[name]]
            if (
                task["state"] == "Completed"
                and ends != [task["attempt"]]
                and (name, task["attempt"]) not in cut
            ):
                wrong.append(f"{name} is completed by attempt {task['attempt']}, exit 0 had {ends}")
            if task["state"] != "Completed" and ends and obj["status"]["phase"] == "Completed":
                wrong.append(f"{name} is {task['state']}, but exit 0 had {ends}")
            if len(ends) > 1:
                wrong.append(f"{name} ended well {len(ends)} times: {ends}")
        for line in lines:
            ends = good[line.task]
            if line.word == "begin" and ends and line.number > ends[0].number:
                wrong.append(
                    f"{line.task} was executed again, as attempt {line.attempt}, after it had ended well"
                )
            if line.word == "begin":
                wrong += self._inputs_of(line, good, (needs or {}).get(line.task, set()))
        return wrong

    @staticmethod
    def _inputs_of(line: Line, good: dict[str, list[Line]], needs: set[str]) -> list[str]:
        wrong = [f"{line.task} did not see the outputs of {name}" for name in needs - line.seen.keys()]
        for name, token in line.seen.items():
            tokens = [end.rest[1] for end in good[name] if end.number < line.number]
            if token not in tokens:
                wrong.append(f"{line.task} saw {token} of {name}, which put out {tokens}")
        return wrong


def needed(spec: Object, skipped: frozenset[str] = frozenset()) -> dict[str, set[str]]:
    """Whose outputs each task must see: of what it depends on, and of every earlier phase."""
    found: dict[str, set[str]] = {}
    before: set[str] = set()
    for step in spec["steps"]:
        for phase in step.get("phases") or []:
            for task in phase["tasks"]:
                found[task["name"]] = (before | set(task.get("dependsOn") or ())) - skipped
            before |= {task["name"] for task in phase["tasks"]}
    return found


def programs(home_id: str) -> list[tuple[int, int, str]]:
    """(pid, start ticks, unit) of each living program of a task of this home."""
    mark = f"\0MAINSTAY_UNIT={home_id}/".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):
            environ = b"\0" + Path(f"/proc/{entry}/environ").read_bytes()
            if mark in environ and b"\0MAINSTAY_NAME=jobs/" in environ:
                unit = environ.partition(b"\0MAINSTAY_NAME=jobs/")[2].partition(b"\0")[0].decode()
                if (ticks := start_ticks(int(entry))) is not None:
                    found.append((int(entry), ticks, unit))
    return found


class Watcher:
    """At every look: one live program per unit."""

    def __init__(self, home_id: str) -> None:
        self.errors: list[str] = []
        self.looks = 0
        self.most = 0  # programs at once
        self._home_id = home_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="judge of jobs", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            seen = programs(self._home_id)
            lived = [(unit, pid) for pid, ticks, unit in seen if start_ticks(pid) == ticks]
            self.looks += 1
            self.most = max(self.most, len(lived))
            for unit, count in Counter(unit for unit, _ in lived).items():
                if count > 1:
                    self.errors.append(f"{count} programs of {unit}: {lived}")
