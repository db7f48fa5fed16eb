"""ServiceStack: the services of one host, with their ports, order, probes and logs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mainstay.api.conditions import Condition
from mainstay.api.meta import Count, Model, ObjectMeta, Owner, Port, Text
from mainstay.api.process import ProcessStatus
from mainstay.api.program import Program, RestartPolicy
from mainstay.api.rules import Rule, guarded

RESERVED_PORTS = (5000, 7000, 9000, 10000)
"""Never assigned and never flushed, unless spec.reservedPorts says otherwise."""
SERVICES_MAX = 64

ServiceName = Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")]


class ServiceKind(StrEnum):
    """What a service is to its port."""

    HTTP = "Http"
    BACKGROUND = "Background"


class Service(
    Model,
    json_schema_extra=guarded(
        Rule("self.kind != 'Http' || has(self.port)", "a service of kind Http needs a port", ".port")
    ),
):
    """One service: a program that runs until it is stopped."""

    name: ServiceName = Field(description="Name within the stack, for example main_app.")
    kind: ServiceKind = Field(
        description="Http: it serves its port, and is up when it does. Background: it is up while it lives; its "
        "port, if it has one, must not be held by a stranger."
    )
    port: Port | None = Field(
        None,
        description="Fixed port: leased for as long as the stack declares it, and passed as PORT and "
        "CONTROL_API_PORT. Required for Http. Default: none.",
    )
    program: Program = Field(
        description="What to execute and how. In readiness, the port `control` is this service's port; without a "
        "probe an Http service is asked by tcp on it, and a Background one is ready once started."
    )
    depends_on: Annotated[list[ServiceName], Field(max_length=32)] = Field(
        [],
        description="Services that must be ready before this one is started; it is stopped before them. "
        "Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    restart_policy: RestartPolicy | None = Field(
        None, description="What to do when the process ends by itself. Default: Always, 1 s to 300 s."
    )
    restart_nonce: Annotated[int, Field(ge=0, le=2**53)] = Field(
        0,
        description="Raise it to restart this service, and no other, once. The value at creation has no effect, nor "
        "has a lower one: `kubectl apply` of a manifest without it takes it away again. Default: 0.",
    )


class StackLogs(Model):
    """Each service writes its own stdout and stderr; these are their sizes, and where links to them are put."""

    directory: Annotated[str, Field(max_length=1024, pattern=r"^/[^\x00\n]*$")] | None = Field(
        None,
        description="Absolute path of a directory that gets a link to each log: NAME.out.log, NAME.err.log and "
        "supervisord.log. Made if it is missing. Default: none, `kubectl mainstay logs` reads them.",
    )
    max_size: Annotated[str, Field(pattern=r"^[1-9][0-9]*(Ki|Mi|Gi)$", max_length=16)] = Field(
        "10Mi", description="Size at which a log is rotated. Default: 10Mi."
    )
    backups: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="Rotated files kept of each. Default: 3."
    )


class StackTimeouts(Model):
    """How long things may take. A service's own grace is program.terminationGracePeriodSeconds."""

    flush_seconds: Annotated[int, Field(ge=0, le=600)] = Field(
        5, description="Seconds between TERM and KILL of a stranger on an assigned port. Default: 5."
    )
    supervisor_seconds: Annotated[int, Field(ge=1, le=600)] = Field(
        10, description="Seconds for the supervisor's clean stop, before it is killed. Default: 10."
    )
    start_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        60, description="Seconds for all services to be up in a restart, before it has failed. Default: 60."
    )
    steady_seconds: Annotated[int, Field(ge=0, le=600)] = Field(
        1,
        description="Seconds a service without a probe must live before a restart counts it as up. Default: 1.",
    )


class StackGoal(StrEnum):
    """What the user wants."""

    RUNNING = "Running"
    STOPPED = "Stopped"


_RESERVED = f"(has(self.reservedPorts) ? self.reservedPorts : {list(RESERVED_PORTS)})"


class ServiceStackSpec(
    Model,
    json_schema_extra=guarded(
        Rule(
            "self.services.all(s, !has(s.port) || self.services.filter(t, has(t.port) && t.port == s.port).size() == 1)",
            "two services have the same port",
            ".services",
        ),
        Rule(
            f"self.services.all(s, !has(s.port) || !(s.port in {_RESERVED}))",
            f"a service has a reserved port; spec.reservedPorts says which they are (default: "
            f"{', '.join(map(str, RESERVED_PORTS))})",
            ".services",
        ),
        Rule(
            "self.services.all(s, !has(s.dependsOn) || s.dependsOn.all(d, self.services.exists(t, t.name == d)))",
            "dependsOn names a service that the stack doesn't have",
            ".services",
        ),
    ),
):
    """Services, in which state, and what a restart goes by."""

    state: StackGoal = Field(StackGoal.RUNNING, description="Running or Stopped. Default: Running.")
    owner: Owner | None = Field(None, description="Whose stack this is. Can't be changed or removed.")
    services: Annotated[list[Service], Field(min_length=1, max_length=SERVICES_MAX)] = Field(
        description="The services. Only what is changed here is restarted.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    reserved_ports: Annotated[list[Port], Field(max_length=256)] = Field(
        list(RESERVED_PORTS),
        description="Ports that no service may have and no flush touches. Default: 5000, 7000, 9000, 10000.",
    )
    timeouts: StackTimeouts = Field(StackTimeouts(), description="How long things may take.")
    logs: StackLogs = Field(StackLogs(), description="Sizes of logs, and a directory of links to them.")


