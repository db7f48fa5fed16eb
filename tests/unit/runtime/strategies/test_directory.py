"""What counts of a directory, and what is said of the rest."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
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


@pytest.mark.parametrize(
    "file",
    [
        "-a.py",
        "é.py",
        "\u0430.py",
        "a\u200b.py",
        "a\t.py",
        "a\x1b[31m.py",
        "a" * 250 + ".py",
        "a.py.py",
        "a:b.py",
    ],
)
def test_names_that_look_like_others(file, tmp_path) -> None:
    try:
        (tmp_path / file).touch()
    except OSError:
        pytest.skip("a name that this file system doesn't take")
    listing = of(tmp_path).scan()
    assert not listing.files
    assert [p.reason for p in listing.problems] == [reasons.NAME_INVALID]
    assert listing.problems[0].file.isprintable()
    assert listing.problems[0].message.isprintable()


def test_the_longest_name(tmp_path) -> None:
    (tmp_path / ("a" * 100 + ".py")).touch()
    assert set(of(tmp_path).scan().files) == {"a" * 100}


def test_a_device_is_not_opened(tmp_path, monkeypatch) -> None:
    try:
        os.mknod(tmp_path / "A.py", 0o644 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero has no end
    except PermissionError:
        pytest.skip("not root")
    monkeypatch.setattr(os, "open", lambda *_, **__: pytest.fail("opened"))
    assert [p.reason for p in of(tmp_path).scan().problems] == [reasons.NOT_A_FILE]


@pytest.mark.parametrize("target", ["sub", "/dev/zero", "..", ".", "sub/../../x.py"])
def test_links_to_what_is_no_file(target, tmp_path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (tmp_path / "x.py").touch()
    (source / "A.py").symlink_to(target)
    (problem,) = of(source).scan().problems
    assert problem.reason == (reasons.NOT_A_FILE if target in {"sub", "."} else reasons.SYMLINK_ESCAPES)


def test_a_directory_whose_name_begins_the_same_is_outside(tmp_path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source-2").mkdir()
    (tmp_path / "source-2" / "A.py").touch()
    (tmp_path / "source" / "A.py").symlink_to("../source-2/A.py")
    (problem,) = of(tmp_path / "source").scan().problems
    assert problem.reason == reasons.SYMLINK_ESCAPES


def test_links_inside_count(tmp_path) -> None:
    (tmp_path / "..1").mkdir()
    (tmp_path / "..1" / "A.py").write_bytes(b"x = 1\n")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "A.py").symlink_to("..data/A.py")
    (tmp_path / "B.py").symlink_to("A.py")
    (tmp_path / "C.py").symlink_to(tmp_path / "A.py")
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    for path in (tmp_path, link):
        directory = of(path)
        listing = directory.scan()
        assert (set(listing.files), listing.problems) == ({"A", "B", "C"}, ())
        assert directory.bytes_of(listing.files["B"]) == b"x = 1\n"


@pytest.mark.parametrize(("size", "fits"), [(0, True), (99, True), (100, True), (101, False)])
def test_sizes(size, fits, tmp_path) -> None:
    (tmp_path / "A.py").write_bytes(b"#" * size)
    assert ("A" in of(tmp_path, max_bytes=100).scan().files) == fits


def test_a_file_that_grows_while_it_is_read(tmp_path, monkeypatch) -> None:
    path = tmp_path / "A.py"
    path.write_bytes(b"#" * 50)
    real, calls = os.fstat, []

    def grow(descriptor):
        if stat.S_ISREG(real(descriptor).st_mode) and not (calls.append(1) or len(calls) % 2):
            with path.open("ab") as file:  # between reading it and looking again
                file.write(b"#" * 20)
        return real(descriptor)

    directory = of(tmp_path, max_bytes=100)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", grow)
        listing = directory.scan()
    assert [p.reason for p in listing.problems] == [reasons.FILE_TOO_LARGE]
    path.write_bytes(b"#" * 50)
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda descriptor: grow(descriptor) if not calls else real(descriptor))
        assert directory.scan().files["A"].size == 50
    path.write_bytes(b"#" * 10)
    view = directory.scan().files["A"]
    assert view.hash == "sha256:" + hashlib.sha256(b"#" * 10).hexdigest()


def test_who_can_not_be_read_keeps_its_name(tmp_path) -> None:
    """Else a file that grows too large is replaced by another of its name, which runs take up."""
    (tmp_path / "A.py").write_bytes(b"#" * 101)
    (tmp_path / "A.pyi").write_bytes(b"x = 1\n")
    listing = of(tmp_path, max_bytes=100, include=("*.py", "*.pyi")).scan()
    assert not listing.files
    assert [p.reason for p in listing.problems] == [reasons.FILE_TOO_LARGE, reasons.NAME_COLLISION]


def test_the_library_may_be_as_large_as_said(tmp_path) -> None:
    for number in range(5003):
        (tmp_path / f"A{number:04}.py").touch()
    listing = of(tmp_path).scan()
    assert len(listing.files) == 5000
    assert [(p.file, p.reason) for p in listing.problems] == [("A5000.py", reasons.TOO_MANY_FILES)]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_directory_that_must_not_be_read(number, tmp_path, monkeypatch) -> None:
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "listdir", refuse)
    reason, words = of(tmp_path).scan().error
    assert reason == reasons.DIRECTORY_UNREADABLE
    assert os.strerror(number) in words


@pytest.mark.parametrize("path", ["/\0", "/" + "a" * 300, "/dev/null"])
def test_paths_that_can_not_be(path) -> None:
    assert of(Path(path)).scan().error[0] == reasons.DIRECTORY_UNREADABLE


def test_links_that_go_round(tmp_path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert of(tmp_path / "loop").scan().error is not None


@pytest.mark.parametrize("replaced", [True, False])
def test_a_directory_that_goes_away_in_the_middle(replaced, tmp_path, monkeypatch) -> None:
    """Its files are not gone one by one: that would end every strategy."""
    source = tmp_path / "source"
    source.mkdir()
    for name in "ABC":
        (source / f"{name}.py").write_text("x = 1\n")
    directory = of(source)
    real = os.listdir

    def then_it_goes(path):
        monkeypatch.setattr(os, "listdir", real)
        found = real(path)
        source.rename(tmp_path / "old")
        if replaced:
            source.mkdir()
            (source / "D.py").write_text("x = 1\n")
        return found

    monkeypatch.setattr(os, "listdir", then_it_goes)
    listing = directory.scan()
    if replaced:
        assert (set(listing.files), listing.error) == ({"D"}, None)
    else:
        assert listing.error[0] == reasons.DIRECTORY_NOT_FOUND


def test_a_link_that_is_swapped_while_it_is_read_is_no_dead_link(tmp_path, monkeypatch) -> None:
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "A.py").write_text(f"x = {number}\n")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "A.py").symlink_to("..data/A.py")
    real = os.open

    def swapped(path, *rest, **named):
        monkeypatch.setattr(os, "open", real)
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        shutil.rmtree(tmp_path / "..1")
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", swapped)
    listing = of(tmp_path).scan()
    assert listing.problems == ()
    assert listing.files["A"].hash == "sha256:" + hashlib.sha256(b"x = 2\n").hexdigest()


def test_an_edit_that_hides_is_seen(tmp_path) -> None:
    """As many bytes, and the time of before: the inode's own time tells, however long ago it was read."""
    path = tmp_path / "A.py"
    path.write_bytes(b"x = 1\n")
    os.utime(path, (5, 5))
    directory = of(tmp_path)
    time.sleep(0.12)
    for _ in range(2):
        first = directory.scan().files["A"]
    path.write_bytes(b"x = 2\n")
    os.utime(path, (5, 5))
    second = directory.scan().files["A"]
    assert (first.modified_at, first.size) == (second.modified_at, second.size)
    assert first.hash != second.hash
    fresh = tmp_path / ".new"
    fresh.write_bytes(b"x = 3\n")
    os.utime(fresh, (5, 5))
    fresh.rename(path)
    assert directory.scan().files["A"].md5 == hashlib.md5(b"x = 3\n").hexdigest()


