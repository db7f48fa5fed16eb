"""Real kills of the real thing in mid-job: what was completed is never executed again, and the rest goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.jobs.plant import Plant
from tests.integration.jobs.plant import plant as make_plant
from tests.integration.jobs.workshop import completed, ladder, program, tasks_of
from tests.integration.runs.house import ETCD, KUBE_APISERVER, OPERATOR, PATIENCE
from tests.support.stage import eventually, start_ticks

from mainstay.shell.kube import BATCHES, core_path

pytestmark = [pytest.mark.xdist_group("kill"), pytest.mark.timeout(400)]

LONG = pytest.mark.soak
"""Cases beyond the first of their sort: `make soak`."""

SECOND = ("t10", "t11", "t12")
"""Tasks of the second phase: all three run when a test says that they have begun."""


@pytest.fixture(scope="module")
def built() -> Iterator[Plant]:
    with make_plant() as one:
        yield one


@pytest.fixture
def plant(built: Plant) -> Plant:
    """It is up, whatever became of the test before."""
    if None in [built.part(name) for name in (ETCD, KUBE_APISERVER, OPERATOR)]:
        built.up()
    return built


# --- one part dies


def test_the_operator(plant: Plant):
    spec, _ = plant.begin("operator", *SECOND)
    before = plant.part(OPERATOR)
    plant.kill(before)
    plant.replaced(OPERATOR, before)
    plant.completes("operator", spec)


@pytest.mark.parametrize("kind", ["supervisord", "fork server"])
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=LONG)])
def test_who_starts_tasks(plant: Plant, kind: str, number: int):
    name = f"{kind.replace(' ', '-')}-{number}"
    spec, _ = plant.begin(name, *SECOND)
    before = plant.only(kind)
    plant.kill(before, number)
    plant.completes(name, spec)
    eventually(lambda: plant.only(kind) != before, f"another {kind}", PATIENCE)


def test_a_shim(plant: Plant):
    """Nobody writes down how its program ends, so it runs again, after it has ended."""
    spec, uid = plant.begin("shim", *SECOND)
    plant.kill(int(plant.leader("shim", "t11")["shim"]))
    obj = plant.completes("shim", spec, {"t11": 1})
    words = [line.word for line in plant.journal.lines(uid, "t11")]
    assert words == ["begin", "end", "begin", "end"]
    assert tasks_of(obj)["t11"]["losses"] == 1


def test_a_program(plant: Plant):
    """Its shim tells: a failed attempt, and a retry."""
    spec, _ = plant.begin("program", *SECOND, retries=1)
    plant.kill(int(plant.leader("program", "t12")["pid"]))
    obj = plant.completes("program", spec, {"t12": 1})
    assert tasks_of(obj)["t12"]["failures"] == 1


@pytest.mark.parametrize("part", [KUBE_APISERVER, ETCD])
@LONG
def test_a_part_of_the_control_plane(plant: Plant, part: str):
    spec, _ = plant.begin(part, *SECOND)
    before = plant.part(part)
    plant.kill(before)
    plant.replaced(part, before)
    plant.completes(part, spec)


# --- everything dies


def test_everything_but_programs_and_their_shims(plant: Plant):
    spec, uid = plant.begin("all", *SECOND)
    plant.kill_parts("system", "supervisord", "fork server")
    for task in SECOND:  # each comes to its end with nobody there but its shim
        eventually(lambda t=task: plant.journal.good(uid, t), f"end of {task}")
    plant.up()
    plant.completes("all", spec)


@LONG
def test_everything_but_programs(plant: Plant):
    """What their end was is not known: they run again, once each, and not before they have ended."""
    spec, _ = plant.begin("but-programs", *SECOND)
    plant.kill_parts("system", "supervisord", "fork server", "shim")
    plant.up()
    plant.completes("but-programs", spec, dict.fromkeys(SECOND, 1))


def test_the_machine_loses_power(plant: Plant):
    spec, _ = plant.begin("power", *SECOND, hanging=1)
    plant.kill_parts("system", "supervisord", "fork server", "shim")
    plant.kill_parts("program")
    plant.change_boot()
    plant.up()
    plant.completes("power", spec, dict.fromkeys(SECOND, 1))


def test_the_machine_is_shut_down(plant: Plant):
    """TERM to everybody, then KILL: to be ended by that is no failure of a task."""
    spec, _ = plant.begin("shutdown", *SECOND, hanging=1)
    plant.kill_parts("system", "supervisord", "fork server")
    both = plant.parts()
    for pid in both["shim"] | both["program"]:
        plant.kill(pid, signal.SIGTERM)
    eventually(lambda: not plant.parts()["shim"], "end of the shims")
    plant.change_boot()
    plant.up()
    plant.completes("shutdown", spec, dict.fromkeys(SECOND, 1))


@LONG
def test_down_and_up(plant: Plant):
    """A stop from outside is no failure either."""
    spec, _ = plant.begin("down", *SECOND, hanging=1)
    plant.mainstay("down")
    assert not any(plant.parts().values())
    plant.up()
    plant.completes("down", spec, dict.fromkeys(SECOND, 1))


@LONG
def test_down_and_another_boot(plant: Plant):
    spec, _ = plant.begin("down-boot", *SECOND, hanging=1)
    plant.mainstay("down")
    plant.change_boot()
    plant.up()
    plant.completes("down-boot", spec, dict.fromkeys(SECOND, 1))


# --- two operators


@contextmanager
def another_operator(plant: Plant) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    words = plant.command("operator", "--kubeconfig", str(plant.root / "operator.kubeconfig"))
    log = plant.root / "second.log"
    with (
        log.open("w") as out,
        subprocess.Popen(words, env=plant.env, stdout=out, stderr=out, text=True) as second,
    ):
        try:
            yield second, log
        finally:
            second.kill()


def test_a_second_operator_waits(plant: Plant):
    spec, _ = plant.begin("second", "t00")
    with another_operator(plant) as (_, log):
        eventually(lambda: "waiting for it to end" in log.read_text(), "it waits", PATIENCE)
        plant.completes("second", spec)
        assert "operating" not in log.read_text()


def test_another_operator_takes_over_while_the_first_is_stopped(plant: Plant):
    """Its lock is taken away, as on a file system that forgets; then it wakes, and both work on."""
    spec, uid = plant.begin("stopped", "t00", sleep=1.0)
    first = plant.part(OPERATOR)
    assert first is not None
    plant.kill(first, signal.SIGSTOP)
    (plant.root / "operator.lock").unlink()
    with another_operator(plant):
        plant.began(uid, "t20")
        plant.kill(first, signal.SIGCONT)
        plant.completes("stopped", spec, keep=True)
        more, _ = plant.begin("both", sleep=0.1)  # and from the beginning
        plant.completes("both", more)
        plant.remove("stopped")
    assert start_ticks(first) is not None
    plant.kill(first)  # its lock's name is another's now
    plant.replaced(OPERATOR, first)


# --- the past comes back


def test_etcd_is_restored_from_an_older_backup(plant: Plant):
    """Status forgot three phases, and their ConfigMaps: what is on disk is the truth."""
    spec, uid = plant.begin("restored", "t10")
    plant.end_part(OPERATOR, KUBE_APISERVER, ETCD)
    backup = plant.root / "backup"
    shutil.copytree(plant.etcd_data, backup)
    plant.up()
    plant.began(uid, "t30")
    plant.end_part(OPERATOR, KUBE_APISERVER, ETCD)
    shutil.rmtree(plant.etcd_data)
    shutil.move(backup, plant.etcd_data)
    plant.up()
    plant.completes("restored", spec)


@LONG
def test_etcd_is_restored_to_before_a_failed_job_was_resumed(plant: Plant):
    spec = ladder(plant.judge, phases=2, tasks=2)
    spec["steps"][0]["phases"][1]["tasks"][0]["program"] = program(plant.judge, needs="fixed")
    uid = plant.desk.create("resumed", spec)["metadata"]["uid"]
    plant.desk.until("resumed", lambda o: bool((o.get("status") or {}).get("resumable")))
    plant.end_part(OPERATOR, KUBE_APISERVER, ETCD)
    backup = plant.root / "backup"
    shutil.copytree(plant.etcd_data, backup)
    plant.up()
    plant.desk.fix(uid)
    plant.desk.patch("resumed", resumeNonce=1)
    plant.desk.until("resumed", completed, PATIENCE)
    plant.end_part(OPERATOR, KUBE_APISERVER, ETCD)
    shutil.rmtree(plant.etcd_data)
    shutil.move(backup, plant.etcd_data)
    plant.up()
    plant.desk.until("resumed", lambda o: bool((o.get("status") or {}).get("resumable")))
    plant.desk.patch("resumed", resumeNonce=1)
    plant.completes("resumed", spec, {"t10": 1})


# --- hands

AWAY = [
    pytest.param(False, id="operator works"),
    pytest.param(True, id="operator away", marks=LONG),
]


def test_a_job_is_deleted_while_the_operator_is_away(plant: Plant):
    plant.begin("deleted", *SECOND, hanging=1)
    plant.end_part(OPERATOR)
    plant.desk.delete("deleted")
    plant.up()
    plant.desk.until_gone("deleted", PATIENCE)
    plant.nothing_of("deleted")


def test_a_job_is_deleted_and_made_again_while_the_operator_is_away(plant: Plant):
    """Its finalizer was taken away. The new one ends what runs, and begins at the beginning.

    The old one's ConfigMaps are the garbage collector's, by their ownerReferences.
    """
    _, old = plant.begin("again", *SECOND, hanging=1)
    plant.end_part(OPERATOR)
    plant.desk.delete("again")
    plant.desk.strip_finalizers("again")
    plant.desk.until_gone("again")
    spec = ladder(plant.judge)
    new = plant.desk.create("again", spec)["metadata"]["uid"]
    assert new != old
    plant.up()
    left = frozenset(plant.desk.config_maps("again"))
    plant.completes("again", spec, keep=True)
    plant.remove("again", maps_before=left)
    assert [task for task in SECOND if plant.journal.ended(old, task)] == []


@LONG
def test_a_job_made_again_is_deleted_before_it_came_so_far(plant: Plant):
    """What its predecessor of that name left in later phases goes with it."""
    _, uid = plant.begin("shorter", "t30", sleep=0.2)
    plant.end_part(OPERATOR)
    plant.desk.delete("shorter")
    plant.desk.strip_finalizers("shorter")
    plant.desk.until_gone("shorter")
    eventually(lambda: all(plant.journal.ended(uid, f"t3{n}") for n in range(3)), "its last tasks")
    left = frozenset(plant.desk.config_maps("shorter"))
    spec = ladder(plant.judge)
    plant.desk.create("shorter", {**spec, "state": "Suspended"})
    plant.up()
    plant.desk.until("shorter", lambda o: (o.get("status") or {}).get("phase") == "Suspended")
    plant.remove("shorter", maps_before=left)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize(
    "edit",
    [
        "nulled",
        "claimed again",
        *(pytest.param(x, marks=LONG) for x in ("no steps", "tasks pending", "attempts raised")),
    ],
)
def test_a_status_edited_by_hand(plant: Plant, edit: str, away: bool):
    """In the third phase somebody makes status forget the first two. What ran to exit 0 is not run again."""
    name = f"edit-{edit.replace(' ', '-')}-{'away' if away else 'works'}"
    plant.begin(name, "t20", "t21", "t22", sleep=0.3 if away else 0.5)
    if away:
        plant.end_part(OPERATOR)
    changed = False
    while not changed:
        status = (plant.desk.get(name) or {})["status"]
        if edit == "nulled":
            status = {"resumes": status["resumes"]}
        elif edit == "no steps":
            status = {**status, "steps": [], "context": {}}
        for task in (t for s in status.get("steps") or () for p in s["phases"] for t in p.get("tasks") or ()):
            if task["state"] == "Completed":
                keep = {"name": task["name"], "attempt": task["attempt"]}
                task.clear()
                task |= {"state": "Starting" if edit == "claimed again" else "Pending", **keep}
                task["attempt"] += edit in ("attempts raised", "claimed again")
        if edit not in ("nulled", "no steps"):
            for place in (x for s in status["steps"] for x in (s, *s["phases"])):
                place["state"] = "InProgress" if place["name"] in ("all", "p0") else "Pending"
            status["context"] = {}
        code, answer = plant.desk.set_status(name, status)
        assert code in (200, 409), answer
        changed = code == 200
    if away:
        plant.up()
    obj = plant.desk.until(name, completed, PATIENCE)
    uid = obj["metadata"]["uid"]
    begun = {task: plant.journal.begun(uid, task) for task in tasks_of(obj)}
    assert begun == {task: [1] for task in tasks_of(obj)}
    assert plant.journal.violations() == []
    plant.remove(name)


def outputs_map(plant: Plant, name: str) -> str:
    """The ConfigMap of t00, the only one there is yet."""
    found = eventually(lambda: plant.desk.config_maps(name), "a ConfigMap")
    return core_path("configmaps", "default", found[0])


@pytest.mark.parametrize("away", AWAY)
def test_the_config_map_of_a_tasks_outputs_is_deleted(plant: Plant, away: bool):
    name = f"map-{'away' if away else 'works'}"
    spec, _ = plant.begin(name, *SECOND)
    url = outputs_map(plant, name)
    if away:
        plant.end_part(OPERATOR)
    with plant.client() as client:
        client.ok("DELETE", url)
    if away:
        plant.up()
    plant.completes(name, spec)


@pytest.mark.parametrize(
    "data", [{"outputs.json": "{"}, *(pytest.param({"outputs.json": x}, marks=LONG) for x in ("[1]", None))]
)
def test_the_config_map_of_a_tasks_outputs_is_spoilt(plant: Plant, data: dict[str, str | None]):
    """What the task itself left on disk is what it put out."""
    name = "spoilt"
    spec, _ = plant.begin(name, *SECOND)
    with plant.client() as client:
        client.merge(outputs_map(plant, name), {"data": data})
    plant.completes(name, spec)


def test_the_finalizer_is_removed_from_a_running_job(plant: Plant):
    spec, _ = plant.begin("bare", *SECOND)
    plant.desk.strip_finalizers("bare")
    plant.completes("bare", spec)


@LONG
def test_the_finalizer_is_removed_from_a_job_that_is_being_deleted(plant: Plant):
    """Its tasks end all the same. What it leaves on disk goes with the next job of its name."""
    spec = ladder(plant.judge, sleep=1.0)
    stubborn = "trap '' TERM; echo > $OUTPUTS_PATH; while :; do sleep 0.1; done"
    only = {"command": ["/bin/sh", "-c", stubborn], "terminationGracePeriodSeconds": 2}
    spec["steps"][0]["phases"][1]["tasks"][0]["program"] = only
    uid = plant.desk.create("torn", spec)["metadata"]["uid"]
    plant.began(uid, "t11")
    plant.desk.delete("torn")
    plant.desk.strip_finalizers("torn")
    plant.desk.until_gone("torn")
    eventually(lambda: not plant.programs_of("torn"), "end of its programs", PATIENCE)
    left = frozenset(plant.desk.config_maps("torn"))
    plant.desk.create("torn", {**spec, "state": "Suspended"})
    plant.desk.until("torn", lambda o: (o.get("status") or {}).get("phase") == "Suspended")
    plant.remove("torn", maps_before=left)


@LONG
@pytest.mark.xfail(
    strict=True, reason="a batch knows its jobs by their objects alone: it makes a forgotten one again"
)
def test_a_batch_of_a_restored_cluster_makes_nothing_twice(plant: Plant):
    """Its jobs were made after the backup: what they did is on disk, under uids that nobody knows any more."""
    spec = {"template": ladder(plant.judge, phases=1), "jobs": [{"name": "x"}], "state": "Suspended"}
    plant.desk.create("old", spec, BATCHES)
    plant.desk.until("old", lambda o: bool((o.get("status") or {}).get("phase")), plural=BATCHES)
    plant.end_part(OPERATOR, KUBE_APISERVER, ETCD)
    backup = plant.root / "backup"
    shutil.copytree(plant.etcd_data, backup)
    plant.up()
    plant.desk.patch("old", BATCHES, state="Running")
    plant.desk.until("old", completed, PATIENCE, BATCHES)
    plant.end_part(OPERATOR, KUBE_APISERVER, ETCD)
    shutil.rmtree(plant.etcd_data)
    shutil.move(backup, plant.etcd_data)
    plant.up()
    plant.desk.patch("old", BATCHES, state="Running")
    plant.desk.until("old", completed, PATIENCE, BATCHES)
    done = [line.unit for line in plant.journal.lines() if line.good and ".old-x_" in line.unit]
    assert len(done) == len(set(done))
