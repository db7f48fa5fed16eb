"""What a kind is beside its fields: names, scope, printer columns, selectable fields and rules at its root.

Rules at the root see status as well as spec, and run whichever of the two is written. Each has `has()` on both
sides: a comparison of an optional field alone is bypassed by removing it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mainstay.api.asset import Asset
from mainstay.api.jobbatch import JobBatch
from mainstay.api.meta import Model
from mainstay.api.phasedjob import FINAL, PhasedJob
from mainstay.api.ports import PortLease, PortPool
from mainstay.api.rules import Rule, optional
from mainstay.api.servicestack import ServiceStack
from mainstay.api.stackrestart import StackRestart
from mainstay.api.strategy import Strategy
from mainstay.api.strategylibrary import StrategyLibrary
from mainstay.api.strategyrun import StrategyRun

CATEGORY = "mainstay"


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`; priority 1 is shown with -o wide only."""

    name: str
    path: str
    description: str
    type: Literal["string", "integer", "boolean", "date"] = "string"
    priority: Literal[0, 1] = 0


@dataclass(frozen=True)
class Kind:
    """One kind of the API."""

    model: type[Model]
    plural: str
    short: str
    scope: Literal["Namespaced", "Cluster"]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    selectable: tuple[str, ...] = ()
    """Paths that `kubectl get --field-selector` knows."""
    unruled: tuple[str, ...] = ()
    """Paths below which no rule is told to the API server: lists in lists in lists make each cost more than it
    grants. The operator checks the same (core/job/check.py), and says so in a condition."""

    @property
    def name(self) -> str:
        """The kind as it stands in a manifest."""
        return self.model.__name__


def kept(path: str) -> str:
    """CEL: a value, once there, is neither changed nor removed, not even by removing what it is in."""
    old, new = f"oldSelf.{path}", f"self.{path}"
    return f"!({optional(old)}) || ({optional(new)} && {new} == {old})"


OWNER = Rule(kept("spec.owner"), "spec.owner can't be changed or removed once it is set", ".spec.owner")


def never_lower(path: str) -> Rule:
    """A number of status that only grows."""
    old, new = f"oldSelf.{path}", f"self.{path}"
    cel = f"!({optional(old)}) || ({optional(new)} && {new} >= {old})"
    return Rule(cel, f"{path} can't become lower or be removed", f".{path}")


def final(path: str, values: tuple[str, ...], words: str) -> Rule:
    """A value that is never left once it is one of these."""
    old, new = f"oldSelf.{path}", f"self.{path}"
    listed = ", ".join(f"'{value}'" for value in values)
    cel = f"!({optional(old)}) || !({old} in [{listed}]) || ({optional(new)} && {new} == {old})"
    return Rule(cel, words, f".{path}")


AGE = Column("Age", ".metadata.creationTimestamp", "Time since creation.", "date")

STRATEGY_RUN = Kind(
    model=StrategyRun,
    plural="strategyruns",
    short="srun",
    scope="Namespaced",
    columns=(
        Column("State", ".status.phase", "Where the run is."),
        Column(
            "Ready", '.status.conditions[?(@.type=="Ready")].status', "What is observed is what was asked."
        ),
        Column(
            "Port",
            '.status.conditions[?(@.reason=="Leased")].message',
            "Control port, while it is leased.",
        ),
        Column("Restarts", ".status.restarts", "Restarts by the supervisor in this attempt.", "integer"),
        Column("Strategy", ".status.strategy.name", "Strategy it runs: the one asked for, or the fallback."),
        Column(
            "Use",
            '.status.conditions[?(@.type=="StrategyResolved")].reason',
            "Whether that is what was asked for, in one word.",
        ),
        AGE,
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why, in one word.", priority=1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why, in words.", priority=1),
        Column("Revision", ".status.strategy.hash", "Content of the strategy it runs.", priority=1),
        Column("RunID", ".status.runId", "Identity; constant for the object's life.", priority=1),
        Column("Owner", ".spec.owner.userId", "Whose run this is.", priority=1),
        Column("Attempt", ".status.attempt", "Starts by Mainstay.", "integer", 1),
    ),
    rules=(
        OWNER,
        Rule(
            "(has(self.spec.runtime) ? self.spec.runtime : 'Process') =="
            " (has(oldSelf.spec.runtime) ? oldSelf.spec.runtime : 'Process')",
            "spec.runtime can't be changed (absent means Process)",
            ".spec.runtime",
        ),
        Rule(
            "has(self.spec.runId) ? has(oldSelf.spec.runId) && self.spec.runId == oldSelf.spec.runId"
            " : !has(oldSelf.spec.runId)",
            "spec.runId can be given at creation only: it can't be added, changed or removed",
            ".spec.runId",
        ),
        Rule(
            kept("status.runId"), "status.runId can't be changed or removed once it is set", ".status.runId"
        ),
        never_lower("status.attempt"),
    ),
    selectable=(".spec.owner.userId", ".spec.state", ".status.phase"),
)

