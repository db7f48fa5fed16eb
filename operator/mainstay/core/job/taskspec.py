"""A claimed attempt, resolved into what the runtime starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mainstay.core.answers import secret_ref
from mainstay.core.job.draft import Draft, assets_of
from mainstay.core.job.snapshot import JobSnapshot
from mainstay.core.names import task_unit
from mainstay.core.plan import StartTask
from mainstay.core.unit import UnitSpec
from mainstay.core.unitspec import SourceNotFoundError, Sources, environment, secret_value


def task_spec(s: JobSnapshot, action: StartTask, sources: Sources) -> UnitSpec:
    """Everything the runtime needs for this attempt. Raises SourceNotFoundError."""
    task = s.graph.tasks[action.task]
    program, meta = task.program, s.job.metadata
    for ref in (e.value_from.config_map_key_ref for e in program.env if e.value_from):
        if ref and not ref.optional and sources.config_maps.get((ref.name, ref.key)) is None:
            raise SourceNotFoundError("ConfigMap", ref.name, ref.key)
    return UnitSpec(
        name=task_unit(meta.namespace, meta.name, task.name),
        owner_uid=meta.uid,
        attempt=action.attempt,
        argv=(*program.command, *program.args),
        env=environment(program, sources) | {"RUN_ID": meta.uid},
        working_dir=program.working_dir,
        user=program.user,
        umask=int(program.umask or "077", 8),
        nice=program.nice,
        limits=program.limits,
        grace_seconds=float(program.termination_grace_period_seconds),
        inputs=json.dumps(_inputs(s, action, sources), ensure_ascii=False, separators=(",", ":")).encode(),
        assets=tuple(claim.ref for claim in s.spec.assets if claim.exclusive),
        timeout_seconds=None if task.timeout_seconds is None else float(task.timeout_seconds),
    )


def _inputs(s: JobSnapshot, action: StartTask, sources: Sources) -> Mapping[str, Any]:
    """What INPUTS_PATH holds: who is asking, spec.inputs with its secrets, what completed tasks put out, and assets."""
    meta, place = s.job.metadata, s.graph.places[action.task]
    return {
        "job": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "task": {
            "name": action.task,
            "step": place.step,
            "phase": place.phase,
            "attempt": action.attempt,
        },
        "inputs": _resolved(s.spec.inputs, sources),
        "context": Draft(s).outputs(),
    } | ({"assets": assets_of(s)} if s.assets else {})


def _resolved(value: Any, sources: Sources) -> Any:
    """The same structure with each {secretKeyRef: …} replaced by the secret's text."""
    if (ref := secret_ref(value)) is not None:
        return (secret_value(sources, *ref) or b"").decode(errors="replace")
    if isinstance(value, dict):
        return {key: _resolved(part, sources) for key, part in value.items()}
    return [_resolved(part, sources) for part in value] if isinstance(value, list) else value