class StackPhase(StrEnum):
    """Where the stack is, in one word."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    DEGRADED = "Degraded"  # something that was up isn't, or can't be started
    RESTARTING = "Restarting"
    STOPPING = "Stopping"
    STOPPED = "Stopped"


class ServiceState(StrEnum):
    """Where one service is."""

    PENDING = "Pending"  # it waits: for a dependency, or for its port
    STARTING = "Starting"
    RUNNING = "Running"
    BACKOFF = "Backoff"  # it ended by itself, and waits for its next start
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    COMPLETED = "Completed"  # it ended with exit code 0, and its policy leaves it so
    FATAL = "Fatal"  # it won't be started again until something is changed


class LastExit(Model):
    """How the process before the present one ended."""

    code: Annotated[int, Field(ge=0, le=255)] | None = Field(
        None, description="Exit code, where it was seen."
    )
    signal: Annotated[int, Field(ge=1, le=128)] | None = Field(None, description="Signal that ended it.")
    message: Text = Field("", description="In words, with the last lines of stderr.")


class ServiceStatus(
    Model,
    json_schema_extra=guarded(
        Rule(
            "!has(oldSelf.attempt) || (has(self.attempt) && self.attempt >= oldSelf.attempt)",
            "attempt can't become lower or be removed",
            ".attempt",
        )
    ),
):
    """Claims (attempt, inputsHash, Starting, Stopping) and observations of one service."""

    name: ServiceName = Field(description="Name of the service.")
    state: ServiceState = Field(ServiceState.PENDING, description="Where it is.")
    ready: bool = Field(False, description="It lives, and its probe answers.")
    reason: str = Field("", description="Why, in one CamelCase word.", max_length=64)
    message: Text = Field("", description="Why, in words, and what to do.")
    attempt: Count = Field(0, description="Starts claimed by Mainstay; raised before each.")
    inputs_hash: str | None = Field(
        None, description="Hash of the declared inputs of this attempt; another one restarts.", max_length=80
    )
    handled_restart_nonce: Count | None = Field(None, description="Last restartNonce that was consumed.")
    process: ProcessStatus | None = Field(None, description="The live leader.")
    since: datetime | None = Field(None, description="When the present process was started.")
    restarts: Count = Field(0, description="Restarts by the supervisor within this attempt.")
    last_exit: LastExit | None = Field(None, description="How the process before ended.")

    @property
    def up(self) -> bool:
        """It is as declared: it serves, or it has done what it was to do."""
        return self.state is ServiceState.COMPLETED or (self.state is ServiceState.RUNNING and self.ready)


class PortState(StrEnum):
    """Who has an assigned port."""

    HELD = "Held"  # its service listens
    FREE = "Free"  # nobody does
    FOREIGN = "Foreign"  # a process that isn't its service does
    TAKEN = "Taken"  # it is leased to another object


class PortStatus(Model):
    """One assigned port, as it was seen."""

    port: Port = Field(description="The port.")
    service: ServiceName = Field(description="Service it is assigned to.")
    state: PortState = Field(description="Held by its service, Free, Foreign (a stranger listens) or Taken.")
    holder: Text = Field("", description="Who has it, in words: pid and command of a stranger.")
    pid: Annotated[int, Field(ge=1, le=2**22)] | None = Field(None, description="Process that listens.")


class RestartRef(Model):
    """A StackRestart."""

    name: Annotated[str, Field(max_length=253)] = Field(description="Its name.")
    uid: Annotated[str, Field(max_length=63)] = Field(description="Its uid.")


class ServiceStackStatus(Model):
    """What was claimed and seen of the services."""

    observed_generation: Count = Field(0, description="metadata.generation this status was computed from.")
    phase: StackPhase | None = Field(None, description="Where the stack is.")
    ready: str = Field("", description="Services that are up, of all: 7/8.", max_length=16)
    services: tuple[ServiceStatus, ...] = Field(
        (),
        description="Each service.",
        max_length=2 * SERVICES_MAX,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    ports: tuple[PortStatus, ...] = Field(
        (),
        description="Each assigned port, and who has it.",
        max_length=SERVICES_MAX,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"]},
    )
    supervisor: ProcessStatus | None = Field(None, description="The stack's own supervisord.")
    restart: RestartRef | None = Field(None, description="The restart under way: one at a time.")
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Ready, Reconciling, Stalled, PortsAllocated.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    def service(self, name: str) -> ServiceStatus | None:
        """One service, or None."""
        return next((one for one in self.services if one.name == name), None)


class ServiceStack(Model):
    """The services of one host."""

    metadata: ObjectMeta
    spec: ServiceStackSpec = Field(description="Services, in which state, and what a restart goes by.")
    status: ServiceStackStatus = Field(
        ServiceStackStatus(), description="Claims and observations, written by the operator alone."
    )