STRATEGY_LIBRARY = Kind(
    model=StrategyLibrary,
    plural="strategylibraries",
    short="slib",
    scope="Namespaced",
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "It could be read, all of it."),
        Column("Strategies", ".status.strategies", "Strategies it offers.", "integer"),
        Column("Invalid", ".status.invalid", "Those whose content can't be run.", "integer"),
        Column("Problems", ".status.problemCount", "Files that can't be offered.", "integer"),
        Column("Default", ".spec.default", "What users of a deleted one fall back to."),
        AGE,
        Column("Directory", ".spec.source.directory", "Where they are.", priority=1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why, in words.", priority=1),
    ),
    rules=(),
)

STRATEGY = Kind(
    model=Strategy,
    plural="strategies",
    short="strat",
    scope="Namespaced",
    columns=(
        Column("Strategy", ".status.name", "Name as runs write it."),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "It is there and can be run."),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why, in one word."),
        Column("Users", ".status.usedBy.count", "Who uses it.", "integer"),
        Column("Modified", ".status.modifiedAt", "Time since its last change.", "date"),
        Column("Library", ".spec.library", "Library it belongs to.", priority=1),
        Column("Revision", ".status.revision", "What runs get.", priority=1),
        Column("MD5", ".status.md5", "md5 of what the source has.", priority=1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why, in words.", priority=1),
    ),
    rules=(
        Rule(
            "(has(self.spec.library) ? self.spec.library : 'main') =="
            " (has(oldSelf.spec.library) ? oldSelf.spec.library : 'main')",
            "spec.library can't be changed (absent means main)",
            ".spec.library",
        ),
        Rule(
            "has(self.spec.name) == has(oldSelf.spec.name)"
            " && (!has(self.spec.name) || self.spec.name == oldSelf.spec.name)",
            "spec.name can't be added, changed or removed: create another strategy",
            ".spec.name",
        ),
    ),
    selectable=(".spec.library", ".spec.name"),
)

PORT_POOL = Kind(
    model=PortPool,
    plural="portpools",
    short="pp",
    scope="Cluster",
    columns=(
        Column("Capacity", ".status.capacity", "Ports that may be leased.", "integer"),
        Column("Allocated", ".status.allocated", "Ports that are leased.", "integer"),
        AGE,
    ),
    rules=(),
)

PORT_LEASE = Kind(
    model=PortLease,
    plural="portleases",
    short="pl",
    scope="Cluster",
    columns=(
        Column("Port", ".spec.port", "The port.", "integer"),
        Column("Pool", ".spec.pool", "Pool it was taken from."),
        Column("Holder-Namespace", ".spec.holder.namespace", "Namespace of the holder."),
        Column("Holder", ".spec.holder.name", "Name of the holder."),
        AGE,
        Column("Kind", ".spec.holder.kind", "Kind of the holder.", priority=1),
        Column("UID", ".spec.holder.uid", "uid of the holder.", priority=1),
    ),
    rules=(
        Rule("self.spec == oldSelf.spec", "a lease is created and deleted, never changed", ".spec"),
        Rule(
            # not 'port-' + string(port): the size of string() is unbounded to the cost estimate
            "self.metadata.name.matches('^port-[1-9][0-9]{0,4}$')"
            " && int(self.metadata.name.substring(5)) == self.spec.port",
            "the lease of port N must be named port-N, so that a port has one holder",
            ".spec.port",
        ),
    ),
    selectable=(".spec.pool", ".spec.holder.uid"),
)

