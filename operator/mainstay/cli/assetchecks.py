"""What `mainstay doctor` looks at of assets: that none is stranded, unseen, or waited for in vain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mainstay.cli.assetstate import (
    Key,
    again,
    answers,
    by_key,
    compensation_of,
    emptied_now,
    holdings_of,
    is_stalled,
    key,
    state_of,
    template_of,
    trouble,
    unexpected,
    unseen,
)
from mainstay.cli.assetwaits import STANDING, at_home, behind, lost, named, nowhere, shown
from mainstay.cli.checks import Finding, attention, fine, wrong
from mainstay.cli.cluster import Target, everything
from mainstay.cli.jobs import declared_wrongly, is_over, phase_of, status_of
from mainstay.cli.jobs import trouble as job_trouble
from mainstay.cli.words import condition, count, one_line
from mainstay.core import reasons
from mainstay.shell.kube import ASSETS, BATCHES, JOBS, Kube, Object


async def gather(kube: Kube) -> dict[str, list[Object]]:
    """What the checks are about beside jobs, by plural; batches only where there are assets."""
    assets = await everything(kube, ASSETS)
    return {ASSETS: assets, BATCHES: await everything(kube, BATCHES) if assets else []}


def of_assets(target: Target, known: Mapping[str, Sequence[Object]]) -> Iterator[Finding]:
    """No asset is stranded, none fails to be emptied or looked at, and no job waits for what won't come."""
    assets, jobs = known[ASSETS], known[JOBS]
    there = by_key(assets)
    found = [
        *_wrong(assets),
        *_unseen(target, assets),
        *_stranded(target, assets),
        *_compensations(target, known),
    ]
    told = {place for places, _ in found for place in places}
    found += _odd(target, assets)
    found += _stalled(target, [one for one in assets if key(one) not in told])
    findings = [one for _, one in found]
    findings += [*nowhere(target, lost(jobs, there, _blocking(known))), *behind(target, jobs, there)]
    yield from findings
    if not findings and assets:
        yield fine(f"{count(len(assets), 'asset')}: all are seen, none is stranded, no job waits in vain")


def told_of(known: Mapping[str, Sequence[Object]]) -> set[str]:
    """Uids of jobs that are told with their assets; and of those that ended for a compensation, which is tried again."""
    ended = {job["metadata"]["uid"] for job, _ in _emptying(known) if is_over(job)}
    blocking = _blocking(known)
    nowhere_to_wait = lost(known[JOBS], by_key(known[ASSETS]), blocking)
    return ended | blocking | {job["metadata"]["uid"] for job, _ in nowhere_to_wait}


def _emptying(known: Mapping[str, Sequence[Object]]) -> Iterator[tuple[Object, Key]]:
    """Jobs of compensations, each with the asset that it is or was to empty."""
    owners = {
        one["metadata"]["uid"]: (key(one)[0], owner["name"])
        for one in known[BATCHES]
        for owner in one["metadata"].get("ownerReferences") or ()
        if owner["kind"] == "Asset"
    }
    for job in known[JOBS] if owners else ():
        for owner in job["metadata"].get("ownerReferences") or ():
            if owner["uid"] in owners:
                yield job, owners[owner["uid"]]


def _blocking(known: Mapping[str, Sequence[Object]]) -> set[str]:
    """Uids of jobs whose compensation is told to wait for a person."""
    places = {key(one) for one, _ in _trouble(known)[0]}
    return {job["metadata"]["uid"] for job, place in _emptying(known) if place in places}


Told = tuple[list[Key], Finding]


def _edit(obj: Object) -> str:
    namespace, name = key(obj)
    return f"kubectl edit asset {name}" + (f" -n {namespace}" if namespace != "default" else "")


def _wrong(assets: Sequence[Object]) -> Iterator[Told]:
    """Declarations with a mistake, each with its place and words."""
    bad = [one for one in assets if declared_wrongly(one)]
    if bad:
        lines = (f"{named(one)}: {one_line(condition(one, 'Stalled').get('message', ''))}" for one in bad)
        title = f"{count(len(bad), 'asset')} {'is' if len(bad) == 1 else 'are'} declared wrongly"
        way = f"{_edit(bad[0])}: nobody gets it, and nothing empties it, until that is corrected"
        yield [key(one) for one in bad], wrong(title, shown(lines), way)


def _unseen(target: Target, assets: Sequence[Object]) -> Iterator[Told]:
    """Probes that fail, in their own words."""
    blind = [one for one in assets if unseen(one)]
    if blind:
        lines = (
            f"{named(one)}: {unseen(one)['reason']}: {one_line(unseen(one).get('message', ''))}"
            for one in blind
        )
        way = f"what is asked has to answer; where the probe itself is wrong: {_edit(blind[0])}"
        words = (
            f"what is in {count(len(blind), 'asset')} is not known: the probe fails, and nothing is released"
        )
        yield [key(one) for one in blind], wrong(words, shown(lines), way)
    refusing = [one for one in assets if condition(one, "AcceptsObserved").get("status") == "False"]
    if refusing:
        lines = (
            f"{named(one)}: {one_line(condition(one, 'AcceptsObserved').get('message', ''))}"
            for one in refusing
        )
        words = f"what {count(len(refusing), 'asset')} may be delivered is not known"
        yield (
            [],
            attention(
                words, shown(lines), at_home(target, refusing[0]).say(f"status asset/{key(refusing[0])[1]}")
            ),
        )


