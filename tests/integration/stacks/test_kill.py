"""`mainstay up` with a stack: the operator is killed by SIGKILL in the middle of a restart, and system supervisord brings it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.integration.runs.house import OPERATOR, PATIENCE, House, untouched
from tests.integration.runs.house import house as make_house
from tests.integration.stacks.desk import STEPS, completed, listening
from tests.integration.stacks.programs import service, stranger
from tests.support.stage import Object, eventually, ready, start_ticks

from mainstay.api.meta import API_VERSION
from mainstay.shell.kube import RESTARTS, STACKS, path

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("kill"), pytest.mark.timeout(600)]

SERVICES = ("watch", "trade", "app")


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with make_house() as one:
        ports = list(one.ports)[-3:]
        spec: Object = {
            "services": [
                service(one.judge, "watch", "Background", ports[0]),
                service(one.judge, "trade", "Http", ports[1], after=("watch",), grace=1),
                service(one.judge, "app", "Http", ports[2], after=("trade",)),
            ],
            "timeouts": {"flushSeconds": 1},
        }
        make(one, "ServiceStack", STACKS, "desk", spec)
        running(one)
        yield one
        with one.client() as client:
            client.ok("DELETE", path(STACKS, "default", "desk"))
        eventually(lambda: get(one, STACKS, "desk") is None, "desk gone", PATIENCE)


def make(house: House, kind: str, plural: str, name: str, spec: Object) -> None:
    meta = {"name": name, "namespace": "default"}
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}
    with house.client() as client:
        client.ok("POST", path(plural, "default"), body)


def get(house: House, plural: str, name: str) -> Any:
    with suppress(OSError), house.client() as client:
        return client.get(path(plural, "default", name))
    return {}


def running(house: House) -> dict[str, int]:
    """Service → pid, once all are up and the look at the ports says the same."""
    stack = eventually(
        lambda: (obj := get(house, STACKS, "desk")) and ready("Running")(obj) and obj, "desk", PATIENCE
    )
    pids = {one["name"]: one["process"]["pid"] for one in stack["status"]["services"]}
    assert all(start_ticks(pid) for pid in pids.values())
    holders = listening()
    for port in stack["status"]["ports"]:
        if port["service"] != "watch":
            assert holders[port["port"]] == {pids[port["service"]]}
    assert house.violations() == []
    return pids


def starts(house: House) -> dict[str, int]:
    words = [line.split() for line in (house.judge / "journal").read_text().splitlines()]
    return {one: sum(w[:2] == [f"desk.{one}", "start"] for w in words) for one in SERVICES}


@pytest.mark.parametrize("mode", ["Full", "Emergency"])
@pytest.mark.parametrize("at", range(len(STEPS["Full"])))
def test_the_operator_is_killed_at_a_step(house: House, mode: str, at: int):
    before, bots, first = running(house), house.steady(), starts(house)
    step = STEPS[mode][at]
    name = f"{mode}-{at}".lower()
    deaf = house.judge / "desk.trade.deaf"
    deaf.touch()  # so that there is a while in which services are stopped
    port = list(house.ports)[-3]
    try:
        with stranger(port, deaf=True) as one:  # and one in which ports are flushed
            make(house, "StackRestart", RESTARTS, name, {"stack": "desk", "mode": mode})

            def reached() -> bool:
                status = (get(house, RESTARTS, name) or {}).get("status") or {}
                begun = [s["name"] for s in status.get("steps", ()) if s["state"] != "Pending"]
                return step in begun

            operator = house.part(OPERATOR)
            eventually(reached, f"{name} at {step}", PATIENCE)
            house.kill(operator)
            eventually(
                lambda: (
                    (get(house, RESTARTS, name).get("status") or {}).get("phase") in {"Completed", "Failed"}
                ),
                f"{name} over",
                PATIENCE,
            )
            assert one.ended_by() == 9
    finally:
        deaf.unlink()
    completed(get(house, RESTARTS, name), mode, len(SERVICES))
    eventually(lambda: house.part(OPERATOR) not in (None, operator), "another operator", PATIENCE)
    after = running(house)
    assert not set(after.values()) & set(before.values())
    again = {one: count - first[one] for one, count in starts(house).items()}
    assert all(1 <= count <= 2 for count in again.values()), again
    assert untouched(house.steady()) == untouched(bots)
