"""What the operator tells of itself in numbers. docs/metrics.md lists them all, checked by a test.

Counters and histograms move as things happen. Gauges are worked out when somebody asks, from what store and index
know; no scrape looks at a process. No label has a value of a user's choosing, but for names of port pools.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import mainstay
from mainstay.api.jobbatch import BatchPhase
from mainstay.api.phasedjob import JobPhase
from mainstay.api.servicestack import ServiceState, StackPhase
from mainstay.api.stackrestart import OVER, RestartMode, RestartPhase
from mainstay.api.strategyrun import RunPhase
from mainstay.core import reasons
from mainstay.core.unit import UnitState
from mainstay.shell.assets.gauges import asset_gauges
from mainstay.shell.copies import WATCHED
from mainstay.shell.gauges import by, gauge
from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.shutdowns import BOUNDS, Shutdowns
from mainstay.shell.stacks.index import StackIndex
from mainstay.shell.store import Key, Object, Store
from mainstay.shell.strategies.index import StrategyIndex

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

KINDS = (
    *("run", "job", "batch", "asset", "library", "strategy", "stack", "restart"),
    *("unit", "task", "scope", "lease", "pool"),
)
"""What is worked on: objects; units of runs and of jobs, and scopes of stacks, that have no object; leases; pools."""

RESULTS = ("write", "act", "wait", "conflict", "gone", "unreadable", "error")
VERBS = ("get", "list", "create", "update", "patch", "delete")
ANSWERS = ("ok", "conflict", "not_found", "refused", "unavailable")
SCOPES = ("runs", "jobs", "stacks")
OFFERS = ("offered", "invalid", "missing")

STUCK = frozenset({reasons.RUNTIME_UNAVAILABLE, reasons.CRASH_LOOP})
"""Reasons of Ready that mean: it should run, and does not."""

_PLURALS = {"run": "runs", "job": "jobs", "batch": "batches", "stack": "stacks"}

_REASONS = frozenset(v for v in vars(reasons).values() if isinstance(v, str) and " " not in v)


class Metrics:
    """The metrics of one operator, in a registry of its own."""

    def __init__(
        self,
        store: Store,
        index: JobIndex,
        strategies: StrategyIndex,
        stacks: StackIndex,
        depth: Callable[[], int],
    ) -> None:
        self.registry = CollectorRegistry()
        self.shutdowns = Shutdowns()
        self.units: dict[str, dict[Key, tuple[UnitState, ...]]] = {scope: {} for scope in SCOPES}
        """Scope → object → states of its units, as they were last seen."""
        self.ownerless: dict[str, int] = dict.fromkeys(SCOPES, 0)
        """Scope → units without an owner object at the last sweep."""
        here = self.registry
        self._passes = Counter(
            "mainstay_reconcile_total",
            "Passes over an object, by what they came to: a status write, an act, waiting, a write refused because "
            "our copy was old (conflict), the object being gone or unreadable, or an error.",
            ["kind", "result"],
            registry=here,
        )
        self._visits = Histogram(
            "mainstay_reconcile_duration_seconds",
            "Visits to an object: all passes from taking its key off the queue to letting go of it, requests included.",
            ["kind"],
            buckets=SECONDS,
            registry=here,
        )
        self._retries = Counter(
            "mainstay_queue_retries_total", "Visits that failed and are made again.", ["kind"], registry=here
        )
        self._requests = Counter(
            "mainstay_api_requests_total",
            "Requests to the API server, by what came back; unavailable is no answer, 429 or a 5xx.",
            ["verb", "result"],
            registry=here,
        )
        self._waits = Histogram(
            "mainstay_api_request_duration_seconds",
            "How long the API server took to answer.",
            ["verb"],
            buckets=SECONDS,
            registry=here,
        )
        self._events = Counter(
            "mainstay_watch_events_total", "Watch events that came in.", ["resource"], registry=here
        )
        self._recovered = Counter(
            "mainstay_tasks_recovered_total",
            "Tasks saved from a loss: run again because their attempt was lost or cut off (restarted), a job "
            "ended because its batch is gone (orphaned), holdings taken over by a compensation (cargo_recovered).",
            ["status"],
            registry=here,
        )
        for plural in WATCHED:
            self._events.labels(plural)
        for kind in KINDS:
            self._visits.labels(kind)
            self._retries.labels(kind)
        self._passed = {(k, r): self._passes.labels(k, r).inc for k in KINDS for r in RESULTS}
        self._visited = {k: self._visits.labels(k).observe for k in KINDS}
        self._answers = {(v, a): self._requests.labels(v, a).inc for v in VERBS for a in ANSWERS}
        self._waited = {v: self._waits.labels(v).observe for v in VERBS}
        for status in ("restarted", "orphaned", "cargo_recovered"):
            self._recovered.labels(status)
        self._rolls = Counter(
            "mainstay_strategy_rolls_total",
            "Runs that were restarted because of their strategy: it was edited, deleted, or is back.",
            registry=here,
        )
        self._restarts = Counter(
            "mainstay_stack_restarts_total",
            "Restarts of stacks that came to their end, by mode and by what they came to.",
            ["mode", "result"],
            registry=here,
        )
        self._restart_seconds = Histogram(
            "mainstay_stack_restart_duration_seconds",
            "How long restarts of stacks took, from their first step to their end.",
            ["mode"],
            buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
            registry=here,
        )
        self._looks = Counter(
            "mainstay_asset_probes_total",
            "Questions to probes of assets, by whether they were answered.",
            ["result"],
            registry=here,
        )
        self._look_seconds = Histogram(
            "mainstay_asset_probe_duration_seconds",
            "How long probes of assets took to answer, or to fail.",
            buckets=SECONDS,
            registry=here,
        )
        for result in ("ok", "failed"):
            self._looks.labels(result)
        for mode in RestartMode:
            self._restart_seconds.labels(str(mode))
            for phase in OVER:
                self._restarts.labels(str(mode), str(phase))
        here.register(_Known(self, store, index, strategies, stacks, depth))
        here.register(ProcessCollector(registry=None))

    # --- as it happens

    def passed(self, kind: str, result: str) -> None:
        """One pass over an object came to this."""
        self._passed[kind, result]()

    def visited(self, kind: str, seconds: float) -> None:
        """A visit to an object took that long."""
        self._visited[kind](seconds)

    def retried(self, kind: str) -> None:
        """A visit failed and is made again."""
        self._retries.labels(kind).inc()

    def answered(self, verb: str, answer: str, seconds: float) -> None:
        """The API server answered, or did not."""
        self._answers[verb, answer]()
        self._waited[verb](seconds)

    def watched(self, resource: str) -> None:
        """A watch event came in."""
        self._events.labels(resource).inc()

    def recovered(self, status: str, number: int) -> None:
        """So many tasks were saved."""
        self._recovered.labels(status).inc(number)

    def looked(self, answered: bool, seconds: float) -> None:
        """A probe of an asset was asked."""
        self._looks.labels("ok" if answered else "failed").inc()
        self._look_seconds.observe(seconds)

    def rolled(self) -> None:
        """A run is restarted because of its strategy."""
        self._rolls.inc()

    def restarted(self, mode: RestartMode, phase: RestartPhase, seconds: float) -> None:
        """A restart of a stack came to its end."""
        self._restarts.labels(str(mode), str(phase)).inc()
        self._restart_seconds.labels(str(mode)).observe(max(0.0, seconds))

    def saw_units(self, scope: str, key: Key, states: Iterable[UnitState]) -> None:
        """The units of an object, as they are now; none when it is gone."""
        if seen := tuple(states):
            self.units[scope][key] = seen
        else:
            self.units[scope].pop(key, None)


class _Known(Collector):
    """What is worked out at a scrape."""

    def __init__(
        self,
        metrics: Metrics,
        store: Store,
        index: JobIndex,
        strategies: StrategyIndex,
        stacks: StackIndex,
        depth: Callable[[], int],
    ) -> None:
        self._metrics = metrics
        self._stacks = stacks
        self._store = store
        self._index = index
        self._strategies = strategies
        self._depth = depth

    def collect(self) -> Iterator[Metric]:
        """Every gauge, and what earlier operators of this home counted."""
        yield gauge(
            "mainstay_build_info",
            "Always 1; the version is a label.",
            ["version"],
            {(mainstay.__version__,): 1},
        )
        yield gauge(
            "mainstay_queue_depth", "Keys being worked on or waiting for a worker.", [], {(): self._depth()}
        )
        yield from self._phases()
        yield self._stalled()
        yield from self._units()
        yield from self._ports()
        yield self._services()
        yield from asset_gauges(self._index.assets.assets.objects.values(), self._index.jobs.objects.values())
        yield from self._offers()
        yield gauge("mainstay_tasks_claimed", "Tasks that run or are about to.", [], {(): self._index.total})
        yield gauge(
            "mainstay_tasks_limit", "Tasks that may run at once on this host.", [], {(): self._index.limit}
        )
        yield gauge(
            "mainstay_jobs_waiting_for_slot",
            "Jobs that wait for room among those tasks.",
            [],
            {(): len(self._index.waiting)},
        )
        yield from self._shutdowns()

    def _objects(self) -> tuple[tuple[str, Mapping[Key, Object]], ...]:
        return (
            ("run", self._store.runs.objects),
            ("job", self._index.jobs.objects),
            ("batch", self._index.batches.objects),
            ("stack", self._stacks.stacks.objects),
            ("asset", self._index.assets.assets.objects),
        )

    def _phases(self) -> Iterator[Metric]:
        all_phases = (RunPhase, JobPhase, BatchPhase, StackPhase)
        for (kind, objects), phases in zip(self._objects(), all_phases, strict=False):
            known = [str(phase) for phase in phases]
            found = dict.fromkeys([*known, "Unknown"], 0)
            for obj in objects.values():
                phase = (obj.get("status") or {}).get("phase") or "Pending"
                found[phase if phase in found else "Unknown"] += 1
            name = _PLURALS[kind]
            yield gauge(f"mainstay_{name}", f"{name.capitalize()} by phase.", ["phase"], by(found))

    def _services(self) -> Metric:
        found = dict.fromkeys(map(str, ServiceState), 0)
        for obj in self._stacks.stacks.objects.values():
            for service in (obj.get("status") or {}).get("services") or ():
                if service.get("state") in found:
                    found[service["state"]] += 1
        return gauge("mainstay_services", "Services of stacks by state.", ["state"], by(found))

    def _stalled(self) -> Metric:
        found: Count[tuple[str, ...]] = Count()
        for kind, objects in self._objects():
            found[kind, "Other"] = 0
            for obj in objects.values():
                if reason := _stuck(obj):
                    found[kind, reason if reason in _REASONS else "Other"] += 1
        return gauge(
            "mainstay_stalled",
            "Objects that don't get where they should: they need a person, or their program can't be started or "
            "kept running. The reason is that of the condition Stalled or Ready.",
            ["kind", "reason"],
            found,
        )

    def _units(self) -> Iterator[Metric]:
        found: Count[tuple[str, ...]] = Count({(s, str(x)): 0 for s in SCOPES for x in UnitState})
        for scope, objects in self._metrics.units.items():
            for states in objects.values():
                found.update((scope, str(state)) for state in states)
        yield gauge(
            "mainstay_units",
            "Units by scope and state, as they were last looked at; tasks while their job needs them.",
            ["scope", "state"],
            found,
        )
        yield gauge(
            "mainstay_ownerless_units",
            "Units without an owner object, at the last sweep; they are reported and left alone.",
            ["scope"],
            by(self._metrics.ownerless),
        )

    def _ports(self) -> Iterator[Metric]:
        ports: Count[tuple[str, ...]] = Count()
        waiting: Count[tuple[str, ...]] = Count()
        for _, name in self._store.pools.objects:
            pool = self._store.pool(name)
            ports[name, "capacity"] = len(pool.ports) if pool else 0
            ports[name, "leased"] = waiting[(name,)] = 0
        for lease in self._store.lease_by_port.values():
            if (key := (lease.spec.pool or "", "leased")) in ports:
                ports[key] += 1
        for _, pool_name in self._store.waiting.values():
            if (pool_name,) in waiting:
                waiting[(pool_name,)] += 1
        yield gauge(
            "mainstay_ports", "Ports of a pool: how many there are, and leased.", ["pool", "state"], ports
        )
        yield gauge(
            "mainstay_runs_waiting_for_port", "Runs that wait for a port of a pool.", ["pool"], waiting
        )

    def _offers(self) -> Iterator[Metric]:
        found = dict.fromkeys(OFFERS, 0)
        for obj in self._strategies.strategies.objects.values():
            if state := _offer(obj.get("status") or {}):
                found[state] += 1
        yield gauge(
            "mainstay_strategies",
            "Strategies by what their source has: a content that is offered, one that can't be run (runs keep the last "
            "good one), or none any more.",
            ["state"],
            by(found),
        )
        fallbacks = sum(
            bool(((obj.get("status") or {}).get("strategy") or {}).get("fallback"))
            for obj in self._store.runs.objects.values()
        )
        yield gauge(
            "mainstay_runs_on_fallback",
            "Runs that have the default of their library, because the strategy they name was deleted.",
            [],
            {(): fallbacks},
        )

    def _shutdowns(self) -> Iterator[Metric]:
        known = self._metrics.shutdowns
        cut = CounterMetricFamily(
            "mainstay_context_cancellation",
            "Operations that a shutdown of the operator had to cut off, earlier operators of this home included.",
            labels=["operation"],
        )
        for operation, number in known.cut.items():
            cut.add_metric([operation], number)
        yield cut
        took = HistogramMetricFamily(
            "mainstay_graceful_shutdown_duration_seconds",
            "How long shutdowns of the operator took, those of earlier operators of this home.",
        )
        bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
        took.add_metric([], list(zip(bounds, accumulate(known.counts), strict=True)), known.seconds)
        yield took


def _offer(status: Object) -> str | None:
    """What there is of a strategy; None before anybody has looked."""
    if not status.get("conditions"):
        return None
    if status.get("hash") is None:
        return "missing"
    return "offered" if status.get("valid") else "invalid"


def _stuck(obj: Object) -> str | None:
    """Why an object does not get where it should, if so. Written for what anybody may have put into a status."""
    conditions: Any = (obj.get("status") or {}).get("conditions") or ()
    for condition in conditions:
        kind, status = condition.get("type"), condition.get("status")
        if (kind == "Stalled" and status == "True") or (
            kind == "Ready" and status == "False" and condition.get("reason") in STUCK
        ):
            return str(condition.get("reason"))
    return None
