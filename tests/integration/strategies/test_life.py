"""The life of strategies: real files, real programs that tell what they loaded, and a real API server between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from tests.integration.strategies.judge import Judge
from tests.integration.strategies.shop import Shop, code, digest, names, running, same, told
from tests.support.stage import PATIENCE, Plan, condition, eventually, ready

from mainstay.shell.kube import LIBRARIES, RUNS, STRATEGIES, path

pytestmark = pytest.mark.xdist_group("strategies")


@pytest.fixture(autouse=True)
def judged(shop: Shop) -> Iterator[Judge]:
    with Judge(shop.stage) as judge:
        yield judge
        shop.clear()
    assert judge.looks > 0
    judge.verdict()


def test_from_its_birth_to_its_return(shop: Shop) -> None:
    shop.server(
        "one", "main", "Ema", config={"values": {"by": "$(STRATEGY_NAME)", "at": ["$(STRATEGY_PATH)", 1]}}
    )
    waits = shop.stage.until("one", lambda o: told(o) == ("False", "StrategyNotFound"))
    assert waits["status"]["phase"] == "Pending"
    assert shop.leases() == {}

    directory = shop.library("main", files={"Safe.py": code("Safe")}, default="Safe")
    shop.until(LIBRARIES, "main", lambda o: told(o) == ("True", "Offered"))
    assert told(shop.run("one")) == ("False", "StrategyNotFound")
    shop.sleeper("two", "main", "Ema")
    shop.sleeper("three", "main", "Ema", port=False)
    bots = ("one", "two", "three")

    # added: those who waited start
    (directory / "Ema.py").write_text(code("Ema"))
    shop.runs(code("Ema"), *bots, strategy="Ema")
    first = shop.lives(*bots)
    told_by_it = shop.answer("one")
    assert (told_by_it.hash, told_by_it.loaded) == (digest(code("Ema")),) * 2
    assert told_by_it.path.endswith(f"/strategies/{digest(code('Ema'))[7:]}/Ema.py")
    assert told_by_it.argument == f"Ema={told_by_it.path}"
    assert yaml.safe_load(told_by_it.config) == {"by": "Ema", "at": [told_by_it.path, 1]}

    # edited: each is restarted once, on its port
    edited = code("Ema", 2)
    (directory / "Ema.py").write_text(edited)
    shop.runs(edited, *bots)
    second = shop.lives(*bots)
    for name in bots:
        assert second[name][0] != first[name][0]
        assert (second[name][1], second[name][2]) == (first[name][1] + 1, first[name][2])
    assert shop.answer("one").loaded == digest(edited)

    # broken: said with its line, and nobody stops
    (directory / "Ema.py").write_text(edited + "def broken(:\n")
    for name in bots:
        words = condition(shop.says(name, reason="StrategyInvalid"), "StrategyResolved")["message"]
        assert "line 7" in words, words
        assert ready("Running")(shop.run(name))
    broken = shop.strategies("main")["Ema"]
    assert (broken["status"]["valid"], broken["status"]["revision"]) == (False, digest(edited))
    same(second, shop.lives(*bots))

    # repaired: as it was, so still nobody stops; then with another text
    (directory / "Ema.py").write_text(edited)
    for name in bots:
        shop.says(name, reason="InUse", resolved=True)
    same(second, shop.lives(*bots))
    third_text = code("Ema", 3)
    (directory / "Ema.py").write_text(third_text)
    shop.runs(third_text, *bots)
    assert {n: v[1] for n, v in shop.lives(*bots).items()} == {n: v[1] + 1 for n, v in second.items()}

    # deleted: the default, in the environment and in the configuration
    (directory / "Ema.py").unlink()
    safe = code("Safe")
    for run in shop.runs(safe, *bots, strategy="Safe"):
        assert run["status"]["strategy"]["fallback"] is True
        assert told(run, "StrategyResolved") == ("False", "FallbackInUse")
    fallen = shop.answer("one")
    assert (fallen.name, fallen.loaded) == ("Safe", digest(safe))
    assert fallen.argument == f"Safe={fallen.path}"
    assert yaml.safe_load(fallen.config) == {"by": "Safe", "at": [fallen.path, 1]}
    eventually(lambda: set(shop.strategies("main")) == {"Safe"})
    used_by = {"count": 3, "runs": sorted(bots), "external": []}
    shop.until(STRATEGIES, "main.safe", lambda o: o["status"]["usedBy"] == used_by)

    # back, as it was
    (directory / "Ema.py").write_text(third_text)
    for run in shop.runs(third_text, *bots, strategy="Ema"):
        assert told(run, "StrategyResolved") == ("True", "InUse")
        assert run["status"]["strategy"]["fallback"] is False

    # deleted again, and then the default too: what runs goes on
    (directory / "Ema.py").unlink()
    shop.runs(safe, *bots, strategy="Safe")
    last = shop.lives(*bots)
    (directory / "Safe.py").unlink()
    for name in bots:
        shop.says(name, reason="LastGoodInUse")
    same(last, shop.lives(*bots))
    library = shop.until(
        LIBRARIES, "main", lambda o: told(o, "DefaultAvailable") == ("False", "DefaultNotFound")
    )
    assert shop.strategies("main") == {}
    assert library["status"].get("strategies", 0) == 0

    # added, three edits (one of them the broken one), two falls, one return: nothing else was ever started
    assert {n: len(s) for n, s in shop.starts(*bots).items()} == dict.fromkeys(bots, 6)
    assert {n: v[2] for n, v in last.items()} == {n: v[2] for n, v in first.items()}


def test_a_rollback_and_its_removal(shop: Shop) -> None:
    old, new, newer = (code("Ema", n) for n in (1, 2, 3))
    directory = shop.library("main", files={"Ema.py": old})
    for name in ("one", "two"):
        shop.server(name, "main", "Ema")
    shop.runs(old, "one", "two")
    (directory / "Ema.py").write_text(new)
    shop.runs(new, "one", "two")
    hashes = [r["hash"] for r in shop.strategies("main")["Ema"]["status"]["revisions"]]
    assert hashes == [digest(new), digest(old)]

    other = shop.lives("two")
    shop.stage.patch("one", strategy={"revision": digest(old)})
    rolled_back = shop.stage.until("one", running(old))
    assert told(rolled_back, "StrategyResolved") == ("True", "InUse")
    assert shop.answer("one").loaded == digest(old)
    same(other, shop.lives("two"))

    pinned = shop.lives("one")
    (directory / "Ema.py").write_text(newer)  # the other is restarted, this one not
    shop.runs(newer, "two")
    same(pinned, shop.lives("one"))
    (directory / "Ema.py").unlink()  # nor by a deletion
    shop.says("two", reason="LastGoodInUse")
    same(pinned, shop.lives("one"))
    (directory / "Ema.py").write_text(newer)
    shop.says("two", reason="InUse", resolved=True)
    shop.stage.patch("one", strategy={"revision": None})
    shop.runs(newer, "one", "two")
    assert [s[2] for s in shop.starts("one")["one"]] == [digest(t) for t in (old, new, old, newer)]
    assert [s[2] for s in shop.starts("two")["two"]] == [digest(t) for t in (old, new, newer)]


def test_keep_last_stop_ignore_and_paused(shop: Shop) -> None:
    first, second = code("Ema"), code("Ema", 2)
    directory = shop.library("main", files={"Ema.py": first, "Safe.py": code("Safe")}, default="Safe")
    shop.server("keeps", "main", "Ema", fallbackPolicy="KeepLast")
    shop.server("stops", "main", "Ema", fallbackPolicy="Stop")
    shop.server("ignores", "main", "Ema", strategyUpdatePolicy="Ignore")
    shop.server("paused", "main", "Ema")
    every = ("keeps", "stops", "ignores", "paused")
    shop.runs(first, *every)
    shop.stage.patch("paused", state="Paused")
    shop.stage.until("paused", ready("Paused"))
    before = shop.lives(*every)

    # an edit: two take it, one at its next start, one when it is resumed
    (directory / "Ema.py").write_text(second)
    shop.runs(second, "keeps", "stops")
    shop.says("ignores", reason="UpdateIgnored")
    shop.says("paused", reason="UpdateWaiting")
    same({n: before[n] for n in ("ignores", "paused")}, shop.lives("ignores", "paused"))
    shop.stage.patch("ignores", restartNonce=1)
    shop.runs(second, "ignores")
    shop.stage.patch("paused", state="Running")
    shop.runs(second, "paused")
    assert {n: len(s) for n, s in shop.starts(*every).items()} == dict.fromkeys(every, 2)

    # a deletion: one goes on, one stops and holds no port, the others fall back
    shop.stage.patch("paused", state="Paused")
    shop.stage.until("paused", ready("Paused"))
    before = shop.lives("keeps", "paused")
    (directory / "Ema.py").unlink()
    shop.says("keeps", reason="LastGoodInUse")
    stopped = shop.stage.until(
        "stops", lambda o: told(o) == ("False", "StrategyDeleted") and o["status"]["phase"] == "Pending"
    )
    assert "process" not in stopped["status"]
    shop.runs(code("Safe"), "ignores", strategy="Safe")
    shop.says("paused", reason="UpdateWaiting")
    same(before, shop.lives("keeps", "paused"))
    eventually(lambda: "stops" not in shop.leases())

    # back
    (directory / "Ema.py").write_text(second)
    shop.runs(second, "keeps", "stops", "ignores", strategy="Ema")
    shop.says("paused", reason="InUse", resolved=True)
    same(before, shop.lives("keeps", "paused"))
    assert shop.starts("stops")["stops"][-1][2] == digest(second)


def test_one_at_a_time_in_order(shop: Shop) -> None:
    bots = names("b", 5)
    directory = shop.library("main", files={"Ema.py": code("Ema")}, rollout={"maxUnavailable": 1})
    for name in reversed(bots):
        shop.server(name, "main", "Ema")
    shop.runs(code("Ema"), *bots)
    begun = len(shop.stage.client.items(RUNS))
    assert begun == len(bots)
    (directory / "Ema.py").write_text(code("Ema", 2))
    most = 0
    new = digest(code("Ema", 2))
    while True:
        runs = [r for r in shop.stage.client.items(RUNS) if r["metadata"]["namespace"] == shop.namespace]
        away = [r["metadata"]["name"] for r in runs if not ready("Running")(r)]
        most = max(most, len(away))
        if not away and {r["status"]["strategy"]["hash"] for r in runs} == {new}:
            break
    assert most == 1, most
    lines = [line.split() for line in (shop.stage.judge / "journal").read_text().splitlines()]
    by_id = {shop.run(name)["status"]["runId"]: name for name in bots}
    order = [by_id[line[0]] for line in lines if line[4] == new and line[0] in by_id]
    assert order == bots
    assert {n: len(s) for n, s in shop.starts(*bots).items()} == dict.fromkeys(bots, 2)


def test_a_limit_holds_whenever_the_operator_dies(shop: Shop) -> None:
    """maxUnavailable 30% of ten, and five operators die: never more than three are away."""
    bots, text = names("m", 10), code("Ema", 2)
    directory = shop.library("main", files={"Ema.py": code("Ema")}, rollout={"maxUnavailable": "30%"})
    for name in bots:
        shop.sleeper(name, "main", "Ema")
    shop.runs(code("Ema"), *bots)
    stage = shop.stage
    stage.shell.expect(Plan(9, "before"))
    (directory / "Ema.py").write_text(text)
    most, deaths, until = 0, 0, time.monotonic() + PATIENCE
    while True:
        runs = [r for r in stage.client.items(RUNS) if r["metadata"]["namespace"] == shop.namespace]
        away = [r["metadata"]["name"] for r in runs if r["status"]["phase"] != "Running"]
        most = max(most, len(away))
        if all(running(text)(r) for r in runs):
            break
        assert time.monotonic() < until, away
        if stage.shell.died.is_set():
            deaths += 1
            stage.crash()
            stage.restart(Plan(9, "before") if deaths < 5 else None)
    assert deaths >= 3
    assert 1 <= most <= 3, most
    wanted = [digest(code("Ema")), digest(text)]
    # A sleeper is Running as soon as it is executed, and writes its line a moment later.
    eventually(
        lambda: all(starts[-1][2] == wanted[-1] for starts in shop.starts(*bots).values()), "new lines"
    )
    for name, starts in shop.starts(*bots).items():
        assert [told for _, _, told in starts] == wanted, name


def test_a_library_of_config_maps(shop: Shop) -> None:
    shop.config_map("mine", {"Ema.py": code("Ema"), "notes.txt": "no strategy"}, strategies="yes")
    shop.config_map("other", {"Rsi.py": code("Rsi")})
    shop.make(
        "StrategyLibrary",
        LIBRARIES,
        "main",
        {"source": {"configMaps": {"matchLabels": {"strategies": "yes"}}}},
    )
    shop.offers("main", {"Ema": code("Ema")})
    shop.server("one", "main", "Ema")
    shop.server("two", "main", "Rsi")
    shop.runs(code("Ema"), "one")
    shop.stage.until("two", lambda o: told(o) == ("False", "StrategyNotFound"))

    shop.config_map("other", {"Rsi.py": code("Rsi")}, strategies="yes")  # the label
    shop.runs(code("Rsi"), "two")
    one = shop.lives("one")
    shop.config_map("other", {"Rsi.py": code("Rsi", 2)}, strategies="yes")  # a key
    shop.runs(code("Rsi", 2), "two")
    same(one, shop.lives("one"))
    two = shop.lives("two")
    shop.config_map("other", {"Rsi.py": code("Rsi", 2)})  # no label any more
    shop.says("two", reason="LastGoodInUse")
    shop.offers("main", {"Ema": code("Ema")})
    shop.config_map("other", {"Rsi.py": code("Rsi", 2)}, strategies="yes")
    shop.says("two", reason="InUse", resolved=True)
    shop.config_map("other", None)
    shop.says("two", reason="LastGoodInUse")
    same(two, shop.lives("two"))
    same(one, shop.lives("one"))
    shop.config_map("mine", None)


def test_an_inline_strategy_and_one_of_a_key(shop: Shop) -> None:
    """They need no library."""
    shop.strategy("by-hand", library="none", name="ByHand", source={"inline": code("ByHand")})
    shop.config_map("kept", {"deep.py": code("Keyed")})
    shop.strategy(
        "keyed", library="none", name="Keyed", source={"configMap": {"name": "kept", "key": "deep.py"}}
    )
    shop.strategy("text", library="none", source={"inline": "# text\n{ not python"}, suffix=".txt")
    shop.server("one", "none", "ByHand")
    shop.server("two", "none", "Keyed")
    shop.server("three", "none", "text")
    shop.runs(code("ByHand"), "one")
    shop.runs(code("Keyed"), "two")
    shop.runs("# text\n{ not python", "three")
    assert shop.answer("three").path.endswith("/text.txt")
    others = shop.lives("two", "three")
    shop.change(STRATEGIES, "by-hand", {"source": {"inline": code("ByHand", 2)}})
    shop.runs(code("ByHand", 2), "one")
    shop.config_map("kept", {"deep.py": code("Keyed", 2)})
    shop.runs(code("Keyed", 2), "two")
    same({"three": others["three"]}, shop.lives("three"))
    one = shop.lives("one")
    shop.delete(STRATEGIES, "by-hand")
    shop.says("one", reason="LastGoodInUse")
    same(one, shop.lives("one"))


def apply_users(shop: Shop, manager: str, name: str, *users: str) -> None:
    """As `kubectl apply --server-side --field-manager=`."""
    meta = {"name": name, "namespace": shop.namespace}
    body = {"apiVersion": "mainstay.dev/v1alpha1", "kind": "Strategy", "metadata": meta}
    body["spec"] = {"users": [{"name": user, "endpoint": f"http://{user}"} for user in users]}
    url = f"{path(STRATEGIES, shop.namespace, name)}?fieldManager={manager}"
    shop.stage.client.ok("PATCH", url, body, "application/apply-patch+yaml")


def test_programs_of_others(shop: Shop) -> None:
    directory = shop.library("main", files={"Ema.py": code("Ema"), "Rsi.py": code("Rsi")})
    shop.offers("main", {"Ema": code("Ema"), "Rsi": code("Rsi")})
    shop.server("one", "main", "Ema")
    shop.runs(code("Ema"), "one")
    uid = shop.strategies("main")["Ema"]["metadata"]["uid"]
    apply_users(shop, "desk-a", "main.ema", "a1", "a2")
    apply_users(shop, "desk-b", "main.ema", "b1")

    def counted(*users: str) -> None:
        want = {"count": 1 + len(users), "runs": ["one"], "external": sorted(users)}
        shop.until(STRATEGIES, "main.ema", lambda o: o["status"]["usedBy"] == want)

    counted("a1", "a2", "b1")
    before = shop.lives("one")
    apply_users(shop, "desk-a", "main.ema", "a2")  # a1 is its own to take away, b1 is not
    counted("a2", "b1")

    (directory / "Ema.py").unlink()
    shop.says("one", reason="LastGoodInUse")
    gone = shop.until(STRATEGIES, "main.ema", lambda o: told(o) == ("False", "SourceMissing"))
    assert gone["metadata"]["uid"] == uid
    assert {"a2", "b1"} == {u["name"] for u in gone["spec"]["users"]}
    assert "revision" not in gone["status"]
    (directory / "Ema.py").write_text(code("Ema"))
    shop.says("one", reason="InUse", resolved=True)
    counted("a2", "b1")
    assert shop.strategies("main")["Ema"]["metadata"]["uid"] == uid
    (directory / "Ema.py").unlink()
    shop.says("one", reason="LastGoodInUse")
    apply_users(shop, "desk-a", "main.ema")
    apply_users(shop, "desk-b", "main.ema")  # the last who was registered: nothing holds it
    eventually(lambda: shop.get(STRATEGIES, "main.ema") is None)
    same(before, shop.lives("one"))


def test_an_object_deleted_by_hand(shop: Shop) -> None:
    shop.library("main", files={"Ema.py": code("Ema"), "Safe.py": code("Safe")}, default="Safe")
    bots = names("b", 4)
    for name in bots:
        shop.server(name, "main", "Ema", fallbackPolicy="Stop" if name == "b03" else "UseDefault")
    shop.runs(code("Ema"), *bots)
    before = shop.lives(*bots)
    for _ in range(5):
        uid = shop.strategies("main")["Ema"]["metadata"]["uid"]
        shop.stage.plane.kubectl("delete", "strategy", "main.ema", "-n", shop.namespace)
        shop.until(
            STRATEGIES,
            "main.ema",
            lambda o, old=uid: o["metadata"]["uid"] != old and told(o) == ("True", "Offered"),
        )
    for name in bots:
        shop.says(name, reason="InUse", resolved=True)
    same(before, shop.lives(*bots))


def test_a_library_deleted_and_made_again(shop: Shop) -> None:
    files = {"Ema.py": code("Ema"), "Safe.py": code("Safe")}
    shop.library("main", files=files, default="Safe")
    shop.server("one", "main", "Ema")
    shop.server("stops", "main", "Ema", fallbackPolicy="KeepLast")
    shop.strategy("own", library="main", name="Own", source={"inline": code("Own")})
    shop.server("two", "main", "Own")
    bots = ("one", "stops")
    shop.runs(code("Ema"), *bots)
    shop.runs(code("Own"), "two")
    before = shop.lives(*bots, "two")
    shop.delete(LIBRARIES, "main")
    eventually(lambda: set(shop.strategies("main")) == {"Own"}, "its objects gone")
    for name in bots:
        shop.says(name, reason="LastGoodInUse")
    same(before, shop.lives(*bots, "two"))
    assert ready("Running")(shop.run("one"))
    shop.library("main", default="Safe")
    for name in bots:
        shop.says(name, reason="InUse", resolved=True)
    same(before, shop.lives(*bots, "two"))


def test_its_directory_is_away_for_a_while(shop: Shop) -> None:
    files = {"Ema.py": code("Ema"), "Safe.py": code("Safe")}
    directory = shop.library("main", files=files, default="Safe", rescanSeconds=1)
    bots = ("one", "two")
    shop.server("one", "main", "Ema")
    shop.server("two", "main", "Ema", fallbackPolicy="Stop")
    shop.runs(code("Ema"), *bots)
    before = shop.lives(*bots)
    objects = shop.strategies("main")
    away = directory.with_name("away")
    directory.rename(away)
    shop.until(LIBRARIES, "main", lambda o: told(o) == ("False", "DirectoryNotFound"))
    assert shop.strategies("main") == objects
    # nor does an operator that never saw it
    shop.stage.crash()
    shop.stage.restart()
    same(before, shop.lives(*bots))
    away.rename(directory)
    shop.until(LIBRARIES, "main", lambda o: told(o) == ("True", "Offered"))
    for name in bots:
        shop.says(name, reason="InUse", resolved=True)
    same(before, shop.lives(*bots))
    # it is watched again
    (directory / "Ema.py").write_text(code("Ema", 2))
    shop.runs(code("Ema", 2), *bots)
    assert {n: len(s) for n, s in shop.starts(*bots).items()} == dict.fromkeys(bots, 2)


def git(directory: Path, *words: str) -> None:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *who, *words], cwd=directory, check=True, capture_output=True, env=env)


FILES = 300


def test_a_checkout_of_many_files(shop: Shop) -> None:
    """Two branches that share a third, differ in a third, and have a third of their own each."""
    directory = shop.stage.home / "lib" / "repository"
    directory.mkdir(parents=True)
    git(directory, "init", "-b", "left")

    def branch(side: str) -> dict[str, str]:
        shared = {f"S{n:03}": code(f"S{n:03}") for n in range(FILES // 3)}
        differ = {f"D{n:03}": code(f"D{n:03}", side) for n in range(FILES // 3)}
        alone = {f"{side}{n:03}": code(f"{side}{n:03}") for n in range(FILES // 3)}
        return shared | differ | alone

    sides = {"left": branch("left"), "right": branch("right")}
    for side, files in sides.items():
        if side == "right":
            git(directory, "checkout", "-b", side)
            git(directory, "rm", "-q", "-r", ".")
        for name, text in files.items():
            (directory / f"{name}.py").write_text(text)
        git(directory, "add", ".")
        git(directory, "commit", "-q", "-m", side)
    shop.make(
        "StrategyLibrary",
        LIBRARIES,
        "main",
        {"source": {"directory": str(directory)}, "debounceMilliseconds": 50, "rescanSeconds": 5},
    )
    shop.offers("main", sides["right"], 60)
    shop.server("shared", "main", "S007")
    shop.server("differs", "main", "D007")
    shop.runs(sides["right"]["S007"], "shared")
    shop.runs(sides["right"]["D007"], "differs")
    before = shop.lives("shared")
    for side in ("left", "right", "left"):
        git(directory, "checkout", "-q", side)
    shop.offers("main", sides["left"], 60)
    shop.runs(sides["left"]["D007"], "differs")
    same(before, shop.lives("shared"))
    shop.until(LIBRARIES, "main", lambda o: o["status"]["strategies"] == FILES)
    shop.until(LIBRARIES, "main", lambda o: told(o) == ("True", "Offered"))


def vim(file: Path, text: str) -> None:
    """backupcopy=no: the old one is renamed, the new one written, the old one removed; a swap file all along."""
    swap = file.with_name(f".{file.name}.swp")
    swap.write_bytes(b"b0VIM")
    backup = file.with_name(file.name + "~")
    file.rename(backup)
    file.write_text(text)
    os.chmod(file, 0o644)
    backup.unlink()
    swap.unlink()


def emacs(file: Path, text: str) -> None:
    """A lock that is a dangling link, an auto-save file, a backup that stays."""
    lock = file.with_name(f".#{file.name}")
    os.symlink("user@host.123:456", lock)
    auto = file.with_name(f"#{file.name}#")
    auto.write_text(text)
    shutil.copy(file, file.with_name(file.name + "~"))
    file.write_text(text)
    auto.unlink()
    lock.unlink()


def in_place(file: Path, text: str) -> None:
    """Truncated, then written in pieces with a flush after each, as a slow network does it."""
    with file.open("w") as out:
        for first in range(0, len(text), 10):
            out.write(text[first : first + 10])
            out.flush()


def slowly(file: Path, text: str) -> None:
    """The same with pauses: half a strategy may be a whole one to a compiler."""
    with file.open("w") as out:
        for line in text.splitlines(keepends=True):
            out.write(line)
            out.flush()
            time.sleep(0.03)


def atomic(file: Path, text: str) -> None:
    """A temporary file in the same directory, synced and renamed."""
    other = file.with_name(f".{file.name}.tmp4711")
    with other.open("w") as out:
        out.write(text)
        os.fsync(out.fileno())
    other.rename(file)


def sed(file: Path, text: str) -> None:
    """sed -i: a file without a dot, renamed."""
    other = file.with_name("sedQx3kLz")
    other.write_text(text)
    os.chmod(other, 0o600)
    other.rename(file)


def elsewhere(file: Path, text: str) -> None:
    """Made in another directory of the same file system, and moved over it."""
    other = file.parent.parent / "made-elsewhere.py"
    other.write_text(text)
    os.replace(other, file)


def removed_first(file: Path, text: str) -> None:
    """Unlinked, then made anew; quicker than the debounce."""
    file.unlink()
    file.write_text(text)


def hard_link(file: Path, text: str) -> None:
    other = file.with_name(".linked")
    other.write_text(text)
    file.unlink()
    os.link(other, file)
    other.unlink()


WAYS: tuple[Callable[[Path, str], None], ...] = (
    vim,
    emacs,
    in_place,
    slowly,
    atomic,
    sed,
    elsewhere,
    removed_first,
    hard_link,
)


def test_the_ways_in_which_files_are_saved(shop: Shop) -> None:
    """Each is one edit: one restart, no fallback between, and nothing else is offered at its end."""
    text = code("Ema", "first")
    directory = shop.library(
        "main", files={"Ema.py": text, "Safe.py": code("Safe")}, default="Safe", debounceMilliseconds=250
    )
    shop.server("one", "main", "Ema")
    shop.runs(text, "one")
    wanted = [digest(text)]
    for way in WAYS:
        text = code("Ema", way.__name__)
        wanted.append(digest(text))
        way(directory / "Ema.py", text)
        shop.runs(text, "one")
        assert [s[2] for s in shop.starts("one")["one"]] == wanted, way.__name__
    # what changes no byte changes nothing
    before = shop.lives("one")
    os.utime(directory / "Ema.py", (1, 1))
    os.chmod(directory / "Ema.py", 0o600)
    atomic(directory / "Ema.py", text)
    (directory / "Rsi.py").write_text(code("Rsi"))
    shop.offers("main", {"Ema": text, "Safe": code("Safe"), "Rsi": code("Rsi")})
    same(before, shop.lives("one"))


def test_links_that_are_swapped(shop: Shop) -> None:
    """As a kubelet mounts ConfigMaps, and as deployments switch a `current`."""
    directory = shop.library("main", rescanSeconds=1)
    for version in (1, 2):
        (directory / f"..v{version}").mkdir()
        (directory / f"..v{version}/Ema.py").write_text(code("Ema", version))
    (directory / "..data").symlink_to("..v1")
    (directory / "Ema.py").symlink_to("..data/Ema.py")
    shop.server("one", "main", "Ema")
    shop.runs(code("Ema"), "one")
    (directory / "..new").symlink_to("..v2")
    (directory / "..new").rename(directory / "..data")
    shop.runs(code("Ema", 2), "one")

    releases = directory.with_name("releases")
    for version in (3, 4):
        (releases / str(version)).mkdir(parents=True)
        (releases / f"{version}/Ema.py").write_text(code("Ema", version))
    current = directory.with_name("current")
    current.symlink_to("releases/3")
    shop.change(LIBRARIES, "main", {"source": {"directory": str(current)}})
    shop.runs(code("Ema", 3), "one")
    (directory.with_name("next")).symlink_to("releases/4")
    (directory.with_name("next")).rename(current)
    shop.runs(code("Ema", 4), "one")
    (releases / "4/Ema.py").write_text(code("Ema", 5))
    shop.runs(code("Ema", 5), "one")
    assert [s[2] for s in shop.starts("one")["one"]] == [digest(code("Ema", n)) for n in (1, 2, 3, 4, 5)]
