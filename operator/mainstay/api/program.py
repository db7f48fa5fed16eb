"""The unit template: what to execute and how. Runs, services and tasks share it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Protocol

from pydantic import Field

from mainstay.api.meta import Model, ObjectName, Port, Text
from mainstay.api.rules import Rule, at_most_one, exactly_one, guarded

Argument = Annotated[str, Field(max_length=65536, pattern=r"^[^\x00]*$")]
EnvName = Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
RESERVED_ENV = (
    "RUN_ID",
    "ATTEMPT",
    "CONTROL_API_PORT",
    "CONFIG_PATH",
    "DATA_DIR",
    "INPUTS_PATH",
    "OUTPUTS_PATH",
    "STRATEGY_HASH",
    "STRATEGY_NAME",
    "STRATEGY_PATH",
)
"""Set by Mainstay, as is every name that starts with RESERVED_ENV_PREFIX; users can't override them."""
RESERVED_ENV_PREFIX = "MAINSTAY_"
ARGV_MAX = 131072
"""Characters of command and args together: what Linux takes for a single argument."""
KeyName = Annotated[str, Field(max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


class KeyRef(Model):
    """One key of a Secret or ConfigMap in the same namespace."""

    name: ObjectName = Field(description="Name of the object.")
    key: KeyName = Field(description="Key within it.")
    optional: bool | None = Field(
        None, description="Leave the variable unset when the object or key is missing. Default: false."
    )


class EnvSource(
    Model,
    json_schema_extra=guarded(
        Rule(
            exactly_one("secretKeyRef", "configMapKeyRef"),
            "set exactly one of secretKeyRef and configMapKeyRef",
        )
    ),
):
    """Where a value comes from."""

    secret_key_ref: KeyRef | None = Field(
        None, description="A key of a Secret. Read at start; a change takes effect with restartNonce."
    )
    config_map_key_ref: KeyRef | None = Field(
        None, description="A key of a ConfigMap. A change of its content rolls the process."
    )


class EnvVar(
    Model,
    json_schema_extra=guarded(
        Rule(at_most_one("value", "valueFrom"), "set value or valueFrom, not both", ".valueFrom"),
        Rule(
            f"!self.name.startsWith('{RESERVED_ENV_PREFIX}') && !(self.name in {list(RESERVED_ENV)})",
            f"this variable is set by Mainstay: {RESERVED_ENV_PREFIX}*, {', '.join(RESERVED_ENV)}",
            ".name",
        ),
    ),
):
    """One environment variable."""

    name: EnvName = Field(description="Variable name. Names that Mainstay sets can't be overridden.")
    value: Argument | None = Field(None, description="Literal value.")
    value_from: EnvSource | None = Field(None, description="Source of the value, instead of `value`.")


class WithEnv(Protocol):
    """What is run with an environment of its own."""

    @property
    def env(self) -> Sequence[EnvVar]:
        """The variables."""
        ...


class Limits(Model):
    """Enforced or refused, never ignored."""

    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]*(Ki|Mi|Gi)$", max_length=16)] | None = Field(
        None, description="Memory of the whole process tree, for example 512Mi. Needs a writable cgroup."
    )
    cpu: Annotated[str, Field(pattern=r"^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$", max_length=16)] | None = Field(
        None, description='CPUs of the whole tree, for example "1" or 500m. Needs a writable cgroup.'
    )
    open_files: Annotated[int, Field(ge=16, le=1048576)] | None = Field(
        None, description="Open file descriptors of each process (RLIMIT_NOFILE)."
    )


class TcpProbe(Model):
    """Ready when the port accepts a connection and its listener belongs to this unit."""

    port: Port | Annotated[str, Field(pattern=r"^control$", max_length=7)] = Field(
        "control", description="A port number, or `control` for the leased control port. Default: control."
    )


