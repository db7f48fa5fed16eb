"""Random kills of everything that is ours, one after the other, while jobs run."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import suppress

import pytest
from tests.integration.jobs.judge import Watcher
from tests.integration.jobs.plant import Plant, plant
from tests.integration.jobs.workshop import completed, ladder, tasks_of
from tests.integration.runs.house import OPERATOR
from tests.support.stage import Object

from mainstay.runtime.process.tasks.files import attempts, exit_record
from mainstay.runtime.process.unitdir import ScopeDir

pytestmark = [pytest.mark.xdist_group("kill"), pytest.mark.soak, pytest.mark.timeout(3600)]

KILLS = 50
JOBS_AT_ONCE = 3
KINDS = {"operator": 2, "supervisord": 2, "fork server": 3, "shim": 4}
"""What is killed, and how often in relation to the others."""


def test_random_kills():
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    dice = random.Random(seed)
    killed: Counter[str] = Counter()
    story: Counter[str] = Counter()
    rounds = 0
    with plant() as one, Watcher(one.home_id) as watcher:
        while killed.total() < KILLS:
            names = [f"r{rounds}-{n}" for n in range(JOBS_AT_ONCE)]
            shims = killed["shim"]
            for name in names:
                one.desk.create(name, ladder(one.judge, sleep=dice.uniform(0.5, 2), retries=50))
            while killed.total() < KILLS and not all(completed(one.desk.try_get(name)) for name in names):
                if kind := kill_one(one, dice):
                    killed[kind] += 1
                time.sleep(dice.uniform(0.05, 0.6))
            for name in names:
                obj = one.desk.until(name, completed, 300)
                story += judged(one, name, obj)
            rounds += 1
            assert story["lost"] <= killed["shim"], f"seed {seed}: {story}, {killed}, {shims}"
            for name in names:
                one.remove(name)
        assert watcher.errors == []
        assert one.journal.violations() == []
    print(f"seed {seed}: {rounds} rounds of {JOBS_AT_ONCE} jobs, killed {dict(killed)}, {dict(story)}")
    print(f"{watcher.looks} looks, at most {watcher.most} programs at once")


def kill_one(one: Plant, dice: random.Random) -> str | None:
    """Kill somebody who lives; who it was."""
    [kind] = dice.choices(list(KINDS), list(KINDS.values()))
    found = [one.part(OPERATOR)] if kind == "operator" else sorted(one.parts()[kind])
    if not found or found[0] is None:
        return None
    with suppress(OSError, AssertionError):  # it ended by itself meanwhile
        one.kill(dice.choice(found))
        return kind
    return None


def judged(one: Plant, name: str, obj: Object) -> Counter[str]:
    """What became of every attempt of a completed job: on disk, in its status and in the journal."""
    uid, told = obj["metadata"]["uid"], Counter[str]()
    for task, status in tasks_of(obj).items():
        unit = ScopeDir(one.root, "jobs").unit(f"default.{name}_{task}")
        records = {n: exit_record(unit, n) for n in attempts(unit)}
        good = [n for n, record in records.items() if record is not None and record.code == 0]
        lost = [n for n, record in records.items() if record is None]
        begun = one.journal.begun(uid, task)
        assert good == [max(records)] == [status["attempt"]], (name, task, records, status)
        assert begun == sorted(set(begun)), f"{name}: {task} began {begun}"
        assert set(one.journal.good(uid, task)) <= {*good, *lost}
        assert set(begun) - {*good, *lost} == set(), "it failed, and nobody told it to"
        told += Counter(
            tasks=1,
            executions=len(begun),
            exit0=len(good),
            lost=len(lost),
            unborn=len(set(records) - set(begun)),
        )
    return told