def test_two_threads_may_scan_at_once(tmp_path) -> None:
    for number in range(100):
        (tmp_path / f"A{number}.py").touch()
    directory = of(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        listings = list(pool.map(lambda _: directory.scan(), range(40)))
    assert {len(listing.files) for listing in listings} == {100}


def test_bytes_outside_are_never_given(tmp_path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "A.py").write_bytes(b"x = 1\n")
    directory = of(source)
    view = directory.scan().files["A"]
    (source / "A.py").rename(tmp_path / "A.py")
    (source / "A.py").symlink_to("../A.py")
    with pytest.raises(SourceChangedError):
        directory.bytes_of(view)


def test_what_is_being_written_counts_as_it_was_until_it_is_still(tmp_path, monkeypatch) -> None:
    path = tmp_path / "A.py"
    path.write_text("x = 1\n")
    directory = Directory(DirectorySource(str(tmp_path)), still_seconds=60.0)
    before = directory.scan().files["A"]
    assert before.size == 6, "what was never read is read at once"
    path.write_text("x = 1\ndef half(")
    (tmp_path / "B.py").write_text("y = 1\n")
    listing = directory.scan()
    assert listing.files["A"] == before
    assert set(listing.files) == {"A", "B"}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert directory.scan().files["A"].size == 15
