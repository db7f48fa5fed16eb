"""Records, logs and the history of exits."""

from __future__ import annotations

import os

import pytest

from mainstay.runtime.process import logs, records
from mainstay.runtime.process.history import History, last_lines
from mainstay.runtime.process.unitdir import ScopeDir


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"a=1\nb=x=y\nend=\n", [("a", "1"), ("b", "x=y")]),
        (b"end=\n", []),
        (b"a=1\nb=2\n", None),
        (b"a=1\nend=", None),
        (b"", None),
    ],
)
def test_torn_records_count_as_absent(raw, expected):
    assert records.decode(raw, "\n") == expected


def test_records_keep_any_text():
    entries = [("a", "x\ny"), ("a", "\udcff"), ("b", "=")]
    assert records.decode(records.encode(entries, "\0"), "\0") == entries
    with pytest.raises(ValueError, match="stored"):
        records.encode([("a", "x\0y")], "\0")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = str(tmp_path / "file")
    records.write(path, b"old")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        records.write(path, b"new")
    assert records.read(path) == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_sweep_takes_old_leftovers_and_no_harm_from_files_that_go(tmp_path, monkeypatch):
    """Two operators of one home: what one lists, the other has just renamed."""
    old, young, gone = (tmp_path / f"{name}.tmp" for name in ("old", "young", "gone"))
    for path in (old, young, gone):
        path.touch()
    os.utime(old, (0, 0))
    listed = list(os.scandir(tmp_path))
    gone.unlink()
    monkeypatch.setattr(os, "scandir", lambda _: iter(listed))
    records.sweep(str(tmp_path))
    assert not old.exists()
    assert young.exists()


def test_rotation_keeps_three_and_the_descriptor(tmp_path):
    path = str(tmp_path / "stdout.log")
    with open(path, "ab", buffering=0) as log:
        for number in range(5):
            log.write(b"%d" % number * 20)
            assert logs.rotate(path, size=10)
        log.write(b"last")
    assert not logs.rotate(path, size=10)
    kept = {name: (tmp_path / name).read_bytes()[:1] for name in os.listdir(tmp_path)}
    assert kept == {"stdout.log": b"l", "stdout.log.1": b"4", "stdout.log.2": b"3", "stdout.log.3": b"2"}
    assert (tmp_path / "stdout.log.1").stat().st_mode & 0o077 == 0


def test_a_full_disk_drops_the_oldest_backups_first(tmp_path, monkeypatch):
    scope = ScopeDir(tmp_path, "runs")
    unit = scope.unit("default.bot")
    unit.create()
    for age, name in enumerate(("stdout.log", "stdout.log.1", "stderr.log.2", "stdout.log.3")):
        path = f"{unit.logs}/{name}"
        records.write(path, b"x")
        os.utime(path, (1000 - age, 1000 - age))
    free = iter([0.01, 0.01, 0.01, 0.06])
    monkeypatch.setattr(logs, "free_part", lambda _: next(free))
    assert logs.drop_oldest(scope) == 2
    assert sorted(os.listdir(unit.logs)) == ["stdout.log", "stdout.log.1"]


def test_history_follows_rotation(tmp_path):
    log = tmp_path / "supervisord.log"
    history = History(str(log))
    assert history.end_of("a", 1) == (None, None)
    log.write_text(
        "2026 INFO spawned: 'a' with pid 1\n"
        "2026 WARN exited: a (exit status 3; not expected)\n"
        "2026 INFO spawned: 'a' with pid 2\n"
    )
    assert history.end_of("a", 1) == (3, None)
    assert history.end_of("a", 2) == (None, None)
    with log.open("a") as file:
        file.write("2026 WARN stopped: a (terminated by SIGKILL)\n2026 INFO spawned: 'a.b' with pid 3\n")
    os.rename(log, f"{log}.1")
    log.write_text("2026 INFO exited: a.b (terminated by SIGSEGV (core dumped); not expected)\n")
    assert history.end_of("a", 2) == (None, 9)
    assert history.end_of("a.b", 3) == (None, 11)


def test_last_lines(tmp_path):
    path = str(tmp_path / "stderr.log")
    assert last_lines(path, 0) == ()
    with open(path, "wb") as file:
        file.write(b"before\n")
        start = file.tell()
        file.write(b"\n".join(b"%d " % number + b"x" * 500 for number in range(9)) + b"\n\xff\n")
    lines = last_lines(path, start)
    assert [line[:2] for line in lines] == ["5 ", "6 ", "7 ", "8 ", "�"]
    assert max(map(len, lines)) == 400
    assert last_lines(path, 0, start) == ("before",)
    assert last_lines(path, 10**9)[-1] == "�"