class HttpProbe(Model):
    """Ready when a GET answers 200-399 and the listener belongs to this unit."""

    path: Annotated[str, Field(max_length=2048, pattern=r"^/[!-~]*$")] = Field(
        description="Path to GET, for example /health."
    )
    port: Port | Annotated[str, Field(pattern=r"^control$", max_length=7)] = Field(
        "control", description="A port number, or `control` for the leased control port. Default: control."
    )


class ExecProbe(Model):
    """Ready when the command exits 0; it runs with the unit's environment and directory."""

    command: Annotated[list[Argument], Field(min_length=1, max_length=64)] = Field(
        description="Program and arguments; no shell."
    )


class NoProbe(Model):
    """Ready as soon as the process has been started."""


class Readiness(
    Model,
    json_schema_extra=guarded(
        Rule(at_most_one("tcp", "http", "exec", "none"), "set at most one of tcp, http, exec and none")
    ),
):
    """How to tell that the process serves. At most one of tcp, http, exec, none."""

    tcp: TcpProbe | None = Field(None, description="A connection to a port.")
    http: HttpProbe | None = Field(None, description="An HTTP GET.")
    exec: ExecProbe | None = Field(None, description="A command.")
    none: NoProbe | None = Field(None, description="No probe: started is ready.")
    period_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        10, description="Seconds between probes once ready. Default: 10. Probed faster until first ready."
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = Field(
        1, description="Seconds one probe may take. Default: 1."
    )


class Program(
    Model,
    json_schema_extra=guarded(
        Rule(
            "self.command.map(a, a.size()).sum() + (has(self.args) ? self.args.map(a, a.size()).sum() : 0)"
            f" <= {ARGV_MAX}",
            f"command and args are longer than {ARGV_MAX} characters together",
            ".command",
        ),
        Rule(
            "!has(self.workingDir) || !self.workingDir.matches('(^|/)[.][.](/|$)')",
            "workingDir must not contain a `..` segment",
            ".workingDir",
        ),
    ),
):
    """What to execute and how."""

    command: Annotated[list[Argument], Field(min_length=1, max_length=64)] = Field(
        description="Program and its first arguments; no shell. $(NAME) is expanded from the environment."
    )
    args: Annotated[list[Argument], Field(max_length=256)] = Field(
        [], description="Further arguments. $(NAME) is expanded; $$(NAME) stays literal. Default: none."
    )
    env: Annotated[list[EnvVar], Field(max_length=256)] = Field(
        [],
        description="Environment, added to HOME, USER, PATH, LANG, TZ and PYTHONUNBUFFERED. Default: none.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    working_dir: Text | None = Field(
        None,
        description="Directory to start in: absolute, or relative to Mainstay's home. "
        "Default: the unit's own data directory, $(DATA_DIR).",
    )
    user: Annotated[str, Field(max_length=32, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*\$?$")] | None = Field(
        None, description="Unix user to run as. Needs an operator that runs as root. Default: its user."
    )
    umask: Annotated[str, Field(pattern=r"^0?[0-7]{3}$", max_length=4)] | None = Field(
        None, description='File mode creation mask in octal, for example "022". Default: "077".'
    )
    nice: Annotated[int, Field(ge=-20, le=19)] | None = Field(
        None, description="Scheduling priority; below 0 needs root. Default: 0."
    )
    limits: Limits | None = Field(None, description="Resource limits. Default: none.")
    readiness: Readiness | None = Field(
        None, description="When the process counts as serving. Default: tcp on the control port, or none."
    )
    termination_grace_period_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        30, description="Seconds between TERM and KILL. Default: 30."
    )


class RestartPolicyType(StrEnum):
    """When a process that ended is started again."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class RestartPolicy(Model):
    """What happens when the process ends by itself."""

    policy: RestartPolicyType = Field(
        RestartPolicyType.ALWAYS,
        description="Always, OnFailure (exit 0 ends as Stopped, reason Completed) or Never. Default: Always.",
    )
    initial_backoff_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        1, description="Wait before the first restart; doubles each time. Default: 1."
    )
    max_backoff_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        300, description="Longest wait. A process that lived longer than this starts over. Default: 300."
    )
