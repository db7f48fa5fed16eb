"""What `mainstay doctor` looks at of assets: that none is stranded, unseen, or waited for in vain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from mainstay.cli.assetstate import (
    Key,
    again,
    by_key,
    compensation_of,
    emptied_now,
    holdings_of,
    is_stalled,
    key,
    missing,
    template_of,
    trouble,
    unexpected,
    unseen,
    wants,
)
from mainstay.cli.checks import Finding, attention, fine, wrong
from mainstay.cli.cluster import Target, everything
from mainstay.cli.jobs import next_commands, phase_of, status_of
from mainstay.cli.jobs import trouble as job_trouble
from mainstay.cli.words import condition, count, one_line, some
from mainstay.shell.kube import ASSETS, BATCHES, JOBS, Kube, Object

STANDING = ("ActionRequired", "Suspended")
"""Phases in which a job keeps its assets for as long as nobody acts."""
SHOWN = 20


async def gather(kube: Kube) -> dict[str, list[Object]]:
    """What the checks are about beside jobs, by plural; batches only where there are assets."""
    assets = await everything(kube, ASSETS)
    return {ASSETS: assets, BATCHES: await everything(kube, BATCHES) if assets else []}


def of_assets(target: Target, known: Mapping[str, Sequence[Object]]) -> Iterator[Finding]:
    """No asset is stranded, none fails to be emptied or looked at, and no job waits for what won't come."""
    assets, jobs = known[ASSETS], known[JOBS]
    there = by_key(assets)
    found = [
        *_unseen(target, assets),
        *_stranded(target, assets),
        *_compensations(target, assets, by_key(known[BATCHES])),
    ]
    told = {place for places, _ in found for place in places}
    found += _odd(target, assets)
    found += _stalled(target, [one for one in assets if key(one) not in told])
    findings = [one for _, one in found]
    findings += [*_nowhere(target, jobs, there), *_behind(target, jobs, there)]
    yield from findings
    if not findings and assets:
        yield fine(f"{count(len(assets), 'asset')}: all are seen, none is stranded, no job waits in vain")


Told = tuple[list[Key], Finding]


def _at(target: Target, obj: Object) -> Target:
    return replace(target, namespace=key(obj)[0])


def _edit(obj: Object) -> str:
    namespace, name = key(obj)
    return f"kubectl edit asset {name}" + (f" -n {namespace}" if namespace != "default" else "")


def _name(obj: Object, word: str = "asset") -> str:
    namespace, name = key(obj)
    return f"{word}/{name} in namespace {namespace}"


def _shown(lines: Iterable[str]) -> list[str]:
    said = list(lines)
    return said[:SHOWN] + ([f"and {len(said) - SHOWN} more"] if len(said) > SHOWN else [])


def _unseen(target: Target, assets: Sequence[Object]) -> Iterator[Told]:
    """Probes that fail, in their own words."""
    blind = [one for one in assets if unseen(one)]
    if blind:
        lines = (
            f"{_name(one)}: {unseen(one)['reason']}: {one_line(unseen(one).get('message', ''))}"
            for one in blind
        )
        way = f"what is asked has to answer; where the probe itself is wrong: {_edit(blind[0])}"
        words = (
            f"what is in {count(len(blind), 'asset')} is not known: the probe fails, and nothing is released"
        )
        yield [key(one) for one in blind], wrong(words, _shown(lines), way)
    refusing = [one for one in assets if condition(one, "AcceptsObserved").get("status") == "False"]
    if refusing:
        lines = (
            f"{_name(one)}: {one_line(condition(one, 'AcceptsObserved').get('message', ''))}"
            for one in refusing
        )
        words = f"what {count(len(refusing), 'asset')} may be delivered is not known"
        yield (
            [],
            attention(
                words, _shown(lines), _at(target, refusing[0]).say(f"status asset/{key(refusing[0])[1]}")
            ),
        )


def _stranded(target: Target, assets: Sequence[Object]) -> Iterator[Told]:
    """Assets with holdings that nobody has, and nothing empties."""
    left = [
        one
        for one in assets
        if status_of(one).get("state") == "HeldOrphaned"
        and is_stalled(one)
        and not unseen(one)
        and not emptied_now(one)
    ]
    if not left:
        return
    lines = (
        f"{_name(one)} has {holdings_of(one)}"
        + (", and no compensation template" if template_of(one) is None else f": {trouble(one)}")
        for one in left
    )
    first = left[0]
    tells = _at(target, first).say(f"status asset/{key(first)[1]}")
    way = f"{tells} tells how: spec.compensation empties it, or a job takes it over (mode: TakeOver)"
    words = f"{count(len(left), 'asset')} stranded: something is in it, and nothing empties it"
    yield [key(one) for one in left], wrong(words, _shown(lines), way)


