"""Looking at assets: who asked, for what, and what was seen. A look is good for what was asked before it began."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mainstay.api.asset import Asset, AssetSpec, Probe
from mainstay.core.asset.observation import ObservationError, Question, read_accepts, read_holdings
from mainstay.core.asset.snapshot import Looked, LookedUp
from mainstay.core.backoff import delay
from mainstay.core.inputs import config_maps_of, secrets_of
from mainstay.core.unitspec import SourceNotFoundError, Sources, environment, secret_value
from mainstay.runtime.base import Probes
from mainstay.shell.assets.index import AssetIndex
from mainstay.shell.executor import read_secrets
from mainstay.shell.kube import ApiError, Kube
from mainstay.shell.store import Key, Store

logger = logging.getLogger(__name__)

WorkKey = tuple[str, str, str]

FRESH_SECONDS = 30.0
"""How long a look is good for the decision that asked for it. What runs of the job ends that earlier; this is for what
others may do to it, and long enough that an operator with much to do reads an answer before it is too old."""
FAILURE_SECONDS, FAILURES_CAP_SECONDS = 1.0, 30.0
"""How soon a question that failed is asked again: at first, and at most."""
UP_SECONDS = 1.0
"""A command that asks what is accepted is not run again within that time, whatever is declared."""


@dataclass(slots=True)
class Sight:
    """What is known of one asset."""

    spec: AssetSpec | None = None  # of which the two declarations below are
    probe: str = ""  # the declaration that it was seen under
    looked: Looked | None = None
    at: float = -1e9  # when the last look ended
    failures: int = 0
    good_for: dict[str, float] = field(default_factory=dict)  # purpose → when a look for it ended
    wanted: dict[str, WorkKey] = field(default_factory=dict)  # purpose → who asks; no look has begun for it
    asking: dict[str, WorkKey] = field(default_factory=dict)
    every: float = 0.0  # seconds until the next look, drawn after each
    task: asyncio.Task[None] | None = None
    began: float = 0.0  # when it did
    void: bool = False  # the asset changed hands since
    # the same of what it accepts
    accepts_probe: str = ""
    looked_up: LookedUp | None = None
    up_at: float = -1e9
    up_failures: int = 0
    up_task: asyncio.Task[None] | None = None


class Observer:
    """Asks probes in the background, and wakes who waits for the answer. Losing what it knows costs a look."""

    def __init__(self, index: AssetIndex, store: Store, kube: Kube, probes: Probes) -> None:
        self._index = index
        self._store = store
        self._kube = kube
        self._probes = probes
        self._sights: dict[Key, Sight] = {}
        self._closed = False
        self.woken: Callable[[WorkKey], None] = lambda _: None
        """Called with everyone who waited, once it was looked."""
        self.looked: Callable[[bool, float], None] = lambda *_: None
        """Called after each question with whether it was answered, and the seconds it took."""

    def sight(self, key: Key, asset: Asset) -> Sight:
        """What is known of an asset; nothing that was seen under another declaration, or of another object."""
        sight = self._sights.setdefault(key, Sight())
        if sight.spec is asset.spec:  # parsed once per version, and never changed
            return sight
        sight.spec = asset.spec
        probe = _identity(asset, asset.spec.holdings.probe if asset.spec.holdings else None)
        if sight.probe != probe:
            sight.probe, sight.looked, sight.at, sight.failures = probe, None, -1e9, 0
            sight.good_for.clear()
        accepts = _identity(asset, asset.spec.accepts.probe if asset.spec.accepts else None)
        if sight.accepts_probe != accepts:
            sight.accepts_probe, sight.looked_up, sight.up_at, sight.up_failures = accepts, None, -1e9, 0
        return sight

    def good_for(self, sight: Sight) -> frozenset[str]:
        """Purposes that what was seen is good for."""
        now = time.monotonic()
        for purpose in [p for p, at in sight.good_for.items() if now - at > FRESH_SECONDS]:
            del sight.good_for[purpose]
        return frozenset(sight.good_for)

    @staticmethod
    def asking(sight: Sight) -> frozenset[str]:
        """Purposes for which a question is under way, or about to be."""
        return frozenset((*sight.wanted, *sight.asking))

    @staticmethod
    def asking_seconds(sight: Sight) -> float:
        """For how long the question under way is; 0 while none is."""
        return 0.0 if sight.task is None else time.monotonic() - sight.began

    @staticmethod
    def next_look(sight: Sight) -> float:
        """Seconds until the probe is due by itself."""
        wait = sight.every
        if sight.failures:
            backoff = delay(sight.failures, initial=FAILURE_SECONDS, cap=FAILURES_CAP_SECONDS)
            wait = min(sight.every, backoff)
        return max(0.0, sight.at + wait - time.monotonic())

    @staticmethod
    def next_look_up(sight: Sight, every: float) -> float:
        """Seconds until it is due to be looked up what the asset accepts."""
        wait = max(UP_SECONDS, every)
        if sight.up_failures:
            wait = min(wait, delay(sight.up_failures, initial=FAILURE_SECONDS, cap=FAILURES_CAP_SECONDS))
        return max(0.0, sight.up_at + wait - time.monotonic())

    def ask(self, key: Key, purpose: str, who: WorkKey) -> None:
        """Look at an asset; what is under way began too early for this."""
        asset = self._index.get(key)
        if asset is None or asset.spec.holdings is None or self._closed:
            return
        sight = self.sight(key, asset)
        sight.wanted[purpose] = who
        if sight.task is None:
            self._begin(key, sight)

    def look_up(self, key: Key) -> None:
        """Ask what an asset accepts."""
        asset = self._index.get(key)
        if asset is None or asset.spec.accepts is None or self._closed:
            return
        sight = self.sight(key, asset)
        if sight.up_task is None:
            sight.up_task = asyncio.create_task(self._looking_up(key, asset, sight), name=f"look up {key}")

    def changed_hands(self, key: Key) -> None:
        """Whatever was seen before somebody else got the asset is good for no decision after it."""
        if (sight := self._sights.get(key)) is not None:
            sight.good_for.clear()
            sight.void = sight.task is not None

    def forget(self, key: Key) -> None:
        """The asset is gone."""
        sight = self._sights.pop(key, None)
        for task in (sight.task, sight.up_task) if sight else ():
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """Ask nothing more, and see the questions under way end."""
        self._closed = True
        tasks = [t for sight in self._sights.values() for t in (sight.task, sight.up_task) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._probes.close()

    # -- one question

    def _begin(self, key: Key, sight: Sight) -> None:
        sight.asking, sight.wanted = sight.wanted, {}
        sight.began = time.monotonic()
        sight.task = asyncio.create_task(self._looking(key, sight), name=f"look {key}")

    async def _looking(self, key: Key, sight: Sight) -> None:
        asset = self._index.get(key)
        waiting = [("asset", *key)]
        try:
            if asset is not None and asset.spec.holdings is not None:
                every = asset.spec.holdings.every_seconds
                probe = _identity(asset, asset.spec.holdings.probe)
                looked = await self._look(asset, asset.spec.holdings.probe)
                if probe == sight.probe:
                    sight.looked, sight.at = looked, time.monotonic()
                    sight.failures = sight.failures + 1 if looked.error else 0
                    if not sight.void:
                        sight.good_for |= dict.fromkeys(sight.asking, sight.at)
                    sight.every = every * random.uniform(0.9, 1.1)  # noqa: S311 - a jitter
        finally:
            waiting += sight.asking.values()
            sight.asking, sight.task, sight.void = {}, None, False
            if sight.wanted and not self._closed and self._sights.get(key) is sight:
                self._begin(key, sight)
        for who in dict.fromkeys(waiting):
            self.woken(who)

    async def _look(self, asset: Asset, probe: Probe) -> Looked:
        try:
            return Looked(holdings=read_holdings(await self._answer(asset, probe), probe.path))
        except ObservationError as error:
            return Looked(error=str(error)[:512])

    async def _looking_up(self, key: Key, asset: Asset, sight: Sight) -> None:
        assert asset.spec.accepts is not None
        probe = asset.spec.accepts.probe
        try:
            try:
                found = LookedUp(accepts=read_accepts(await self._answer(asset, probe), probe.path))
            except ObservationError as error:
                found = LookedUp(error=str(error)[:512])
            if _identity(asset, probe) == sight.accepts_probe:
                sight.looked_up, sight.up_at = found, time.monotonic()
                sight.up_failures = sight.up_failures + 1 if found.error else 0
        finally:
            sight.up_task = None
        self.woken(("asset", *key))

    async def _answer(self, asset: Asset, probe: Probe) -> Any:
        """The JSON of a probe. Raises ObservationError, whatever went wrong."""
        began = time.monotonic()
        try:
            answer = await self._probes.ask(await self._question(asset, probe))
        except ObservationError:
            self.looked(False, time.monotonic() - began)
            raise
        except SourceNotFoundError as error:
            raise ObservationError(str(error)) from None
        except ApiError as error:
            raise ObservationError(f"its Secret can't be read: {error.message}") from None
        except Exception as error:  # whatever it is, who waits for the answer is told
            logger.exception("probe of asset %s/%s", asset.metadata.namespace, asset.metadata.name)
            raise ObservationError(f"it could not be asked: {type(error).__name__}") from None
        self.looked(True, time.monotonic() - began)
        return answer

    async def _question(self, asset: Asset, probe: Probe) -> Question:
        """The probe with every reference resolved: Secrets are read now, and kept nowhere."""
        namespace = asset.metadata.namespace
        if probe.exec is not None:
            texts = {
                (name, entry): self._store.config_map_value(namespace, name, entry)
                for name, entry in config_maps_of(probe.exec)
            }
            secrets = await read_secrets(self._kube, namespace, secrets_of(probe.exec))
            return Question(
                argv=tuple(probe.exec.command),
                env=environment(probe.exec, Sources(texts, secrets)) | {"ASSET_NAME": asset.metadata.name},
                working_dir=probe.exec.working_dir,
                timeout_seconds=float(probe.timeout_seconds),
            )
        assert probe.http is not None
        keys = [(h.secret_key_ref.name, h.secret_key_ref.key) for h in probe.http.headers if h.secret_key_ref]
        sources = Sources({}, await read_secrets(self._kube, namespace, keys) if keys else {})
        headers = {}
        for header in probe.http.headers:
            if (ref := header.secret_key_ref) is None:
                headers[header.name] = header.value or ""
            else:
                secret = secret_value(sources, ref.name, ref.key, optional=bool(ref.optional))
                if secret is not None:
                    headers[header.name] = secret.decode(errors="replace").strip()
        return Question(url=probe.http.url, headers=headers, timeout_seconds=float(probe.timeout_seconds))


def _identity(asset: Asset, probe: Probe | None) -> str:
    """The declaration under which something was seen."""
    return "" if probe is None else asset.metadata.uid + json.dumps(probe.wire(), sort_keys=True)
