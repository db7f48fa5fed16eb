"""Metrics and probes: what they say, that the documentation and the alerts know them, and that they cost nothing."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.shell.test_shutdown import Api, operating, served, value

from mainstay.api.strategyrun import StrategyRunStatus
from mainstay.core.unit import UnitState
from mainstay.runtime.fake import FakeRuntime
from mainstay.runtime.fake_probes import FakeProbes
from mainstay.runtime.fake_stacks import FakeStacks
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.shell import endpoints
from mainstay.shell.endpoints import Endpoints
from mainstay.shell.kube import ApiError, Kube
from mainstay.shell.metrics import Metrics
from mainstay.shell.operator import Operator
from mainstay.shell.shutdowns import OPERATIONS
from mainstay.shell.store import Object

ROOT = Path(__file__).parents[3]
UNBOUNDED = {"pool", "version"}
"""Labels whose values are not ours; pools are few and made by administrators."""


@pytest.fixture
def bare() -> Operator:
    """One that was never started: no loop, no API server."""

    class NoKube:
        """Takes hooks."""

    return Operator(NoKube(), FakeRuntime(), FakeRuntime(), FakeShelf(), FakeStacks(), FakeProbes())  # type: ignore[arg-type]


def families(of: Metrics) -> dict[str, Any]:
    """By the name that Prometheus knows."""
    return {f.name + ("_total" if f.type == "counter" else ""): f for f in of.registry.collect()}


# --- names


def test_the_documentation_has_every_metric_and_no_other(bare: Operator):
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (\w+) \| ([^|]*) ?\| (.+) \|$",
        (ROOT / "docs/metrics.md").read_text(),
        re.MULTILINE,
    )
    told = {name: (kind, labels.strip(), text) for name, kind, labels, text in rows}
    known = {
        name: (
            family.type,
            ", ".join(f"`{label}`" for label in labels(bare.metrics, name)),
            family.documentation,
        )
        for name, family in families(bare.metrics).items()
        if name.startswith("mainstay_")
    }
    assert told == known


def labels(of: Metrics, name: str) -> list[str]:
    """Label names of a family, without those that belong to its type."""
    family = families(of)[name]
    if isinstance(names := getattr(family, "_labelnames", None), tuple | list) and names:
        return list(names)
    seen: dict[str, None] = {}
    for sample in family.samples:
        seen.update(dict.fromkeys(sample.labels))
    seen.pop("le", None)
    return list(seen)


def test_the_names_of_the_mission_exist_from_the_start(bare: Operator):
    for status in ("restarted", "orphaned", "cargo_recovered"):
        assert value(bare, "mainstay_tasks_recovered_total", status=status) == 0
    assert value(bare, "mainstay_graceful_shutdown_duration_seconds_count") == 0
    for operation in OPERATIONS:
        assert value(bare, "mainstay_context_cancellation_total", operation=operation) == 0


def test_two_operators_share_no_number(bare: Operator):
    bare.metrics.passed("run", "write")
    other = Metrics(bare.store, bare.index, bare.strategies, bare.stacks, lambda: 0)
    assert (
        other.registry.get_sample_value("mainstay_reconcile_total", {"kind": "run", "result": "write"}) == 0
    )


# --- values


def a_run(number: int, phase: str, *conditions: Object) -> Object:
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "StrategyRun",
        "metadata": {
            "namespace": "d",
            "name": f"r{number}",
            "uid": f"u{number}",
            "generation": 1,
            "resourceVersion": str(1000 + number),
            "creationTimestamp": "2030-01-01T00:00:00Z",
        },
        "spec": {"program": {"command": ["bot"]}},
        "status": {"phase": phase, "conditions": list(conditions)},
    }


def condition(kind: str, status: str, reason: str) -> Object:
    at = "2030-01-01T00:00:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": at}


def test_gauges_are_what_the_store_knows(bare: Operator):
    told = [
        a_run(1, "Running", condition("Ready", "True", "Running")),
        a_run(2, "Running", condition("Ready", "False", "CrashLoopBackOff")),
        a_run(3, "Pending", condition("Stalled", "True", "SecretNotFound")),
        a_run(4, "Pending", condition("Stalled", "True", "A user's own word")),
        a_run(5, "sk-live-secret"),
    ]
    for obj in told:
        bare.store.runs.put(obj)
    bare.store.put_lease(
        {
            "metadata": {"name": "port-8766", "uid": "l", "resourceVersion": "7"},
            "spec": {
                "pool": "p",
                "port": 8766,
                "holder": {"kind": "StrategyRun", "namespace": "d", "name": "r1", "uid": "u1"},
            },
        }
    )
    bare.store.pools.put(
        {
            "metadata": {"name": "p", "uid": "p", "resourceVersion": "8"},
            "spec": {"ranges": [{"first": 8766, "last": 8799}]},
        }
    )
    bare.metrics.saw_units("runs", ("d", "r1"), [UnitState.RUNNING])
    bare.metrics.saw_units("runs", ("d", "r2"), [UnitState.BACKOFF])
    bare.metrics.saw_units("jobs", ("d", "j"), [UnitState.RUNNING, UnitState.EXITED])
    bare.metrics.saw_units("jobs", ("d", "gone"), [UnitState.EXITED])
    bare.metrics.saw_units("jobs", ("d", "gone"), ())
    assert value(bare, "mainstay_runs", phase="Running") == 2
    assert value(bare, "mainstay_runs", phase="Unknown") == 1
    assert value(bare, "mainstay_stalled", kind="run", reason="CrashLoopBackOff") == 1
    assert value(bare, "mainstay_stalled", kind="run", reason="SecretNotFound") == 1
    assert value(bare, "mainstay_stalled", kind="run", reason="Other") == 1
    assert value(bare, "mainstay_ports", pool="p", state="capacity") == 34
    assert value(bare, "mainstay_ports", pool="p", state="leased") == 1
    assert value(bare, "mainstay_units", scope="runs", state="Running") == 1
    assert value(bare, "mainstay_units", scope="jobs", state="Exited") == 1
    assert value(bare, "mainstay_tasks_limit") == bare.index.limit
    assert value(bare, "mainstay_queue_depth") == 0


def test_strategies_by_what_their_source_has(bare: Operator):
    ready = [condition("Ready", "True", "Offered")]
    content = "sha256:" + "0" * 64
    for number, status in enumerate(
        [
            {"hash": content, "valid": True, "conditions": ready},
            {"hash": content, "valid": False, "conditions": ready},
            {"valid": None, "conditions": ready},
            {"conditions": []},
        ]
    ):
        obj = a_run(number, "") | {"kind": "Strategy", "spec": {"source": {"inline": "x"}}, "status": status}
        bare.strategies.put_strategy(obj)
    assert [value(bare, "mainstay_strategies", state=s) for s in ("offered", "invalid", "missing")] == [
        1,
        1,
        1,
    ]
    use = {"name": "Ema", "hash": content, "file": "Ema.py"}
    for number, fallback in enumerate((True, False)):
        run = a_run(number, "Running")
        run["status"]["strategy"] = {**use, "fallback": fallback}
        bare.store.runs.put(run)
    assert value(bare, "mainstay_runs_on_fallback") == 1


@pytest.mark.parametrize(
    ("before", "after", "counted"),
    [
        pytest.param((1, "Running"), (2, "StrategyChanged"), 1, id="its claim"),
        pytest.param((1, "Running"), (1, "StrategyChanged"), 1, id="stopped first, as its port can't stay"),
        pytest.param((2, "StrategyChanged"), (2, "StrategyChanged"), 0, id="told again"),
        pytest.param((2, "StrategyChanged"), (3, "StrategyChanged"), 1, id="changed again meanwhile"),
        pytest.param((2, "StrategyChanged"), (2, "Running"), 0, id="it runs"),
        pytest.param((1, "Running"), (2, "InputsChanged"), 0, id="for another reason"),
    ],
)
def test_a_restart_for_its_strategy_counts_once(bare: Operator, before: Any, after: Any, counted: int):
    old, new = (
        StrategyRunStatus.model_validate(
            {"phase": "Starting", "attempt": attempt, "conditions": [condition("Ready", "False", reason)]}
        )
        for attempt, reason in (before, after)
    )
    bare._runs._written(SimpleNamespace(status=old), new, a_run(1, "Starting"))  # type: ignore[arg-type]
    assert value(bare, "mainstay_strategy_rolls_total") == counted


async def test_a_run_is_counted_pass_by_pass():
    api = Api()
    async with operating(api) as working:
        async with asyncio.timeout(10):
            while (api.run.get("status") or {}).get("phase") != "Running" or working.queue.depth:
                await asyncio.sleep(0.01)
        writes = sum(1 for w in api.writes if w == "PUT status")
        assert value(working, "mainstay_reconcile_total", kind="run", result="write") == writes
        assert value(working, "mainstay_reconcile_total", kind="run", result="act") >= 2
        assert value(working, "mainstay_reconcile_total", kind="run", result="wait") >= 1
        assert value(working, "mainstay_reconcile_duration_seconds_count", kind="run") >= 1
        assert value(working, "mainstay_api_requests_total", verb="list", result="ok") >= 6
        assert value(working, "mainstay_api_requests_total", verb="update", result="ok") == writes
        assert value(working, "mainstay_units", scope="runs", state="Running") == 1
        before = value(working, "mainstay_reconcile_total", kind="run", result="write")
        working.on_event("strategyruns", False, api.run)
        assert value(working, "mainstay_watch_events_total", resource="strategyruns") == 1
        assert value(working, "mainstay_reconcile_total", kind="run", result="write") == before


async def test_failures_are_counted_as_errors_and_retries():
    runtime = FakeRuntime()
    runtime.available = False
    async with served(Api()) as kube:
        working = Operator(kube, FakeRuntime(), FakeRuntime(), FakeShelf(), FakeStacks(), FakeProbes())
        await working.start()
        working._runs._gatherer._runtime = runtime
        working.queue.add(("run", "d", "bot"))
        async with asyncio.timeout(10):
            while not value(working, "mainstay_queue_retries_total", kind="run"):
                await asyncio.sleep(0.01)
        assert value(working, "mainstay_reconcile_total", kind="run", result="error") >= 1
        await working.close()


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (200, "ok"),
        (409, "conflict"),
        (404, "not_found"),
        (403, "refused"),
        (500, "unavailable"),
        (429, "unavailable"),
    ],
)
async def test_requests_are_counted_by_what_came_back(code: int, answer: str):
    seen: list[tuple[str, str]] = []

    async def ask(*_: Any) -> Object:
        if code != 200:
            kind = endpoints.ApiError if code < 429 else unavailable
            raise kind(code, "", "")
        return {}

    from mainstay.shell.kube import ApiUnavailableError as unavailable  # noqa: N813

    async with served(Api()) as kube:
        kube._request = ask  # type: ignore[method-assign]
        kube.answered = lambda verb, what, _: seen.append((verb, what))
        try:
            await kube.request("PATCH", "/")
        except ApiError:
            assert code != 200
    assert seen == [("patch", answer)]


# --- over HTTP


@asynccontextmanager
async def asked(working: Operator, kube: Kube) -> AsyncIterator[Any]:
    """Ask a path: status and text."""
    served_at = Endpoints(working, kube)
    url = await served_at.listen("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:

        async def ask(path: str) -> tuple[int, str]:
            async with session.get(url + path) as response:
                return response.status, await response.text()

        try:
            yield ask
        finally:
            await served_at.close()


async def test_probes_from_the_start_to_the_end(monkeypatch: pytest.MonkeyPatch):
    api, runtime = Api(), FakeRuntime()
    async with served(api) as kube:
        working = Operator(kube, runtime, FakeRuntime(), FakeShelf(), FakeStacks(), FakeProbes())
        async with asked(working, kube) as ask:
            assert await ask("/healthz") == (200, "ok\n")
            assert await ask("/readyz") == (503, "starting: what exists is not known yet\n")
            held, api.held = api.held, "PATCH bot"
            await working.start()
            await api.begun.wait()
            assert await ask("/readyz") == (503, "starting: 1 objects have not been looked at yet\n")
            api.gate.set()
            await working.caught_up.wait()
            assert await ask("/readyz") == (200, "ok\n")
            status, text = await ask("/metrics")
            assert status == 200
            assert "mainstay_build_info" in {f.name for f in text_string_to_metric_families(text)}
            assert held == ""

            async def away(*_: Any, **__: Any) -> Object:
                raise ApiError(0, "Unavailable", "away")

            monkeypatch.setattr(kube, "request", away)
            monkeypatch.setattr(kube, "answered", lambda *_: None)  # what was asked before
            assert (await ask("/readyz"))[0] == 200, "it was heard a moment ago"
            working.heard_at = time.monotonic() - 42
            assert await ask("/readyz") == (503, "the API server last answered 42 s ago\n")
            assert (await ask("/healthz"))[0] == 200, "a restart would not help"
            monkeypatch.undo()
            assert (await ask("/readyz"))[0] == 200, "it is asked, where there was no occasion"

            working.loops["runs"].cancel()
            await asyncio.wait([working.loops["runs"]])
            assert await ask("/healthz") == (503, "the loop runs has ended\n")
            assert (await ask("/readyz"))[0] == 503
            closing = asyncio.create_task(working.close())
            await asyncio.sleep(0)
            assert await ask("/readyz") == (503, "shutting down\n")
            assert (await ask("/healthz"))[0] == 200
            await closing


async def test_a_lost_history_is_not_healthy():
    async with operating(Api()) as working, asked(working, working._kube) as ask:
        working._give_up(RuntimeError("restored"))
        status, text = await ask("/healthz")
        assert (status, "starting afresh" in text) == (503, True)
        assert working.lost is not None
        assert working.lost.exception() is not None


async def test_an_api_server_that_hangs_does_not_hang_the_probe(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(endpoints, "ASK_SECONDS", 0.05)
    gate = asyncio.Event()
    async with operating(Api()) as working, asked(working, working._kube) as ask:
        async with asyncio.timeout(10):
            await working.caught_up.wait()
            while working.queue.depth:
                await asyncio.sleep(0.01)

        async def hang(*_: Any) -> Object:
            await gate.wait()
            return {}

        working._kube._request = hang  # type: ignore[method-assign]
        working._kube.answered = lambda *_: None  # what was asked before
        working.heard_at = time.monotonic() - 42
        status, text = await ask("/readyz")
        assert (status, "last answered" in text) == (503, True)
        gate.set()


async def test_no_label_has_a_value_of_a_users_choosing():
    """Names of objects, namespaces, tasks, secrets: none of them is in what is scraped."""
    api = Api()
    api.run["metadata"]["name"] = "bot"
    api.run["spec"]["program"]["env"] = [{"name": "CANARY", "value": "c4n4ry"}]
    async with operating(api) as working:
        async with asyncio.timeout(10):
            while (api.run.get("status") or {}).get("phase") != "Running":
                await asyncio.sleep(0.01)
        for family in working.metrics.registry.collect():
            for sample in family.samples:
                for label, told in sample.labels.items():
                    assert label in UNBOUNDED or told not in ("bot", "d", "CANARY", "c4n4ry", "u1"), sample
        series = sum(len(f.samples) for f in working.metrics.registry.collect())
        assert series < 900
