"""Who holds a unit's lock, when descriptors are read once for all units: nobody is overlooked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.runtime.process import members, proc
from mainstay.runtime.process.members import Scan
from mainstay.runtime.process.unitdir import ScopeDir, UnitDir

PUPPET = """
import fcntl, os, sys
fd = -1
for line in sys.stdin:
    word, path = line.split()
    if word == "close":
        os.close(fd)
    else:
        fd = os.open(path, os.O_RDONLY if word == "read" else os.O_RDWR | os.O_CREAT)
        if word == "lock":
            fcntl.flock(fd, fcntl.LOCK_EX)
    print("done", flush=True)
"""


class Puppet:
    """A process that opens and closes what it is told to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PUPPET],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def do(self, word: str, path: str) -> None:
        self._process.stdin.write(f"{word} {path}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def puppets() -> Iterator[list[Puppet]]:
    both = [Puppet(), Puppet()]
    for puppet in both:  # whose scans are to find it has finished to start
        puppet.do("read", "/dev/null")
    yield both
    for puppet in both:
        puppet.end()


@pytest.fixture
def unit(tmp_path: Path) -> UnitDir:
    unit = ScopeDir(tmp_path, "runs").unit("default.bot")
    unit.create()
    return unit


def test_a_holder_that_appears_after_descriptors_were_read(unit, puppets):
    first, second = puppets
    lock = unit.file("lock")
    first.do("lock", lock)
    scan = Scan.take()
    assert members.lock_holders(unit, scan) == [first.pid]  # now they were read
    first.do("close", lock)
    assert members.lock_holders(unit, scan) == []
    second.do("lock", lock)
    assert members.lock_holders(unit, scan) == [second.pid]
    assert scan.process(second.pid) in members.members(unit, scan, None)


def test_a_holder_of_a_lock_that_was_made_after_descriptors_were_read(unit, puppets):
    scan = Scan.take()
    other = unit.scope.unit("default.other")
    other.create()
    puppets[0].do("lock", other.file("lock"))
    assert members.lock_holders(other, scan) == [puppets[0].pid]
    puppets[1].do("lock", unit.file("lock"))
    assert members.lock_holders(unit, scan) == [puppets[1].pid]


def test_a_holder_that_ended_is_none(unit, puppets):
    first, second = puppets
    first.do("lock", unit.file("lock"))
    second.do("open", unit.file("lock"))
    scan = Scan.take()
    assert set(members.lock_holders(unit, scan)) == {first.pid, second.pid}
    second.end()
    assert members.lock_holders(unit, scan) == [first.pid]


def test_a_reader_is_none(unit, puppets):
    first, second = puppets
    first.do("lock", unit.file("lock"))
    second.do("read", unit.file("lock"))
    assert members.lock_holders(unit, Scan.take()) == [first.pid]


def test_ourselves_do_not_hide_another(unit, puppets):
    """The operator is no member; its descriptor must not pass for an answer."""
    fd = os.open(unit.file("lock"), os.O_RDWR | os.O_CREAT)
    try:
        scan = Scan.take()
        puppets[0].do("lock", unit.file("lock"))
        assert scan.holders(*_key(fd)) == [puppets[0].pid]
        puppets[0].do("close", unit.file("lock"))
        puppets[1].do("lock", unit.file("lock"))
        assert members.lock_holders(unit, scan) == [puppets[1].pid]
    finally:
        os.close(fd)


def _key(fd: int) -> tuple[int, int]:
    seen = os.fstat(fd)
    return seen.st_dev, seen.st_ino


def test_descriptors_are_read_once_for_all_units(unit, puppets, monkeypatch):
    units = [unit.scope.unit(f"default.bot-{number}") for number in range(5)]
    for one in units:
        one.create()
        puppets[0].do("lock", one.file("lock"))
    looks = []
    read, holds = proc.open_files, proc.holds_file
    monkeypatch.setattr(proc, "open_files", lambda pids: looks.append("all") or read(pids))
    monkeypatch.setattr(proc, "holds_file", lambda *of: looks.append(of[0]) or holds(*of))
    scan = Scan.take()
    assert [members.lock_holders(one, scan) for one in units] == [[puppets[0].pid]] * 5
    assert looks == ["all", *[puppets[0].pid] * 5]
