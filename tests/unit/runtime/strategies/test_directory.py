"""What counts of a directory, and what is said of the rest."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import time
from pathlib import Path

import pytest

from mainstay.core import reasons
from mainstay.core.strategy.views import DirectorySource
from mainstay.runtime.base import SourceChangedError
from mainstay.runtime.strategies.directory import Directory


def of(path: Path, **rules) -> Directory:
    return Directory(DirectorySource(str(path), **rules))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def sock(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(path))


def outside(path: Path) -> None:
    (path.parent.parent / "elsewhere.py").write_text("x = 1\n")
    path.symlink_to("../elsewhere.py")


PROBLEMS = {
    "a dot in the stem": ("a.b.py", Path.touch, reasons.NAME_INVALID),
    "a space": ("a b.py", Path.touch, reasons.NAME_INVALID),
    "a newline": ("a\nb.py", Path.touch, reasons.NAME_INVALID),
    "no UTF-8": (os.fsdecode(b"\xff.py"), Path.touch, reasons.NAME_INVALID),
    "another alphabet": ("стратегия.py", Path.touch, reasons.NAME_INVALID),
    "a long name": ("a" * 101 + ".py", Path.touch, reasons.NAME_INVALID),
    "a link outside": ("A.py", outside, reasons.SYMLINK_ESCAPES),
    "a link to nothing": ("A.py", lambda p: p.symlink_to("none"), reasons.FILE_UNREADABLE),
    "a link to itself": ("A.py", lambda p: p.symlink_to("A.py"), reasons.FILE_UNREADABLE),
    "a pipe": ("A.py", pipe, reasons.NOT_A_FILE),
    "a large file": ("A.py", lambda p: p.write_bytes(b"#" * 101), reasons.FILE_TOO_LARGE),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_problems(case, tmp_path) -> None:
    file, make, reason = PROBLEMS[case]
    source = tmp_path / "source"
    source.mkdir()
    make(source / file)
    listing = of(source, max_bytes=100).scan()
    assert not listing.files
    (problem,) = listing.problems
    assert problem.reason == reason
    assert problem.file.isprintable()
    assert len(problem.file) <= 253
    assert problem.message.isprintable()


def test_a_directory_is_not_a_file(tmp_path) -> None:
    (tmp_path / "A.py").mkdir()
    directory = of(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    listings = [directory.scan() for _ in range(10)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert [p.reason for p in listings[0].problems] == [reasons.NOT_A_FILE]


def test_a_socket_is_not_a_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    sock(tmp_path / "A.py")
    assert [p.reason for p in of(tmp_path).scan().problems] == [reasons.NOT_A_FILE]


def test_hidden_files_and_others_are_nobodys(tmp_path) -> None:
    for file in ("__init__.py", ".A.py", "#A.py#", "A.py~", "A.txt", "A.PY", "A.py.swp", "A.py"):
        (tmp_path / file).write_text("x = 1\n")
    (tmp_path / ".#A.py").symlink_to("me@host.1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "B.py").touch()
    listing = of(tmp_path).scan()
    assert (set(listing.files), listing.problems, listing.error) == ({"A"}, (), None)


def test_what_is_said_of_a_file(tmp_path) -> None:
    (tmp_path / "A.py").write_bytes(b"x = 1\n")
    os.utime(tmp_path / "A.py", (5, 5))
    view = of(tmp_path).scan().files["A"]
    assert view.file == "A.py"
    assert view.hash == "sha256:" + hashlib.sha256(b"x = 1\n").hexdigest()
    assert view.md5 == hashlib.md5(b"x = 1\n").hexdigest()
    assert (view.size, view.modified_at) == (6, 5.0)


def test_the_first_of_a_name_counts(tmp_path) -> None:
    for file in ("a.pyi", "a.py"):
        (tmp_path / file).touch()
    listing = of(tmp_path, include=("*.py", "*.pyi")).scan()
    assert listing.files["a"].file == "a.py"
    assert [(p.file, p.reason) for p in listing.problems] == [("a.pyi", reasons.NAME_COLLISION)]


def test_more_files_than_a_library_may_have(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mainstay.runtime.strategies.directory.FILES_MAX", 3)
    for number in range(5):
        (tmp_path / f"A{number}.py").touch()
    listing = of(tmp_path).scan()
    assert set(listing.files) == {"A0", "A1", "A2"}
    assert [p.reason for p in listing.problems] == [reasons.TOO_MANY_FILES]


def test_a_directory_that_is_none(tmp_path) -> None:
    assert of(tmp_path / "none").scan().error[0] == reasons.DIRECTORY_NOT_FOUND
    (tmp_path / "file").touch()
    assert of(tmp_path / "file").scan().error[0] == reasons.DIRECTORY_UNREADABLE


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_must_not_be_read(number, tmp_path, monkeypatch) -> None:
    (tmp_path / "A.py").touch()
    (tmp_path / "B.py").touch()
    real = os.open

    def refuse(path, *rest, **named):
        if str(path).endswith("A.py"):
            raise OSError(number, os.strerror(number))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)
    listing = of(tmp_path).scan()
    assert set(listing.files) == {"B"}
    assert listing.problems[0].reason == reasons.FILE_UNREADABLE
    assert os.strerror(number) in listing.problems[0].message


def test_a_file_that_vanishes_is_not_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "listdir", lambda _: ["A.py"])
    listing = of(tmp_path).scan()
    assert (listing.files, listing.problems, listing.error) == ({}, (), None)


def test_only_what_changed_is_read_again(tmp_path, monkeypatch) -> None:
    for name in "ABC":
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    time.sleep(0.15)
    directory = of(tmp_path)
    directory.scan()
    (tmp_path / "B.py").write_text("x = 2\n")
    real, reads = os.open, []

    def count(path, *rest, **named):
        reads.append(os.path.basename(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", count)
    directory.scan()
    assert reads == ["B.py"]
    directory.scan()
    assert reads == ["B.py", "B.py"]  # it was written just before it was read
    time.sleep(0.15)
    directory.scan()
    directory.scan()
    assert reads == ["B.py"] * 3


def test_a_racy_edit_is_seen(tmp_path) -> None:
    path = tmp_path / "A.py"
    directory = of(tmp_path)
    for number in range(200):
        path.write_text(f"x = {number:04}\n")
        os.utime(path, (5, 5))
        assert directory.scan().files["A"].hash == (
            "sha256:" + hashlib.sha256(f"x = {number:04}\n".encode()).hexdigest()
        )


def test_bytes_are_those_that_were_seen(tmp_path) -> None:
    directory = of(tmp_path)
    (tmp_path / "A.py").write_bytes(b"x = 1\n")
    view = directory.scan().files["A"]
    assert directory.bytes_of(view) == b"x = 1\n"
    (tmp_path / "A.py").write_bytes(b"x = 2\n")
    with pytest.raises(SourceChangedError):
        directory.bytes_of(view)
    (tmp_path / "A.py").unlink()
    with pytest.raises(SourceChangedError):
        directory.bytes_of(view)
