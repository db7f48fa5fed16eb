"""What jobs and assets have in common: holdings, claims, and what tasks report."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mainstay.api.meta import Count, Model, ObjectName

HOLDINGS_MAX = 200
"""At most so many different holdings in one asset."""
CLAIMS_MAX = 16
"""At most so many assets of one job."""
DELIVERIES_MAX = 16
"""At most so many deliveries in one report."""

Symbol = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]*$")]
ClaimName = Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
"""Name of an asset within a job: an identifier in expressions."""


class Holding(Model):
    """So much of one thing."""

    symbol: Symbol = Field(description="What it is, for example IRON_ORE.")
    units: Count = Field(
        description="How much of it, in whole units: cents rather than dollars, satoshi rather than coins."
    )


class ClaimMode(StrEnum):
    """How a job needs an asset."""

    EXCLUSIVE = "Exclusive"
    SHARED = "Shared"
    TAKE_OVER = "TakeOver"


class AssetClaim(Model):
    """An asset that a job needs."""

    name: ClaimName = Field(description="Name within the job: assets.<name> in expressions and inputs.")
    ref: ObjectName = Field(description="Asset of the job's namespace.")
    mode: ClaimMode | None = Field(
        None,
        description="Exclusive: nobody else has it from before the first task until the job has ended and the asset is "
        "empty. TakeOver: the same, and it is taken also when it is HeldOrphaned, with what is in it. Shared: it is "
        "looked at and reported on, and not claimed. Default: Exclusive.",
    )

    @property
    def exclusive(self) -> bool:
        """Whether nobody else may have it."""
        return self.mode is not ClaimMode.SHARED


class AssetReport(Model):
    """What a task says of one asset in its outputs, as assets.<name>: kept until the asset has taken it in."""

    ref: ObjectName = Field(description="The asset.")
    holdings: Annotated[tuple[Holding, ...], Field(max_length=HOLDINGS_MAX)] | None = Field(
        None, description="All that is in it now; absent when the task doesn't say."
    )
    deliveries: Annotated[tuple[Holding, ...], Field(max_length=DELIVERIES_MAX)] = Field(
        (), description="What the task delivered to it."
    )


class HeldAsset(Model):
    """An asset that the job was seen to have."""

    name: ClaimName = Field(description="Name within the job.")
    ref: ObjectName = Field(description="The asset.")
    uid: str = Field("", description="Its uid then.", max_length=64)
