"""What counts as serving for a run."""

from __future__ import annotations

from mainstay.api.program import Readiness, TcpProbe
from mainstay.api.strategyrun import StrategyRunSpec


def readiness_of(spec: StrategyRunSpec) -> Readiness | None:
    """Return the probe to ask, or None where started is ready.

    Without a declared probe it is tcp on the control port; a program without a port has nothing to ask.
    """
    declared = spec.program.readiness or Readiness()
    if any(probe is not None for probe in (declared.tcp, declared.http, declared.exec)):
        return declared
    if declared.none is not None or spec.control_api is None:
        return None
    return declared.model_copy(update={"tcp": TcpProbe()})
