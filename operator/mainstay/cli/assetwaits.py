"""What `mainstay doctor` looks at of jobs that wait for assets: that what they wait for can come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from mainstay.cli.assetstate import (
    Key,
    claims,
    holdings_of,
    is_stalled,
    key,
    missing,
    reachable,
    state_of,
    template_of,
    unseen,
    wants,
)
from mainstay.cli.checks import Finding, attention, wrong
from mainstay.cli.cluster import Target
from mainstay.cli.jobs import declared_wrongly, edit_command, next_commands, phase_of, status_of
from mainstay.cli.jobs import trouble as job_trouble
from mainstay.cli.words import condition, count, some
from mainstay.core import reasons
from mainstay.shell.kube import Object

STANDING = ("ActionRequired", "Suspended")
"""Phases in which a job keeps its assets for as long as nobody acts."""
SHOWN = 20


def at_home(target: Target, obj: Object) -> Target:
    """The target, for commands about an object of any namespace."""
    return replace(target, namespace=key(obj)[0])


def named(obj: Object, word: str = "asset") -> str:
    """An object by its name and where it is."""
    namespace, name = key(obj)
    return f"{word}/{name} in namespace {namespace}"


def shown(lines: Iterable[str]) -> list[str]:
    """The first of them, and how many more there are."""
    said = list(lines)
    return said[:SHOWN] + ([f"and {len(said) - SHOWN} more"] if len(said) > SHOWN else [])


def _stands(job: Object, there: Mapping[Key, Object]) -> bool:
    """It keeps its assets, and goes no further until somebody acts."""
    gone = any(asset is None for _, asset in missing(job, there))
    return phase_of(job) in STANDING or gone or (wants(job) and is_stalled(job))


def lost(
    jobs: Sequence[Object], there: Mapping[Key, Object], apart: Container[str]
) -> list[tuple[Object, list[str]]]:
    """Jobs that need an asset which does not exist, also to look at, where nothing else is wrong with them.

    `apart`: uids of jobs that are not asked about.
    """
    left = [
        (job, [name for name, asset in missing(job, there) if asset is None])
        for job in jobs
        if job["metadata"]["uid"] not in apart
    ]
    return [
        (job, names)
        for job, names in left
        if names
        and (not is_stalled(job) or condition(job, "Stalled").get("reason") == reasons.ASSET_NOT_FOUND)
    ]


def nowhere(target: Target, stuck: Sequence[tuple[Object, list[str]]]) -> Iterator[Finding]:
    """Jobs that need an asset which does not exist, as `lost` has them."""
    if not stuck:
        return
    lines = (f"{named(job, 'job')}: {some([f'asset/{name}' for name in names])}" for job, names in stuck)
    first, names = stuck[0]
    way = f"create asset {names[0]}, or {at_home(target, first).say(f'cancel job/{key(first)[1]}')}"
    verb = "waits for an asset that does" if len(stuck) == 1 else "wait for assets that do"
    yield wrong(f"{count(len(stuck), 'job')} {verb} not exist", shown(lines), way)


def behind(target: Target, jobs: Sequence[Object], there: Mapping[Key, Object]) -> Iterator[Finding]:
    """Jobs that wait behind one that stands still until somebody acts."""
    holders = {job["metadata"]["uid"]: job for job in jobs if _stands(job, there)}
    queues: defaultdict[Key, list[Object]] = defaultdict(list)
    for job in jobs if holders else ():
        if phase_of(job) in STANDING or not reachable(job, there):
            continue
        for _, asset in missing(job, there):
            if asset is not None and (status_of(asset).get("holder") or {}).get("uid") in holders:
                queues[key(asset)].append(job)
    lines, ways = [], []
    for place, queue in queues.items():
        holder = holders[status_of(there[place])["holder"]["uid"]]
        why = job_trouble(holder) if phase_of(holder) != "Suspended" else ""
        line = f"{named(there[place])}: {named(holder, 'job')} has it and is {phase_of(holder)}: {why}"
        names = some([f"job/{key(job)[1]}" for job in queue], 3)
        lines.append(f"{line.rstrip(': ')}; {names} {'waits' if len(queue) == 1 else 'wait'}")
        at = at_home(target, holder)
        ways.append(f"{_onward(at, holder)}; {_cancelling(at, holder, there[place], queue)}")
    if lines:
        title = "jobs may wait long: who has their asset stands still until somebody acts"
        yield attention(title, shown(lines), ways[0])


def _onward(at: Target, holder: Object) -> str:
    """What lets a job that stands still go on."""
    commands = next_commands(at, holder) or [at.say(f"status job/{key(holder)[1]}")]
    if status_of(holder).get("resumable") and not declared_wrongly(holder):
        return f"{commands[-1]} (where the step itself is wrong, first: {edit_command(at, holder)})"
    return commands[-1]


def _cancelling(at: Target, holder: Object, asset: Object, queue: Sequence[Object]) -> str:
    """What becomes of an asset that others wait for when its holder is cancelled."""
    cancel, inside = at.say(f"cancel job/{key(holder)[1]}"), holdings_of(asset)
    if unseen(asset) or declared_wrongly(asset):
        return "cancelling lets nobody in until it is known what is in the asset"
    leaving = state_of(asset) == "Deleting"
    taken = any(
        one["ref"] == key(asset)[1] and one.get("mode") == "TakeOver" for job in queue for one in claims(job)
    )
    if inside and taken and not leaving:
        return f"or {cancel}, which lets one in that takes it over with {inside}"
    if inside and template_of(asset) is None:
        return f"cancelling leaves {inside} in it, and nothing empties it"
    if inside:
        return f"or {cancel}: cancelling has its compensation empty it of {inside}"
    if leaving:
        return f"or {cancel}: the asset goes then, as it is being deleted"
    return f"or {cancel}, which lets the next one in"
