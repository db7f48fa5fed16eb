"""What only the operator can see to be wrong: said in a status, the others untouched, supervisord still rereads."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.strategies.judge import Judge
from tests.integration.strategies.shop import Shop, code, digest, same, told
from tests.support.stage import condition, eventually, ready

from mainstay.shell.kube import LIBRARIES, STRATEGIES

pytestmark = pytest.mark.xdist_group("strategies")

EMA = code("Ema")


@pytest.fixture(autouse=True)
def judged(shop: Shop) -> Iterator[Judge]:
    with Judge(shop.stage) as judge:
        yield judge
        shop.clear()
    judge.verdict()


@contextlib.contextmanager
def untouched(shop: Shop, name: str = "main") -> Iterator[Path]:
    """A library with a bot that nothing happens to; at the end an edit of it and another bot come through."""
    directory = shop.library(name, files={"Ema.py": EMA}, rescanSeconds=1)
    shop.server("calm", name, "Ema")
    shop.runs(EMA, "calm")
    before = shop.lives("calm")
    yield directory
    same(before, shop.lives("calm"))
    shop.change(LIBRARIES, name, {"source": {"directory": str(directory)}})
    (directory / "Ema.py").write_text(code("Ema", 2))
    shop.runs(code("Ema", 2), "calm")
    shop.sleeper("later", name, "Ema")
    shop.runs(code("Ema", 2), "later")


def problems(shop: Shop, name: str = "main") -> dict[str, tuple[str, str]]:
    """File → (reason, message)."""
    status = (shop.get(LIBRARIES, name) or {}).get("status") or {}
    return {p["file"]: (p["reason"], p["message"]) for p in status.get("problems") or []}


def touch(path: Path) -> None:
    path.write_text("x = 1\n")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def linked(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def sized(size: int) -> Callable[[Path], None]:
    """There at once: one that grows is a strategy first, and then a bad edit of it."""

    def make(path: Path) -> None:
        fresh = path.with_name(f".{path.name}")
        fresh.write_bytes(b"#" * size)
        fresh.rename(path)

    return make


def looping(path: Path) -> None:
    other = path.with_name(".other")
    other.unlink(missing_ok=True)
    other.symlink_to(path.name)
    path.symlink_to(other.name)


LONG = "a" * 251 + ".py"
ODD: dict[str, tuple[Callable[[Path], None], str, str]] = {
    # file → how it is made, reason, words
    "Еma.py": (touch, "NameInvalid", "letters, digits"),
    "a b.py": (touch, "NameInvalid", "rename"),
    "new\nline.py": (touch, "NameInvalid", "rename"),
    "[x]\r; % #.py": (touch, "NameInvalid", "rename"),
    "$(id).py": (touch, "NameInvalid", "rename"),
    "-rf.py": (touch, "NameInvalid", "rename"),
    "a.b.py": (touch, "NameInvalid", "rename"),
    "..x.py": (touch, "", ""),  # hidden
    "_lib.py": (touch, "", ""),
    "Ema.txt": (touch, "", ""),  # not included
    LONG: (touch, "NameInvalid", "at most 100"),
    "\udcff\udcfe.py": (touch, "NameInvalid", "rename"),
    "Pipe.py": (fifo, "NotAFile", "no regular file"),
    "Sock.py": (bound, "NotAFile", "no regular file"),
    "Folder.py": (Path.mkdir, "NotAFile", "no regular file"),
    "Passwd.py": (linked("/etc/passwd"), "SymlinkEscapes", "outside"),
    "Climbs.py": (linked("../../lib/main/../../judge/journal"), "SymlinkEscapes", "outside"),
    "Zero.py": (linked("/dev/zero"), "SymlinkEscapes", "outside"),
    "Dangles.py": (linked("nowhere.py"), "FileUnreadable", "link to nothing"),
    "Loop.py": (looping, "FileUnreadable", "circle"),
    "Self.py": (linked("Self.py"), "FileUnreadable", "circle"),
    "Here.py": (linked("."), "NotAFile", "no regular file"),
    "Big.py": (sized(10_000_000), "FileTooLarge", "10000000 bytes"),
    "Over.py": (sized(262_145), "FileTooLarge", "maxFileBytes"),
    "ema.py": (touch, "NameCollision", "Ema.py"),
}


def test_what_a_directory_may_have(shop: Shop) -> None:
    """All at once, then gone again."""
    with untouched(shop) as directory:
        for file, (make, _, _) in ODD.items():
            make(directory / file)
        (directory / "Good.py").write_text(code("Good"))
        shop.server("good", "main", "Good")
        shop.runs(code("Good"), "good")
        wanted = {file: told for file, told in ODD.items() if told[1]}
        shop.until(LIBRARIES, "main", lambda o: (o["status"].get("problemCount") or 0) == len(wanted))
        library = shop.until(LIBRARIES, "main", lambda o: told(o)[0] == "False")
        assert len(library["status"]["problems"]) == min(20, len(wanted))
        assert f"and {len(wanted) - 1} more" in condition(library)["message"]
        assert set(shop.strategies("main")) == {"Ema", "Good"}
        for file in wanted:
            remove(directory / file)
        shop.until(LIBRARIES, "main", lambda o: told(o) == ("True", "Offered"))
        assert set(shop.strategies("main")) == {"Ema", "Good"}
        # in two halves, as only the first are shown: each with its reason
        half = sorted(wanted)[::2]
        for some in (half, sorted(set(wanted) - set(half))):
            for file in some:
                wanted[file][0](directory / file)
            count = len(some)
            shop.until(LIBRARIES, "main", lambda o, n=count: o["status"].get("problemCount") == n)
            found = problems(shop)
            wrong = {s: t for s, t in found.items() if s in wanted and t[0] != wanted[s][1]}
            assert not wrong, wrong
            assert sorted(reason for reason, _ in found.values()) == sorted(wanted[f][1] for f in some), found
            for shown, (_, words) in found.items():
                assert shown.isprintable()
                assert shown not in wanted or wanted[shown][2] in words, (shown, words)
            for file in some:
                remove(directory / file)
            shop.until(LIBRARIES, "main", lambda o: told(o) == ("True", "Offered"))


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()


CONTENTS: dict[str, tuple[bytes, str]] = {
    "Empty": (b"", "empty"),
    "Nul": (b"x = 1\0\n", "NUL bytes"),
    "Latin": ("# ü\nx = 'ü'\n".encode("latin-1"), "line 2"),
    "Deep": (b"x = " + b"(" * 5000 + b")" * 5000, "nested"),
    "Indent": (b"def f():\nreturn 1\n", "line 2"),
    "Coding": (b"# coding: no-such-thing\nx = 1\n", "unknown encoding"),
}


def test_what_a_file_may_have(shop: Shop) -> None:
    """Each is an object that says what is wrong, and offers nothing."""
    with untouched(shop) as directory:
        for name, (data, _) in CONTENTS.items():
            (directory / f"{name}.py").write_bytes(data)
        shop.server("nul", "main", "Nul")
        words = condition(shop.says("nul", reason="StrategyInvalid"))["message"]
        assert "Nul" in words
        for name, (_, wrong) in CONTENTS.items():
            obj = shop.until(
                STRATEGIES, f"main.{name.lower()}", lambda o: told(o) == ("False", "StrategyInvalid")
            )
            assert obj["status"]["valid"] is False
            assert "revision" not in obj["status"]
            assert wrong in condition(obj)["message"], condition(obj)["message"]
        shop.until(LIBRARIES, "main", lambda o: o["status"].get("invalid") == len(CONTENTS))
        assert told(shop.get(LIBRARIES, "main") or {})[0] == "True"


def test_a_file_that_may_not_be_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the call itself refuses."""
    real = os.open

    def refuses(path: Any, *more: Any, **options: Any) -> int:
        if str(path).endswith("/Secret.py"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *more, **options)

    monkeypatch.setattr(os, "open", refuses)
    with untouched(shop) as directory:
        touch(directory / "Secret.py")
        shop.until(LIBRARIES, "main", lambda o: told(o) == ("False", "FileUnreadable"))
        assert problems(shop) == {"Secret.py": ("FileUnreadable", "can't be read: Permission denied")}
        monkeypatch.undo()
        shop.until(LIBRARIES, "main", lambda o: told(o) == ("True", "Offered"))
        assert set(shop.strategies("main")) == {"Ema", "Secret"}


