"""Asset: an exclusive resource with holdings, such as a ship with cargo, that is never free while it has any."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from mainstay.api.conditions import Condition
from mainstay.api.holdings import HOLDINGS_MAX, Holding, Symbol
from mainstay.api.meta import Count, Model, ObjectMeta, Owner, ShortText, Text
from mainstay.api.phasedjob import Expression, JobTemplate, OnFailure
from mainstay.api.program import Argument, EnvVar, KeyRef
from mainstay.api.rules import Rule, exactly_one, guarded

ACCEPTS_MAX = 500
DELIVERIES_SHOWN = 20
"""So many deliveries are listed one by one; the totals have them all."""
TOTALS_MAX = 200
REPORTS_MAX = 200
"""Reports whose job has not been told yet that they were taken in."""
ASSET_UID_LABEL = "mainstay.dev/asset-uid"
"""Label of a compensation: the uid of the asset that it empties."""
ASSET_ANNOTATION = "mainstay.dev/asset"
"""Annotation of a compensation: the asset's name, which may be too long for a label."""


class AssetState(StrEnum):
    """Whose it is, and whether anything is in it."""

    FREE = "Free"
    HELD = "Held"
    HELD_ORPHANED = "HeldOrphaned"
    UNKNOWN = "Unknown"


class Header(
    Model,
    json_schema_extra=guarded(Rule(exactly_one("value", "secretKeyRef"), "set value or secretKeyRef")),
):
    """One header of a request."""

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9!#$%&'*+.^_|~-]+$")] = (
        Field(description="Name, for example Authorization.")
    )
    value: Annotated[str, Field(max_length=1024, pattern=r"^[^\x00\r\n]*$")] | None = Field(
        None, description="Literal value; it must not be a secret."
    )
    secret_key_ref: KeyRef | None = Field(None, description="Key of a Secret that has the whole value.")


class HttpQuestion(Model):
    """A GET that answers 200 with JSON."""

    url: Annotated[str, Field(max_length=2048, pattern=r"^https?://[!-~]+$")] = Field(
        description="What to GET, for example http://127.0.0.1:8090/ships/ship-1."
    )
    headers: Annotated[list[Header], Field(max_length=16)] = Field(
        [],
        description="Headers of the request. Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class ExecQuestion(Model):
    """A command that exits 0 and writes JSON to its stdout."""

    command: Annotated[list[Argument], Field(min_length=1, max_length=64)] = Field(
        description="Program and arguments; no shell."
    )
    env: Annotated[list[EnvVar], Field(max_length=64)] = Field(
        [],
        description="Environment, added to HOME, USER, PATH, LANG and TZ. Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    working_dir: Text | None = Field(
        None, description="Directory to run in: absolute, or relative to Mainstay's home. Default: the home."
    )


class Probe(
    Model,
    json_schema_extra=guarded(Rule(exactly_one("http", "exec"), "set exactly one of http and exec")),
):
    """Where the truth is, and how to read it. It is asked often, and must change nothing."""

    http: HttpQuestion | None = Field(None, description="A GET.")
    exec: ExecQuestion | None = Field(None, description="A command; it runs as the operator's user.")
    path: Expression | None = Field(
        None,
        description="CEL over `body`, the JSON that was answered; what it comes to is a list of {symbol, units}, or a map from "
        "symbol to units (of accepts: a list of symbols). For example body.data.cargo.inventory. Default: body.",
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = Field(
        5, description="Seconds one question may take. Default: 5."
    )


class Observed(Model):
    """What is in the asset."""

    probe: Probe = Field(description="Asked every so often, and before every decision that depends on it.")
    every_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        30, description="Seconds between questions that no decision waits for. Default: 30."
    )


class Accepted(Model):
    """What the asset takes in."""

    probe: Probe = Field(description="Asked when the operator starts, and every so often.")
    every_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        300, description="Seconds between questions. Default: 300."
    )


class CompensationTemplate(JobTemplate):
    """What empties the asset of one holding."""

    on_failure: OnFailure = Field(
        OnFailure.FAIL,
        description="Fail: the whole compensation is tried again after its backoff. ActionRequired: it waits for a person. "
        "Default: Fail.",
    )


class Compensation(Model):
    """How the asset is emptied when its holder is gone: one JobBatch, a job per holding."""

    template: CompensationTemplate = Field(
        description="What every job does. Its inputs get `asset` (the name), `symbol` and `units` added, in "
        "expressions the asset is assets.asset."
    )
    parallelism: Annotated[int, Field(ge=1, le=HOLDINGS_MAX)] = Field(
        1, description="Holdings worked on at once. Default: 1."
    )
    unclaimed: bool = Field(
        False,
        description="Whether holdings that nobody had when they were seen are emptied too: put there by hand, or left over "
        "where objects were lost. Default: false, they wait for a person.",
    )
    initial_backoff_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        10,
        description="Wait before it is tried again when it failed, or left holdings; doubles each time. Default: 10.",
    )
    max_backoff_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        600, description="Longest wait before it is tried again. Default: 600."
    )


