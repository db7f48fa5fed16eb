"""Snapshots: whole or not at all, the bytes of their hash or none."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mainstay.runtime.base import SnapshotLostError
from mainstay.runtime.effects import hooked
from mainstay.runtime.strategies.snapshots import Snapshots

DATA = b"x = 1\n"
HEX = hashlib.sha256(DATA).hexdigest()
HASH = f"sha256:{HEX}"


class CrashError(BaseException):
    """The operator died here."""


@pytest.fixture
def snapshots(tmp_path) -> Snapshots:
    return Snapshots(tmp_path)


def age(path) -> None:
    os.utime(path, (1e9, 1e9))


def mode(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_kept_and_placed(snapshots, tmp_path) -> None:
    assert not snapshots.has(HASH)
    for _ in range(2):
        snapshots.keep(HASH, "A.py", DATA)
    assert snapshots.has(HASH)
    path = snapshots.place(HASH, "A.py")
    assert path == str(tmp_path / "strategies" / HEX / "A.py")
    assert (tmp_path / "strategies" / HEX / "A.py").read_bytes() == DATA
    assert mode(path) == 0o444
    assert (mode(tmp_path / "strategies"), mode(os.path.dirname(path))) == (0o711, 0o755)
    assert os.listdir(os.path.dirname(path)) == ["A.py"]


def test_modes_whatever_the_umask(snapshots, tmp_path) -> None:
    before = os.umask(0o077)
    try:
        snapshots.keep(HASH, "A.py", DATA)
    finally:
        os.umask(before)
    assert mode(tmp_path / "strategies") == 0o711


def test_placed_under_another_name(snapshots) -> None:
    snapshots.keep(HASH, "A.py", DATA)
    with open(snapshots.place(HASH, "B.py"), "rb") as file:
        assert file.read() == DATA


def test_a_corrupt_one_is_removed_and_another_taken(snapshots) -> None:
    snapshots.keep(HASH, "A.py", DATA)
    path = snapshots.place(HASH, "B.py")
    os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(b"torn")
    with open(snapshots.place(HASH, "B.py"), "rb") as file:
        assert file.read() == DATA


def test_all_corrupt_is_lost(snapshots, tmp_path) -> None:
    snapshots.keep(HASH, "A.py", DATA)
    path = tmp_path / "strategies" / HEX / "A.py"
    path.chmod(0o644)
    path.write_bytes(b"")
    with pytest.raises(SnapshotLostError, match=HEX):
        snapshots.place(HASH, "A.py")
    assert not path.exists()
    assert not snapshots.has(HASH)
    snapshots.keep(HASH, "A.py", DATA)
    assert snapshots.place(HASH, "A.py")


@pytest.mark.parametrize("hook", ["on_before", "on_after"])
def test_a_crash_leaves_all_or_nothing(hook, snapshots) -> None:
    def die(_: str) -> None:
        raise CrashError

    with hooked(**{hook: die}), pytest.raises(CrashError):
        snapshots.keep(HASH, "A.py", DATA)
    assert snapshots.has(HASH) == (hook == "on_after")
    snapshots.keep(HASH, "A.py", DATA)
    assert snapshots.place(HASH, "A.py")


def test_a_temporary_file_is_no_snapshot(snapshots, tmp_path) -> None:
    directory = tmp_path / "strategies" / HEX
    directory.mkdir(parents=True)
    (directory / ".deadbeef.tmp").write_bytes(DATA)
    assert not snapshots.has(HASH)
    with pytest.raises(SnapshotLostError):
        snapshots.place(HASH, "A.py")


@pytest.mark.parametrize("content", ["", HEX, "sha256:", HASH.upper(), HASH + "0", "sha256:../" + "0" * 61])
def test_what_is_no_hash(content, snapshots) -> None:
    for call in (
        lambda: snapshots.has(content),
        lambda: snapshots.keep(content, "A.py", DATA),
        lambda: snapshots.place(content, "A.py"),
    ):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("file", ["", ".", "..", "../A.py", "a/b", "a\0b", ".A.py"])
def test_what_is_no_file(file, snapshots) -> None:
    for call in (lambda: snapshots.keep(HASH, file, DATA), lambda: snapshots.place(HASH, file)):
        with pytest.raises(ValueError):
            call()


def test_other_bytes_are_refused(snapshots) -> None:
    with pytest.raises(ValueError):
        snapshots.keep(HASH, "A.py", b"x = 2\n")


def test_pruned_when_old_and_not_used(snapshots, tmp_path) -> None:
    root = tmp_path / "strategies"
    hashes = []
    for number in range(3):
        data = f"x = {number}\n".encode()
        hashes.append("sha256:" + hashlib.sha256(data).hexdigest())
        snapshots.keep(hashes[-1], "A.py", data)
    for content in hashes[:2]:
        age(root / content[7:])
    for other in ("notes", "0" * 63, "F" * 64):
        (root / other).mkdir()
        age(root / other)
    (root / ("e" * 64)).symlink_to(tmp_path)
    assert snapshots.prune({hashes[0]}) == [hashes[1]]
    assert [snapshots.has(content) for content in hashes] == [True, False, True]
    assert {"notes", "0" * 63, "F" * 64, "e" * 64} < set(os.listdir(root))
    assert not [name for name in os.listdir(root) if name.startswith(".")]


def test_an_interrupted_prune_is_finished_by_the_next(snapshots, tmp_path) -> None:
    def die(_: str) -> None:
        raise CrashError

    root = tmp_path / "strategies"
    snapshots.keep(HASH, "A.py", DATA)
    age(root / HEX)
    with hooked(on_before=die), pytest.raises(CrashError):
        snapshots.prune(())
    assert snapshots.has(HASH)
    (root / HEX).rename(root / f".gone-{HEX}-1")
    assert snapshots.prune(()) == []
    assert os.listdir(root) == []


def test_what_was_just_kept_again_is_young(snapshots, tmp_path) -> None:
    snapshots.keep(HASH, "A.py", DATA)
    age(tmp_path / "strategies" / HEX)
    snapshots.keep(HASH, "A.py", DATA)
    assert snapshots.prune(()) == []


def test_many_at_once(snapshots) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda n: snapshots.keep(HASH, f"A{n}.py", DATA), range(8)))
    assert snapshots.has(HASH)


def test_links_and_directories_are_no_snapshots(snapshots, tmp_path) -> None:
    snapshots.keep(HASH, "A.py", DATA)
    place = tmp_path / "strategies" / HEX
    good = tmp_path / "good.py"
    good.write_bytes(DATA)

    def linked(path) -> None:
        path.symlink_to(good)

    def full(path) -> None:
        path.mkdir()
        (path / "A.py").write_bytes(DATA)

    for make in (linked, full, os.mkfifo, lambda path: path.write_bytes(DATA[:-1])):
        (place / "A.py").unlink()
        make(place / "A.py")
        with pytest.raises(SnapshotLostError):
            snapshots.place(HASH, "A.py")
        assert os.listdir(place) == []
        make(place / "A.py")
        snapshots.keep(HASH, "A.py", DATA)
        snapshots.place(HASH, "B.py")
        (place / "A.py").unlink()
        make(place / "A.py")
        assert (place / "A.py").samefile(snapshots.place(HASH, "A.py"))  # from the other name
        assert stat.S_ISREG(os.lstat(place / "A.py").st_mode)
        assert (place / "A.py").read_bytes() == DATA
        (place / "B.py").unlink()
    assert good.read_bytes() == DATA


@pytest.mark.parametrize("make", [lambda p, to: p.symlink_to(to), lambda p, _: p.touch()])
def test_a_place_that_is_no_directory(make, snapshots, tmp_path) -> None:
    snapshots.keep(HASH, "A.py", DATA)
    root = tmp_path / "strategies"
    (root / HEX).rename(tmp_path / "elsewhere")
    make(root / HEX, tmp_path / "elsewhere")
    assert not snapshots.has(HASH)
    with pytest.raises(SnapshotLostError):
        snapshots.place(HASH, "A.py")
    assert snapshots.prune(()) == []
    snapshots.keep(HASH, "A.py", DATA)
    assert not (root / HEX).is_symlink()
    assert snapshots.place(HASH, "A.py")
    assert os.listdir(tmp_path / "elsewhere") == ["A.py"]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_what_can_not_be_read_now_is_kept(number, snapshots, monkeypatch) -> None:
    snapshots.keep(HASH, "A.py", DATA)
    real = os.open

    def refuse(path, *rest, **named):
        if str(path).endswith("A.py"):
            raise OSError(number, os.strerror(number))
        return real(path, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(OSError, match=os.strerror(number)):
            snapshots.place(HASH, "A.py")
    assert snapshots.place(HASH, "A.py")


@pytest.mark.parametrize("call", ["open", "fsync", "fchmod", "rename"])
def test_a_full_disk_leaves_nothing(call, snapshots, tmp_path, monkeypatch) -> None:
    (tmp_path / "strategies").mkdir()
    real = getattr(os, call)

    def full(first, *rest, **named):
        if call == "fsync" and not os.path.isfile(f"/proc/self/fd/{first}"):
            return real(first)
        if call == "open" and not str(first).endswith(".tmp"):
            return real(first, *rest, **named)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            snapshots.keep(HASH, "A.py", DATA)
    assert os.listdir(tmp_path / "strategies") == []
    assert not snapshots.has(HASH)
    snapshots.keep(HASH, "A.py", DATA)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            snapshots.place(HASH, "B.py")
    assert os.listdir(tmp_path / "strategies" / HEX) == ["A.py"]


def test_a_writer_that_is_killed(snapshots, tmp_path) -> None:
    """In each of its calls to the kernel: whole or not at all, and what it left is removed when it is old."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from mainstay.runtime.strategies.snapshots import Snapshots\n"
        "def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        "setattr(os, sys.argv[1], die)\n"
        f"Snapshots(Path({str(tmp_path)!r})).keep({HASH!r}, 'A.py', {DATA!r})\n"
    )
    for call in ("fchmod", "fsync", "rename"):
        done = subprocess.run([sys.executable, "-c", code, call], env={"PYTHONPATH": "operator"})
        assert done.returncode == -signal.SIGKILL
        assert not snapshots.has(HASH)
    root = tmp_path / "strategies" / HEX
    left = os.listdir(root)
    assert left
    assert all(name.startswith(".") for name in left)
    snapshots.keep(HASH, "A.py", DATA)
    assert set(os.listdir(root)) == {"A.py", *left}  # they may be of somebody who is writing now
    for name in left:
        age(root / name)
    snapshots.place(HASH, "B.py")
    assert set(os.listdir(root)) == {"A.py", "B.py"}


