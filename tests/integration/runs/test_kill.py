"""Real kills of the real thing: whatever dies, bots that nobody touched keep their pids, and all comes back."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.runs.house import ETCD, KUBE_APISERVER, OPERATOR, PATIENCE, PHASES, House, untouched
from tests.integration.runs.house import house as make_house
from tests.support.plane import RealPlane
from tests.support.stage import condition, eventually, marked, ready, start_ticks

from mainstay.shell.kube import LEASES, RUNS, path

pytestmark = [pytest.mark.xdist_group("kill"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with make_house() as one:
        yield one


def replaced(house: House, part: str, before: int | None) -> None:
    eventually(lambda: house.part(part) not in (None, before), f"a new {part}", PATIENCE)


# --- one part dies


def test_the_operator(house: House):
    bots, before = house.steady(), house.part(OPERATOR)
    house.kill(before)
    replaced(house, OPERATOR, before)
    house.works()
    assert untouched(house.steady()) == untouched(bots)


@pytest.mark.parametrize("part", [KUBE_APISERVER, ETCD])
def test_a_part_of_the_control_plane(house: House, part: str):
    bots, before = house.steady(), house.part(part)
    house.kill(before)
    replaced(house, part, before)
    eventually(lambda: house.get("r0"), "the API", PATIENCE)
    house.works()
    assert untouched(house.steady()) == untouched(bots)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_bots_supervisor(house: House, number: int):
    bots, before = house.steady(), house.supervisord()
    house.kill(before, number)
    eventually(lambda: house.supervisord() != before, "another supervisord", PATIENCE)
    house.works()
    assert untouched(house.steady()) == untouched(bots)


def test_the_bots_supervisor_loses_its_socket(house: House):
    bots = house.steady()
    socket = house.root / "scopes/runs/supervisor.sock"
    socket.unlink()
    eventually(socket.exists, "a socket", PATIENCE)
    house.works()
    assert untouched(house.steady()) == untouched(bots)


def test_a_bot_dies_after_its_supervisor(house: House):
    """It is an orphan then; whoever watches it starts it again."""
    bots = house.steady()
    house.kill(house.supervisord())
    house.kill(bots["r1"].pid)
    house.until("r1", lambda o: ready("Running")(o) and o["status"]["process"]["pid"] != bots["r1"].pid)
    now = house.steady()
    assert untouched(now, "r1") == untouched(bots, "r1")
    assert (now["r1"].run_id, now["r1"].port) == (bots["r1"].run_id, bots["r1"].port)


def test_the_sections_of_all_bots(house: House):
    bots = house.steady()
    files = list((house.root / "scopes/runs/conf.d").glob("*.conf"))
    assert len(files) == len(PHASES)
    for file in files:
        file.unlink()
    running = [f for f in files if f.stem.partition(".")[2] in bots]
    eventually(lambda: all(f.exists() for f in running), "the sections of what lives", PATIENCE)
    house.works()
    assert untouched(house.steady()) == untouched(bots)


def test_a_bots_directory(house: House):
    """Whoever started it: it still knows who it is."""
    bots = house.steady()
    attempt = bots["r2"].attempt
    directory = house.root / "scopes/runs/units/default.r2"
    trash = house.root / "trash"
    directory.rename(trash)  # at once: what is missing is made again while we look
    shutil.rmtree(trash)
    eventually((directory / "spec").exists, "its directory", PATIENCE)
    assert untouched(house.steady()) == untouched(bots)
    house.patch("r2", restartNonce=int(time.time()) + 1000)
    house.until("r2", lambda o: ready("Running")(o) and o["status"]["attempt"] == attempt + 1)
    now = house.steady()
    assert (now["r2"].run_id, now["r2"].port) == (bots["r2"].run_id, bots["r2"].port)


# --- everything dies


def test_everything_but_the_bots(house: House):
    bots = house.steady()
    house.kill_all()
    assert untouched(house.bots()) == untouched(bots)
    house.up()
    house.works()
    assert untouched(house.steady()) == untouched(bots)


def test_the_machine_is_rebooted(house: House):
    """Records of the boot before name pids; one of them belongs to somebody else now, who must not be touched."""
    bots = house.steady()
    house.kill_all(bots=True)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            for scope in ("runs", "system"):
                for leader in (house.root / f"scopes/{scope}/units").glob("*/leader"):
                    boot = "00000000-1111-2222-3333-444444444444"
                    fields = {"pid": stranger.pid, "ticks": start_ticks(stranger.pid), "boot": boot}
                    lines = [
                        f"{key}={fields.get(key, value)}"
                        for key, _, value in (x.partition("=") for x in leader.read_text().splitlines())
                    ]
                    leader.write_text("\n".join(lines) + "\n")
            house.up()
            assert "held" not in house.bots(), "it was paused, and is not to run for a moment"
            house.revive_held()
            now = house.steady()
            house.works()
            assert stranger.poll() is None
        finally:
            stranger.kill()
    for name, bot in bots.items():
        if name != "held":
            assert (now[name].run_id, now[name].port) == (bot.run_id, bot.port)
            assert now[name].pid != bot.pid


def test_the_bots_are_stopped_with_nothing_else_alive(house: House):
    bots = house.steady()
    house.kill_all()
    house.mainstay("stop", "--offline", "r0")
    assert untouched(house.bots()) == untouched(bots, "r0")
    house.up()
    held = house.until("r0", lambda o: o["status"]["phase"] == "Stopped")
    assert condition(held)["reason"] == "HeldLocally"
    time.sleep(2)
    assert "r0" not in house.bots()
    house.mainstay("release", "r0")
    house.until("r0", ready("Running"))
    now = house.steady()
    assert now["r0"].run_id == bots["r0"].run_id
    assert untouched(now, "r0") == untouched(bots, "r0")


# --- down and up


def test_down_and_up(house: House):
    bots = house.steady()
    house.mainstay("down")
    assert marked(house.home_id, "MAINSTAY_UNIT", "MAINSTAY_SCOPE") == []
    house.up()
    house.revive_held()
    now = house.steady()
    house.works()
    assert {n: b.run_id for n, b in now.items()} == {n: b.run_id for n, b in bots.items()}
    assert {n: b.port for n, b in now.items()} == {n: b.port for n, b in bots.items()}


def test_down_with_the_bots_kept(house: House):
    bots = house.steady()
    house.mainstay("down", "--keep-runs")
    assert house.part(OPERATOR) is None
    assert untouched(house.bots()) == untouched(bots)
    house.up()
    house.works()
    assert untouched(house.steady()) == untouched(bots)


# --- the operator is away


def test_a_paused_bot_is_killed_while_the_operator_is_away(house: House):
    bots = house.steady()
    house.end_part(OPERATOR)
    house.kill(bots["held"].pid)
    time.sleep(2)
    assert "held" not in house.bots(), "it runs although it was paused"
    house.up()
    held = house.until("held", ready("Paused"))
    assert held["status"]["runId"] == bots["held"].run_id
    assert "held" not in house.bots()
    house.revive_held()
    house.steady()


def test_a_crash_loop_slows_down_while_the_operator_is_away(house: House):
    starts = house.root / "starts"
    program = {"command": ["/bin/sh", "-c", f"date +%s.%N >> {starts}; exit 3"]}
    policy = {"policy": "Always", "initialBackoffSeconds": 1, "maxBackoffSeconds": 60}
    house.create("loop", program=program, controlApi=None, restartPolicy=policy)
    eventually(starts.exists, "its first start", PATIENCE)
    house.end_part(OPERATOR)
    began = len(starts.read_text().split())

    def times() -> list[float]:
        return [float(line) for line in starts.read_text().split()]

    eventually(lambda: len(times()) >= began + 3, "three more starts", 60)
    seen = times()
    gaps = [later - sooner for sooner, later in itertools.pairwise(seen)]
    assert all(gap >= 0.9 * 2**n for n, gap in enumerate(gaps)), gaps
    house.up()
    loop = house.until("loop", lambda o: condition(o)["reason"] == "CrashLoopBackOff")
    assert loop["status"]["restarts"] >= 3
    house.delete("loop")
    house.steady()


def test_a_strange_cluster_stops_no_bot(house: House, plane: RealPlane):
    """Another cluster, and an empty one: the operator refuses it, and the bots don't notice."""
    bots = house.steady()
    house.end_part(OPERATOR)
    said = house.mainstay("operator", "--kubeconfig", str(plane.kubeconfig), check=False, seconds=60)
    assert "belongs to cluster" in said
    assert untouched(house.bots()) == untouched(bots)
    house.up()
    assert untouched(house.steady()) == untouched(bots)


