"""How an Asset is: what its status says, what is wrong with it, and which jobs wait for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from mainstay.cli.cluster import Target
from mainstay.cli.jobs import batch_of, declared_wrongly, is_over, next_commands, status_of
from mainstay.cli.words import condition, count, lasted, one_line, some
from mainstay.core import reasons
from mainstay.shell.kube import Object

Key = tuple[str, str]
"""Namespace and name."""
SHARED = "Shared"
OUT_OF_REACH = (reasons.SPEC_INVALID, reasons.NOT_OWNER, reasons.ASSET_NOT_FOUND)
"""Why a job takes no asset, however free it is."""
_COLOURS = {"Free": "green", "Held": "cyan", "HeldOrphaned": "red"}
_HOLDERS = {"PhasedJob": "job", "JobBatch": "batch"}


def key(obj: Object) -> Key:
    """Where it is."""
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def by_key(assets: Iterable[Object]) -> dict[Key, Object]:
    """Assets by where they are."""
    return {key(asset): asset for asset in assets}


# -- one asset


def state_of(asset: Object) -> str:
    """Where it is, in one word."""
    if asset["metadata"].get("deletionTimestamp"):
        return "Deleting"
    return str(status_of(asset).get("state") or "Pending")


def coloured(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=_COLOURS.get(state, "yellow"))


def holder_of(asset: Object) -> str:
    """Who has it, as a command takes the name; empty where nobody has it."""
    holder = status_of(asset).get("holder")
    return f"{_HOLDERS.get(holder['kind'], holder['kind'])}/{holder['name']}" if holder else ""


def holdings_of(asset: Object) -> str:
    """What is in it, as it was last seen; empty where nothing is."""
    seen = status_of(asset)
    return seen.get("summary") or told_holdings(seen.get("holdings") or [])


def told_holdings(holdings: Iterable[Mapping[str, Any]]) -> str:
    """Holdings in a few words."""
    return some([f"{one['symbol']} {one['units']}" for one in holdings])


def template_of(asset: Object) -> Object | None:
    """What empties it; None where nothing does."""
    found: Object | None = (asset["spec"].get("compensation") or {}).get("template")
    return found


def compensation_of(asset: Object) -> dict[str, Any]:
    """The compensation that is claimed, runs or ran last; empty where there was none."""
    return status_of(asset).get("compensation") or {}


def emptied_now(asset: Object) -> bool:
    """A compensation is claimed or runs."""
    told = compensation_of(asset)
    return bool(told) and not told.get("endedAt")


def answers(target: Target, asset: Object, jobs: Iterable[Object]) -> list[str]:
    """Commands that a compensation waits for: they answer or resume its jobs; none where it goes on by itself."""
    batch = compensation_of(asset).get("batch")
    if not batch or not emptied_now(asset):
        return []
    place = key(asset)[0]
    of_it = (job for job in jobs if job["metadata"]["namespace"] == place and batch_of(job) == batch)
    return list(dict.fromkeys(words for job in of_it for words in next_commands(target, job)))


def unseen(asset: Object) -> dict[str, Any]:
    """The condition that says why its holdings can't be known; empty where they are, or were not asked for yet."""
    told, ready = condition(asset, "HoldingsObserved"), condition(asset, "Ready")
    if declared_wrongly(asset):
        return {}
    if told.get("status") == "False":
        return told
    fails = status_of(asset).get("state") == "Unknown" and ready.get("reason") != reasons.NOT_OBSERVED
    return ready if fails else {}


def unexpected(asset: Object) -> str:
    """That something was delivered which it does not accept, in words; empty where nothing was."""
    told = condition(asset, "UnexpectedInput")
    return one_line(f"{told['reason']}: {told.get('message', '')}") if told.get("status") == "True" else ""


def is_stalled(obj: Object) -> bool:
    """It goes no further until somebody acts."""
    return condition(obj, "Stalled").get("status") == "True"


def is_wrong(asset: Object) -> bool:
    """Something is in its way: it needs somebody, or is tried again."""
    return (
        status_of(asset).get("state") == "HeldOrphaned"
        or is_stalled(asset)
        or bool(unseen(asset))
        or bool(compensation_of(asset).get("failures"))
    )


def trouble(asset: Object) -> str:
    """Why it is where it is, in one line; empty where it is as anybody expects."""
    if not status_of(asset):
        return "no operator has looked at it yet"
    stalled, ready = condition(asset, "Stalled"), condition(asset, "Ready")
    found = stalled if is_stalled(asset) else unseen(asset) or ready
    if not found or (found is ready and ready.get("status") == "True"):
        return failures(asset) or unexpected(asset)
    return one_line(f"{found.get('reason', '')}: {found.get('message', '')}").strip(": ")