@pytest.mark.parametrize("hook", ["on_before", "on_after"])
def test_a_crash_at_each_effect_of_place(hook, snapshots, tmp_path) -> None:
    def die(_: str) -> None:
        raise CrashError

    snapshots.keep(HASH, "B.py", DATA)
    (tmp_path / "strategies" / HEX / "A.py").write_bytes(b"torn")
    for _ in range(2):
        with hooked(**{hook: die}), pytest.raises(CrashError):
            snapshots.place(HASH, "A.py")
        if hook == "on_before":
            (tmp_path / "strategies" / HEX / "A.py").unlink(missing_ok=True)
    with open(snapshots.place(HASH, "A.py"), "rb") as file:
        assert file.read() == DATA


def test_keep_and_prune_at_once(snapshots, tmp_path) -> None:
    """Whoever was told that it is kept can place it."""
    (tmp_path / "strategies").mkdir()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(200):
            snapshots.keep(HASH, "A.py", DATA)
            age(tmp_path / "strategies" / HEX)
            pruned = pool.submit(snapshots.prune, ())
            pool.submit(snapshots.keep, HASH, "A.py", DATA).result()
            pruned.result()
            assert snapshots.place(HASH, "A.py")


def test_prune_of_no_home(tmp_path) -> None:
    assert Snapshots(tmp_path / "none").prune(()) == []
