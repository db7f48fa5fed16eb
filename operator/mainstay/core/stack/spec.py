"""What a stack declares: its order, which change restarts a service, and what the runtime starts."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from mainstay.api.program import Readiness, RestartPolicy, TcpProbe
from mainstay.api.servicestack import Service, ServiceKind, ServiceStack, ServiceStackSpec
from mainstay.core import reasons
from mainstay.core.expand import referenced
from mainstay.core.inputs import (
    ConfigMaps,
    config_maps_of,
    declared_hash,
    declared_program,
    secret_in_args,
)
from mainstay.core.snapshot import Inputs
from mainstay.core.unit import LogPolicy, UnitSpec
from mainstay.core.unitspec import Sources, environment

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_WITH_PORT = frozenset({"PORT", "CONTROL_API_PORT"})


def problem_of(spec: ServiceStackSpec) -> tuple[str, str] | None:
    """What the API server can't see: a circle of dependencies, as (reason, message)."""
    try:
        TopologicalSorter({one.name: one.depends_on for one in spec.services}).prepare()
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        words = f"dependsOn goes in a circle, so none of these can be started first: {circle}"
        return reasons.DEPENDENCY_CYCLE, words
    return None


def inputs_of(service: Service, config_maps: ConfigMaps) -> Inputs:
    """The hash of what a service's process is started with, or what is wrong with it.

    As for runs (core/inputs.py): readiness, grace, order and kind are left out, so that changing them never restarts.
    """
    program = service.program
    where = f"spec.services[{service.name}].program"
    if problem := secret_in_args(program, where):
        return Inputs(problem=problem)
    used = sorted(referenced((*program.command, *program.args)) & _WITH_PORT)
    own = {variable.name for variable in program.env}
    if service.port is None and (named := [name for name in used if name not in own]):
        words = f"{where} uses $({named[0]}), but the service has no port."
        return Inputs(problem=(reasons.CONTROL_API_MISSING, words))
    for name, key in config_maps_of(program):
        optional = [
            ref.optional
            for e in program.env
            if e.value_from
            and (ref := e.value_from.config_map_key_ref)
            and (ref.name, ref.key) == (name, key)
        ]
        if config_maps.get((name, key)) is None and not all(optional):
            return Inputs(
                problem=(reasons.CONFIG_MAP_NOT_FOUND, f"ConfigMap {name} with key {key} does not exist.")
            )
    declared = {
        "program": declared_program(program),
        "port": service.port,
        "configMaps": [[name, key, config_maps.get((name, key))] for name, key in config_maps_of(program)],
    }
    return Inputs(hash=declared_hash(declared, service.restart_policy))


def readiness_of(service: Service) -> Readiness | None:
    """The probe to ask, or None where started is ready: without one an Http service is asked by tcp on its port."""
    declared = service.program.readiness or Readiness()
    if any(probe is not None for probe in (declared.tcp, declared.http, declared.exec)):
        return declared
    if declared.none is not None or service.kind is ServiceKind.BACKGROUND:
        return None
    return declared.model_copy(update={"tcp": TcpProbe()})


def service_spec(
    stack: ServiceStack, service: Service, attempt: int, inputs_hash: str, sources: Sources
) -> UnitSpec:
    """Everything the runtime needs for this attempt. Raises SourceNotFoundError."""
    program, meta = service.program, stack.metadata
    ours = {"SERVICE_NAME": service.name, "STACK_NAME": meta.name}
    if service.port is not None:
        ours["PORT"] = str(service.port)
    return UnitSpec(
        name=service.name,
        owner_uid=meta.uid,
        attempt=attempt,
        argv=(*program.command, *program.args),
        inputs_hash=inputs_hash,
        env=ours | environment(program, sources) | {"RUN_ID": meta.uid},
        port=service.port,
        working_dir=program.working_dir,
        user=program.user,
        umask=int(program.umask or "077", 8),
        nice=program.nice,
        limits=program.limits,
        restart=service.restart_policy or RestartPolicy(),
        grace_seconds=float(program.termination_grace_period_seconds),
    )


def log_policy(spec: ServiceStackSpec) -> LogPolicy:
    """Sizes in bytes."""
    size = spec.logs.max_size
    return LogPolicy(int(size[:-2]) * _UNITS[size[-2:]], spec.logs.backups, spec.logs.directory)


def ports_of(spec: ServiceStackSpec) -> Mapping[int, str]:
    """Assigned port → service, in the order of the services. A reserved one is never assigned."""
    reserved = frozenset(spec.reserved_ports)
    return {one.port: one.name for one in spec.services if one.port is not None and one.port not in reserved}
