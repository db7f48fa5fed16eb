"""An asset's status in the making: what one pass knows, changed in place, then frozen."""

from __future__ import annotations

from mainstay.api.asset import AssetState, CompensationStatus, Delivered, Delivery, Holder
from mainstay.api.conditions import find
from mainstay.api.holdings import Holding
from mainstay.core import reasons
from mainstay.core.asset.snapshot import AssetSnapshot

SUMMARY = 200
"""Longest summary; what has no room is counted."""


class Draft:
    """Starts as the status is, with what was seen since."""

    def __init__(self, s: AssetSnapshot) -> None:
        self.s = s
        old = s.status
        self.holder: Holder | None = old.holder
        self.holdings: tuple[Holding, ...] = old.holdings
        self.compensation: CompensationStatus | None = old.compensation
        self.accepts: tuple[str, ...] | None = old.accepts if s.spec.accepts is not None else None
        self.delivered: tuple[Delivered, ...] = old.delivered
        self.deliveries: tuple[Delivery, ...] = old.deliveries
        self.taken: tuple[str, ...] = old.taken
        if s.spec.holdings is not None and s.looked is not None and s.looked.holdings is not None:
            self.holdings = s.looked.holdings
        if s.spec.accepts is not None and s.looked_up is not None and s.looked_up.accepts is not None:
            self.accepts = s.looked_up.accepts
        self.state: AssetState = old.state or AssetState.UNKNOWN
        self.reason, self.words, self.stalled = reasons.NOT_OBSERVED, "", False
        self.unmade = False
        """The compensation that is claimed has to be made."""
        self.purpose = ""
        """What a look is needed for that nobody had yet."""
        self.uncounted = False
        """Tasks told what is not taken in yet: without a probe, what is in it may be something else."""
        self.timers: list[float] = []

    # -- reading

    @property
    def known(self) -> bool:
        """Whether the holdings were seen under this declaration, and the last look did not fail."""
        if self.s.spec.holdings is None:
            return not self.uncounted
        return self.s.looked is not None and not self.s.looked.error

    @property
    def failing(self) -> str:
        """Why the last look failed; empty when it did not."""
        looked = self.s.looked if self.s.spec.holdings is not None else None
        return looked.error if looked is not None else ""

    @property
    def failures(self) -> int:
        """Compensations in a row that left holdings."""
        return self.compensation.failures if self.compensation is not None else 0

    @property
    def summary(self) -> str:
        """The holdings in words."""
        return summary(self.holdings)

    def compensating(self) -> bool:
        """Whether a compensation is claimed that was not seen to be over."""
        return self.compensation is not None and self.compensation.ended_at is None

    def handed_over(self) -> bool:
        """Whether the asset's holder is the compensation that is claimed."""
        c, holder = self.compensation, self.holder
        return c is not None and holder is not None and (holder.kind, holder.name) == ("JobBatch", c.batch)

    def blocked(self) -> bool:
        """Whether the compensation that is claimed is not there, and can't be made as things are."""
        if self.compensation is None or self.s.batch is not None or self.handed_over():
            return False
        return self.s.spec.compensation is None or self.s.problem is not None

    def seen(self, purpose: str) -> bool:
        """Whether the holdings are as they were seen for this very purpose; if not, it is asked for."""
        if self.s.spec.holdings is None:
            return self.known
        if purpose in self.s.purposes and self.known:
            return True
        self.purpose = purpose
        return False

    def way_out(self) -> str:
        """What a person can do about holdings that nothing empties."""
        if self.s.deleting:
            return "empty it yourself, or set spec.compensation, and it goes"
        return "a job that claims it with mode TakeOver gets it as it is"

    def let_go(self) -> str:
        """How one that is being deleted goes though nobody can look into it."""
        return (
            "; it is being deleted, and goes unseen when spec.holdings is removed" if self.s.deleting else ""
        )

    # -- changing

    def tell(self, state: AssetState, reason: str, words: str, *, stalled: bool = False) -> None:
        """Where it is, and why."""
        self.state, self.reason, self.words, self.stalled = state, reason, words, stalled

    def keep(self) -> None:
        """Say what is said already: more is known in a moment."""
        ready = find(self.s.status.conditions, "Ready")
        stalled = find(self.s.status.conditions, "Stalled")
        self.state = self.s.status.state or AssetState.UNKNOWN
        self.reason = ready.reason if ready else reasons.NOT_OBSERVED
        self.words = ready.message if ready else ""
        self.stalled = stalled is not None and stalled.status == "True"
        if self.state is AssetState.FREE and self.holdings:
            self.state, self.reason = AssetState.HELD_ORPHANED, reasons.UNCLAIMED
            self.words = f"it has {self.summary}, and nobody is known to have put that there"


def summary(holdings: tuple[Holding, ...]) -> str:
    """Holdings in words, as `IRON_ORE 40, FUEL 3`."""
    words = ""
    for index, one in enumerate(holdings):
        more = f"{', ' if words else ''}{one.symbol} {one.units}"
        if len(words) + len(more) > SUMMARY:
            return f"{words} and {len(holdings) - index} more"
        words += more
    return words
