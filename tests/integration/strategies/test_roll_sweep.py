"""An edit reaches 34 bots while the operator dies: before and after each effect of the roll, and in its recovery.

The end is always the same: each runs the new code, Ready, on its port and lease, and was started once for it.
What each program wrote at its start is counted; a judge looks for two of one unit all the time.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.integration.strategies.judge import Judge
from tests.integration.strategies.shop import Shop, code, digest, names, running
from tests.support.stage import Object, Plan, eventually, marked, start_ticks

from mainstay.shell.kube import LEASES, RUNS

PROJECT = Path(__file__).parents[3]
pytestmark = [pytest.mark.xdist_group("roll"), pytest.mark.timeout(240)]

BOTS = names("b", 34)
SERVERS = {BOTS[0], BOTS[-1]}
"""The others are programs in sh: cheap, and Ready once they run."""
PATIENCE = 60.0
SAMPLE = 4
"""Deaths in a roll of all that `make test` has room for."""
SOAK_CHUNKS = 8

_versions = itertools.count(2)


class Roll:
    """A library of one strategy, its bots, and what is known of them before each edit."""

    def __init__(self, shop: Shop, bots: list[str]) -> None:
        self.shop = shop
        self.stage = shop.stage
        self.bots = bots
        self.file = shop.library("main", files={"Ema.py": code("Ema")}, rescanSeconds=30) / "Ema.py"
        for name in bots:
            (shop.server if name in SERVERS else shop.sleeper)(name, "main", "Ema")
        self.text = code("Ema")
        self.done()

    def runs(self) -> dict[str, Object]:
        found = {r["metadata"]["name"]: r for r in self.stage.client.items(RUNS)}
        return {name: found[name] for name in self.bots}

    def left(self) -> dict[str, str]:
        """Who does not run the newest code yet, and how it is."""
        is_so = running(self.text)
        return {name: str(run.get("status")) for name, run in self.runs().items() if not is_so(run)}

    def done(self) -> None:
        eventually(lambda: not self.left(), "the roll", PATIENCE)

    def edit(self) -> None:
        """Write other code; what was so far is kept for `check`."""
        self.before = self.runs()
        self.started = self.shop.starts(*self.bots)
        self.text = code("Ema", next(_versions))
        fresh = self.file.with_name(".fresh")
        fresh.write_text(self.text)
        fresh.rename(self.file)

    def check(self, what: str, *, claims: int = 1) -> None:
        """Once each, and nothing else has changed. `claims`: attempts that a disturbed roll may have claimed."""
        now, starts = self.runs(), self.shop.starts(*self.bots)
        leases = {x["spec"]["holder"]["uid"]: x["spec"]["port"] for x in self.stage.client.items(LEASES)}
        lived = Counter(uid for _, _, uid, _ in marked(self.stage.home_id))
        for name in self.bots:
            old, new, uid = self.before[name]["status"], now[name]["status"], now[name]["metadata"]["uid"]
            fresh = starts[name][len(self.started[name]) :]
            assert [told for _, _, told in fresh] == [digest(self.text)], (
                f"{what}: {name} was started {fresh}"
            )
            assert 1 <= new["attempt"] - old["attempt"] <= claims, f"{what}: {name}: {old} became {new}"
            assert (new["port"], leases.get(uid)) == (old["port"], old["port"]), f"{what}: {name}"
            assert lived[uid] == 1, f"{what}: {name} lives {lived[uid]} times"
            assert new["process"]["pid"] != old["process"]["pid"], f"{what}: {name}"

    def dying(self, *plans: Plan) -> int:
        """Edit while operators die as planned, one after the other; how many did."""
        shell, left, deaths = self.stage.shell, list(plans), 0
        shell.expect(left.pop(0) if left else None)
        self.edit()

        def over() -> bool:
            nonlocal deaths
            if self.stage.shell.died.is_set():
                deaths += 1
                self.stage.crash()
                self.stage.restart(left.pop(0) if left else None)
            return not self.left()

        eventually(over, f"the roll that died {[(p.when, p.number) for p in plans]}", PATIENCE)
        if self.stage.shell.died.is_set():  # with its last effect
            deaths += 1
            self.stage.crash()
            self.stage.restart()
        return deaths


@contextmanager
def judged(shop: Shop) -> Iterator[Judge]:
    with Judge(shop.stage, ports_stay=True) as judge:
        yield judge
    assert judge.looks > 0
    judge.verdict()


@pytest.fixture(scope="module")
def all_bots(shop: Shop) -> Roll:
    shop.stage.plane.kubectl("apply", "--server-side", "-f", str(PROJECT / "manifests/policies"))
    return Roll(shop, BOTS)


@pytest.fixture(scope="module")
def learned(all_bots: Roll) -> list[Plan]:
    """Every point at which an operator of an undisturbed roll can die."""
    with judged(all_bots.shop):
        assert all_bots.dying() == 0
    shell = all_bots.stage.shell
    all_bots.check("undisturbed")
    assert Counter(shell.effects)["api put strategyruns/status"] >= 2 * len(BOTS)
    assert "keep snapshot" in shell.effects, shell.effects
    numbers = range(len(shell.effects))
    return [
        Plan(n, when)
        for n in numbers
        for when in ("before", "after")
        if when == "before" or n in shell.finished
    ]


@pytest.fixture(autouse=True)
def _whole(all_bots: Roll) -> Iterator[None]:
    """Whatever a test did, the next finds an operator."""
    yield
    if all_bots.stage.shell.dead:
        all_bots.stage.crash()
        all_bots.stage.restart()


def sweep(roll: Roll, plans: list[tuple[Plan, ...]]) -> int:
    deaths = 0
    with judged(roll.shop) as judge:
        for plan in plans:
            what = ", then ".join(f"{p.when} {p.number}" for p in plan)
            deaths += roll.dying(*plan)
            roll.check(what)
            judge.verdict()
    return deaths


def spaced(plans: list[Plan], count: int) -> list[Plan]:
    """As many of them, from the first to the last."""
    return [plans[round(n * (len(plans) - 1) / (count - 1))] for n in range(count)]


def test_deaths_in_a_roll_of_all(all_bots: Roll, learned: list[Plan]) -> None:
    some = [(plan,) for plan in spaced(learned[:-1], SAMPLE)]
    some.append((some[1][0], Plan(6, "after")))  # and one in the recovery
    assert sweep(all_bots, some) >= SAMPLE


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunk", range(SOAK_CHUNKS))
def test_a_death_at_every_effect(all_bots: Roll, learned: list[Plan], chunk: int) -> None:
    some = [(plan,) for plan in learned[chunk::SOAK_CHUNKS]]
    assert sweep(all_bots, some) >= 0.8 * len(some)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_second_death_in_each_recovery(all_bots: Roll, learned: list[Plan], when: str) -> None:
    firsts, seconds = spaced(learned[:-1], 10), (0, 1, 2, 5, 11, 23, 47)
    sweep(all_bots, [(first, Plan(second, when)) for first in firsts for second in seconds])


# --- real kills


class Process:
    """An operator in a process of its own."""

    def __init__(self, shop: Shop, log: Path) -> None:
        stage = shop.stage
        command = [sys.executable, "-m", "mainstay.cli.main", "operator", "--health", "127.0.0.1:0"]
        own = stage.plane.home / "operator.kubeconfig"  # the operator's own identity and role
        command += ["--home", str(stage.home), "--kubeconfig", str(own)]
        with log.open("a") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        ready_file = stage.home / "operator.ready"

        def works() -> bool:
            assert self.process.poll() is None, log.read_text()
            with suppress(FileNotFoundError):
                return ready_file.read_text().strip() == str(self.process.pid)
            return False

        eventually(works, "an operator")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def real_operator(roll: Roll) -> Iterator[Path]:
    """In place of the one in this process, and with no more rights than it has; the log of those that the test starts."""
    roll.stage.crash()
    try:
        yield roll.stage.home / "operators.log"
    finally:
        roll.stage.restart()


def claimed(roll: Roll, count: int) -> None:
    """Wait until so many have claimed the new code."""
    new = digest(roll.text)

    def so_many() -> bool:
        return sum(r["status"]["strategy"]["hash"] == new for r in roll.runs().values()) >= count

    eventually(so_many, f"{count} claims", PATIENCE)


@pytest.mark.parametrize("count", [0, 1, pytest.param(12, marks=pytest.mark.soak), 25])
def test_kill_9_of_the_operator(all_bots: Roll, count: int) -> None:
    """At the moment when so many bots have claimed the new code; at 0, before anyone has."""
    roll = all_bots
    with real_operator(roll) as log, judged(roll.shop):
        first = Process(roll.shop, log)
        try:
            roll.edit()
            claimed(roll, count)
        finally:
            first.kill()
        second = Process(roll.shop, log)
        try:
            roll.done()
            roll.check(f"killed after {count} claims")
            assert "forbidden" not in log.read_text()
        finally:
            second.kill()


def supervisord(roll: Roll) -> int:
    mark = f"MAINSTAY_SCOPE={roll.stage.home_id}/runs\0".encode()

    def look() -> int | None:
        with suppress(OSError, ValueError):
            pid = int((roll.stage.home / "scopes/runs/supervisord.pid").read_text())
            if mark in Path(f"/proc/{pid}/environ").read_bytes() and start_ticks(pid):
                return pid
        return None

    return int(eventually(look, "supervisord"))


@pytest.mark.parametrize(
    "count", [8, pytest.param(1, marks=pytest.mark.soak), pytest.param(30, marks=pytest.mark.soak)]
)
def test_kill_9_of_supervisord_in_the_middle(all_bots: Roll, count: int) -> None:
    """Those who had their new start may be started by its successor once more; no other promise is given up."""
    roll = all_bots
    with judged(roll.shop):
        roll.edit()
        claimed(roll, count)
        before = supervisord(roll)
        os.kill(before, signal.SIGKILL)
        roll.done()
        roll.check(f"supervisord killed after {count} claims", claims=2)
        assert supervisord(roll) != before


def test_an_operator_that_finds_the_edit_when_it_comes(all_bots: Roll) -> None:
    """Nobody watched: what counts is what is there, so two edits are one restart."""
    roll = all_bots
    with judged(roll.shop):
        roll.stage.crash()
        roll.edit()
        text = roll.text = code("Ema", next(_versions))
        roll.file.write_text(text)
        assert roll.left().keys() == set(BOTS)
        roll.stage.restart()
        roll.done()
        roll.check("nobody watched")


def test_edits_without_a_pause(all_bots: Roll) -> None:
    """Ten edits in two seconds: whoever was started ends on the last, and nobody is started for one twice."""
    roll = all_bots
    with judged(roll.shop):
        roll.edit()
        for _ in range(9):
            roll.text = code("Ema", next(_versions))
            roll.file.write_text(roll.text)
            time.sleep(0.2)
        roll.done()
        for name, all_starts in roll.shop.starts(*BOTS).items():
            fresh = [told for _, _, told in all_starts[len(roll.started[name]) :]]
            assert fresh[-1] == digest(roll.text)
            assert len(set(fresh)) == len(fresh), f"{name} was started for one code twice"
