"""What is told of directories, and when."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mainstay.runtime.strategies import Shelf

if TYPE_CHECKING:
    from collections.abc import Callable

DEBOUNCE = 0.1
KEY = ("trading", "main")


def atomic(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.rename(path)


def vim(path: Path) -> None:
    (path.parent / "4913").touch()
    (path.parent / "4913").unlink()
    path.rename(f"{path}~")
    path.write_text("x = 2\n")
    Path(f"{path}~").unlink()


def emacs(path: Path) -> None:
    lock = path.with_name(f".#{path.name}")
    lock.symlink_to("me@host.1")
    path.write_text("x = 2\n")
    lock.unlink()


SAVES: dict[str, Callable[[Path], object]] = {
    "in place": lambda path: path.write_text("x = 2\n"),
    "atomic": lambda path: atomic(path, "x = 2\n"),
    "vim": vim,
    "emacs": emacs,
}


@pytest.mark.parametrize("save", SAVES)
async def test_every_way_of_saving_is_told_after_the_quiet_time(place, save) -> None:
    place.path.mkdir()
    (place.path / "A.py").write_text("x = 1\n")
    place.watch()
    before = (await place.shelf.listing(KEY)).files["A"]
    await place.settled()
    began = time.time()
    SAVES[save](place.path / "A.py")
    told = await place.tells()
    assert DEBOUNCE - 0.02 <= told - began <= DEBOUNCE + 0.4
    listing = await place.shelf.listing(KEY)
    assert listing.files["A"].hash != before.hash
    assert set(listing.files) == {"A"}
    assert not listing.problems


async def test_a_burst_is_told_few_times_and_its_end_is_seen(place) -> None:
    place.path.mkdir()
    place.watch()
    await place.settled()
    for number in range(500):
        atomic(place.path / "A.py", f"x = {number}\n")
    await place.tells()
    await place.settled_keeping()
    assert len(place.told) <= 3
    view = (await place.shelf.listing(KEY)).files["A"]
    assert await place.shelf.read(KEY, view) == b"x = 499\n"


async def test_a_directory_that_is_never_still_is_told_all_the_same(place) -> None:
    place.path.mkdir()
    place.watch()
    await place.settled()
    ends = time.monotonic() + 15 * DEBOUNCE
    while time.monotonic() < ends:
        (place.path / "A.py").write_text(str(time.time()))
        await asyncio.sleep(DEBOUNCE / 4)
    assert 1 <= len(place.told) <= 3  # at least once, and more only on a host that was held up


async def test_a_config_map_that_is_swapped_is_told(place) -> None:
    place.path.mkdir()
    (place.path / "..1").mkdir()
    (place.path / "..1" / "A.py").write_text("x = 1\n")
    (place.path / "..data").symlink_to("..1")
    (place.path / "A.py").symlink_to("..data/A.py")
    place.watch()
    before = (await place.shelf.listing(KEY)).files["A"]
    await place.settled()
    (place.path / "..2").mkdir()
    (place.path / "..2" / "A.py").write_text("x = 2\n")
    (place.path / "..data_tmp").symlink_to("..2")
    (place.path / "..data_tmp").rename(place.path / "..data")
    shutil.rmtree(place.path / "..1")
    await place.tells()
    assert (await place.shelf.listing(KEY)).files["A"].hash != before.hash


async def test_a_link_to_the_directory_that_is_swapped_is_told(place) -> None:
    for release in ("1", "2"):
        (place.home / "releases" / release).mkdir(parents=True)
        (place.home / "releases" / release / "A.py").write_text(f"x = {release}\n")
    (place.home / "current").symlink_to("releases/1")
    place.watch(place.home / "current")
    before = (await place.shelf.listing(KEY)).files["A"]
    await place.settled()
    (place.home / "next").symlink_to("releases/2")
    (place.home / "next").rename(place.home / "current")
    await place.tells()
    assert (await place.shelf.listing(KEY)).files["A"].hash != before.hash
    await place.settled()
    (place.home / "releases/2/B.py").write_text("x = 1\n")
    await place.tells()


async def test_a_directory_that_is_replaced_is_watched_anew(place) -> None:
    place.path.mkdir()
    place.watch()
    await place.settled()
    place.path.rename(place.home / "old")
    place.path.mkdir()
    await place.tells()
    await place.settled()
    (place.path / "A.py").write_text("x = 1\n")
    await place.tells()


async def test_a_directory_that_is_deleted_and_made_again_is_watched_anew(place) -> None:
    place.path.mkdir()
    place.watch()
    await place.settled()
    place.path.rmdir()
    await place.tells()
    assert (await place.shelf.listing(KEY)).error is not None
    await place.settled()
    place.path.mkdir()
    await place.tells()
    await place.settled()
    (place.path / "A.py").write_text("x = 1\n")
    await place.tells()


async def test_a_directory_that_is_made_again_at_once_is_watched_anew(place) -> None:
    place.path.mkdir()
    place.watch()
    await place.settled()
    for _ in range(5):
        place.path.rmdir()
        place.path.mkdir()
    await place.tells()
    await place.settled()
    (place.path / "A.py").write_text("x = 1\n")
    await place.tells()


async def test_a_directory_that_comes_later_is_told_whichever_part_of_it_comes_first(place) -> None:
    path = place.home / "a" / "b"
    place.watch(path)
    await place.settled()
    path.parent.mkdir()
    await asyncio.sleep(2 * DEBOUNCE)
    path.mkdir()
    await asyncio.sleep(2 * DEBOUNCE)
    await place.settled()
    (path / "A.py").write_text("x = 1\n")
    await place.tells()


async def test_nothing_is_lost_while_another_directory_joins(place) -> None:
    place.path.mkdir()
    place.watch()
    await place.settled()
    for number in range(5):
        (place.path / f"A{number}.py").write_text("x = 1\n")
        (place.home / f"other{number}").mkdir()
        place.watch(place.home / f"other{number}", ("trading", f"other{number}"))
        await place.tells()
        await place.settled()


async def test_a_change_during_a_scan_leads_to_another(place, monkeypatch) -> None:
    place.path.mkdir()
    place.watch()
    await place.settled()
    library = place.shelf._libraries[KEY]
    scan, scans = library.directory.scan, []
    loop = asyncio.get_running_loop()

    def slow(*held):
        scans.append(1)
        found = scan(*held)
        if len(scans) == 1:
            (place.path / "A.py").write_text("x = 1\n")
            asyncio.run_coroutine_threadsafe(_mark(place.shelf), loop).result()
        return found

    monkeypatch.setattr(library.directory, "scan", slow)
    place.shelf.dirty(KEY)
    first = asyncio.create_task(place.shelf.listing(KEY))
    await first
    assert set((await place.shelf.listing(KEY)).files) == {"A"}
    assert len(scans) == 2


async def _mark(shelf: Shelf) -> None:
    shelf.dirty(KEY)


async def test_calls_at_the_same_time_share_a_scan(place, monkeypatch) -> None:
    place.path.mkdir()
    place.watch()
    library = place.shelf._libraries[KEY]
    scan, scans = library.directory.scan, []
    monkeypatch.setattr(library.directory, "scan", lambda *held: scans.append(1) or scan(*held))
    await asyncio.gather(*(place.shelf.listing(KEY) for _ in range(20)))
    assert len(scans) == 1


async def test_what_is_not_watched_is_no_listing(place) -> None:
    with pytest.raises(KeyError):
        await place.shelf.listing(KEY)
    assert place.shelf.known(KEY) is None
    assert os.path.isdir(place.home)
