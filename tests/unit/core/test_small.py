"""Backoff, names, leases without a holder, pools."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.api.conditions import find
from mainstay.api.ports import PortLease, PortPool
from mainstay.core.backoff import delay
from mainstay.core.lease import decide_lease
from mainstay.core.names import object_key, unit_name
from mainstay.core.plan import Act, DeleteLease, Wait, Write
from mainstay.core.pool import decide_pool

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
DELAYS = {
    "none yet": (0, 0.0),
    "less than none": (-3, 0.0),
    "first": (1, 0.5),
    "second": (2, 1.0),
    "fifth": (5, 8.0),
    "capped": (6, 10.0),
    "long capped": (10**6, 10.0),
}


@pytest.mark.parametrize(("failures", "seconds"), DELAYS.values(), ids=DELAYS)
def test_delay(failures: int, seconds: float) -> None:
    assert delay(failures, initial=0.5, cap=10.0) == seconds


@settings(max_examples=100, derandomize=True)
@given(st.integers(0, 5000), st.floats(0, 3600), st.floats(0, 86400))
def test_delays_never_shrink_and_never_pass_the_cap(failures: int, initial: float, cap: float) -> None:
    seconds = delay(failures, initial=initial, cap=cap)
    assert 0 <= seconds <= cap
    assert seconds <= delay(failures + 1, initial=initial, cap=cap)


@pytest.mark.parametrize("name", ["bot", "bot.eu", "a.b.c"])
def test_a_unit_name_splits_again(name: str) -> None:
    assert object_key(unit_name("trading", name)) == ("trading", name)


LEASE = PortLease.model_validate(
    {
        "metadata": {"name": "port-8000", "uid": "l", "resourceVersion": "4"},
        "spec": {
            "pool": "default",
            "port": 8000,
            "holder": {"kind": "StrategyRun", "namespace": "d", "name": "bot", "uid": "u"},
        },
    }
)
LEASES = {
    "its holder exists": (True, False, Wait()),
    "its holder exists and serves": (True, True, Wait()),
    "a process still carries the port": (False, True, Wait(seconds=5.0)),
    "nobody is left": (False, False, Act(DeleteLease("port-8000", "l", "4"))),
}


@pytest.mark.parametrize(("holder_exists", "port_in_use", "plan"), LEASES.values(), ids=LEASES)
def test_a_lease_without_a_holder(holder_exists: bool, port_in_use: bool, plan: Act | Wait) -> None:
    assert decide_lease(LEASE, holder_exists=holder_exists, port_in_use=port_in_use) == plan


def a_pool(*ranges: tuple[int, int], reserved: tuple[int, ...] = ()) -> PortPool:
    said: list[Any] = [{"first": first, "last": last} for first, last in ranges]
    meta = {"name": "default", "generation": 2}
    return PortPool.model_validate({"metadata": meta, "spec": {"ranges": said, "reserved": list(reserved)}})


POOLS = {
    "one range": (a_pool((8000, 8002)), [], None, (3, 0, "Available", "True")),
    "leased": (a_pool((8000, 8002)), [8001, 9000], None, (3, 1, "Available", "True")),
    "ranges overlap": (a_pool((8000, 8002), (8001, 8004)), [8001], None, (5, 1, "Available", "True")),
    "reserved": (a_pool((8000, 8002), reserved=(8001, 9)), [8001], None, (2, 0, "Available", "True")),
    "all reserved": (a_pool((8000, 8000), reserved=(8000,)), [], None, (0, 0, "NoPorts", "False")),
    "ephemeral": (a_pool((8000, 8002)), [], (8002, 9000), (3, 0, "OverlapsEphemeralPorts", "True")),
    "beside ephemeral": (a_pool((8000, 8002)), [], (8003, 9000), (3, 0, "Available", "True")),
}


@pytest.mark.parametrize(("pool", "leased", "ephemeral", "told"), POOLS.values(), ids=POOLS)
def test_a_pool_counts_and_then_rests(
    pool: PortPool, leased: list[int], ephemeral: tuple[int, int] | None, told: tuple[int, int, str, str]
) -> None:
    plan = decide_pool(pool, leased, ephemeral, NOW)
    assert isinstance(plan, Write)
    ready = find(plan.status.conditions, "Ready")
    assert ready is not None
    assert (plan.status.capacity, plan.status.allocated, ready.reason, ready.status) == told
    assert plan.status.observed_generation == 2
    written = pool.model_copy(update={"status": plan.status})
    assert decide_pool(written, leased, ephemeral, NOW + timedelta(hours=1)) == Wait()
