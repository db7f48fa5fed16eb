"""What a name on the command line stands for: NAME is a run; job/NAME, batch/NAME and so on say what they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from mainstay.cli import called
from mainstay.cli.console import fail, misuse
from mainstay.shell.kube import ASSETS, BATCHES, JOBS, LIBRARIES, RESTARTS, RUNS, STACKS, STRATEGIES


class Kind(Enum):
    """Kinds that a command may be given: the word for it, its name, plural and short name in the API."""

    RUN = ("run", "StrategyRun", RUNS, "srun")
    JOB = ("job", "PhasedJob", JOBS, "pjob")
    BATCH = ("batch", "JobBatch", BATCHES, "jbatch")
    STRATEGY = ("strategy", "Strategy", STRATEGIES, "strat")
    LIBRARY = ("library", "StrategyLibrary", LIBRARIES, "slib")
    STACK = ("stack", "ServiceStack", STACKS, "stack")
    RESTART = ("srestart", "StackRestart", RESTARTS, "srestart")
    ASSET = ("asset", "Asset", ASSETS, "asset")

    def __init__(self, word: str, told: str, plural: str, short: str) -> None:
        self.word = word
        self.told = told
        self.plural = plural
        self.short = short

    @property
    def article(self) -> str:
        """The word before its name."""
        return "an" if self.told[0] in "AEIOU" else "a"


_WORDS = {word: kind for kind in Kind for word in (kind.word, kind.short, kind.plural, kind.told.lower())} | {
    "runs": Kind.RUN,
    "jobs": Kind.JOB,
    "batches": Kind.BATCH,
    "libraries": Kind.LIBRARY,
    "stacks": Kind.STACK,
}
_KUBERNETES = (
    "pod", "pods", "po", "deployment", "deployments", "deploy", "service", "services", "svc", "configmap", "cm",
    "secret", "secrets", "namespace", "ns", "node", "nodes", "statefulset", "sts", "daemonset", "ds", "cronjob",
)  # fmt: skip
"""Kinds that people know from elsewhere: no names of stacks."""
WORK = (Kind.RUN, Kind.JOB, Kind.BATCH)
"""What is started, stopped and read the logs of."""


@dataclass(frozen=True, slots=True)
class Ref:
    """One object, in the namespace that the command is about."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        """As a command takes it back."""
        return self.name if self.kind is Kind.RUN else f"{self.kind.word}/{self.name}"

    @property
    def told(self) -> str:
        """As kubectl prints it."""
        return f"{self.kind.told.lower()}/{self.name}"


def ref(name: str, kinds: Sequence[Kind] = WORK) -> Ref:
    """Read NAME or KIND/NAME, also as kubectl prints it (phasedjob.mainstay.dev/NAME); ends the command if it is neither."""
    word, slash, bare = name.rpartition("/")
    if name.count("/") == 2 and _WORDS.get(name.partition("/")[0].lower()) is Kind.STRATEGY:
        word, slash, bare = name.partition("/")  # strategy/LIBRARY/NAME
    kind = _WORDS.get(word.lower().partition(".")[0]) if slash else Kind.RUN
    told = ", ".join(f"{one.word}/NAME" for one in kinds)
    if kind is None:
        of_stack = Kind.STACK in kinds and name.count("/") == 1 and bare and word.lower() not in _KUBERNETES
        near = f"did you mean stack/{name}? Otherwise" if of_stack else "no kind that Mainstay knows;"
        misuse(f"{name}: {near} write NAME or {told}")
    if kind not in kinds:
        if kind is Kind.ASSET:
            _no_asset(name, bare or "NAME", told)
        words = f"`mainstay status {kind.word}/{bare or 'NAME'}` shows {kind.article} {kind.told}"
        fail(f"{name}: this command is for {told}; {words}")
    if not bare:
        misuse(f"{name}: a name is missing after the slash, as in {kind.word}/my-{kind.word}")
    return Ref(kind, bare)


def refs(names: Iterable[str]) -> list[Ref]:
    """Each name, once."""
    return list(dict.fromkeys(ref(name) for name in names))


def runs(names: Iterable[str], verb: str) -> list[str]:
    """Names of runs; anything else ends the command with what to say instead of `verb`."""
    found = refs(names)
    for one in found:
        if one.kind is not Kind.RUN:
            refuse(one, verb)
    return [one.name for one in found]


def _no_asset(name: str, bare: str, told: str) -> NoReturn:
    """End a command for what runs, with what an asset is let go by."""
    ways = [
        (f"mainstay status asset/{bare}", "shows who has it, what is in it and who waits"),
        (
            "mainstay cancel job/HOLDER",
            "ends the job that has it; what is in it is then emptied by its compensation",
        ),
        (f"kubectl edit asset {bare}", "changes how it is looked at, and emptied"),
    ]
    ways = [(called.spoken(command), what) for command, what in ways]
    wide = max(len(command) for command, _ in ways)
    lines = "".join(f"\n  {command:<{wide}}   {what}" for command, what in ways)
    fail(f"{name}: nothing of an asset runs, jobs have it; this command is for {told}:{lines}")


def refuse(one: Ref, verb: str) -> NoReturn:
    """End a command that is not for jobs, with what to say instead."""
    ways: dict[str, list[tuple[str, str]]] = {
        "restart": [
            ("resume", "goes on after what is completed, and repeats nothing of it"),
        ],
        "stop": [
            ("pause", "lets what runs finish and starts nothing new"),
            ("cancel", "ends it for good"),
        ],
    }
    lines = "".join(f"\n  mainstay {word} {one}   {what}" for word, what in ways.get(verb, []))
    for_ = "runs and stacks" if verb in ways else "runs"
    fail(f"{verb} is for {for_}, and {one} is a {one.kind.word}" + (f":{lines}" if lines else ""))
