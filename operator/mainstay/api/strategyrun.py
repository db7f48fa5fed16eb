"""StrategyRun: one long-running bot: what to run, with what configuration, in which state."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from mainstay.api.conditions import Condition
from mainstay.api.meta import Count, FreeForm, Model, ObjectMeta, ObjectName, Owner, Port, Text
from mainstay.api.process import ProcessStatus
from mainstay.api.program import KeyRef, Program, RestartPolicy
from mainstay.api.rules import Rule, at_most_one, exactly_one, guarded
from mainstay.api.strategy import DEFAULT_LIBRARY, Hash, StrategyName


class RunGoal(StrEnum):
    """What the user wants."""

    RUNNING = "Running"
    PAUSED = "Paused"
    STOPPED = "Stopped"


class RunPhase(StrEnum):
    """Where the run is. Only Stopping is finished before the next wish is looked at."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    PAUSING = "Pausing"
    PAUSED = "Paused"
    RESUMING = "Resuming"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"


class ConfigFormat(StrEnum):
    """How `config.values` is written to the file at CONFIG_PATH."""

    YAML = "YAML"
    JSON = "JSON"
    TOML = "TOML"
    ENV = "Env"


class Config(Model):
    """Configuration rendered by Mainstay."""

    format: ConfigFormat = Field(
        ConfigFormat.YAML, description="YAML, JSON, TOML or Env (KEY=value). Default: YAML."
    )
    values: FreeForm = Field(
        {}, description="Any structure; written to CONFIG_PATH with mode 0600. Default: empty."
    )


class ConfigFrom(
    Model,
    json_schema_extra=guarded(
        Rule(exactly_one("configMap", "secret"), "set exactly one of configMap and secret")
    ),
):
    """Configuration whose exact bytes come from elsewhere."""

    config_map: KeyRef | None = Field(None, description="A key of a ConfigMap; a change rolls the process.")
    secret: KeyRef | None = Field(None, description="A key of a Secret; read at start.")


class ControlApi(Model):
    """The port the program serves its control API on. Sticky: kept over stop and resume where free."""

    pool: ObjectName = Field("default", description="PortPool to lease from. Default: default.")
    port: Port | None = Field(None, description="Ask for this port of the pool and no other.")


class PauseMethod(StrEnum):
    """How a run is paused."""

    SIGNAL = "Signal"
    HTTP = "HTTP"


