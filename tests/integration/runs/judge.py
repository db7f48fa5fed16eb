"""The judge of a stage: looks all the time, forgets nothing, and is asked at the end."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Self

from tests.support.stage import Client, Object, Stage, marked, start_ticks

from mainstay.shell.kube import LEASES, RUNS

LOOK_SECONDS = 0.03


class Judge:
    """At every look: one live program per run, one lease per port and per run, and the live one's port is its own."""

    def __init__(self, stage: Stage) -> None:
        self.errors: list[str] = []
        self.looks = 0
        self._stage = stage
        self._run_ids: dict[str, str] = {}
        self._attempts: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def verdict(self) -> None:
        """AssertionError if a promise was broken at any time up to now."""
        assert self.errors + self._stage.violations() == []

    def _run(self) -> None:
        client = Client(self._stage.plane.kubeconfig)
        try:
            while not self._over.is_set():
                self._look(client)
                self.looks += 1
                self._over.wait(LOOK_SECONDS)
        except Exception as error:
            self.errors.append(f"the judge fell ill: {error!r}")
        finally:
            client.close()

    def _look(self, client: Client) -> None:
        seen = marked(self._stage.home_id)
        runs = [r for r in client.items(RUNS) if r["metadata"]["namespace"] == self._stage.namespace]
        leases = client.items(LEASES)
        # Who lives before and after the lists lived meanwhile: what the lists say must be true of them.
        lived = [(uid, port, pid) for pid, ticks, uid, port in seen if start_ticks(pid) == ticks]
        for run in runs:
            self._history(run)
        self._leases(leases, lived)
        for uid, count in Counter(uid for uid, _, _ in lived).items():
            if count > 1:
                self._say(f"{count} live programs of {uid}: {[x for x in lived if x[0] == uid]}")

    def _history(self, run: Object) -> None:
        status: dict[str, Any] = run.get("status") or {}
        name, uid = run["metadata"]["name"], run["metadata"]["uid"]
        if "runId" in status:
            first = self._run_ids.setdefault(uid, status["runId"])
            if status["runId"] != first:
                self._say(f"{name}: runId {first} became {status['runId']}")
        attempt = status.get("attempt", 0)
        if attempt < self._attempts.get(uid, 0):
            self._say(f"{name}: attempt fell from {self._attempts[uid]} to {attempt}")
        self._attempts[uid] = max(attempt, self._attempts.get(uid, 0))

    def _leases(self, leases: list[Object], lived: list[tuple[str, int, int]]) -> None:
        holders = {lease["spec"]["port"]: lease["spec"]["holder"]["uid"] for lease in leases}
        if len(holders) != len(leases):
            self._say(f"a port is leased twice: {sorted(x['metadata']['name'] for x in leases)}")
        for uid, count in Counter(holders.values()).items():
            if count > 1:
                self._say(f"{uid} holds {count} ports: {[p for p, u in holders.items() if u == uid]}")
        for uid, port, pid in lived:
            if port and holders.get(port) != uid:
                self._say(f"pid {pid} of {uid} lives with port {port}, leased to {holders.get(port)}")

    def _say(self, what: str) -> None:
        if what not in self.errors:
            self.errors.append(what)


def told(obj: Object) -> Object:
    """What a status tells, without what differs from run to run: pids, ports and times."""
    status = obj.get("status") or {}
    return {
        "phase": status.get("phase"),
        "attempt": status.get("attempt"),
        "restarts": status.get("restarts"),
        "port": "port" in status,
        "endpoint": "endpoint" in status,
        "process": "process" in status,
        "started": "startedAt" in status,
        "stopped": "stoppedAt" in status,
        "conditions": sorted((c["type"], c["status"], c["reason"]) for c in status.get("conditions", ())),
    }