def test_who_waits_for_a_reader_of_a_pipe_goes_on_waiting(shop: Shop) -> None:
    """A look has no effect on what is looked at: a pipe, or a device such as a watchdog, is never opened."""
    with untouched(shop) as directory:
        pipe = directory / "Pipe.py"
        fifo(pipe)
        opened = threading.Event()

        def write() -> None:
            with contextlib.suppress(OSError), open(pipe, "wb", buffering=0):
                opened.set()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        shop.until(LIBRARIES, "main", lambda o: told(o) == ("False", "NotAFile"))
        touch(directory / "Another.py")
        shop.until(LIBRARIES, "main", lambda o: o["status"]["strategies"] == 2)
        assert not opened.wait(0.1)
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        writer.join(5)
        pipe.unlink()


ELSEWHERE: dict[str, tuple[str, str]] = {
    "nowhere/at/all": ("False", "DirectoryNotFound"),
    "judge/a-file": ("False", "DirectoryUnreadable"),
    "/proc": ("True", "Offered"),
    "/dev": ("True", "Offered"),
    "/proc/self/fd": ("True", "Offered"),
}


@pytest.mark.parametrize("where", ELSEWHERE)
def test_another_directory(shop: Shop, where: str) -> None:
    """What can't be read changes nothing; where there are no strategies, the last code goes on."""
    (shop.stage.judge / "a-file").write_text("x")
    with untouched(shop):
        shop.change(LIBRARIES, "main", {"source": {"directory": where}})
        generation = (shop.get(LIBRARIES, "main") or {})["metadata"]["generation"]
        library = shop.until(
            LIBRARIES,
            "main",
            lambda o: condition(o).get("observedGeneration") == generation and told(o) == ELSEWHERE[where],
        )
        if ELSEWHERE[where][0] == "False":
            assert set(shop.strategies("main")) == {"Ema"}
            assert "stays as it is" in condition(library)["message"]
        else:
            shop.says("calm", reason="LastGoodInUse")
        assert ready("Running")(shop.run("calm"))