class PauseHttp(Model):
    """Paths of the program's own pause API on the control port; each is POSTed."""

    path: Annotated[str, Field(max_length=2048, pattern=r"^/[!-~]*$")] = Field(
        "/pause", description="POSTed to pause. Default: /pause."
    )
    resume_path: Annotated[str, Field(max_length=2048, pattern=r"^/[!-~]*$")] = Field(
        "/resume", description="POSTed to resume. Default: /resume."
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = Field(
        10, description="Seconds one call may take. Default: 10."
    )


class Pause(
    Model,
    json_schema_extra=guarded(
        Rule(
            "!has(self.http) || (has(self.method) && self.method == 'HTTP')",
            "http is for method HTTP only",
            ".http",
        )
    ),
):
    """What pausing means for this program."""

    method: PauseMethod = Field(
        PauseMethod.SIGNAL,
        description="Signal stops every process of the tree (SIGSTOP); HTTP asks the program. Default: Signal.",
    )
    http: PauseHttp | None = Field(None, description="Paths for method HTTP.")


class StrategyRef(Model):
    """Which strategy a run uses. The program finds it at STRATEGY_PATH."""

    library: ObjectName = Field(DEFAULT_LIBRARY, description="Library of this namespace. Default: main.")
    name: StrategyName = Field(description="Name of the strategy, EmaRsiStrategy.")
    revision: Hash | None = Field(
        None,
        description="Run exactly this content, one of the strategy's status.revisions: a rollback. "
        "Default: the newest that is valid.",
    )


class StrategyUpdatePolicy(StrEnum):
    """What an edit of the strategy does to a run."""

    RESTART = "Restart"
    IGNORE = "Ignore"


class FallbackPolicy(StrEnum):
    """What the deletion of the strategy does to a run."""

    USE_DEFAULT = "UseDefault"
    KEEP_LAST = "KeepLast"
    STOP = "Stop"


CONTROL_PROBE = (
    "has(self.program.readiness) && ["
    "has(self.program.readiness.tcp) && (!has(self.program.readiness.tcp.port) ||"
    " type(self.program.readiness.tcp.port) == string), "
    "has(self.program.readiness.http) && (!has(self.program.readiness.http.port) ||"
    " type(self.program.readiness.http.port) == string)].exists(x, x)"
)
"""CEL: readiness asks the control port, by name or by default."""


class StrategyRunSpec(
    Model,
    json_schema_extra=guarded(
        Rule(at_most_one("config", "configFrom"), "set config or configFrom, not both", ".configFrom"),
        Rule(
            "has(self.controlApi) || !has(self.pause) || !has(self.pause.method)"
            " || self.pause.method != 'HTTP'",
            "pausing by HTTP needs controlApi",
            ".pause.method",
        ),
        Rule(
            f"has(self.controlApi) || !({CONTROL_PROBE})",
            "readiness on the control port needs controlApi; or give a port number",
            ".program.readiness",
        ),
        Rule(
            "has(self.strategy) || (!has(self.strategyUpdatePolicy) && !has(self.fallbackPolicy))",
            "strategyUpdatePolicy and fallbackPolicy are for runs with a strategy",
            ".strategy",
        ),
    ),
):
    """What to run, and in which state."""

    state: RunGoal = Field(RunGoal.RUNNING, description="Running, Paused or Stopped. Default: Running.")
    owner: Owner | None = Field(None, description="Whose run this is. Can't be changed or removed.")
    strategy: StrategyRef | None = Field(
        None,
        description="Strategy whose code the program runs: STRATEGY_PATH, STRATEGY_NAME and STRATEGY_HASH in its "
        "environment, and $(STRATEGY_PATH) and so on in args and config.values. Default: none.",
    )
    strategy_update_policy: StrategyUpdatePolicy = Field(
        StrategyUpdatePolicy.RESTART,
        description="An edit of the strategy restarts the process (Restart), or is taken at its next start (Ignore). "
        "Default: Restart.",
    )
    fallback_policy: FallbackPolicy = Field(
        FallbackPolicy.USE_DEFAULT,
        description="When the strategy is deleted: go on with the library's default (UseDefault) or with the last "
        "code (KeepLast) until it is back, or stop until then (Stop). Default: UseDefault.",
    )
    program: Program = Field(description="What to execute and how.")
    config: Config | None = Field(None, description="Configuration rendered to CONFIG_PATH.")
    config_from: ConfigFrom | None = Field(
        None, description="Configuration taken byte for byte from a ConfigMap or Secret key."
    )
    control_api: ControlApi | None = Field(
        None, description="Lease a port and pass it as CONTROL_API_PORT. Default: no port."
    )
    pause: Pause | None = Field(None, description="How to pause. Default: by signal.")
    restart_policy: RestartPolicy | None = Field(
        None, description="What to do when the process ends by itself. Default: Always, 1 s to 300 s."
    )
    restart_nonce: Annotated[int, Field(ge=0, le=2**53)] = Field(
        0, description="Change it to restart once. The value at creation has no effect. Default: 0."
    )
    run_id: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = Field(
        None, description="Bring an identity along from elsewhere. Immutable. Default: metadata.uid."
    )
    runtime: Literal["Process"] = Field(
        "Process", description="Process: supervised on this host. Immutable. Default: Process."
    )


class StrategyInUse(Model):
    """The strategy that was claimed for the present attempt."""

    name: StrategyName = Field(description="Name of what runs: the one asked for, or the default.")
    hash: Hash = Field(description="sha256 of the bytes at STRATEGY_PATH.")
    file: str = Field(description="File name at STRATEGY_PATH.", max_length=255)
    library: ObjectName = Field(DEFAULT_LIBRARY, description="Library it is from.")
    fallback: bool = Field(False, description="It is the default, in place of one that was deleted.")
    instead_of: StrategyName | None = Field(None, description="Of a fallback: the strategy that was deleted.")
    pinned: bool = Field(False, description="spec.strategy.revision asked for exactly this.")


class StrategyRunStatus(Model):
    """Claims (attempt, port, strategy, handled nonce, inputsHash) and observations (everything else)."""

    observed_generation: Count = Field(0, description="metadata.generation this status was computed from.")
    phase: RunPhase | None = Field(None, description="Where the run is.")
    run_id: str | None = Field(None, description="Identity; constant for the object's life.", max_length=128)
    attempt: Count = Field(0, description="Starts claimed by Mainstay; raised before each.")
    restarts: Count = Field(0, description="Restarts by the supervisor within this attempt.")
    port: Port | None = Field(None, description="Control port; kept when stopped, as a preference.")
    endpoint: Text | None = Field(None, description="URL of the control API while a port is held.")
    inputs_hash: str | None = Field(
        None, description="Hash of the declared inputs of this attempt; another one rolls.", max_length=80
    )
    strategy: StrategyInUse | None = Field(None, description="Strategy of this attempt; another one rolls.")
    process: ProcessStatus | None = Field(None, description="The live leader.")
    started_at: datetime | None = Field(None, description="When the process of this attempt was seen.")
    stopped_at: datetime | None = Field(None, description="When its exit was seen; empty while it runs.")
    handled_restart_nonce: Count | None = Field(None, description="Last restartNonce that was consumed.")
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Ready, Serving, Reconciling, Stalled, PortAllocated, StrategyResolved.",
        max_length=16,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )


class StrategyRun(Model):
    """One long-running bot."""

    metadata: ObjectMeta
    spec: StrategyRunSpec = Field(description="What to run, and in which state.")
    status: StrategyRunStatus = Field(
        StrategyRunStatus(), description="Claims and observations, written by the operator alone."
    )