def _compensations(target: Target, assets: Sequence[Object], batches: Mapping[Key, Object]) -> Iterator[Told]:
    """Compensations that fail, or stand still."""
    blocked: list[tuple[Object, str]] = []
    failing: list[tuple[Object, str]] = []
    for one in assets:
        told = compensation_of(one)
        if unseen(one) or not told:
            continue
        batch = batches.get((key(one)[0], told["batch"]))
        if emptied_now(one) and batch is not None and phase_of(batch) in STANDING:
            blocked.append(
                (one, f"batch/{told['batch']} is {phase_of(batch)}: {job_trouble(batch)}".rstrip(": "))
            )
        elif told.get("failures"):
            why = f": {trouble(one)}" if condition(one, "Ready").get("status") != "True" else ""
            blame = f"batch/{told['batch']}, {count(told['failures'], 'time')} in a row"
            failing.append(
                (one, f"{blame}, because of {told.get('cause') or 'its holder'}{again(told)}{why}")
            )
    for stuck, words in (
        (blocked, "waits for a person; until then nobody else gets the asset"),
        (failing, "fails; it is tried again until the asset is empty"),
    ):
        if stuck:
            lines = (f"{_name(one)} ({holdings_of(one) or 'nothing known'}): {why}" for one, why in stuck)
            first = stuck[0][0]
            way = _at(target, first).say(f"status batch/{compensation_of(first)['batch']}")
            title = f"the compensation of {count(len(stuck), 'asset')} {words}"
            yield [key(one) for one, _ in stuck], wrong(title, _shown(lines), way)


def _stalled(target: Target, assets: Sequence[Object]) -> Iterator[Told]:
    """Whatever else needs somebody."""
    stuck = [one for one in assets if is_stalled(one)]
    if stuck:
        lines = (f"{_name(one)}: {trouble(one)}" for one in stuck)
        goes = "is stalled, and goes" if len(stuck) == 1 else "are stalled, and go"
        title = f"{count(len(stuck), 'asset')} {goes} no further until somebody acts"
        way = _at(target, stuck[0]).say(f"status asset/{key(stuck[0])[1]}")
        yield [key(one) for one in stuck], wrong(title, _shown(lines), way)


def _odd(target: Target, assets: Sequence[Object]) -> Iterator[Told]:
    """Deliveries of what is not accepted."""
    odd = [one for one in assets if unexpected(one)]
    if odd:
        title = f"{count(len(odd), 'asset')} got what {'it does' if len(odd) == 1 else 'they do'} not accept"
        way = _at(target, odd[0]).say(f"status asset/{key(odd[0])[1]}") + ": which job delivered it"
        yield [], attention(title, _shown(f"{_name(one)}: {unexpected(one)}" for one in odd), way)


# -- jobs that wait


def _stands(job: Object, there: Mapping[Key, Object]) -> bool:
    """It keeps its assets, and goes no further until somebody acts."""
    lost = any(asset is None for _, asset in missing(job, there))
    return phase_of(job) in STANDING or lost or (wants(job) and is_stalled(job))


def _nowhere(target: Target, jobs: Sequence[Object], there: Mapping[Key, Object]) -> Iterator[Finding]:
    """Jobs that need an asset which does not exist, also to look at."""
    left = [(job, [name for name, asset in missing(job, there) if asset is None]) for job in jobs]
    lost = [(job, names) for job, names in left if names]
    if not lost:
        return
    lines = (f"{_name(job, 'job')}: {some([f'asset/{name}' for name in names])}" for job, names in lost)
    first, names = lost[0]
    way = f"create asset {names[0]}, or {_at(target, first).say(f'cancel job/{key(first)[1]}')}"
    verb = "waits for an asset that does" if len(lost) == 1 else "wait for assets that do"
    yield wrong(f"{count(len(lost), 'job')} {verb} not exist", _shown(lines), way)


def _behind(target: Target, jobs: Sequence[Object], there: Mapping[Key, Object]) -> Iterator[Finding]:
    """Jobs that wait behind one that stands still until somebody acts."""
    holders = {job["metadata"]["uid"]: job for job in jobs if _stands(job, there)}
    queues: defaultdict[Key, list[str]] = defaultdict(list)
    for job in jobs if holders else ():
        for _, asset in missing(job, there) if phase_of(job) not in STANDING else ():
            if asset is not None and (status_of(asset).get("holder") or {}).get("uid") in holders:
                queues[key(asset)].append(f"job/{key(job)[1]}")
    lines, ways = [], []
    for place, queue in queues.items():
        holder = holders[status_of(there[place])["holder"]["uid"]]
        why = job_trouble(holder) if phase_of(holder) != "Suspended" else ""
        line = f"{_name(there[place])}: {_name(holder, 'job')} has it and is {phase_of(holder)}: {why}"
        lines.append(f"{line.rstrip(': ')}; {some(queue, 3)} {'waits' if len(queue) == 1 else 'wait'}")
        at = _at(target, holder)
        commands = next_commands(at, holder) or [at.say(f"status job/{key(holder)[1]}")]
        ways.append(
            f"{commands[-1]}; or {at.say(f'cancel job/{key(holder)[1]}')}, which lets the next one in"
        )
    if lines:
        title = "jobs may wait long: who has their asset stands still until somebody acts"
        yield attention(title, _shown(lines), ways[0])