class AssetSpec(Model):
    """What it is, how to see what is in it, and how to empty it."""

    type: ShortText | None = Field(
        None, description="What kind of thing it is, for example Ship. Default: none."
    )
    owner: Owner | None = Field(None, description="Whose asset this is. Can't be changed or removed.")
    holdings: Observed | None = Field(
        None,
        description="How to see what is in it. Default: what tasks that ended with exit code 0 tell in their outputs; nothing "
        "until one does.",
    )
    accepts: Accepted | None = Field(
        None, description="How to see what may be delivered to it. Default: everything."
    )
    compensation: Compensation | None = Field(
        None,
        description="How to empty it when its holder was cancelled, deleted or failed for good, or is orphaned. "
        "Default: it waits for a person.",
    )


class Holder(Model):
    """Who has the asset. It changes in one write, and never through nobody while there are holdings."""

    kind: Literal["PhasedJob", "JobBatch"] = Field(
        description="PhasedJob, or JobBatch for a compensation.", max_length=16
    )
    name: str = Field(description="Its name.", max_length=253)
    uid: str = Field(description="Its uid.", max_length=64)
    since: datetime = Field(description="Since when.")


class Delivered(Model):
    """Everything of one symbol that was delivered to the asset."""

    symbol: Symbol = Field(description="What.")
    units: Count = Field(description="How much, all deliveries together.")
    count: Count = Field(description="In how many deliveries.")


class Delivery(Model):
    """One delivery, as the task that made it reported."""

    symbol: Symbol = Field(description="What.")
    units: Count = Field(description="How much.")
    accepted: bool = Field(description="Whether the asset accepted this when it was taken in.")
    job: str = Field(description="Job that delivered.", max_length=253)
    task: str = Field(description="Task of it.", max_length=63)
    time: datetime = Field(description="When the task ended.")


class CompensationStatus(Model):
    """The compensation that is claimed, runs, or ran last."""

    batch: str = Field(description="JobBatch that empties the asset.", max_length=253)
    attempt: Count = Field(description="Which one it is, counted over the asset's life.")
    failures: Count = Field(
        0, description="How many in a row ended, and left holdings. 0 again once it is empty."
    )
    cause: str = Field("", description="Why there is one, in one CamelCase word.", max_length=64)
    message: str = Field("", description="Why the last one left holdings, in words.", max_length=512)
    holdings: Annotated[tuple[Holding, ...], Field(max_length=HOLDINGS_MAX)] = Field(
        (),
        description="What it was made for, a job each.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["symbol"]},
    )
    started_at: datetime = Field(description="When it was claimed.")
    ended_at: datetime | None = Field(None, description="When it was seen to be over.")
    retry_at: datetime | None = Field(None, description="When the next one is claimed.")


class AssetStatus(Model):
    """Claims (holder, compensation) and observations (everything else)."""

    observed_generation: Count = Field(0, description="metadata.generation this status was computed from.")
    state: AssetState | None = Field(
        None,
        description="Free; Held: somebody has it; HeldOrphaned: it has holdings, and who had it is gone; Unknown: the probe "
        "fails, and nothing is released.",
    )
    holder: Holder | None = Field(None, description="Who has it.")
    holdings: Annotated[tuple[Holding, ...], Field(max_length=HOLDINGS_MAX)] = Field(
        (),
        description="What is in it, as it was last seen.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["symbol"]},
    )
    summary: str = Field("", description="The same in words.", max_length=256)
    holdings_changed_at: datetime | None = Field(None, description="When the holdings were seen to change.")
    accepts: Annotated[tuple[Symbol, ...], Field(max_length=ACCEPTS_MAX)] | None = Field(
        None,
        description="What it takes in, as it was last seen; absent where there is no probe, or no answer yet.",
    )
    delivered: Annotated[tuple[Delivered, ...], Field(max_length=TOTALS_MAX)] = Field(
        (),
        description="What was delivered to it, all together.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["symbol"]},
    )
    deliveries: Annotated[tuple[Delivery, ...], Field(max_length=DELIVERIES_SHOWN)] = Field(
        (), description="The latest deliveries, newest last."
    )
    taken: Annotated[tuple[Annotated[str, Field(max_length=160)], ...], Field(max_length=REPORTS_MAX)] = (
        Field(
            (),
            description="Reports of tasks that are counted already, until their job has forgotten them: uid/task/attempt.",
        )
    )
    compensation: CompensationStatus | None = Field(
        None, description="The compensation that is claimed, runs, or ran last."
    )
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Ready, Reconciling, Stalled, HoldingsObserved, AcceptsObserved, UnexpectedInput.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class Asset(Model):
    """One exclusive resource."""

    metadata: ObjectMeta
    spec: AssetSpec = Field(
        AssetSpec(), description="What it is, how to see what is in it, and how to empty it."
    )
    status: AssetStatus = Field(
        AssetStatus(), description="Claims and observations, written by the operator alone."
    )