def _stranded(target: Target, assets: Sequence[Object]) -> Iterator[Told]:
    """Assets with holdings that nobody has, and nothing empties."""
    left = [
        one
        for one in assets
        if status_of(one).get("state") == "HeldOrphaned"
        and is_stalled(one)
        and not declared_wrongly(one)
        and not unseen(one)
        and not emptied_now(one)
    ]
    if not left:
        return
    lines = (
        f"{named(one)} has {holdings_of(one)}"
        + (", and no compensation template" if _template_lacks(one) else f": {trouble(one)}")
        for one in left
    )
    first = left[0]
    tells = at_home(target, first).say(f"status asset/{key(first)[1]}")
    taken = "" if state_of(first) == "Deleting" else ", or taken over by a job (mode: TakeOver)"
    way = f"{tells} tells how to have it emptied{taken}"
    words = f"{count(len(left), 'asset')} stranded: something is in it, and nothing empties it"
    yield [key(one) for one in left], wrong(words, shown(lines), way)


def _template_lacks(asset: Object) -> bool:
    """A template is all that it lacks to be emptied."""
    return (
        template_of(asset) is None and condition(asset, "Stalled").get("reason") != reasons.HOLDER_COMPLETED
    )


def _trouble(
    known: Mapping[str, Sequence[Object]],
) -> tuple[list[tuple[Object, str]], list[tuple[Object, str]]]:
    """Assets whose compensation waits for a person, and whose compensation fails, each with why."""
    batches = by_key(known[BATCHES])
    blocked: list[tuple[Object, str]] = []
    failing: list[tuple[Object, str]] = []
    for one in known[ASSETS]:
        told = compensation_of(one)
        if unseen(one) or declared_wrongly(one) or not told:
            continue
        batch = batches.get((key(one)[0], told["batch"]))
        has_it = (status_of(one).get("holder") or {}).get("kind") == "JobBatch"
        if emptied_now(one) and batch is not None and phase_of(batch) in STANDING:
            phase = phase_of(batch)
            why = job_trouble(batch).removeprefix(f"{phase}: ")
            blocked.append((one, f"batch/{told['batch']} is {phase}: {why}".rstrip(": ")))
        elif emptied_now(one) and has_it and is_stalled(one):
            blocked.append((one, trouble(one)))
        elif told.get("failures"):
            why = f": {trouble(one)}" if condition(one, "Ready").get("status") != "True" else ""
            if told.get("message"):
                why = f": {one_line(told['message'])}"
            times = "failed once" if told["failures"] == 1 else f"{told['failures']} times in a row"
            blame = f"batch/{told['batch']}, {times}"
            failing.append(
                (one, f"{blame}, because of {told.get('cause') or 'its holder'}{again(told)}{why}")
            )
    return blocked, failing


def _compensations(target: Target, known: Mapping[str, Sequence[Object]]) -> Iterator[Told]:
    """Compensations that fail, or stand still."""
    blocked, failing = _trouble(known)
    for stuck, words in (
        (blocked, "waits for a person; until then nobody else gets the asset"),
        (failing, "fails; it is tried again until the asset is empty"),
    ):
        if stuck:
            lines = (f"{named(one)} ({holdings_of(one) or 'nothing known'}): {why}" for one, why in stuck)
            first = stuck[0][0]
            at = at_home(target, first)
            commands = answers(at, first, known[JOBS]) if stuck is blocked else []
            way = commands[0] if commands else at.say(f"status batch/{compensation_of(first)['batch']}")
            title = f"the compensation of {count(len(stuck), 'asset')} {words}"
            yield [key(one) for one, _ in stuck], wrong(title, shown(lines), way)


def _stalled(target: Target, assets: Sequence[Object]) -> Iterator[Told]:
    """Whatever else needs somebody."""
    stuck = [one for one in assets if is_stalled(one)]
    if stuck:
        lines = (f"{named(one)}: {trouble(one)}" for one in stuck)
        goes = "is stalled, and goes" if len(stuck) == 1 else "are stalled, and go"
        title = f"{count(len(stuck), 'asset')} {goes} no further until somebody acts"
        way = at_home(target, stuck[0]).say(f"status asset/{key(stuck[0])[1]}")
        yield [key(one) for one in stuck], wrong(title, shown(lines), way)


def _odd(target: Target, assets: Sequence[Object]) -> Iterator[Told]:
    """Deliveries of what is not accepted."""
    odd = [one for one in assets if unexpected(one)]
    if odd:
        title = f"{count(len(odd), 'asset')} got what {'it does' if len(odd) == 1 else 'they do'} not accept"
        way = at_home(target, odd[0]).say(f"status asset/{key(odd[0])[1]}") + ": which job delivered it"
        yield [], attention(title, shown(f"{named(one)}: {unexpected(one)}" for one in odd), way)