@pytest.mark.parametrize("where", ["/proc", "/dev", "/sys/kernel"])
def test_everything_in_a_directory_of_the_system(shop: Shop, where: str) -> None:
    """Told as problems, and done with at once; nothing of it is offered that changes by itself."""
    with untouched(shop):
        body = {"source": {"directory": where}, "include": ["*"], "rescanSeconds": 60}
        shop.make("StrategyLibrary", LIBRARIES, "system", body)
        shop.until(LIBRARIES, "system", lambda o: told(o)[0] in ("True", "False"))
        shop.delete(LIBRARIES, "system")
        eventually(lambda: not shop.strategies("system"))


def test_two_libraries_on_one_directory(shop: Shop) -> None:
    with untouched(shop) as directory:
        shop.make(
            "StrategyLibrary",
            LIBRARIES,
            "second",
            {"source": {"directory": str(directory)}, "debounceMilliseconds": 30, "default": "Safe"},
        )
        shop.server("other", "second", "Ema")
        shop.runs(EMA, "other")
        (directory / "Safe.py").write_text(code("Safe"))
        for library in ("main", "second"):
            shop.offers(library, {"Ema": EMA, "Safe": code("Safe")})
        assert len(shop.stage.client.items(STRATEGIES)) == 4
        other = shop.lives("other")
        shop.delete(LIBRARIES, "second")
        shop.says("other", reason="LastGoodInUse")
        shop.offers("main", {"Ema": EMA, "Safe": code("Safe")})
        same(other, shop.lives("other"))


