"""Doing what was decided: one action, one effect."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import assert_never

from mainstay.api.strategyrun import PauseHttp, PauseMethod, StrategyRun
from mainstay.core.names import unit_name
from mainstay.core.plan import (
    CreateLease,
    DefineUnit,
    DeleteLease,
    PauseUnit,
    RemoveUnit,
    ResumeUnit,
    RunEffect,
    StartUnit,
    StopUnit,
)
from mainstay.core.unit import PauseCall
from mainstay.core.unitspec import Sources, secret_refs, unit_spec
from mainstay.runtime.base import Runtime, Shelf
from mainstay.shell.gather import Gatherer
from mainstay.shell.kube import Kube, core_path
from mainstay.shell.leases import Leases
from mainstay.shell.store import Key, Object


class Executor:
    """Performs actions on runs. Raises what the API server or the runtime raises; each can be repeated."""

    def __init__(
        self, leases: Leases, kube: Kube, runtime: Runtime, gatherer: Gatherer, shelf: Shelf
    ) -> None:
        self._leases = leases
        self._kube = kube
        self._runtime = runtime
        self._gatherer = gatherer
        self._shelf = shelf

    async def perform(self, key: Key, run: StrategyRun, action: RunEffect) -> None:
        """Have the effect. Our copy knows the outcome when this returns."""
        name = unit_name(*key)
        match action:
            case CreateLease():
                await self._leases.create("StrategyRun", run.metadata, action)
            case DeleteLease():
                await self._leases.delete(action)
            case StartUnit():
                await self._runtime.start(unit_spec(run, action, await self._sources(run)))
            case DefineUnit():
                await self._runtime.define(unit_spec(run, action, await self._sources(run)))
            case StopUnit(grace_seconds=grace, force=force, deleting=deleting):
                await self._runtime.stop(name, grace_seconds=grace, force=force, deleting=deleting)
            case PauseUnit():
                await self._runtime.pause(name, pause_call(run, resume=False))
            case ResumeUnit():
                await self._runtime.resume(name, pause_call(run, resume=True))
            case RemoveUnit(owner_uid=owner):
                await self._runtime.remove(name, owner)
            case _:
                assert_never(action)

    async def _sources(self, run: StrategyRun) -> Sources:
        """Everything referred to. Secrets are read now, by name, and kept nowhere."""
        secrets = await read_secrets(self._kube, run.metadata.namespace, secret_refs(run))
        use = run.status.strategy
        strategy_path = await self._shelf.place(use.hash, use.file) if use is not None else ""
        return Sources(self._gatherer.config_map_values(run), secrets, strategy_path)


async def read_secrets(
    kube: Kube, namespace: str, refs: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], bytes | None]:
    """The bytes of each (name, key), None where there is none; one request per Secret."""
    values: dict[tuple[str, str], bytes | None] = {}
    objects: dict[str, Object | None] = {}
    for name, key in refs:
        if name not in objects:
            objects[name] = await kube.get(core_path("secrets", namespace, name))
        values[name, key] = _decoded(objects[name], key)
    return values


def _decoded(secret: Mapping[str, object] | None, key: str) -> bytes | None:
    data = (secret or {}).get("data") or {}
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value)
    except binascii.Error:
        return None


def pause_call(run: StrategyRun, *, resume: bool) -> PauseCall | None:
    """The POST that pauses or resumes this run, or None for signals."""
    pause = run.spec.pause
    if pause is None or pause.method is PauseMethod.SIGNAL:
        return None
    http = pause.http or PauseHttp()
    return PauseCall(http.resume_path if resume else http.path, float(http.timeout_seconds))