def test_a_second_operator_waits(house: House):
    bots, first = house.steady(), house.part(OPERATOR)
    words = house.command("operator", "--kubeconfig", str(house.root / "operator.kubeconfig"))
    log = house.root / "second.log"
    with (
        log.open("w") as out,
        subprocess.Popen(words, env=house.env, stdout=out, stderr=out) as second,
    ):
        try:
            eventually(lambda: "waiting for it to end" in log.read_text(), "it waits", PATIENCE)
            house.works()
            assert house.part(OPERATOR) == first
            assert "operating" not in log.read_text()
        finally:
            second.kill()
    assert untouched(house.steady()) == untouched(bots)


# --- hands in the API


def test_nothing_is_written_while_nothing_happens(house: House):
    house.steady()
    idle(house, 20)


@pytest.mark.soak
def test_nothing_is_written_in_two_minutes(house: House):
    house.steady()
    idle(house, 120)


def idle(house: House, seconds: float) -> None:
    time.sleep(2)
    with house.client() as client:
        before = client.versions()
        time.sleep(seconds)
        assert client.versions() == before


def test_a_lease_deleted_by_hand_comes_back(house: House):
    bots = house.steady()
    with house.client() as client:
        url = path(LEASES, name=f"port-{bots['r0'].port}")
        old = client.ok("GET", url)["metadata"]["uid"]
        client.ok("DELETE", url)
        eventually(lambda: ((client.get(url) or {}).get("metadata") or {}).get("uid") not in (None, old))
    assert untouched(house.steady()) == untouched(bots)


