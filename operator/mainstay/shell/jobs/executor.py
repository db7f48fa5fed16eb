"""Doing what was decided for a job: one action, one effect."""

from __future__ import annotations

from typing import assert_never

from mainstay.api.meta import API_VERSION
from mainstay.core.answers import secret_refs
from mainstay.core.inputs import config_maps_of, secrets_of
from mainstay.core.job.snapshot import JobSnapshot
from mainstay.core.job.taskspec import task_spec
from mainstay.core.names import outputs_name, task_unit
from mainstay.core.plan import (
    JobEffect,
    ObserveAssets,
    RemoveRecords,
    RemoveTask,
    StartTask,
    StopTask,
    StoreOutputs,
)
from mainstay.core.unitspec import Sources
from mainstay.runtime.base import TaskRuntime
from mainstay.shell.assets.observer import Observer
from mainstay.shell.executor import read_secrets
from mainstay.shell.jobs.gather import outputs_of
from mainstay.shell.kube import Kube, core_path
from mainstay.shell.store import Key, Store

JOB_LABEL = "mainstay.dev/job-uid"
"""Label of what is kept for a job: its uid."""


class JobExecutor:
    """Performs actions on jobs. Raises what the API server or the runtime raises; each can be repeated."""

    def __init__(self, store: Store, kube: Kube, runtime: TaskRuntime, observer: Observer) -> None:
        self._store = store
        self._observer = observer
        self._kube = kube
        self._runtime = runtime

    async def perform(self, key: Key, s: JobSnapshot, action: JobEffect) -> None:
        """Have the effect."""
        match action:
            case StartTask():
                await self._runtime.start(task_spec(s, action, await self._sources(key, s, action.task)))
            case StopTask(task=task, grace_seconds=grace, force=force, deleting=deleting):
                name = task_unit(*key, task)
                await self._runtime.stop(name, grace_seconds=grace, force=force, deleting=deleting)
            case RemoveTask(task=task, owner_uid=owner):
                await self._runtime.remove(task_unit(*key, task), owner)
            case StoreOutputs():
                await self._store_outputs(key, s, action)
            case RemoveRecords():
                await self._remove_records(key, s)
            case ObserveAssets(refs=refs, purpose=purpose):
                for ref in refs:
                    self._observer.ask((key[0], ref), purpose, ("job", *key))
            case _:
                assert_never(action)

    async def _store_outputs(self, key: Key, s: JobSnapshot, action: StoreOutputs) -> None:
        meta = s.job.metadata
        body = {
            "metadata": {
                "name": outputs_name(meta.name, meta.uid, action.task),
                "labels": {JOB_LABEL: meta.uid},
                "ownerReferences": [
                    {"apiVersion": API_VERSION, "kind": "PhasedJob", "name": meta.name, "uid": meta.uid}
                ],
            },
            "data": {
                "outputs.json": outputs_of(s.units[action.task], s.job),
                "task": action.task,
                "attempt": str(action.attempt),
            },
        }
        self._store.config_maps.put(await self._kube.keep_config_map(key[0], body))

    async def _remove_records(self, key: Key, s: JobSnapshot) -> None:
        """Units first: what they prove is needed until nothing can start any more."""
        for name in await self._runtime.names():
            if name.startswith(task_unit(*key, "")):
                await self._runtime.remove(name, s.uid)
        mine = {"labelSelector": f"{JOB_LABEL}={s.uid}"}
        kept = [
            item["metadata"]
            async for page in self._kube.pages(core_path("configmaps", key[0]), mine)
            for item in page.get("items", ())
        ]
        for meta in kept:
            where = (key[0], meta["name"])
            await self._kube.delete_object(core_path("configmaps", *where), uid=meta["uid"])
            if (known := self._store.config_maps.objects.get(where)) is not None:
                self._store.config_maps.drop(known)

    async def _sources(self, key: Key, s: JobSnapshot, task: str) -> Sources:
        """Everything a start refers to. Secrets are read now, by name, and kept nowhere."""
        program = s.graph.tasks[task].program
        config_maps = {
            (name, entry): self._store.config_map_value(key[0], name, entry)
            for name, entry in config_maps_of(program)
        }
        return Sources(
            config_maps,
            await read_secrets(self._kube, key[0], (*secrets_of(program), *secret_refs(s.spec.inputs))),
        )
