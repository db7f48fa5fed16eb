"""When a unit is asked whether it serves, and what one failure among successes counts for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from mainstay.api.program import Readiness
from mainstay.core.unit import ProbeResult, Unit
from mainstay.runtime.base import Runtime

FAILURES_BEFORE_NOT_READY = 3
"""Failed probes in a row before a unit that was ready no longer counts as serving."""


@dataclass(slots=True)
class Probing:
    """What is remembered of the probes of one unit."""

    at: float = 0.0
    result: ProbeResult | None = None
    failures: int = 0
    pid: int = 0
    task: asyncio.Task[ProbeResult] | None = None  # for who doesn't wait: the question under way
    late: bool = False  # somebody is to be told when it is answered

    async def ask(
        self, runtime: Runtime, unit: Unit, readiness: Readiness | None, port: int | None
    ) -> ProbeResult:
        """Ask when it is due: at once until it is ready, then once a period. Without a probe, started is ready."""
        if readiness is None:
            return ProbeResult(ready=True)
        pid = unit.leader.pid if unit.leader else 0
        if pid != self.pid:
            self.result, self.pid, self.failures = None, pid, 0
        now, known = time.monotonic(), self.result
        if known is not None and known.ready and now - self.at < readiness.period_seconds - 0.05:
            return known
        result = await runtime.probe(unit.name, readiness, port)
        self.at = now
        self.failures = 0 if result.ready else self.failures + 1
        if known is not None and known.ready and self.failures < FAILURES_BEFORE_NOT_READY:
            return known
        self.result = result
        return result
