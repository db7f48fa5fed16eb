"""What tasks say of an asset: each report counts once, whoever crashes between the task and here.

The job carries a report until the asset names it in `taken`; the asset names it until the job has forgotten it.
"""

from __future__ import annotations

from collections.abc import Iterable

from mainstay.api.asset import DELIVERIES_SHOWN, REPORTS_MAX, TOTALS_MAX, Delivered, Delivery
from mainstay.api.holdings import Holding
from mainstay.core.asset.draft import Draft
from mainstay.core.asset.observation import UNITS_MAX
from mainstay.core.asset.snapshot import ReportView

FORGETTING_SECONDS = 1.0
"""How often to look whether jobs have forgotten what is counted, so that there is room for more."""


def take_in(d: Draft) -> None:
    """Count the reports that are new, in the order in which the tasks ended."""
    carried = {one.id for one in d.s.reports}
    d.taken = tuple(one for one in d.taken if one in carried)
    known = set(d.taken)
    news = sorted((one for one in d.s.reports if one.id not in known), key=lambda one: (one.ended_at, one.id))
    if d.s.spec.accepts is not None and d.accepts is None and d.s.looked_up is None:
        d.uncounted = bool(news)
        return  # whether it accepts them is known in a moment
    room = REPORTS_MAX - len(d.taken)
    if len(news) > room:
        d.uncounted = True
        d.timers.append(FORGETTING_SECONDS)
    for one in news[:room]:
        d.taken = (*d.taken, one.id)
        if d.s.spec.holdings is None and one.report.holdings is not None:
            d.holdings = _merged(one.report.holdings)
        for delivered in one.report.deliveries:
            _deliver(d, one, delivered)


def _merged(told: Iterable[Holding]) -> tuple[Holding, ...]:
    """By symbol, each once, as it is read from a probe; a sum beyond what can be told is the most that can."""
    totals: dict[str, int] = {}
    for one in told:
        totals[one.symbol] = min(totals.get(one.symbol, 0) + one.units, UNITS_MAX)
    return tuple(Holding(symbol=symbol, units=units) for symbol, units in sorted(totals.items()) if units)


def _deliver(d: Draft, by: ReportView, what: Holding) -> None:
    accepted = d.accepts is None or what.symbol in d.accepts
    one = Delivery(
        symbol=what.symbol, units=what.units, accepted=accepted, job=by.job, task=by.task, time=by.ended_at
    )
    d.deliveries = (*d.deliveries, one)[-DELIVERIES_SHOWN:]
    d.delivered = _added(d.delivered, what)


OTHERS = "(others)"
"""Where the totals of symbols go that status has no room for."""


def _added(totals: Iterable[Delivered], what: Holding) -> tuple[Delivered, ...]:
    by_symbol = {one.symbol: one for one in totals}
    symbol = what.symbol if what.symbol in by_symbol or len(by_symbol) < TOTALS_MAX - 1 else OTHERS
    old = by_symbol.get(symbol) or Delivered(symbol=symbol, units=0, count=0)
    units = min(old.units + what.units, UNITS_MAX)
    by_symbol[symbol] = Delivered(symbol=symbol, units=units, count=old.count + 1)
    return tuple(by_symbol[name] for name in sorted(by_symbol))


def unexpected(d: Draft) -> tuple[str, ...]:
    """Symbols among the latest deliveries that were not accepted, and are not now."""
    accepts = d.accepts or ()
    return tuple(
        sorted({one.symbol for one in d.deliveries if not one.accepted and one.symbol not in accepts})
    )