def failures(asset: Object) -> str:
    """That its compensation failed, and when it is tried again; empty where it did not."""
    told = compensation_of(asset)
    if not told.get("failures"):
        return ""
    return f"its compensation failed {count(told['failures'], 'time')}{again(told)}"


def again(compensation: Mapping[str, Any]) -> str:
    """When it is tried again, in words that go on; empty where that isn't known."""
    if not compensation.get("retryAt"):
        return ""
    seconds = (datetime.fromisoformat(compensation["retryAt"]) - datetime.now(UTC)).total_seconds()
    return f", tried again in {lasted(seconds)}" if seconds > 0 else ", tried again now"


def rank(asset: Object) -> tuple[int, str, str]:
    """What needs somebody first, then what is being emptied, held, and free."""
    if is_wrong(asset):
        place = 0
    elif emptied_now(asset):
        place = 1
    else:
        place = 3 if state_of(asset) == "Free" else 2
    return (place, *key(asset))


# -- jobs and their claims


def claims(job: Object) -> list[dict[str, Any]]:
    """Assets that it needs for itself, in the order in which it takes them."""
    found = {one["ref"]: one for one in job["spec"].get("assets") or () if one.get("mode") != SHARED}
    return [found[name] for name in sorted(found)]


def has(job: Object, asset: Object | None) -> bool:
    """It is the asset's holder: itself, or through its batch, as jobs of a compensation."""
    holder = status_of(asset).get("holder") if asset is not None else None
    if holder is None:
        return False
    owners = [one["uid"] for one in job["metadata"].get("ownerReferences") or []]
    return holder["uid"] in (job["metadata"]["uid"], *owners)


def wants(job: Object) -> bool:
    """It is not over, and not on its way there."""
    ending = job["metadata"].get("deletionTimestamp") or job["spec"].get("state") == "Cancelled"
    return not ending and not is_over(job)


def missing(job: Object, assets: Mapping[Key, Object]) -> list[tuple[str, Object | None]]:
    """Assets that it waits for: name, and the asset if there is one; one to look at has to be there too."""
    if not wants(job):
        return []
    namespace, exclusive = job["metadata"]["namespace"], {one["ref"] for one in claims(job)}
    names = {one["ref"] for one in job["spec"].get("assets") or ()}
    found = [(name, assets.get((namespace, name))) for name in sorted(names)]
    return [
        (name, asset) for name, asset in found if asset is None or (name in exclusive and not has(job, asset))
    ]


def told_missing(name: str, asset: Object | None) -> str:
    """An asset that is waited for, with who has it."""
    if asset is None:
        return f"{name} (does not exist)"
    return f"{name} ({holder_of(asset) or state_of(asset)})"


def reachable(job: Object, assets: Mapping[Key, Object]) -> bool:
    """It gets its assets in its turn. One that can't get all of them, or has a mistake, takes none, and waits for a person."""
    if is_stalled(job) and condition(job, "Stalled").get("reason") in OUT_OF_REACH:
        return False
    return all(asset is not None for _, asset in missing(job, assets))


def waiting(jobs: Iterable[Object], assets: Mapping[Key, Object]) -> dict[Key, list[Object]]:
    """Jobs that wait for each asset, in the order in which they get it: those that had it when they began, then by age."""
    found: defaultdict[Key, list[Object]] = defaultdict(list)
    for job in jobs:
        for name, _ in missing(job, assets) if reachable(job, assets) else ():
            found[job["metadata"]["namespace"], name].append(job)
    return {place: sorted(queue, key=lambda job: _turn(job, place[1])) for place, queue in found.items()}


def _turn(job: Object, name: str) -> tuple[bool, str, str]:
    meta = job["metadata"]
    began = any(one["ref"] == name for one in status_of(job).get("assets") or [])
    return not began, meta["creationTimestamp"], meta["name"]


def summary(asset: Object, queue: Iterable[Object] = ()) -> dict[str, Any]:
    """An asset for -o json, with the names of the jobs that wait for it."""
    seen, ready = status_of(asset), condition(asset, "Ready")
    namespace, name = key(asset)
    return {
        "namespace": namespace,
        "name": name,
        "type": asset["spec"].get("type"),
        "state": state_of(asset),
        "holder": seen.get("holder"),
        "holdings": seen.get("holdings") or [],
        "waiting": [job["metadata"]["name"] for job in queue],
        "compensation": seen.get("compensation"),
        "delivered": seen.get("delivered") or [],
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", ""),
        "message": ready.get("message", ""),
        "problem": trouble(asset) if is_wrong(asset) else "",
        "created": asset["metadata"]["creationTimestamp"],
    }
