"""Our copy of the objects: late events, other objects of the same name, and the indexes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mainstay.core import reasons
from mainstay.shell.store import Kind, Object, Store, Taken, key_of

KEY = ("d", "bot")


def an_object(
    name: str = "bot", *, uid: str = "u1", version: int = 1, namespace: str = "d", **more: Any
) -> Object:
    meta: Object = {"name": name, "uid": uid, "resourceVersion": str(version), **more.pop("metadata", {})}
    return {"metadata": {**meta, **({"namespace": namespace} if namespace else {})}, **more}


def a_run(
    name: str = "bot",
    *,
    uid: str = "u1",
    version: int = 1,
    phase: str | None = "Running",
    port: int | None = 8000,
    waits: str | None = None,
    created: str = "2030-01-01T00:00:00Z",
    spec: Object | None = None,
    **meta: Any,
) -> Object:
    told = {"type": "PortAllocated", "status": "False", "reason": waits, "lastTransitionTime": created}
    return an_object(
        name,
        uid=uid,
        version=version,
        metadata={"creationTimestamp": created, **meta},
        spec={"program": {"command": ["bot"]}, "controlApi": {}, **(spec or {})},
        status={"phase": phase, "port": port, "conditions": [told] if waits else []},
    )


def a_lease(port: int = 8000, *, holder: str = "u1", uid: str = "l1", version: int = 1) -> Object:
    spec = {
        "pool": "default",
        "port": port,
        "holder": {"kind": "StrategyRun", "namespace": "d", "name": f"of-{holder}", "uid": holder},
    }
    return an_object(f"port-{port}", uid=uid, version=version, namespace="", spec=spec)


EVENTS: dict[str, tuple[Object, bool]] = {
    "newer": (an_object(version=6), True),
    "the same again": (an_object(version=5), False),
    "older": (an_object(version=4), False),
    "another of that name": (an_object(uid="u2", version=9), True),
    "one that went before, told late": (an_object(uid="u0", version=2), False),
    "another name": (an_object("other", version=2), True),
    "the same name elsewhere": (an_object(namespace="e", version=2), True),
}


@pytest.mark.parametrize(("event", "taken"), EVENTS.values(), ids=EVENTS)
def test_what_replaces_our_copy(event: Object, taken: bool) -> None:
    kind = Kind()
    assert kind.put(an_object(version=5))
    assert kind.put(event) is taken
    assert (kind.objects[key_of(event)] is event) is taken
    assert kind.newest == max(5, int(event["metadata"]["resourceVersion"]))


@settings(max_examples=50, derandomize=True)
@given(st.permutations(range(1, 7)))
def test_events_in_any_order_end_at_the_newest(versions: list[int]) -> None:
    kind = Kind()
    for version in versions:
        kind.put(an_object(version=version))
    assert kind.objects[KEY]["metadata"]["resourceVersion"] == "6"


DROPS = {"itself": ("u1", True), "its predecessor, told late": ("u0", False)}


@pytest.mark.parametrize(("uid", "dropped"), DROPS.values(), ids=DROPS)
def test_drop(uid: str, dropped: bool) -> None:
    kind = Kind()
    kind.put(an_object(version=5))
    assert kind.drop(an_object(uid=uid, version=6)) is dropped
    assert (KEY in kind.objects) is not dropped
    assert not kind.drop(an_object("unknown"))


def test_an_answer_that_comes_in_after_the_deletion_was_told_brings_nothing_back() -> None:
    kind = Kind()
    kind.put(an_object(uid="u", version=5))
    kind.drop(an_object(uid="u", version=7))
    assert not kind.put(an_object(uid="u", version=6))
    assert KEY not in kind.objects
    assert kind.put(an_object(uid="v", version=8))


# -- claims

CLAIMS: dict[str, tuple[str | None, int | None, bool]] = {
    "starting": ("Starting", 8000, True),
    "running": ("Running", 8000, True),
    "pausing": ("Pausing", 8000, True),
    "paused": ("Paused", 8000, True),
    "resuming": ("Resuming", 8000, True),
    "stopping": ("Stopping", 8000, True),
    "no port": ("Running", None, False),
    "a preference of one that is stopped": ("Stopped", 8000, False),
    "failed": ("Failed", 8000, False),
    "pending": ("Pending", 8000, False),
    "new": (None, None, False),
}


@pytest.mark.parametrize(("phase", "port", "claims"), CLAIMS.values(), ids=CLAIMS)
def test_which_phase_claims_its_port(phase: str | None, port: int | None, claims: bool) -> None:
    store = Store()
    store.put_run(a_run(phase=phase, port=port))
    assert (8000 in Taken(store, "another", "d.another")) is claims
    assert 8000 not in Taken(store, "u1", "d.bot"), "its own claim is in nobody's way"


def test_a_claim_follows_the_run() -> None:
    store = Store()
    store.put_run(a_run(version=1, port=8000))
    store.put_run(a_run(version=2, port=8001))
    assert dict(Taken(store, "other", "d.other")) == {8001: "StrategyRun d/bot"}
    store.put_run(a_run(version=1, port=8000))
    assert set(store.claims) == {8001}, "an old event claims nothing"
    store.put_run(a_run(version=3, phase="Stopped", port=8001))
    assert store.claims == {}


def test_a_claim_goes_with_the_run_and_with_its_successor() -> None:
    store = Store()
    store.put_run(a_run(version=1))
    store.put_run(a_run(uid="u2", version=5, phase=None, port=None))
    assert store.claims == {}
    store.put_run(a_run(uid="u2", version=6, port=8001))
    assert not store.drop_run(a_run(uid="u1", version=7)), "the predecessor's deletion, told late"
    assert set(store.claims) == {8001}
    assert store.drop_run(a_run(uid="u2", version=8))
    assert store.claims == {}
    assert store.run(KEY) is None


def test_a_claim_is_noted_before_it_is_written() -> None:
    store = Store()
    store.put_run(a_run(phase=None, port=None))
    run = store.run(KEY)
    assert run is not None
    store.claim(run, 8002)
    assert 8002 in Taken(store, "other", "d.other")
    store.claim(run, None)
    assert 8002 not in Taken(store, "other", "d.other")


def test_two_may_claim_one_port_and_neither_is_forgotten() -> None:
    store = Store()
    store.put_run(a_run("a", uid="ua"))
    store.put_run(a_run("b", uid="ub"))
    assert Taken(store, "ua", "d.a")[8000] == "StrategyRun d/b"
    store.drop_run(a_run("a", uid="ua"))
    assert Taken(store, "other", "d.other")[8000] == "StrategyRun d/b"


# -- leases, and both together


def test_leases_are_found_by_port_and_by_holder() -> None:
    store = Store()
    store.put_lease(a_lease(8000))
    store.put_lease(a_lease(8001, uid="l2"))
    store.put_lease(a_lease(8002, holder="u2", uid="l3"))
    assert [x.spec.port for x in store.leases_of("u1")] == [8000, 8001]
    assert store.drop_lease(a_lease(8000))
    assert [x.spec.port for x in store.leases_of("u1")] == [8001]
    assert not store.drop_lease(a_lease(8001, uid="another")), "one that was there before"
    assert set(store.lease_by_port) == {8001, 8002}
    assert store.leases_of("nobody") == ()


def test_taken_is_what_others_lease_or_claim() -> None:
    store = Store()
    store.put_run(a_run("me", uid="me", port=8000))
    store.put_lease(a_lease(8000, holder="me"))
    store.put_run(a_run("b", uid="ub", port=8001))
    store.put_lease(a_lease(8002, holder="uc", uid="l2"))
    taken = Taken(store, "me", "d.me")
    assert dict(taken) == {8001: "StrategyRun d/b", 8002: "StrategyRun d/of-uc"}
    assert len(taken) == 2
    assert taken.get(8000) is None
    assert taken.get(9999) is None
    store.put_run(a_run("d", uid="ud", port=8000))
    assert taken[8000] == "StrategyRun d/d", "the view is of the present"


def test_a_lease_says_more_than_a_claim() -> None:
    store = Store()
    store.put_run(a_run("b", uid="ub", port=8000))
    store.put_lease(a_lease(8000, holder="uc"))
    assert Taken(store, "me", "d.me")[8000] == "StrategyRun d/of-uc"


# -- living units, and who is told


def test_a_living_unit_keeps_its_port_from_others_until_it_is_gone() -> None:
    store = Store()
    store.carry("d.silent", 8000)
    assert dict(Taken(store, "other", "d.other")) == {8000: "the process of d.silent"}
    assert dict(Taken(store, "me", "d.silent")) == {}, "its own process is in nobody's way"
    store.carry("d.silent", 8001)
    assert set(Taken(store, "other", "d.other")) == {8001}
    store.carry("d.silent", None)
    assert dict(Taken(store, "other", "d.other")) == {}
    assert store.carried == {}


def test_two_units_may_carry_one_port_and_neither_is_forgotten() -> None:
    store = Store()
    store.carry("d.a", 8000)
    store.carry("d.b", 8000)
    assert Taken(store, "ua", "d.a")[8000] == "the process of d.b"
    store.carry("d.b", None)
    assert 8000 not in Taken(store, "ua", "d.a")
    assert Taken(store, "other", "d.other")[8000] == "the process of d.a"


def test_a_lease_and_a_claim_say_more_than_a_process() -> None:
    store = Store()
    store.carry("d.b", 8000)
    store.put_run(a_run("b", uid="ub", port=8000))
    assert Taken(store, "me", "d.me")[8000] == "StrategyRun d/b"
    store.put_lease(a_lease(8000, holder="uc"))
    assert Taken(store, "me", "d.me")[8000] == "StrategyRun d/of-uc"


def _lives(store: Store) -> None:
    store.carry("d.bot", 8000)


def _runs(store: Store) -> None:
    store.put_run(a_run(version=1))


def _leased(store: Store) -> None:
    store.put_lease(a_lease(8000, version=1))


def _nothing(store: Store) -> None:
    pass


Step = Callable[[Store], object]
TOLD: dict[str, tuple[Step, Step, list[str]]] = {
    "a unit lives": (_nothing, _lives, []),
    "it lives on": (_lives, _lives, []),
    "it is gone": (_lives, lambda s: s.carry("d.bot", None), ["freed"]),
    "it has another port": (_lives, lambda s: s.carry("d.bot", 8001), ["freed"]),
    "one that never had a port": (_nothing, lambda s: s.carry("d.bot", None), []),
    "a claim": (_nothing, _runs, []),
    "the claim again": (_runs, lambda s: s.put_run(a_run(version=2)), []),
    "a claim is given up": (_runs, lambda s: s.put_run(a_run(version=2, phase="Stopped")), ["freed"]),
    "a claim goes with its run": (_runs, lambda s: s.drop_run(a_run(version=2)), ["freed"]),
    "a claim goes with its successor": (
        _runs,
        lambda s: s.put_run(a_run(uid="u2", version=2, phase=None, port=None)),
        ["freed"],
    ),
    "a run without a claim goes": (
        lambda s: s.put_run(a_run(phase="Pending")),
        lambda s: s.drop_run(a_run(version=2)),
        [],
    ),
    "a lease": (_nothing, _leased, ["leases"]),
    "the lease again": (_leased, _leased, []),
    "the lease is gone": (_leased, lambda s: s.drop_lease(a_lease(8000, version=2)), ["leases", "freed"]),
    "one that was there before goes": (_leased, lambda s: s.drop_lease(a_lease(8000, uid="l0")), []),
    "an unknown lease goes": (_nothing, lambda s: s.drop_lease(a_lease(8000)), []),
}


@pytest.mark.parametrize(("before", "then", "told"), TOLD.values(), ids=TOLD)
def test_what_is_told_of_ports(before: Step, then: Step, told: list[str]) -> None:
    store, heard = Store(), list[str]()
    before(store)
    store.port_freed = lambda: heard.append("freed")
    store.leases_changed = lambda: heard.append("leases")
    then(store)
    assert heard == told


def test_who_is_told_that_a_port_is_free_finds_it_free() -> None:
    store, seen = Store(), list[dict[int, str]]()
    store.put_run(a_run())
    store.put_lease(a_lease(8000))
    store.carry("d.bot", 8000)
    store.port_freed = lambda: seen.append(dict(Taken(store, "other", "d.other")))
    store.carry("d.bot", None)
    store.drop_lease(a_lease(8000, version=2))
    store.drop_run(a_run(version=3))
    assert seen == [{8000: "StrategyRun d/of-u1"}, {8000: "StrategyRun d/bot"}, {}]


def test_a_lease_that_does_not_parse_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    assert store.put_lease(an_object("port-1", namespace="", spec={"port": "x"}))
    assert "port-1 does not parse" in caplog.text
    assert store.lease_by_port == {}


# -- who waits

WAITING: dict[str, tuple[Object, int]] = {
    "nothing": (a_run("old", uid="o"), 0),
    "pool full": (a_run("old", uid="o", phase="Pending", waits=reasons.POOL_EXHAUSTED), 1),
    "no pool": (a_run("old", uid="o", phase="Pending", waits=reasons.POOL_NOT_FOUND), 1),
    "something else": (a_run("old", uid="o", phase="Pending", waits=reasons.RELEASED), 0),
    "no longer": (a_run("old", uid="o", phase="Starting", waits=reasons.POOL_EXHAUSTED), 0),
    "for another pool": (
        a_run(
            "old",
            uid="o",
            phase="Pending",
            waits=reasons.POOL_EXHAUSTED,
            spec={"controlApi": {"pool": "other"}},
        ),
        0,
    ),
    "being deleted": (
        a_run(
            "old",
            uid="o",
            phase="Pending",
            waits=reasons.POOL_EXHAUSTED,
            deletionTimestamp="2030-01-02T00:00:00Z",
        ),
        0,
    ),
    "younger": (
        a_run("old", uid="o", phase="Pending", waits=reasons.POOL_EXHAUSTED, created="2031-01-01T00:00:00Z"),
        0,
    ),
    "as old, by name": (
        a_run("aaa", uid="o", phase="Pending", waits=reasons.POOL_EXHAUSTED, created="2030-06-01T00:00:00Z"),
        1,
    ),
    "as old, after by name": (
        a_run("zzz", uid="o", phase="Pending", waits=reasons.POOL_EXHAUSTED, created="2030-06-01T00:00:00Z"),
        0,
    ),
}


@pytest.mark.parametrize(("other", "ahead"), WAITING.values(), ids=WAITING)
def test_who_has_waited_longer(other: Object, ahead: int) -> None:
    store = Store()
    store.put_run(
        a_run(phase="Pending", waits=reasons.POOL_EXHAUSTED, created="2030-06-01T00:00:00Z", port=None)
    )
    store.put_run(other)
    me = store.run(KEY)
    assert me is not None
    assert store.older_waiting(KEY, me) == ahead
    store.drop_run(other)
    assert store.older_waiting(KEY, me) == 0


# -- parsing


def test_a_run_is_parsed_once_per_version() -> None:
    store = Store()
    store.put_run(a_run(version=1))
    first = store.run(KEY)
    assert store.run(KEY) is first
    store.put_run(a_run(version=2))
    assert store.run(KEY) is not first


def test_a_run_that_does_not_parse_keeps_its_claim() -> None:
    store = Store()
    store.put_run(a_run(version=1))
    assert store.put_run(a_run(version=2, spec={"state": "Dancing"}))
    with pytest.raises(ValidationError):
        store.run(KEY)
    assert 8000 in Taken(store, "other", "d.other"), "its process may well serve on it"
    store.put_run(a_run(version=3))
    assert store.run(KEY) is not None


def test_pools_and_config_maps() -> None:
    store = Store()
    ranges = {"ranges": [{"first": 8000, "last": 8001}]}
    store.pools.put(an_object("default", namespace="", spec=ranges))
    store.pools.put(an_object("broken", namespace="", spec={}))
    store.config_maps.put(an_object("settings", data={"a": "1", "odd": 3}))
    store.config_maps.put(an_object("empty"))
    pool = store.pool("default")
    assert pool is not None
    assert pool.ports == (8000, 8001)
    assert store.pool("broken") is None
    assert store.pool("none") is None
    texts = [("settings", "a"), ("settings", "b"), ("settings", "odd"), ("empty", "a"), ("none", "a")]
    assert [store.config_map_value("d", *text) for text in texts] == ["1", None, None, None, None]