PHASED_JOB = Kind(
    model=PhasedJob,
    plural="phasedjobs",
    short="pjob",
    scope="Namespaced",
    columns=(
        Column("State", ".status.phase", "Where the job is."),
        Column("Step", ".status.currentStep", "Step it is on."),
        Column("Phase", ".status.currentPhase", "Phase of that step."),
        Column("Progress", ".status.progress", "Tasks completed or skipped of all."),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why, in one word."),
        AGE,
        Column("Resumes", ".status.resumes", "How often it was resumed.", "integer", 1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why, in words.", priority=1),
        Column("Resumable", ".status.resumable", "Raising resumeNonce goes on.", "boolean", 1),
        Column("Owner", ".spec.owner.userId", "Whose job this is.", priority=1),
    ),
    rules=(
        OWNER,
        final("status.phase", FINAL, "a job that was Completed, Failed or Cancelled stays so"),
        final("spec.state", ("Cancelled",), "a cancelled job stays cancelled; create another one"),
        Rule(  # taken in the order of their names: one that is added later could close a circle of jobs that wait
            "(has(self.spec.assets) ? self.spec.assets : []) =="
            " (has(oldSelf.spec.assets) ? oldSelf.spec.assets : [])",
            "spec.assets can't be changed; create another job",
            ".spec.assets",
        ),
        never_lower("status.resumes"),
    ),
    selectable=(".spec.owner.userId", ".spec.state", ".status.phase"),
    unruled=("spec.steps.task", "spec.steps.phases"),
)

JOB_BATCH = Kind(
    model=JobBatch,
    plural="jobbatches",
    short="jbatch",
    scope="Namespaced",
    columns=(
        Column("State", ".status.phase", "Where the batch is."),
        Column("Completed", ".status.progress", "Jobs completed of all."),
        Column("Running", ".status.counts.inProgress", "Jobs under way.", "integer"),
        Column("Action", ".status.counts.actionRequired", "Jobs that wait for a user.", "integer"),
        Column("Failed", ".status.counts.failed", "Jobs that failed for good.", "integer"),
        AGE,
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why, in words.", priority=1),
        Column("Owner", ".spec.owner.userId", "Whose batch this is.", priority=1),
    ),
    rules=(
        OWNER,
        final("spec.state", ("Cancelled",), "a cancelled batch stays cancelled; create another one"),
    ),
    selectable=(".spec.owner.userId", ".status.phase"),
    unruled=("spec.template.steps.task", "spec.template.steps.phases"),
)

SERVICE_STACK = Kind(
    model=ServiceStack,
    plural="servicestacks",
    short="stack",
    scope="Namespaced",
    columns=(
        Column("State", ".status.phase", "Where the stack is."),
        Column("Up", ".status.ready", "Services that are up, of all."),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why, in one word."),
        Column("Restart", ".status.restart.name", "The restart under way."),
        AGE,
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why, in words.", priority=1),
        Column("Supervisor", ".status.supervisor.pid", "Pid of its supervisord.", "integer", 1),
        Column("Owner", ".spec.owner.userId", "Whose stack this is.", priority=1),
    ),
    rules=(OWNER,),
    selectable=(".spec.owner.userId", ".status.phase"),
)

STACK_RESTART = Kind(
    model=StackRestart,
    plural="stackrestarts",
    short="srestart",
    scope="Namespaced",
    columns=(
        Column("Stack", ".spec.stack", "Stack it restarts."),
        Column("Mode", ".spec.mode", "Full, Quick, Emergency or Flush; none means Full."),
        Column("State", ".status.phase", "Where it is."),
        Column("Step", ".status.step", "The step under way, or the one that failed."),
        Column("Took", ".status.took", "Seconds from its first step to its end."),
        AGE,
        Column("Completed", ".status.completedAt", "When it was over.", priority=1),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why, in words.", priority=1),
        Column("Owner", ".spec.owner.userId", "Who asked.", priority=1),
    ),
    rules=(
        OWNER,
        Rule("self.spec.stack == oldSelf.spec.stack", "spec.stack can't be changed", ".spec.stack"),
        Rule(
            "(has(self.spec.mode) ? self.spec.mode : 'Full') =="
            " (has(oldSelf.spec.mode) ? oldSelf.spec.mode : 'Full')",
            "spec.mode can't be changed (absent means Full); ask for another restart",
            ".spec.mode",
        ),
        final(
            "status.phase", ("Completed", "Failed"), "a restart that is over stays so; ask for another one"
        ),
    ),
    selectable=(".spec.stack", ".status.phase"),
)

ASSET = Kind(
    model=Asset,
    plural="assets",
    short="asset",
    scope="Namespaced",
    columns=(
        Column("Type", ".spec.type", "What kind of thing it is."),
        Column("State", ".status.state", "Free, Held, HeldOrphaned or Unknown."),
        Column("Holder", ".status.holder.name", "Who has it."),
        Column("Holdings", ".status.summary", "What is in it."),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why, in one word."),
        AGE,
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Why, in words.", priority=1),
        Column("Kind", ".status.holder.kind", "Kind of the holder.", priority=1),
        Column("Since", ".status.holder.since", "How long it has had it.", "date", 1),
        Column("Owner", ".spec.owner.userId", "Whose asset this is.", priority=1),
    ),
    rules=(
        OWNER,
        Rule(
            "!(has(self.status) && has(self.status.state) && self.status.state == 'Free')"
            " || !has(self.status.holdings) || self.status.holdings.size() == 0",
            "an asset is never Free while it has holdings",
            ".status.state",
        ),
        Rule(
            f"!({optional('oldSelf.status.holder')}) || ({optional('self.status.holder')})"
            f" || ({optional('self.status.state')} && self.status.state == 'Free')",
            "a holder is followed by another, or leaves an asset that is Free",
            ".status.holder",
        ),
        never_lower("status.compensation.attempt"),
    ),
    selectable=(".spec.owner.userId", ".spec.type", ".status.state"),
    unruled=("spec.compensation.template.steps.task", "spec.compensation.template.steps.phases"),
)

KINDS = (
    STRATEGY_RUN,
    STRATEGY_LIBRARY,
    STRATEGY,
    PHASED_JOB,
    JOB_BATCH,
    SERVICE_STACK,
    STACK_RESTART,
    ASSET,
    PORT_POOL,
    PORT_LEASE,
)
