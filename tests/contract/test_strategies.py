"""The contract of Shelf, the same for both of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.harness import eventually

from mainstay.core import reasons
from mainstay.core.strategy.views import DirectorySource, FileView
from mainstay.runtime.base import Shelf, SnapshotLostError, SourceChangedError
from mainstay.runtime.effects import hooked
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.runtime.strategies import Shelf as RealShelf

KEY = ("trading", "main")
OTHER = ("trading", "other")
DATA = b"x = 1\n"


def hash_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class CrashError(BaseException):
    """The operator died here."""


class Place:
    """A shelf, a directory for it, and what it told."""

    shelf: Shelf
    path: str

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self._listening = asyncio.create_task(self._listen())

    def write(self, files: dict[str, bytes | None] | None) -> None:
        raise NotImplementedError

    def age(self) -> None:
        """What is kept was kept long ago."""

    async def begin_again(self) -> None:
        """The operator died, and is started again."""

    def watch(self, key: tuple[str, str] = KEY, **rules) -> None:
        self.shelf.watch(key, DirectorySource(self.path, debounce_seconds=0.05, **rules))

    async def tells(self, key: tuple[str, str] = KEY) -> None:
        await eventually(lambda: key in self.told, 3)

    async def lists(self, **files: bytes) -> None:
        """Sooner or later, by what is told alone."""

        async def same() -> bool:
            listing = await self.shelf.listing(KEY)
            wanted = {name: hash_of(data) for name, data in files.items()}
            return {name: view.hash for name, view in listing.files.items()} == wanted

        await eventually(same, 3)

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        async for key in self.shelf.changes():
            self.told.append(key)


class FakePlace(Place):
    def __init__(self) -> None:
        self.shelf: FakeShelf = FakeShelf()
        self.path = "/srv/strategies"
        super().__init__()

    def write(self, files: dict[str, bytes | None] | None) -> None:
        self.shelf.change(self.path, files)

    async def begin_again(self) -> None:
        self.shelf.forget()


class RealPlace(Place):
    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = str(home / "source")
        self.shelf: RealShelf = RealShelf(home)
        super().__init__()

    def write(self, files: dict[str, bytes | None] | None) -> None:
        path = Path(self.path)
        if files is None:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
            return
        path.mkdir(exist_ok=True)
        for file, data in files.items():
            if data is None:
                (path / file).unlink(missing_ok=True)
            else:
                (path / file).write_bytes(data)

    def age(self) -> None:
        for path in (self.home / "strategies").iterdir():
            os.utime(path, (5, 5))

    async def begin_again(self) -> None:
        await self.close()
        self.shelf = RealShelf(self.home)
        await self.shelf.start_up()
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        await super().close()
        await self.shelf.close()


@pytest.fixture(params=["fake", "real"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    made: Place
    if request.param == "fake":
        made = FakePlace()
    else:
        made = RealPlace(tmp_path.resolve())
        await made.shelf.start_up()
    try:
        yield made
    finally:
        await made.close()


class TestShelf:
    async def test_what_is_not_watched(self, place):
        with pytest.raises(KeyError):
            await place.shelf.listing(KEY)
        assert place.shelf.known(KEY) is None
        place.shelf.watch(KEY, None)
        place.shelf.dirty(KEY)
        with pytest.raises(SourceChangedError):
            await place.shelf.read(KEY, FileView("A", "A.py", hash_of(DATA), "", 6))

    async def test_a_listing(self, place):
        place.write({"A.py": DATA, "_b.py": DATA, ".C.py": DATA, "D.txt": DATA, "E.py~": DATA, "f-1.py": b""})
        place.watch()
        listing = await place.shelf.listing(KEY)
        assert (set(listing.files), listing.problems, listing.error, listing.watched) == (
            {"A", "f-1"},
            (),
            None,
            True,
        )
        view = listing.files["A"]
        assert (view.name, view.file, view.hash, view.size) == ("A", "A.py", hash_of(DATA), 6)
        assert view.md5 == hashlib.md5(DATA).hexdigest()
        assert view.config_map == ""
        assert place.shelf.known(KEY).files == listing.files

    async def test_problems(self, place):
        place.write({"a b.py": DATA, "Big.py": b"#" * 101, "X.py": DATA, "X.pyi": DATA, "Big.pyi": DATA})
        place.watch(max_bytes=100, include=("*.py", "*.pyi"))
        listing = await place.shelf.listing(KEY)
        assert set(listing.files) == {"X"}
        assert [(p.file, p.reason) for p in listing.problems] == [
            ("Big.py", reasons.FILE_TOO_LARGE),
            ("Big.pyi", reasons.NAME_COLLISION),
            ("X.pyi", reasons.NAME_COLLISION),
            ("a b.py", reasons.NAME_INVALID),
        ]

    async def test_a_directory_that_is_not_there(self, place):
        place.watch()
        listing = await place.shelf.listing(KEY)
        assert (listing.error[0], listing.files) == (reasons.DIRECTORY_NOT_FOUND, {})

    async def test_a_change_is_told_and_then_listed(self, place):
        place.write({"A.py": DATA})
        place.watch()
        await place.lists(A=DATA)
        for files, then in (
            ({"A.py": b"x = 2\n"}, {"A": b"x = 2\n"}),
            ({"B.py": DATA}, {"A": b"x = 2\n", "B": DATA}),
            ({"A.py": None}, {"B": DATA}),
        ):
            place.told.clear()
            place.write(files)
            await place.tells()
            await place.lists(**then)

    async def test_a_directory_that_goes_and_comes(self, place):
        place.write({"A.py": DATA})
        place.watch()
        await place.lists(A=DATA)
        place.write(None)

        async def gone() -> bool:
            return (await place.shelf.listing(KEY)).error is not None

        await eventually(gone, 3)
        place.write({"B.py": DATA})
        await place.lists(B=DATA)

    async def test_two_libraries_of_one_directory(self, place):
        place.write({})
        place.watch()
        place.watch(OTHER)
        await place.shelf.listing(KEY)
        await place.shelf.listing(OTHER)
        place.write({"A.py": DATA})
        await place.tells()
        await place.tells(OTHER)

    async def test_the_same_source_again_is_no_effect(self, place):
        place.write({"A.py": DATA})
        place.watch()
        await place.shelf.listing(KEY)
        place.watch()
        assert place.shelf.known(KEY) is not None
        place.watch(max_bytes=3)
        assert place.shelf.known(KEY) is None
        assert [p.reason for p in (await place.shelf.listing(KEY)).problems] == [reasons.FILE_TOO_LARGE]

    async def test_a_library_that_is_forgotten(self, place):
        place.write({"A.py": DATA})
        place.watch()
        view = (await place.shelf.listing(KEY)).files["A"]
        place.shelf.watch(KEY, None)
        assert place.shelf.known(KEY) is None
        with pytest.raises(KeyError):
            await place.shelf.listing(KEY)
        with pytest.raises(SourceChangedError):
            await place.shelf.read(KEY, view)

    async def test_bytes_are_those_that_were_seen(self, place):
        place.write({"A.py": DATA})
        place.watch()
        view = (await place.shelf.listing(KEY)).files["A"]
        assert await place.shelf.read(KEY, view) == DATA
        place.write({"A.py": b"x = 2\n"})
        with pytest.raises(SourceChangedError):
            await place.shelf.read(KEY, view)
        place.write({"A.py": None})
        with pytest.raises(SourceChangedError):
            await place.shelf.read(KEY, view)

    async def test_what_is_read_anew(self, place):
        place.write({"A.py": DATA})
        place.watch()
        await place.shelf.listing(KEY)
        place.write({"A.py": b"x = 2\n"})
        place.shelf.dirty(KEY)
        await place.lists(A=b"x = 2\n")  # once it is still

    @pytest.mark.parametrize(
        ("data", "begins"),
        [
            (DATA, None),
            (b"# nothing else\n", None),
            (b"", "the file is empty"),
            (b" \n\t", "the file is empty"),
            (b"\xef\xbb\xbf\n", "the file is empty"),
            (b"x = 1\ndef f(:\n", "line 2: "),
            (b"x = 1\n\0", "line 2: "),
            (b"-" * 100000 + b"1", "line 1: "),
            (b"raise SystemExit\n", None),
        ],
    )
    async def test_problems_of_a_content(self, place, data, begins):
        problem = await place.shelf.problem("A.py", data)
        if begins is None:
            assert problem is None
        else:
            assert problem.startswith(begins)
        assert await place.shelf.problem("A.json", b"(") is None

    async def test_snapshots(self, place):
        content = hash_of(DATA)
        assert not place.shelf.has(content)
        with pytest.raises(SnapshotLostError):
            await place.shelf.place(content, "A.py")
        for _ in range(2):
            await place.shelf.keep(content, "A.py", DATA)
        assert place.shelf.has(content)
        paths = [await place.shelf.place(content, file) for file in ("A.py", "B.py", "A.py")]
        assert paths[0] == paths[2]
        assert [os.path.basename(path) for path in paths] == ["A.py", "B.py", "A.py"]
        assert all(os.path.isabs(path) and content[7:] in path for path in paths)

    async def test_snapshots_survive_the_operator_and_the_source(self, place):
        content = hash_of(DATA)
        await place.shelf.keep(content, "A.py", DATA)
        await place.begin_again()
        assert place.shelf.has(content)
        assert await place.shelf.place(content, "A.py")

    async def test_what_is_no_snapshot(self, place):
        content = hash_of(DATA)
        with pytest.raises(ValueError):
            await place.shelf.keep(content, "A.py", b"x = 2\n")
        for file in ("../A.py", "", ".A.py"):
            with pytest.raises(ValueError):
                await place.shelf.keep(content, file, DATA)
            with pytest.raises(ValueError):
                await place.shelf.place(content, file)
        for bad in ("", content[7:], content.upper(), content + "0"):
            with pytest.raises(ValueError):
                place.shelf.has(bad)
            with pytest.raises(ValueError):
                await place.shelf.keep(bad, "A.py", DATA)
            with pytest.raises(ValueError):
                await place.shelf.place(bad, "A.py")

    async def test_prune(self, place):
        hashes = []
        for number in range(3):
            data = f"x = {number}\n".encode()
            hashes.append(hash_of(data))
            await place.shelf.keep(hashes[-1], "A.py", data)
        place.age()
        assert set(await place.shelf.prune({hashes[1]})) == {hashes[0], hashes[2]}
        assert [place.shelf.has(content) for content in hashes] == [False, True, False]
        assert not await place.shelf.prune({hashes[1]})

    @pytest.mark.parametrize("hook", ["on_before", "on_after"])
    async def test_a_crash_at_keeping(self, place, hook):
        def die(_: str) -> None:
            raise CrashError

        content = hash_of(DATA)
        with hooked(**{hook: die}), pytest.raises(CrashError):
            await place.shelf.keep(content, "A.py", DATA)
        await place.begin_again()
        assert place.shelf.has(content) == (hook == "on_after")
        await place.shelf.keep(content, "A.py", DATA)
        assert await place.shelf.place(content, "A.py")

    @pytest.mark.parametrize("hook", ["on_before", "on_after"])
    async def test_a_crash_at_pruning(self, place, hook):
        def die(_: str) -> None:
            raise CrashError

        content = hash_of(DATA)
        await place.shelf.keep(content, "A.py", DATA)
        place.age()
        with hooked(**{hook: die}), pytest.raises(CrashError):
            await place.shelf.prune(())
        await place.begin_again()
        assert place.shelf.has(content) == (hook == "on_before")
        await place.shelf.prune(())
        assert not place.shelf.has(content)
