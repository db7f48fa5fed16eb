"""Many tasks in a job, and many jobs at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import psutil
import pytest
from tests.integration.jobs.judge import Journal, Watcher
from tests.integration.jobs.plant import plant
from tests.integration.jobs.workshop import Works, completed, directories, ladder, program, tasks_of
from tests.integration.runs.house import OPERATOR
from tests.support.plane import RealPlane
from tests.support.stage import Stage, staged

STATUS_LIMIT = 64 * 1024
JOBS_AT_ONCE = 100
GROWTH_MIB = 60


@pytest.fixture(scope="module")
def stage(plane: RealPlane) -> Iterator[Stage]:
    with staged(plane, ports=4) as one:
        yield one


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fail", [0, 3], ids=["all complete", "all fail, nothing blocks"])
def test_the_status_of_200_tasks(stage: Stage, fail: int):
    """With the longest names, outputs of each, and where they fail, all that stderr says."""
    desk = Works(stage).desk
    spec = ladder(stage.judge, phases=4, tasks=50)
    name = f"large-{fail}"
    for p, phase in enumerate(spec["steps"][0]["phases"]):
        for n, task in enumerate(phase["tasks"]):
            task["name"] = f"t{p}-{n}-".ljust(62, "x") + "z"
            task["blocking"] = not fail
            task["program"] = program(stage.judge, size=100)
            if fail:
                script = "for i in 1 2 3 4 5; do printf '%0400d\\n' $i >&2; done; exit 3"
                task["program"] = {"command": ["/bin/sh", "-c", script]}
    spec["parallelism"] = 64
    obj = desk.create(name, spec)
    most = 0
    until = time.monotonic() + 200
    while not completed(obj):
        obj = desk.get(name) or obj
        most = max(most, len(json.dumps(obj.get("status") or {}, separators=(",", ":"))))
        assert time.monotonic() < until, obj["status"]["conditions"]
    states = {t["state"] for t in tasks_of(obj).values()}
    print(f"200 tasks, {states}: at most {most} bytes of status")
    desk.delete(name)
    desk.until_gone(name, 60)
    assert directories(stage.home) == []
    assert len(tasks_of(obj)) == 200
    assert states == {"Failed" if fail else "Completed"}
    assert most < STATUS_LIMIT
    assert Journal(stage.judge).verdict(obj) == []


@pytest.mark.soak
@pytest.mark.xdist_group("kill")
@pytest.mark.timeout(900)
def test_many_jobs_at_once():
    """A hundred jobs of 12 tasks, three times; the operator's memory stays where the first round left it."""
    sizes = []
    with plant() as one, Watcher(one.home_id) as watcher:
        operator = psutil.Process(one.part(OPERATOR))
        sizes.append(operator.memory_info().rss >> 20)
        for turn in range(3):
            names = [f"many-{turn}-{n}" for n in range(JOBS_AT_ONCE)]
            began = time.monotonic()
            uids = {}
            spec = ladder(one.judge)
            for name in names:
                uids[name] = one.desk.create(name, spec)["metadata"]["uid"]
            for name in names:
                obj = one.desk.until(name, completed, 300)
                assert {t["attempt"] for t in tasks_of(obj).values()} == {1}
            took = time.monotonic() - began
            for name in names:
                one.desk.delete(name)
            for name in names:
                one.desk.until_gone(name, 120)
            begun = [(line.uid, line.task) for line in one.journal.lines() if line.word == "begin"]
            assert len(begun) == len(set(begun)) == 12 * JOBS_AT_ONCE * (turn + 1)
            assert operator.pid == one.part(OPERATOR), one.complaints()
            sizes.append(operator.memory_info().rss >> 20)
            print(f"{JOBS_AT_ONCE} jobs in {took:.1f} s, operator {sizes} MiB")
        assert directories(one.root) == []
        assert one.desk.config_maps() == []
        assert watcher.errors == []
    assert sizes[-1] - sizes[1] < GROWTH_MIB