STATUSES = {
    "stopped": {"phase": "Stopped"},
    "failed": {"phase": "Failed"},
    "pending": {"phase": "Pending"},
    "starting": {"phase": "Starting"},
    "paused": {"phase": "Paused"},
    "stopping": {"phase": "Stopping"},
    "no phase": {"phase": None},
    "no port": {"port": None},
    "port of nobody": {"port": 15999},
    "process of a stranger": {"process": {"pid": 1, "startTicks": 1, "bootId": "x"}},
    "no process": {"process": None},
    "later attempt": {"attempt": 90},
    "no conditions": {"conditions": []},
    "inputs of another": {"inputsHash": "sha256:0"},
    "future nonce": {"handledRestartNonce": 2**40},
    "not observed": {"observedGeneration": 0},
}


@pytest.mark.parametrize("change", STATUSES)
def test_a_status_edited_by_hand_converges(house: House, change: str):
    """As the administrator may. The process may be replaced by what it was told; it is never doubled or lost."""
    bots = house.steady()
    with house.client() as client:
        client.merge(path(RUNS, "default", "r0", "status"), {"status": STATUSES[change]})
    time.sleep(0.5)
    now = house.steady()
    assert now["r0"].run_id == bots["r0"].run_id
    assert untouched(now, "r0") == untouched(bots, "r0")


def test_a_status_edited_by_hand_against_the_rules_is_refused(house: House):
    bots = house.steady()
    with house.client() as client:
        url = path(RUNS, "default", "r0", "status")
        for change in ({"attempt": 0}, {"runId": "another"}, {"runId": None}):
            code, answer = client.ask("PATCH", url, {"status": change}, "application/merge-patch+json")
            assert code == 422, (change, json.dumps(answer))
    assert untouched(house.steady()) == untouched(bots)


# --- the past comes back


def test_etcd_is_restored_from_an_older_snapshot(house: House):
    """What lives is the truth: no bot is stopped, a run that was forgotten is left alone, an attempt is adopted."""
    house.steady()
    house.mainstay("down", "--keep-runs")
    snapshot = house.root / "snapshot"
    shutil.copytree(house.etcd_data, snapshot)
    house.up()
    attempt = house.steady()["r1"].attempt + 1
    house.patch("r1", restartNonce=int(time.time()))
    house.until("r1", lambda o: ready("Running")(o) and o["status"]["attempt"] == attempt)
    house.create("late")
    house.until("late", ready("Running"))
    bots, late = house.steady(), house.bots()["late"]
    house.mainstay("down", "--keep-runs")
    shutil.rmtree(house.etcd_data)
    shutil.move(snapshot, house.etcd_data)
    house.up()
    assert untouched(house.steady()) == untouched(bots)
    assert house.bots()["late"] == late, "it belongs to an object that this cluster forgot"
    house.works()
    house.create("late")  # the name's next owner ends what its predecessor left
    house.until("late", ready("Running"))
    assert house.bots()["late"].run_id != late.run_id
    house.delete("late")
    assert untouched(house.steady()) == untouched(bots)


@pytest.mark.soak
def test_etcd_is_restored_under_a_living_operator(house: House):
    bots = house.steady()
    house.end_part(KUBE_APISERVER, ETCD)
    snapshot = house.root / "snapshot"
    shutil.copytree(house.etcd_data, snapshot)
    house.up()
    for _ in range(5):
        house.works()
    before = house.part(OPERATOR)
    house.end_part(KUBE_APISERVER, ETCD)
    shutil.rmtree(house.etcd_data)
    shutil.move(snapshot, house.etcd_data)
    house.up()
    eventually(lambda: house.part(OPERATOR) not in (None, before), "a fresh operator", 150)
    house.works()
    assert untouched(house.steady()) == untouched(bots)


def test_no_file_of_a_home_is_open_to_others(house: House):
    allowed = {".crt", ".pub", ".log"}
    for file in Path(house.root).rglob("*"):
        if file.is_symlink() or house.judge in file.parents or "samples" in file.parts or not file.is_file():
            continue
        mode = os.stat(file).st_mode
        assert not mode & 0o022, file
        assert file.suffix in allowed or "scopes" not in file.parts or not mode & 0o077, file
