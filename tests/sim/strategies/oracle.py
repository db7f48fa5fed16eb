"""What is promised of strategies: at every write and start, and once nothing is left to do."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tests.sim.oracle import Oracle, OracleError, ready

from mainstay.core import reasons
from mainstay.core.names import unit_name
from mainstay.core.strategy.names import STRATEGY_NAME, hidden, split
from mainstay.core.unit import LIVE, UnitSpec
from mainstay.shell.kube import CONFIG_MAPS, LIBRARIES, RUNS, STRATEGIES

if TYPE_CHECKING:
    from tests.sim.api import Ref
    from tests.sim.strategies.world import StrategyWorld

    from mainstay.shell.store import Object

BLOCKED = {
    reasons.STRATEGY_NOT_FOUND,
    reasons.STRATEGY_DELETED,
    reasons.STRATEGY_INVALID,
    reasons.STRATEGY_PENDING,
    reasons.REVISION_NOT_FOUND,
}
LATER = {reasons.UPDATE_WAITING, reasons.UPDATE_IGNORED}


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def valid(data: bytes) -> bool:
    if not data.strip():
        return False
    try:
        compile(data, "x.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


class StrategyOracle(Oracle):
    """Beside what the oracle of runs promises."""

    _world: StrategyWorld

    def __init__(self, world: StrategyWorld) -> None:
        super().__init__(world)
        self.good: dict[str, set[str]] = defaultdict(set)  # strategy → hashes that were ever valid of it
        self.rolling: dict[str, str] = {}  # uid of a run being restarted for its strategy → the strategy
        self.rolls: dict[str, int] = defaultdict(int)  # name of a run → restarts for its strategy

    def wrote(self, files: Mapping[str, str | None]) -> None:
        """Somebody wrote files, in one source or another."""
        for file, text in files.items():
            if text is not None and valid(text.encode()):
                self.good[split(file)[0]].add(digest(text.encode()))

    # --- as it happens

    def starting(self, spec: UnitSpec) -> None:
        super().starting(spec)
        run = self._owner(spec.owner_uid)
        if run is None or "strategy" not in run["spec"] or self._world.runtime.peek(spec.name).state in LIVE:
            return
        use = run["status"].get("strategy")
        if use is None:
            raise OracleError(f"{spec.name} is started without a strategy")
        env = spec.env
        if (env["STRATEGY_NAME"], env["STRATEGY_HASH"]) != (use["name"], use["hash"]):
            raise OracleError(f"{spec.name} is started with another strategy than is claimed")
        kept = self._world.disk.snapshots.get(use["hash"], {})
        folder, _, file = env["STRATEGY_PATH"].rpartition("/")
        if file != use["file"] or not use["hash"].endswith(folder.rpartition("/")[2]):
            raise OracleError(f"{spec.name} is started with the path {env['STRATEGY_PATH']}")
        if digest(kept[file]) != env["STRATEGY_HASH"]:
            raise OracleError(f"{spec.name} runs other bytes than those of its hash")
        if use["hash"] not in set().union(*self.good.values()):
            raise OracleError(f"{spec.name} is started with code that was never valid")

    def writing(self, what: str, ref: Ref, body: Any) -> None:
        super().writing(what, ref, body)
        if what == "delete" and ref[0] == STRATEGIES:
            self._deleting(body)
        if what == "status" and ref[0] == STRATEGIES:
            self._offering(ref, body)

    def _deleting(self, obj: Object) -> None:
        """Only what its source has no more; a source that can't be read has everything still."""
        spec = obj["spec"]
        if self._world.acting is not None and obj["metadata"]["resourceVersion"] != self._known(obj):
            return  # it could not know
        if spec.get("users"):
            raise OracleError(f"{obj['metadata']['name']} is deleted, and others are registered with it")
        library = self._world.api.get(LIBRARIES, obj["metadata"]["namespace"], spec["library"])
        if library is None:
            return
        there = self.present(library)
        if there is None:
            raise OracleError(f"{obj['metadata']['name']} is deleted while nobody can read its library")
        if spec["name"] in there:
            raise OracleError(f"{obj['metadata']['name']} is deleted, and its file is there")

    def _known(self, obj: Object) -> str:
        store = self._world.acting.operator.strategies.strategies if self._world.acting else None
        key = obj["metadata"]["namespace"], obj["metadata"]["name"]
        known = store.objects.get(key) if store else None
        return known["metadata"]["resourceVersion"] if known else ""

    def _offering(self, ref: Ref, status: Any) -> None:
        for content in (status.get("revision"), *(r["hash"] for r in status["revisions"])):
            if content is not None and content not in self._world.disk.snapshots:
                raise OracleError(f"{ref[2]} offers {content}, and its bytes are not kept")
        if status.get("revision") not in {None, *self.good[self._called(self._world.api.objects[ref])]}:
            raise OracleError(f"{ref[2]} offers what was never valid")

    def _status(self, ref: Ref, status: Any) -> None:
        super()._status(ref, status)
        obj = self._world.api.objects[ref]
        old, uid = obj.get("status", {}), obj["metadata"]["uid"]
        unit = self._world.runtime.peek(unit_name(ref[1], ref[2]))
        conditions = {c["type"]: c for c in status["conditions"]}
        claimed = status["attempt"] > old.get("attempt", 0)
        if (
            conditions["Ready"]["reason"] == reasons.STRATEGY_CHANGED
            and unit.state in LIVE
            and not self._again(old)
        ):
            self._rolls(obj, status, unit.attempt == old.get("attempt") and claimed)
        serves = conditions["Serving"]["status"] == "True" and status["phase"] == "Running"
        if serves or status["phase"] in {"Paused", "Stopped", "Failed", "Pending"}:
            self.rolling.pop(uid, None)
        if (
            unit.state in LIVE
            and claimed
            and status.get("port") != old.get("port")
            and not self._world.disturbed
        ):
            raise OracleError(f"{ref[2]}: its port changes in a roll")

    @staticmethod
    def _again(old: Object) -> bool:
        """The roll was claimed before, and more is told of it now."""
        return ready({"status": old})[1] == reasons.STRATEGY_CHANGED

    def _rolls(self, obj: Object, status: Any, fresh: bool) -> None:
        name, old = obj["metadata"]["name"], obj["status"].get("strategy")
        asked, goal = obj["spec"]["strategy"], obj["spec"].get("state", "Running")
        self.rolls[name] += 1
        if self._world.disturbed:
            return
        if not fresh or status["phase"] != "Starting":
            raise OracleError(f"{name}: its roll is no claim of the next attempt")
        use = status["strategy"]
        told = ("name", "hash", "file")
        if old is not None and [old[k] for k in told] == [use[k] for k in told]:
            raise OracleError(f"{name} is restarted with the same code")
        own = obj["metadata"]["generation"] != obj["status"].get("observedGeneration")
        own = own or old is None or (old["name"] != asked["name"] and not old["fallback"])  # obeyed late
        if goal != "Running" and not own:
            raise OracleError(f"{name} is {goal}, and restarted because its library changed")
        if not own and "revision" not in asked:
            self._budget(obj, asked)

    def _budget(self, obj: Object, asked: Object) -> None:
        library = self._world.api.get(LIBRARIES, "default", asked.get("library", "main"))
        limit = (library or {"spec": {}})["spec"].get("rollout", {}).get("maxUnavailable", "100%")
        self.rolling[obj["metadata"]["uid"]] = asked["name"]
        living = {r["metadata"]["uid"] for r in self._world.api.all(RUNS)}
        away = [u for u, name in self.rolling.items() if name == asked["name"] and u in living]
        users = [
            r for r in self._world.api.all(RUNS) if r["spec"].get("strategy", {}).get("name") == asked["name"]
        ]
        allowed = limit if isinstance(limit, int) else max(1, len(users) * int(limit[:-1]) // 100)
        if len(away) > allowed:
            raise OracleError(f"{len(away)} users of {asked['name']} are restarted at once, {allowed} may be")

    def rewound(self) -> None:
        super().rewound()
        self.rolling.clear()

    # --- what there is

    def present(self, library: Object) -> dict[str, tuple[str, bytes]] | None:
        """Strategy → (file, bytes); None while the source can't be read."""
        source = library["spec"]["source"]
        if "directory" in source:
            files = self._world.disk.directories.get(source["directory"])
            if files is None:
                return None
            return {split(f)[0]: (f, data) for f, data in files.items() if self._counts(f)}
        wanted = source["configMaps"]["matchLabels"].items()
        found: dict[str, tuple[str, bytes]] = {}
        for cm in self._world.api.all(CONFIG_MAPS):
            if wanted <= (cm["metadata"].get("labels") or {}).items():
                for file, text in sorted(cm["data"].items()):
                    if self._counts(file):
                        found.setdefault(split(file)[0], (file, text.encode()))
        return found

    @staticmethod
    def _counts(file: str) -> bool:
        return file.endswith(".py") and not hidden(file) and bool(STRATEGY_NAME.fullmatch(split(file)[0]))

    @staticmethod
    def _called(obj: Object) -> str:
        name: str = obj["spec"].get("name") or obj["metadata"]["name"]
        return name

    def named(self, namespace: str, library: str, name: str) -> Object | None:
        """The object of that strategy."""
        found = [
            obj
            for obj in self._world.api.all(STRATEGIES)
            if (obj["metadata"]["namespace"], obj["spec"].get("library", "main"), self._called(obj))
            == (namespace, library, name)
        ]
        return min(
            found, key=lambda o: (o["metadata"]["creationTimestamp"], o["metadata"]["name"]), default=None
        )

    # --- once nothing is left to do

    def settled(self) -> None:
        super().settled()
        problems = [p for library in self._world.api.all(LIBRARIES) for p in self._library(library)]
        problems += [
            p for run in self._world.api.all(RUNS) if "strategy" in run["spec"] for p in self._user(run)
        ]
        problems += [p for obj in self._world.api.all(STRATEGIES) for p in self._counted(obj)]
        living = {r["metadata"]["uid"] for r in self._world.api.all(RUNS)}
        if still := self.rolling.keys() & living:
            problems.append(f"still restarting: {still}")
        if problems:
            raise OracleError("settled, but " + "; ".join(problems))

    def _library(self, library: Object) -> Iterator[str]:
        """The objects equal the source."""
        meta, there = library["metadata"], self.present(library)
        truth, reason = ready(library)
        if there is None:
            if truth == "True":
                yield f"{meta['name']} can't be read, and is Ready"
            return
        made = {
            self._called(o): o
            for o in self._world.api.all(STRATEGIES)
            if any(r["uid"] == meta["uid"] for r in o["metadata"].get("ownerReferences", ()))
        }
        for name, (file, data) in there.items():
            obj = made.get(name)
            if obj is None:
                told = {p["file"].rpartition("/")[2] for p in library["status"]["problems"]}
                if file not in told:
                    yield f"{file} has no object, and nobody says why"
                continue
            expected = {
                "hash": digest(data),
                "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
                "size": len(data),
                "valid": valid(data),
            }
            status = obj["status"]
            if self.named(meta["namespace"], meta["name"], name) is not obj:
                continue  # an older one of that name counts
            if {k: status.get(k) for k in expected} != expected:
                yield f"{name} does not say what {file} is: {status}"
            if expected["valid"] and status.get("revision") != expected["hash"]:
                yield f"{name} offers {status.get('revision')}"
        for name, obj in made.items():
            if name not in there and not obj["spec"].get("users"):
                yield f"{name} has an object and no file"
            if name not in there and obj["status"].get("hash"):
                yield f"{name} has no file and says a hash"
        if (truth == "True") != (there.keys() <= made.keys() and not library["status"]["problemCount"]):
            yield f"{meta['name']}: Ready is {truth} ({reason})"

    def _counted(self, obj: Object) -> Iterator[str]:
        meta, name = obj["metadata"], self._called(obj)
        users = set()
        for run in self._world.api.all(RUNS):
            ref, use = run["spec"].get("strategy"), run.get("status", {}).get("strategy")
            if ref is None or ref.get("library", "main") != obj["spec"].get("library", "main"):
                continue
            if ref["name"] == name or (use and use["fallback"] and use["name"] == name):
                users.add(run["metadata"]["name"])
        told = obj["status"]["usedBy"]
        if set(told["runs"]) != users or told["count"] != len(users) + len(obj["spec"].get("users", ())):
            yield f"{meta['name']} says it is used by {told}, and {users} use it"

    def _user(self, run: Object) -> Iterator[str]:
        """It runs what its strategy, its policies and its state say."""
        spec, status, name = run["spec"], run["status"], run["metadata"]["name"]
        truth, reason = ready(run)
        unit = self._world.runtime.peek(unit_name(run["metadata"]["namespace"], name))
        if (
            spec.get("state") == "Stopped"
            or unit.held_locally
            or reason in {reasons.COMPLETED, reasons.FAILED}
        ):
            return
        alive, use = unit.state in LIVE, status.get("strategy")
        told = next((c for c in status["conditions"] if c["type"] == "StrategyResolved"), None)
        if told is None:
            yield f"{name}: nothing is told of its strategy"
            return
        if reason in BLOCKED and told["reason"] != reason:
            yield f"{name}: Ready says {reason}, StrategyResolved {told['reason']}"
        expected, why = self._expected(run)
        if expected is None:
            if truth == "True" or told["reason"] != why:
                yield f"{name}: {why} is true, it says {told['reason']} and is {status['phase']}"
            if why == reasons.STRATEGY_DELETED and alive:
                yield f"{name} lives, and should stop"
            return
        if not alive:
            if reason in BLOCKED:
                yield f"{name} does not run ({reason}), and could"
            return
        has = (use["name"], use["hash"], use["fallback"])
        later = told["reason"] in LATER
        if has != expected and not later:
            yield f"{name} runs {has}, and should {expected} ({why})"
        if later and has == expected:
            yield f"{name} waits for what it has"
        if (
            later
            and spec.get("state", "Running") == "Running"
            and spec.get("strategyUpdatePolicy") != "Ignore"
        ):
            yield f"{name} waits, and nothing keeps it waiting"
        if not later and told["reason"] != why:
            yield f"{name}: {why} is true, it says {told['reason']}"

    def _expected(self, run: Object) -> tuple[tuple[str, str, bool] | None, str]:
        """((name, hash, as a fallback) or None for nothing new, the reason)."""
        ref, use, namespace = (
            run["spec"]["strategy"],
            run["status"].get("strategy"),
            run["metadata"]["namespace"],
        )
        library = ref.get("library", "main")
        mine = use if use is not None and (use["fallback"] or use["name"] == ref["name"]) else None
        last = (mine["name"], mine["hash"], mine["fallback"]) if mine else None
        if revision := ref.get("revision"):
            strategy = self.named(namespace, library, ref["name"])
            known = {r["hash"] for r in strategy["status"]["revisions"]} if strategy else set()
            kept = revision in self._world.disk.snapshots and (
                revision in known or (mine is not None and mine["hash"] == revision)
            )
            return (
                ((ref["name"], revision, False), reasons.STRATEGY_IN_USE)
                if kept
                else (
                    None,
                    reasons.REVISION_NOT_FOUND,
                )
            )
        offer = self._offer(namespace, library, ref["name"])
        if offer is not None:
            content, good = offer
            if content:
                return (ref["name"], content, False), (
                    reasons.STRATEGY_IN_USE if good else reasons.STRATEGY_INVALID
                )
            return last, reasons.STRATEGY_INVALID
        obj = self._world.api.get(LIBRARIES, namespace, library)
        if obj is not None and self.present(obj) is None:
            return last, reasons.STRATEGY_PENDING
        if mine is None:
            return None, reasons.STRATEGY_NOT_FOUND
        policy = run["spec"].get("fallbackPolicy", "UseDefault")
        if policy == "Stop":
            return None, reasons.STRATEGY_DELETED
        default = obj["spec"].get("default") if obj else None
        if policy == "UseDefault" and default is not None and default != ref["name"]:
            offer = self._offer(namespace, library, default)
            if offer is not None and offer[0]:
                return (default, offer[0], True), reasons.FALLBACK_IN_USE
        return last, reasons.LAST_GOOD_IN_USE

    def _offer(self, namespace: str, library: str, name: str) -> tuple[str, bool] | None:
        """(hash of what is offered, or "" if nothing; whether that is the present content); None if it is gone."""
        strategy = self.named(namespace, library, name)
        obj = self._world.api.get(LIBRARIES, namespace, library)
        there = self.present(obj) if obj else {}
        source = strategy["spec"]["source"] if strategy else {}
        if strategy is not None and "inline" in source:
            data = source["inline"].encode()
        elif there is not None and name in there and strategy is not None:
            data = there[name][1]
        elif there is None and strategy is not None and strategy["status"].get("hash"):
            return strategy["status"].get("revision", ""), strategy["status"]["valid"]
        else:
            return None
        if valid(data):
            return digest(data), True
        assert strategy is not None
        return strategy["status"].get("revision") or "", False