def test_strategies_made_by_hand(shop: Shop) -> None:
    """A file of the library under another name, a name that is taken, an object name that is taken."""
    with untouched(shop) as directory:
        shop.strategy("by-hand", library="main", name="Other", source={"file": {"path": "Ema.py"}})
        shop.until(STRATEGIES, "by-hand", lambda o: told(o) == ("False", "SourceMissing"))
        shop.strategy("no-library", library="nowhere", name="Ema", source={"file": {"path": "Ema.py"}})
        shop.until(STRATEGIES, "no-library", lambda o: told(o) == ("False", "SourceMissing"))
        shop.strategy("second", library="main", name="Ema", source={"inline": code("Ema", "false")})
        shop.until(STRATEGIES, "second", lambda o: told(o) == ("False", "NameCollision"))
        shop.strategy("main.taken", library="main", name="Mine", source={"inline": code("Mine")})
        (directory / "Taken.py").write_text(code("Taken"))
        shop.until(LIBRARIES, "main", lambda o: told(o) == ("False", "NameCollision"))
        assert problems(shop).keys() == {"Taken.py"}
        shop.server("mine", "main", "Mine")
        shop.runs(code("Mine"), "mine")
        shop.server("taken", "main", "Taken")
        shop.stage.until("taken", lambda o: told(o)[1] in ("StrategyNotFound", "StrategyPending"))
        shop.delete(STRATEGIES, "main.taken")
        shop.runs(code("Taken"), "taken")
        shop.says("mine", reason="LastGoodInUse")


def test_revisions_that_are_none(shop: Shop) -> None:
    """One that never was, and one of another strategy: a name never runs the code of another."""
    with untouched(shop) as directory:
        (directory / "Rsi.py").write_text(code("Rsi"))
        shop.offers("main", {"Ema": EMA, "Rsi": code("Rsi")})
        shop.server("never", "main", "Ema", ref={"revision": "sha256:" + "0" * 64})
        shop.server("theirs", "main", "Ema", ref={"revision": digest(code("Rsi"))})
        shop.server("nobody", "main", "Nobody", ref={"revision": digest(code("Rsi"))})
        for name in ("never", "theirs", "nobody"):
            run = shop.stage.until(name, lambda o: told(o) == ("False", "RevisionNotFound"))
            assert run["status"]["phase"] == "Pending"
            assert told(run, "Stalled")[0] == "True"
        shop.stage.patch("calm", strategy={"revision": digest(code("Rsi"))})
        shop.says("calm", reason="RevisionNotFound")
        shop.stage.patch("calm", strategy={"revision": None})
        shop.says("calm", reason="InUse", resolved=True)
        shop.stage.patch("theirs", strategy={"revision": digest(EMA)})
        shop.runs(EMA, "theirs")


def test_half_a_limit_is_one_at_a_time(shop: Shop) -> None:
    bots = ("a", "b", "c")
    directory = shop.library("main", files={"Ema.py": EMA}, rollout={"maxUnavailable": "0%"})
    for name in bots:
        shop.sleeper(name, "main", "Ema")
    shop.runs(EMA, *bots)
    (directory / "Ema.py").write_text(code("Ema", 2))
    shop.runs(code("Ema", 2), *bots)


def test_many_files_at_once(shop: Shop) -> None:
    """Ten thousand that don't count, and 400 that can't be named: nothing is written for each."""
    with untouched(shop) as directory:
        for number in range(10_000):
            (directory / f"{number}.txt").touch()
        for number in range(400):
            (directory / f"x {number}.py").touch()
        library = shop.until(LIBRARIES, "main", lambda o: o["status"].get("problemCount") == 400)
        assert len(library["status"]["problems"]) == 20
        assert len(shop.stage.client.items(STRATEGIES)) == 1


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_five_thousand_files_and_one_more(shop: Shop) -> None:
    with untouched(shop) as directory:
        for number in range(4999):
            (directory / f"S{number:04}.py").write_text(code(f"S{number:04}"))
        eventually(lambda: len(shop.strategies("main")) == 5000, "5000 strategies", 600)
        (directory / "ZLast.py").write_text(code("ZLast"))
        shop.until(LIBRARIES, "main", lambda o: told(o) == ("False", "TooManyFiles"))
        assert "ZLast" not in shop.strategies("main")
        (directory / "S0000.py").unlink()
        eventually(lambda: "ZLast" in shop.strategies("main"), "the last", 60)
        for number in range(1, 4999):
            (directory / f"S{number:04}.py").unlink()
        eventually(lambda: set(shop.strategies("main")) == {"Ema", "ZLast"}, "what is left", 600)
