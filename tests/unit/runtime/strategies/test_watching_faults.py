"""What is told of directories when they move about, when inotify fails, and at the end."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest
from tests.contract.harness import eventually

from mainstay.core.strategy.views import DirectorySource
from mainstay.runtime.strategies import Shelf, watch
from mainstay.runtime.strategies.paths import related

KEY = ("trading", "main")
OTHER = ("trading", "other")
DEBOUNCE = 0.1
RESCAN = 0.3


async def follows(place) -> None:
    """What is written into it from now on is told."""
    await place.settled()
    (place.path / "Z.py").write_text(str(time.time()))
    await place.tells()
    assert "Z" in (await place.shelf.listing(KEY)).files


async def test_renamed_away_and_back(place) -> None:
    place.path.mkdir()
    (place.path / "A.py").touch()
    place.watch()
    await place.settled()
    place.path.rename(place.home / "away")
    await place.tells()
    assert (await place.shelf.listing(KEY)).error is not None
    await place.settled()
    (place.home / "away").rename(place.path)
    await place.tells()
    assert set((await place.shelf.listing(KEY)).files) == {"A"}
    await follows(place)


async def test_replaced_by_a_link(place) -> None:
    place.path.mkdir()
    (place.home / "real").mkdir()
    (place.home / "real" / "A.py").touch()
    place.watch()
    await place.settled()
    place.path.rmdir()
    place.path.symlink_to("real")
    await place.tells()
    assert set((await place.shelf.listing(KEY)).files) == {"A"}
    await follows(place)


async def test_a_link_to_a_link_that_is_swapped(place) -> None:
    for release in ("1", "2"):
        (place.home / "releases" / release).mkdir(parents=True)
        (place.home / "releases" / release / f"A{release}.py").touch()
    (place.home / "stable").symlink_to("releases/1")
    place.path.symlink_to("stable")
    place.watch()
    await place.settled()
    (place.home / "next").symlink_to("releases/2/")
    (place.home / "next").rename(place.home / "stable")
    await place.tells(seconds=0.6)  # sooner than the next look at every directory
    assert set((await place.shelf.listing(KEY)).files) == {"A2"}
    await follows(place)


async def test_a_directory_above_it_that_is_renamed(place) -> None:
    place.path = place.home / "a" / "b" / "c"
    place.path.mkdir(parents=True)
    place.watch()
    await place.settled()
    (place.home / "a").rename(place.home / "z")
    await place.tells(seconds=3)
    assert (await place.shelf.listing(KEY)).error is not None
    (place.home / "z").rename(place.home / "a")
    await place.settled()
    await eventually(lambda: place.shelf.known(KEY) is not None)
    await follows(place)


async def test_two_paths_to_one_directory(place) -> None:
    place.path.mkdir()
    (place.home / "link").symlink_to("source")
    place.watch()
    place.watch(place.home / "link", OTHER)
    place.watch(place.home / "link" / "sub", ("trading", "third"))
    await place.settled()
    (place.path / "A.py").touch()
    await place.tells()
    await place.tells(OTHER)


async def test_one_that_is_forgotten_is_told_no_more(place) -> None:
    place.path.mkdir()
    place.watch()
    place.watch(key=OTHER)
    await place.settled()
    (place.path / "A.py").touch()
    await place.tells()
    await place.tells(OTHER)
    await place.settled()
    (place.path / "B.py").touch()
    place.shelf.watch(KEY, None)
    await place.tells(OTHER)
    await place.settled_keeping()
    assert {key for _, key in place.told} == {OTHER}


async def test_a_log_beside_the_strategies_is_not_told(place) -> None:
    place.path.mkdir()
    place.watch()
    await place.settled()
    for number in range(20):
        (place.path / "bot.log").write_text(str(number))
    await place.settled_keeping()
    assert place.told == []


async def test_a_joining_library_does_not_cut_the_quiet_time_short(place) -> None:
    place.path.mkdir()
    place.watch()
    await place.settled()
    ends = time.monotonic() + 5 * DEBOUNCE
    number = 0
    while time.monotonic() < ends:
        number += 1
        (place.path / "A.py").write_text(str(number))
        if number % 4 == 0:
            (place.home / f"other{number}").mkdir()
            place.watch(place.home / f"other{number}", ("trading", f"other{number}"))
        await asyncio.sleep(DEBOUNCE / 5)
    await place.tells()
    await place.settled_keeping()
    assert len([at for at, key in place.told if key == KEY]) <= 2
    view = (await place.shelf.listing(KEY)).files["A"]
    assert await place.shelf.read(KEY, view) == str(number).encode()


async def test_told_by_looking_though_nothing_happened(place) -> None:
    place.path.mkdir()
    place.shelf.watch(KEY, DirectorySource(str(place.path), debounce_seconds=0.05, rescan_seconds=RESCAN))
    await eventually(lambda: len(place.told) >= 4, 3)  # the first may be that it is new
    times = [at for at, _ in place.told]
    assert times[-1] - times[1] > RESCAN


async def test_without_inotify_it_is_told_by_looking(place, monkeypatch, caplog) -> None:
    place.path.mkdir()
    real, fails = watch.awatch, True

    def broken(*paths, **rules):
        if fails:
            raise OSError(28, "inotify watch limit reached")
        return real(*paths, **rules)

    monkeypatch.setattr(watch, "awatch", broken)
    monkeypatch.setattr(watch, "delay", lambda *_, **__: 0.05)
    source = DirectorySource(str(place.path), debounce_seconds=0.05, rescan_seconds=RESCAN)
    place.shelf.watch(KEY, source)

    async def watched() -> bool:
        return (await place.shelf.listing(KEY)).watched

    async def not_watched() -> bool:
        return not await watched()

    await eventually(not_watched, 3)
    (place.path / "A.py").touch()

    async def seen() -> bool:
        return "A" in (await place.shelf.listing(KEY)).files

    await eventually(seen, 3)
    assert not await watched()
    assert [r.levelname for r in caplog.records].count("WARNING") == 1
    fails = False
    await eventually(watched, 3)
    place.shelf.watch(KEY, DirectorySource(str(place.path), debounce_seconds=0.05))
    await follows(place)


async def test_a_watch_that_breaks_is_begun_again(place, monkeypatch) -> None:
    place.path.mkdir()
    real = watch.awatch
    broke = []

    async def breaks(*paths, **rules):
        async for changes in real(*paths, **rules):
            if changes and not broke:
                broke.append(1)
                raise RuntimeError("broken")
            yield changes

    monkeypatch.setattr(watch, "awatch", breaks)
    place.watch()
    await place.settled()
    (place.path / "A.py").touch()
    await place.tells()  # what was lost with it is told all the same
    assert broke
    await eventually(lambda: place.shelf._watcher.watched(KEY))
    await follows(place)


async def test_a_directory_that_can_not_be_looked_at_ends_nothing(place, monkeypatch) -> None:
    place.path.mkdir()
    real, raised = watch.related, []

    def fails(path):
        if not raised:
            raised.append(1)
            raise OSError(5, "I/O error")
        return real(path)

    monkeypatch.setattr(watch, "related", fails)
    place.watch()
    await follows(place)
    assert raised


async def test_nothing_is_left_behind(tmp_path) -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    took = []
    for _ in range(3):
        shelf = Shelf(tmp_path)
        await shelf.start_up()
        for number in range(3):
            shelf.watch(("a", str(number)), DirectorySource(str(tmp_path)))
        await shelf.listing(("a", "0"))
        assert await shelf.problem("A.py", b"x = 1\n") is None
        await asyncio.sleep(0.1)
        began = time.perf_counter()
        await shelf.close()
        took.append(time.perf_counter() - began)
        assert shelf._checker._process is None
    assert max(took) < 1.5
    others = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    assert not others
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    pool = [t for t in threading.enumerate() if t.name.startswith(("asyncio_", "AnyIO worker"))]
    assert threading.active_count() <= threads + len(pool)  # of the loop, which ends them


async def test_a_shelf_that_was_not_begun_can_be_closed(tmp_path) -> None:
    await Shelf(tmp_path).close()


async def test_who_stops_waiting_for_a_listing_disturbs_nobody(place) -> None:
    place.path.mkdir()
    for number in range(300):
        (place.path / f"A{number}.py").touch()
    place.watch()
    for _ in range(10):
        place.shelf.dirty(KEY)
        waiting = asyncio.create_task(place.shelf.listing(KEY))
        await asyncio.sleep(0.001)
        waiting.cancel()
        assert len((await place.shelf.listing(KEY)).files) == 300


async def test_a_listing_is_as_new_as_what_was_told(place) -> None:
    place.path.mkdir()
    place.watch()
    await place.settled()
    for number in range(5):
        (place.path / "A.py").write_text(str(number))
        await place.tells()
        view = (await place.shelf.listing(KEY)).files["A"]
        assert await place.shelf.read(KEY, view) == str(number).encode()
        await place.settled()


LINKS = {
    "a directory": ("releases/1", {"releases/1"}),
    "a link": ("stable", {"stable", "releases/1"}),
    "a link to a link": ("current", {"current", "stable", "releases/1"}),
    "below a link": ("current/x", {"current", "stable", "releases/1", "releases/1/x"}),
    "through another directory": ("d/r/1", {"d/r", "releases", "releases/1"}),
    "upwards": ("d/up/stable", {"d/up", ".", "stable", "releases/1"}),
    "what is missing": ("a/b/c", {"a", "a/b", "a/b/c"}),
    "a circle": ("loop", {"loop"}),
}


@pytest.mark.parametrize("case", LINKS)
def test_what_a_path_depends_on(case, tmp_path) -> None:
    home = tmp_path.resolve()
    (home / "releases" / "1").mkdir(parents=True)
    (home / "d").mkdir()
    for link, to in (
        ("stable", "releases/1/"),
        ("current", "stable"),
        ("loop", "loop"),
        ("d/r", "../releases"),
    ):
        (home / link).symlink_to(to)
    (home / "d/up").symlink_to("..")
    path, wanted = LINKS[case]
    assert related(str(home / path)) == {str(Path(os.path.normpath(home / part))) for part in wanted}
