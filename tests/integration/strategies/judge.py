"""The judge of runs, who also minds ports and code."""

from __future__ import annotations

from typing import Any

from tests.integration.runs import judge as runs
from tests.support.stage import Object


class Judge(runs.Judge):
    """At every look, besides: a claim never names another port while the run goes on, nor code without a name."""

    def __init__(self, stage: Any, *, ports_stay: bool = False) -> None:
        super().__init__(stage)
        self._ports_stay = ports_stay
        self._ports: dict[str, int] = {}

    def verdict(self) -> None:
        """See runs.Judge; with what it was, for modules whose asserts are not rewritten."""
        wrong = self.errors + self._stage.violations()
        assert not wrong, "\n".join(wrong)

    def _history(self, run: Object) -> None:
        super()._history(run)
        status, uid = run.get("status") or {}, run["metadata"]["uid"]
        if self._ports_stay and "port" in status:
            first = self._ports.setdefault(uid, status["port"])
            if status["port"] != first:
                self._say(f"{run['metadata']['name']}: port {first} became {status['port']}")
        if "strategy" in run["spec"] and status.get("process") and "strategy" not in status:
            self._say(f"{run['metadata']['name']} lives without a strategy: {status}")


__all__ = ["Judge"]
