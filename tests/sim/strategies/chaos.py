"""Everything that may happen to strategies and their users, one happening at a time, chosen by a number."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.sim.api import NAMESPACE
from tests.sim.strategies.oracle import OracleError, digest, split
from tests.sim.strategies.world import DIRECTORY, StrategyWorld

from mainstay.core.unit import UnitState
from mainstay.shell.kube import LIBRARIES, RUNS, STRATEGIES

T = TypeVar("T")
BOTS = ("a", "b", "c", "d")
FILES = ("Ema.py", "Rsi.py", "Safe.py", "EMA.py", "Calm.py")
STRATEGIES_OF_RUNS = ("Ema", "Ema", "Rsi", "EMA", "Safe")
TEXTS = ("x = 1", "x = 2", "x = 3", "x = 4")
BROKEN = ("def f(:\n", "", "x = (\n", "\0")
LIMITS = ("100%", "100%", 1, 2)
Happening = Callable[["Chaos"], None]
HAPPENINGS: dict[str, Happening] = {}


def happening(what: Happening) -> Happening:
    HAPPENINGS[what.__name__] = what
    return what


def text(file: str, code: str) -> str:
    """No two strategies have the same bytes, unless they are renamed."""
    return f"# {split(file)[0]}\n{code}\n" if code in TEXTS else code


class Chaos:
    """A world to which things happen. `changes`: run → how often something changed what it should run."""

    def __init__(self, seed: int) -> None:
        self.world = StrategyWorld(seed)
        self.rng = random.Random(seed)
        self.saved = None
        self.restored = False
        self.changes: dict[str, int] = {}
        self.defaults = {"Safe"}
        self.world.pool(8000, 8009)
        self.lags = True  # something was written since the operator had nothing to do
        self.world.files({"Ema.py": text("Ema", TEXTS[0]), "Safe.py": text("Safe", TEXTS[0])})
        self.world.library(default="Safe")
        self.world.start_operator("one")

    def happen(self, what: str, number: int) -> None:
        self.rng.seed(number)
        self.world.log.append(f"-- {what} {number}")
        HAPPENINGS[what](self)
        self.world.oracle.check()
        self.check()

    def check(self) -> None:
        """Each was restarted at most once per change."""
        for obj in self.world.api.all(RUNS):
            name = obj["metadata"]["name"]
            attempt = obj.get("status", {}).get("attempt", 0)
            if not self.restored and attempt > 1 + self.changes.get(obj["metadata"]["uid"], 0):
                raise OracleError(f"{name} was started {attempt} times for {self.changes}")

    def calm_down(self) -> None:
        """The disturbance ends; the fixed point must be reached, and reached again by another operator."""
        world = self.world
        world.say("calm")
        for name in BOTS:
            world.runtime.set_ready(f"{NAMESPACE}.{name}")
        world.converge()
        self.check()
        before = self.world.api.versions()
        world.restart_operator()
        world.converge()
        # Counts of pools may be written when an operator starts; nothing of runs and strategies.
        after = self.world.api.versions()
        moved = {
            ref for ref in before if after.get(ref) != before[ref] and ref[0] in (RUNS, STRATEGIES, LIBRARIES)
        }
        if moved:
            raise OracleError(f"a new operator writes at a fixed point: {moved}")

    def changed(self, *, own: str = "", names: Sequence[str] = ()) -> None:
        """Something changed for one run, or for those that name one of these strategies, or may fall back to it."""
        for obj in self.world.api.all(RUNS):
            asked = obj["spec"].get("strategy", {}).get("name")
            times = sum(1 for name in names if name == asked or name in self.defaults)
            if own == obj["metadata"]["name"]:
                times += 1
            uid = obj["metadata"]["uid"]
            self.changes[uid] = self.changes.get(uid, 0) + times

    def write(self, files: dict[str, str | None]) -> None:
        self.lags = True
        before = dict(self.world.disk.directories.get(DIRECTORY) or {})
        away = DIRECTORY not in self.world.disk.directories
        touched = [
            f for f, text in files.items() if away or before.get(f) != (text.encode() if text else None)
        ]
        if any(
            f.lower() == "ema.py" for f in touched
        ):  # their objects have one name: one may give way to the other
            touched = [*[f for f in touched if f.lower() != "ema.py"], "Ema.py", "EMA.py"]
        self.changed(names=[split(f)[0] for f in touched])
        self.world.files(files)

    def bot(self) -> str | None:
        found = [n for n in BOTS if self.world.api.get(RUNS, NAMESPACE, n)]
        return self.rng.choice(found) if found else None

    def edit(self, **spec: object) -> None:
        if name := self.bot():
            self.changed(own=name)
            self.world.edit(name, **spec)


# --- files


@happening
def edit_file(chaos: Chaos) -> None:
    file = chaos.rng.choice(FILES)
    chaos.write({file: text(file, chaos.rng.choice(TEXTS))})


@happening
def edit_ema(chaos: Chaos) -> None:
    chaos.write({"Ema.py": text("Ema", chaos.rng.choice(TEXTS))})


@happening
def delete_file(chaos: Chaos) -> None:
    chaos.write({chaos.rng.choice(FILES): None})


@happening
def break_file(chaos: Chaos) -> None:
    chaos.write({chaos.rng.choice(FILES): chaos.rng.choice(BROKEN)})


@happening
def rename_file(chaos: Chaos) -> None:
    old, new = chaos.rng.sample(FILES, 2)
    data = (chaos.world.disk.directories.get(DIRECTORY) or {}).get(old)
    if data is not None:
        chaos.write({old: None, new: data.decode()})


@happening
def burst(chaos: Chaos) -> None:
    """Several at once, or one after another without a word in between."""
    for _ in range(chaos.rng.randint(1, 3)):
        count = chaos.rng.randint(1, len(FILES))
        texts = [*TEXTS, *TEXTS, None, *BROKEN]
        picked = {f: chaos.rng.choice(texts) for f in chaos.rng.sample(FILES, count)}
        chaos.write({f: None if code is None else text(f, code) for f, code in picked.items()})


@happening
def unmount(chaos: Chaos) -> None:
    """The directory is away for some passes, and back as it was."""
    kept = chaos.world.disk.directories.get(DIRECTORY)
    if kept is None:
        return
    files = {f: data.decode() for f, data in kept.items()}
    chaos.world.files(None)
    HAPPENINGS["work"](chaos)
    chaos.world.files({**dict.fromkeys(chaos.world.disk.directories.get(DIRECTORY, ())), **files})


# --- the library and its objects


@happening
def edit_default(chaos: Chaos) -> None:
    default = chaos.rng.choice(["Safe", "Calm", "Ema", None])
    chaos.defaults |= {default} if default else set()
    chaos.changed(names=["Safe"])
    chaos.world.edit_library(default=default) if chaos.world.api.get(LIBRARIES, NAMESPACE, "main")[
        "spec"
    ].get(  # type: ignore[index]
        "default"
    ) != default else None


@happening
def edit_rollout(chaos: Chaos) -> None:
    chaos.world.edit_library(rollout={"maxUnavailable": chaos.rng.choice(LIMITS)})
    chaos.world.operators[0].deliver()  # a budget that nobody has heard of binds nobody


@happening
def edit_history(chaos: Chaos) -> None:
    chaos.world.edit_library(revisionHistoryLimit=chaos.rng.choice([1, 3, 10]))


@happening
def delete_strategy(chaos: Chaos) -> None:
    if found := list(chaos.world.api.all(STRATEGIES)):
        obj = chaos.rng.choice(found)
        # Its last good revision is gone with it, if its file is broken.
        chaos.changed(names=[obj["spec"]["name"]])
        chaos.world.api.remove(STRATEGIES, NAMESPACE, obj["metadata"]["name"])


@happening
def register(chaos: Chaos) -> None:
    if found := list(chaos.world.api.all(STRATEGIES)):
        name = chaos.rng.choice(found)["metadata"]["name"]
        users = chaos.rng.choice([[{"name": "notebook"}], None])
        if users or "users" in chaos.world.strategy(name)["spec"]:
            chaos.changed(names=["Ema", "EMA"])  # an object that stays, or goes, keeps or frees its name
            chaos.world.api.edit(STRATEGIES, NAMESPACE, name, users=users)


# --- users


@happening
def create(chaos: Chaos) -> None:
    name = chaos.rng.choice(BOTS)
    if chaos.world.api.get(RUNS, NAMESPACE, name) is None:
        chaos.world.bot(
            name,
            chaos.rng.choice(STRATEGIES_OF_RUNS),
            state=chaos.rng.choice(["Running", "Running", "Running", "Paused", "Stopped"]),
            fallbackPolicy=chaos.rng.choice([None, None, "KeepLast", "Stop"]),
            strategyUpdatePolicy=chaos.rng.choice([None, None, None, "Ignore"]),
            controlApi=chaos.rng.choice([{}, {}, None]),
        )
        uid = chaos.world.get(name)["metadata"]["uid"]
        chaos.changes[uid] = int(chaos.lags)  # it starts with what is known, and then with what is there


@happening
def edit_state(chaos: Chaos) -> None:
    chaos.edit(state=chaos.rng.choice(["Running", "Running", "Paused", "Stopped"]))


@happening
def edit_policies(chaos: Chaos) -> None:
    chaos.edit(
        fallbackPolicy=chaos.rng.choice(["UseDefault", "KeepLast", "Stop"]),
        strategyUpdatePolicy=chaos.rng.choice(["Restart", "Ignore"]),
    )


@happening
def edit_strategy(chaos: Chaos) -> None:
    ref = {"name": chaos.rng.choice(STRATEGIES_OF_RUNS)}
    if chaos.rng.random() < 0.3:
        ref["revision"] = digest(text(ref["name"], chaos.rng.choice(TEXTS[:2])).encode())
    chaos.edit(strategy=ref)
    chaos.changed(names=["Safe"])  # what is kept no longer, or again, may be asked for by others


@happening
def delete(chaos: Chaos) -> None:
    if name := chaos.bot():
        chaos.world.remove(name)


@happening
def crash(chaos: Chaos) -> None:
    if (name := chaos.bot()) and chaos.world.unit(name).state in (UnitState.RUNNING, UnitState.PAUSED):
        chaos.world.runtime.crash(f"{NAMESPACE}.{name}")


@happening
def not_ready(chaos: Chaos) -> None:
    chaos.world.runtime.set_ready(f"{NAMESPACE}.{chaos.rng.choice(BOTS)}", chaos.rng.random() < 0.6)


# --- operators


@happening
def work(chaos: Chaos) -> None:
    """A few passes."""
    for _ in range(chaos.rng.randint(1, 25)):
        if not chaos.world._any_pass(resync=False):
            chaos.world.advance(0.5)
            chaos.lags = False


@happening
def die(chaos: Chaos) -> None:
    """The operator dies in the middle of a pass; and sometimes the next one too."""
    for _ in range(chaos.rng.choice([1, 1, 2])):
        instance = chaos.world.operators[0]
        instance.deliver()
        key = instance.pick(chaos.rng)
        if key is not None:
            instance.begin(key)
            for _ in range(chaos.rng.randint(1, 7)):
                if key in instance.passes:
                    chaos.world.one_step(instance, key)
        chaos.world.restart_operator(instance)


@happening
def be_down(chaos: Chaos) -> None:
    """Files change while there is no operator."""
    chaos.world.crash_operator()
    for _ in range(chaos.rng.randint(1, 3)):
        HAPPENINGS[chaos.rng.choice(["edit_file", "delete_file", "break_file", "rename_file", "create"])](
            chaos
        )
    chaos.world.advance(3)
    chaos.world.start_operator("one")


@happening
def back_up(chaos: Chaos) -> None:
    chaos.saved = chaos.world.backup()


@happening
def restore(chaos: Chaos) -> None:
    if chaos.saved is not None:
        chaos.restored = True
        chaos.world.crash_operator()
        chaos.world.restore(chaos.saved)
        chaos.world.start_operator("one")
