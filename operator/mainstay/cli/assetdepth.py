"""`mainstay status asset/NAME`: everything about one asset, who waits for it, and what to do next; and assets of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from mainstay.cli.assetleft import GOES
from mainstay.cli.assetstate import (
    SHARED,
    Key,
    again,
    answers,
    by_key,
    claims,
    coloured,
    compensation_of,
    emptied_now,
    has,
    holder_of,
    holdings_of,
    is_stalled,
    key,
    missing,
    reachable,
    state_of,
    template_of,
    told_holdings,
    told_missing,
    trouble,
    unexpected,
    unseen,
    waiting,
    wants,
)
from mainstay.cli.cluster import Target, everything
from mainstay.cli.console import Rows, out, show, table
from mainstay.cli.jobs import declared_wrongly, phase_of, status_of
from mainstay.cli.words import age, condition, count, moment, one_line, some
from mainstay.core import reasons
from mainstay.shell.kube import ASSETS, JOBS, Kube, Object

WAITING_SHOWN = 50
_MARGIN = "  "


async def around(kube: Kube, asset: Object) -> dict[str, Object]:
    """The jobs and assets of its namespace, as `job/NAME` and `asset/NAME`."""
    namespace = asset["metadata"]["namespace"]
    found = {f"job/{key(job)[1]}": job for job in await everything(kube, JOBS, namespace)}
    return found | {f"asset/{key(one)[1]}": one for one in await everything(kube, ASSETS, namespace)}


async def assets_of(kube: Kube, job: Object) -> dict[str, Object]:
    """The assets that a job names, by name, as far as there are any."""
    named = {one["ref"] for one in job["spec"].get("assets") or ()}
    if not named:
        return {}
    there = await everything(kube, ASSETS, job["metadata"]["namespace"])
    return {key(one)[1]: one for one in there if key(one)[1] in named}


# -- one asset


def show_asset(target: Target, asset: Object, beside: Mapping[str, Object]) -> None:
    """Print one asset; `beside` are the jobs and assets of its namespace, as `around` has them."""
    meta, spec = asset["metadata"], asset["spec"]
    name = f"asset/{meta['name']}"
    facts = [name if target.namespace == "default" else f"{target.namespace} {name}", state_of(asset)]
    facts += [spec["type"]] if spec.get("type") else []
    facts.append(f"age {age(meta['creationTimestamp'])}")
    if (spec.get("owner") or {}).get("userId"):
        facts.append(f"owner {spec['owner']['userId']}")
    out.print(Text("   ".join(facts), style="bold"))
    if state_of(asset) == "Deleting":
        out.print("it goes once nobody has it and it is seen to be empty")
    words = trouble(asset)
    if words and words != unexpected(asset):  # that is told with the deliveries
        out.print(Text(words))
    out.print()
    for head, said in _facts(asset, beside):
        out.print(Text(f"{head:<14}{said}"))
    _show_deliveries(asset)
    jobs = [one for named, one in beside.items() if named.startswith("job/")]
    known = by_key(one for named, one in beside.items() if named.startswith("asset/"))
    queue = waiting(jobs, known).get(key(asset), [])
    _show_waiting(queue, known)
    if lines := next_lines(target, asset, beside):
        out.print()
        for line in lines:
            out.print(Text(line))


def _facts(asset: Object, beside: Mapping[str, Object]) -> list[tuple[str, str]]:
    seen = status_of(asset)
    found = [("holder", _holder(asset, beside)), ("holdings", _holdings(asset))]
    found.append(("observed", _observed(asset)))
    if seen.get("accepts") is not None or asset["spec"].get("accepts"):
        told = condition(asset, "AcceptsObserved")
        problem = (
            f"   {told['reason']}: {one_line(told.get('message', ''))}"
            if told.get("status") == "False"
            else ""
        )
        accepted = (
            some(seen["accepts"], 20) or "nothing" if seen.get("accepts") is not None else "not known yet"
        )
        found.append(("accepts", accepted + problem))
    if words := unexpected(asset):
        found.append(("deliveries", words))
    told = compensation_of(asset)
    if told or template_of(asset) or holdings_of(asset):
        found.append(("compensation", _compensation(asset)))
    why = one_line(told.get("message", ""))
    if why and why not in trouble(asset) and (told.get("failures") or not told.get("endedAt")):
        found.append(("", why))
    return found


def _holder(asset: Object, beside: Mapping[str, Object]) -> str:
    holder = status_of(asset).get("holder")
    if not holder:
        return "nobody"
    name = holder_of(asset)
    words = f"{name}, for {age(holder['since'])}, since {moment(holder['since'])}"
    if holder["kind"] == "JobBatch":
        return f"{words} (its compensation)"
    job = beside.get(name)
    if job is None or job["metadata"]["uid"] != holder["uid"]:
        return f"{words}; this job is gone"
    return f"{words}; it is {phase_of(job)}"


def _holdings(asset: Object) -> str:
    seen = status_of(asset)
    known = seen.get("state") not in (None, "Unknown") and not unseen(asset)
    words = holdings_of(asset) or ("nothing" if known else "nothing that is known of")
    changed = seen.get("holdingsChangedAt")
    return f"{words}   (changed {age(changed)} ago)" if changed else words


def _observed(asset: Object) -> str:
    """What is known of the probe."""
    told = condition(asset, "HoldingsObserved")
    asked = asset["spec"].get("holdings")
    if not asked:
        return "no probe: as tasks report it"
    how = f"every {asked.get('everySeconds', 30)} s"
    if not told:
        return f"not yet ({how})"
    words = one_line(told.get("message", ""))
    if told["status"] != "True":
        return f"NO ({how})   {told['reason']}: {words}".rstrip(": ")
    return f"yes ({how})" + (f"   {words}" if words else "")


def _compensation(asset: Object) -> str:
    told = compensation_of(asset)
    if not told:
        return (
            "none needed up to now" if template_of(asset) else "none: what is left in it waits for a person"
        )
    words = [f"batch/{told['batch']}", f"attempt {told['attempt']}"]
    if told.get("cause"):
        words.append(f"because of {told['cause']}")
    if told.get("holdings"):
        words.append(f"of {told_holdings(told['holdings'])}")
    ended = told.get("endedAt")
    words.append(f"ended {age(ended)} ago" if ended else f"running for {age(told['startedAt'])}")
    if told.get("failures"):
        words.append(f"{count(told['failures'], 'failure')} in a row{again(told)}")
    return ", ".join(words)


def _show_deliveries(asset: Object) -> None:
    seen = status_of(asset)
    if seen.get("delivered"):
        totals = table("DELIVERED", "UNITS", "DELIVERIES")
        for one in seen["delivered"]:
            totals.add_row(one["symbol"], str(one["units"]), str(one["count"]))
        out.print()
        show(totals)
    if seen.get("deliveries"):
        latest = table("LATEST DELIVERY", "UNITS", "ACCEPTED", "JOB", "TASK", "AGO")
        for one in reversed(seen["deliveries"]):
            accepted = Text("yes") if one["accepted"] else Text("no", style="red")
            latest.add_row(
                one["symbol"], str(one["units"]), accepted, f"job/{one['job']}", one["task"], age(one["time"])
            )
        out.print()
        show(latest)


def _show_waiting(queue: Sequence[Object], known: Mapping[Key, Object]) -> None:
    """Jobs that wait for it, in their order, each with all that it waits for."""
    if not queue:
        return
    made = table("WAITING", "STATE", "AGE", "WAITS FOR", "HAS")
    for job in queue[:WAITING_SHOWN]:
        left = missing(job, known)
        names = [name for name, _ in left]
        held = [one["ref"] for one in claims(job) if one["ref"] not in names]
        made.add_row(
            f"job/{key(job)[1]}",
            phase_of(job),
            age(job["metadata"]["creationTimestamp"]),
            some([told_missing(*one) for one in left]),
            some(held),
        )
    out.print()
    show(made)
    if len(queue) > WAITING_SHOWN:
        out.print(f"and {len(queue) - WAITING_SHOWN} more jobs wait for it")


def next_lines(target: Target, asset: Object, beside: Mapping[str, Object]) -> list[str]:
    """What a person can do, as commands; none while it needs nobody."""
    name = key(asset)[1]
    place = f" -n {target.namespace}" if target.namespace != "default" else ""
    edit = f"kubectl edit asset {name}{place}"
    told = compensation_of(asset)
    given_up = f"""kubectl patch asset {name}{place} --type=merge -p '{{"metadata":{{"finalizers":null}}}}'"""
    leaving = [f"{given_up}   # lets it go now, with what is in it"] if state_of(asset) == "Deleting" else []
    if declared_wrongly(asset):
        return [
            f"{edit}   # what is declared wrongly; nobody gets it, and nothing empties it, until that is corrected",
            *leaving,
        ]
    if unseen(asset):
        return [
            f"{edit}   # what is wrong with the probe itself; nothing is released until it answers",
            *leaving,
        ]
    if status_of(asset).get("state") == "HeldOrphaned" and is_stalled(asset) and not emptied_now(asset):
        claim = f"assets: [{{name: {_claim(asset)}, ref: {name}, mode: TakeOver}}]"
        taken = [] if leaving else [f"# or a job with {claim} gets it as it is"]
        return [_emptied_by(asset, edit, place), *taken, *leaving]
    if told and (emptied_now(asset) or told.get("failures")):
        jobs = [one for named, one in beside.items() if named.startswith("job/")]
        return [target.say(f"status batch/{told['batch']}"), *answers(target, asset, jobs)]
    holder = beside.get(holder_of(asset))
    if holder is not None and phase_of(holder) in ("ActionRequired", "Suspended"):
        return [
            target.say(f"status {holder_of(asset)}") + f"   # it is {phase_of(holder)}, and keeps the asset"
        ]
    return []


def _emptied_by(asset: Object, edit: str, place: str) -> str:
    """What has a stranded asset emptied."""
    unclaimed = condition(asset, "Ready").get("reason") == reasons.UNCLAIMED
    holder = status_of(asset).get("holder") or {}
    kept = holder.get("kind") == "PhasedJob" and not unclaimed
    delete = f"kubectl delete pjob {holder.get('name')}{place}"
    if template_of(asset) is None:
        asks = ", with unclaimed: true" if unclaimed else ""
        if state_of(asset) == "Deleting":
            return f"{edit}   # {GOES.replace('compensation,', f'compensation{asks},')}"
        if kept and condition(asset, "Stalled").get("reason") == reasons.HOLDER_COMPLETED:
            return f"{edit}   # to have it emptied: add spec.compensation, then: {delete}"
        return f"{edit}   # add spec.compensation{asks}: it empties it"
    if kept:
        return f"{delete}   # its compensation empties it then"
    return f"{edit}   # spec.compensation.unclaimed: true has it emptied"


def _claim(asset: Object) -> str:
    """A name for it within a job."""
    word = "".join(
        one for one in (asset["spec"].get("type") or "").lower() if one.isascii() and one.isalnum()
    )
    return word if word[:1].isalpha() else "asset"


# -- of a job


def claims_table(job: Object, there: Mapping[str, Object]) -> Rows:
    """Return what a job has to do with each asset it names; what it waits for first."""
    made = table("ASSET", "AS", "MODE", "CLAIM", "HOLDER", "HOLDINGS", "STATE")
    rows: list[tuple[bool, dict[str, Any], Object | None]] = []
    in_turn = reachable(job, by_key(there.values()))
    for one in job["spec"].get("assets") or ():
        asset = there.get(one["ref"])
        waits = asset is None or (one.get("mode") != SHARED and not has(job, asset) and in_turn)
        rows.append((waits and wants(job), one, asset))
    for waits, one, asset in sorted(rows, key=lambda row: (not row[0], row[1]["name"])):
        mode = one.get("mode") or "Exclusive"
        word = "waits" if waits else "has" if has(job, asset) else "looks" if mode == SHARED else ""
        made.add_row(
            f"asset/{one['ref']}",
            one["name"],
            mode,
            Text(word, style="yellow" if waits else ""),
            holder_of(asset) if asset else "",
            holdings_of(asset) if asset else "",
            coloured(state_of(asset)) if asset else Text("does not exist", style="red"),
        )
    return made
