"""Everything one decision about an asset may look at, gathered first and frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from mainstay.api.asset import Asset, AssetSpec, AssetStatus
from mainstay.api.holdings import AssetReport, Holding
from mainstay.api.meta import FINALIZER
from mainstay.core.snapshot import Problem


class HolderState(Enum):
    """What became of who has it."""

    ACTIVE = auto()  # it has not ended: failed and resumable, suspended and being deleted included
    COMPLETED = auto()
    CANCELLED = auto()
    FAILED = auto()
    GONE = auto()  # the API server has no such object any more


@dataclass(frozen=True, slots=True)
class HolderView:
    """Who has it, as of now."""

    state: HolderState
    lives: bool = False  # a process of it may live, although it has ended or is gone
    words: str = ""  # what it waits for, of a compensation that waits for a person


@dataclass(frozen=True, slots=True)
class Claimant:
    """A job whose turn it is to have this asset: it has all that come before it by name."""

    name: str
    uid: str
    created: datetime
    had: bool = False  # it was seen to have it: an asset that forgot is its own still
    take_over: bool = False


@dataclass(frozen=True, slots=True)
class Looked:
    """What the last question came to; one of the two is set."""

    holdings: tuple[Holding, ...] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What the asset said that it accepts; one of the two is set."""

    accepts: tuple[str, ...] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class ReportView:
    """What a task said of this asset, which its job has not forgotten yet."""

    id: str  # uid of the job/task/attempt
    job: str
    task: str
    ended_at: datetime
    report: AssetReport


@dataclass(frozen=True, slots=True)
class BatchView:
    """The batch that status.compensation names."""

    uid: str
    over: bool
    words: str = ""  # how far it is, or what it waits for
    why: str = ""  # what its first failed job says
    needs_person: bool = False


@dataclass(frozen=True, slots=True)
class AssetSnapshot:
    """One asset, who has it, who wants it, and what was seen in it, all as of one moment."""

    asset: Asset
    now: datetime
    invalid: tuple[str, str] | None = None  # (place, what is wrong with the declaration there)
    looked: Looked | None = None  # the last answer of the probe, under this declaration
    purposes: frozenset[str] = (
        frozenset()
    )  # what `looked` is good for; what is left out was not asked, or too long ago
    asking: frozenset[str] = frozenset()  # what questions under way are asked for
    next_look_seconds: float = 0.0  # until the probe is due by itself
    looked_up: LookedUp | None = None
    looking_up: bool = False
    next_look_up_seconds: float = 0.0
    holder: HolderView | None = None  # of status.holder
    stray: bool = False  # a process works with it whose job does not have it, and nobody has
    claimants: tuple[Claimant, ...] = ()
    reports: tuple[ReportView, ...] = ()
    batch: BatchView | None = (
        None  # of status.compensation while that is under way, when it is there and ours
    )
    older: tuple[tuple[str, str], ...] = ()  # (name, uid) of compensations that nobody needs
    problem: Problem | None = None  # why the batch could not be made

    @property
    def spec(self) -> AssetSpec:
        """What is declared."""
        return self.asset.spec

    @property
    def status(self) -> AssetStatus:
        """What was claimed and seen so far."""
        return self.asset.status

    @property
    def deleting(self) -> bool:
        """The user asked for its deletion."""
        return self.asset.metadata.deletion_timestamp is not None

    @property
    def has_finalizer(self) -> bool:
        """Its end is guaranteed to be seen."""
        return FINALIZER in self.asset.metadata.finalizers
