"""Which objects a command means: every name is found, or the command ends, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NoReturn

from mainstay.cli.cluster import Target, call, everything, missing
from mainstay.cli.console import fail, misuse
from mainstay.cli.names import WORK, Kind, Ref, ref, refuse
from mainstay.cli.stacklogs import split
from mainstay.cli.words import some
from mainstay.core import reasons
from mainstay.shell.kube import STACKS, ApiError, ApiUnavailableError, Kube, Object, path

SERVED = (*WORK, Kind.STACK)
"""What is started and stopped."""
MODES = {
    "full": "Full",
    "quick": "Quick",
    "emergency": "Emergency",
    "flush": "Flush",
    "master": "Full",
    "force": "Emergency",
}
"""What --mode takes, and what it is called in the API; the last two are older words for the same."""

_PAST = {
    "restart": "restarted",
    "start": "started",
    "stop": "stopped",
    "pause": "paused",
    "resume": "resumed",
    "cancel": "cancelled",
}
_RUNS_AND_STACKS = ("restart", "stop")
_NEVER_A_STACK = {
    "pause": [
        ("stop", "stops its services, and keeps its definition, logs and history"),
        ("start", "starts them again"),
    ],
    "resume": [
        ("start", "starts the services of a stopped stack"),
        ("restart", "starts all of its services afresh"),
    ],
}


@dataclass(frozen=True, slots=True)
class Meant:
    """An object that was named, as it is now; with `service` that one of the stack alone."""

    ref: Ref
    obj: Object
    service: str | None = None


def meant(target: Target, names: Iterable[str], verb: str) -> list[Meant]:
    """What each name stands for, once; ends the command for a name that nobody has, or of a kind `verb` is not for.

    A bare name is a run; where there is none, the stack of that name, or else the job. Ends the command where a run
    and a stack have it, unless `verb` is not for stacks.
    """
    told = list(dict.fromkeys(names))
    parsed = [(name, *_parsed(name, verb)) for name in told]

    async def work(kube: Kube) -> list[Meant]:
        found: dict[tuple[Ref, str | None], Meant] = {}
        for name, one, service in parsed:
            if "/" in name:
                known = await kube.get(path(one.kind.plural, target.namespace, one.name))
                if known is None:
                    fail(await missing(kube, target, one) + _nothing(verb, told))
                this = Meant(one, known, service)
            else:
                this = await _found(kube, target, one, verb) or await _nobody(kube, target, name, verb, told)
            if service is not None:
                _of_service(this, service, verb)
            found[this.ref, service] = this
        return list(found.values())

    return call(target, work)


def _parsed(name: str, verb: str) -> tuple[Ref, str | None]:
    """A name as far as it can be told without asking."""
    whole, service = split(name)
    one = ref(whole, SERVED)
    if one.kind is Kind.STACK and service is None and verb in _NEVER_A_STACK:
        _refuse(one, verb)
    if one.kind in (Kind.JOB, Kind.BATCH) and verb in _RUNS_AND_STACKS:
        refuse(one, verb)
    return one, service


async def _found(kube: Kube, target: Target, one: Ref, verb: str) -> Meant | None:
    """The object that a bare name means; None if nobody has it."""
    there: dict[Kind, Object] = {}
    for kind in (Kind.RUN, Kind.STACK, Kind.JOB, Kind.BATCH):
        if kind is Kind.STACK and there and verb in _NEVER_A_STACK:
            break
        if kind is Kind.JOB and there:
            break
        obj = await _look(kube, target, Ref(kind, one.name), strict=kind is Kind.RUN)
        if obj is not None:
            there[kind] = obj
    if Kind.RUN in there and Kind.STACK in there:
        fail(f"{one.name} is a run and a stack; write run/{one.name} or stack/{one.name}")
    if Kind.JOB in there and Kind.BATCH in there:
        fail(f"{one.name} is a job and a batch; write job/{one.name} or batch/{one.name}")
    for kind, obj in there.items():
        found = Ref(kind, one.name)
        if kind is Kind.STACK and verb in _NEVER_A_STACK:
            _refuse(found, verb)
        if kind in (Kind.JOB, Kind.BATCH) and verb in _RUNS_AND_STACKS:
            refuse(found, verb)
        return Meant(found, obj)
    return None


async def _look(kube: Kube, target: Target, one: Ref, *, strict: bool = False) -> Object | None:
    """The object, if it is there; one who may not look at a kind has none of it, unless it is `strict`."""
    try:
        return await kube.get(path(one.kind.plural, target.namespace, one.name))
    except ApiUnavailableError:
        raise
    except ApiError as error:
        if strict or error.code != HTTPStatus.FORBIDDEN:
            raise
        return None


async def _nobody(kube: Kube, target: Target, name: str, verb: str, told: Sequence[str]) -> NoReturn:
    """End the command for a bare name that nobody has, with what was perhaps meant."""
    nothing = f'no run "{name}"; nothing was {_PAST[verb]}. '
    if verb == "restart" and name.lower() in MODES:
        others = [one for one in told if one.lower() not in MODES] or ["stack/NAME"]
        misuse(nothing + f"A mode is an option: {target.say(f'restart {others[0]} --mode {name.lower()}')}")
    try:
        stacks = await everything(kube, STACKS, target.namespace)
    except ApiError as error:
        if isinstance(error, ApiUnavailableError) or error.code != HTTPStatus.FORBIDDEN:
            raise
        stacks = []
    of = [
        f"stack/{stack['metadata']['name']}"
        for stack in stacks
        if name in (service["name"] for service in stack["spec"]["services"])
    ]
    if not of:
        fail(await missing(kube, target, Ref(Kind.RUN, name)) + _nothing(verb, told))
    ways = {
        "restart": f"restart {of[0]}/{name}",
        "stop": f"stop --offline {of[0]}/{name}",
    }
    has = f"{some(of)} has" if len(of) == 1 else f"{some(of)} have"
    fail(nothing + f"{has} a service of this name: {target.say(ways.get(verb, f'status {of[0]}'))}")


def _nothing(verb: str, told: Sequence[str]) -> str:
    return f" Nothing was {_PAST[verb]}." if len(told) > 1 else ""


def _of_service(one: Meant, service: str, verb: str) -> None:
    """End the command unless this can be asked of one service."""
    known = [declared["name"] for declared in one.obj["spec"]["services"]]
    if service not in known:
        fail(f"{one.ref} has no service {service}; it has: {', '.join(known)}")
    seen = (one.obj.get("status") or {}).get("services") or []
    state: dict[str, str] = next((told for told in seen if told["name"] == service), {})
    held = state.get("reason") == reasons.HELD_LOCALLY
    if held and verb in ("restart", "start", "resume"):
        fail(f"{service} of {one.ref} is held on its host: mainstay release {one.ref}/{service}")
    if verb != "restart":
        name = f"{one.ref}/{service}"
        fail(
            f"{name}: {verb} is not for one service\n"
            f"  mainstay restart {name}   restarts it\n"
            f"  mainstay status {one.ref}   shows it"
        )


def stacks_meant(target: Target, names: Iterable[str]) -> list[Meant]:
    """The stacks of these names: with a mode nothing else is meant by a bare name."""
    told = list(dict.fromkeys(names))
    for name in told:
        if split(name)[1] is not None:
            fail(f"--mode is for whole stacks; `mainstay restart {name}` restarts this service alone")
        one, _ = _parsed(name, "restart")
        if one.kind is Kind.RUN and "/" in name:
            _no_mode(name)

    async def work(kube: Kube) -> list[Meant]:
        found = []
        for name in told:
            one = Ref(Kind.STACK, name.rpartition("/")[2])
            obj = await kube.get(path(one.kind.plural, target.namespace, one.name))
            if obj is None:
                if "/" not in name and await _look(kube, target, Ref(Kind.RUN, name)) is not None:
                    _no_mode(name)
                fail(await missing(kube, target, one) + _nothing("restart", told))
            found.append(Meant(one, obj))
        return found

    return call(target, work)


def _no_mode(name: str) -> NoReturn:
    fail(f"--mode is for stacks; {name} is a run: `mainstay restart {name}` restarts it")


async def run_or_stack(kube: Kube, target: Target, name: str) -> Ref:
    """What a bare name is to a command that only looks: the run, or the stack where there is no such run."""
    run, stack = Ref(Kind.RUN, name), Ref(Kind.STACK, name)
    there = await _look(kube, target, run, strict=True)
    return stack if there is None and await _look(kube, target, stack) is not None else run


async def job_or(kube: Kube, target: Target, name: str) -> Ref:
    """What a bare name is to a command for jobs: the job, or the batch; the run where there is neither."""
    for kind in (Kind.JOB, Kind.BATCH):
        if await _look(kube, target, Ref(kind, name)) is not None:
            return Ref(kind, name)
    return Ref(Kind.RUN, name)


def _refuse(one: Ref, verb: str) -> NoReturn:
    ways = "".join(
        f"\n  {f'mainstay {word} {one}':<{18 + len(str(one))}}{what}" for word, what in _NEVER_A_STACK[verb]
    )
    fail(f"{verb} is not for stacks, and {one} is one:{ways}")
