"""What becomes of what is in an asset when the job that has it is cancelled."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from mainstay.cli.assetstate import holdings_of, state_of, template_of, unseen
from mainstay.cli.cluster import Target, everything
from mainstay.cli.jobs import declared_wrongly, is_over, jobs_of, status_of
from mainstay.cli.names import Kind, Ref
from mainstay.shell.kube import ASSETS, ApiError, ApiUnavailableError, Kube, Object

UNTIL = "until then nobody else gets it"
GOES = "empty it yourself, or set spec.compensation, and it goes"
"""The way out of an asset that is being deleted, with something in it: nobody new gets it."""


async def left_in(kube: Kube, target: Target, wanted: Iterable[tuple[Ref, Object]]) -> list[str]:
    """A sentence for each asset with holdings that these jobs and batches have; none where one may not look."""
    ending = [(one, obj) for one, obj in wanted if not is_over(obj)]
    try:
        there = await everything(kube, ASSETS, target.namespace) if ending else []
        held = [asset for asset in there if status_of(asset).get("holder")]
        uids: set[str] = set()
        for one, obj in ending if held else ():
            uids.add(obj["metadata"]["uid"])
            if one.kind is Kind.BATCH:
                jobs = await jobs_of(kube, target, obj)
                uids |= {job["metadata"]["uid"] for job in jobs.values() if not is_over(job)}
    except ApiUnavailableError:
        raise
    except ApiError as error:
        if error.code != HTTPStatus.FORBIDDEN:
            raise
        return []
    return [
        words for asset in held if status_of(asset)["holder"]["uid"] in uids if (words := _becomes(asset))
    ]


def _becomes(asset: Object) -> str:
    """What becomes of it; empty where nothing is in it."""
    name, holder, inside = asset["metadata"]["name"], status_of(asset)["holder"], holdings_of(asset)
    if unseen(asset):
        return f"{name}: nobody knows what is in it, its probe fails; nobody else gets it until that is seen"
    if declared_wrongly(asset):
        return f"{name}: it is declared wrongly, and nobody else gets it until that is corrected: kubectl edit asset {name}"
    if not inside:
        return ""
    leaving = state_of(asset) == "Deleting"
    if holder["kind"] == "JobBatch":
        return f"{name} has {inside}, and batch/{holder['name']} is its compensation: another one follows; {UNTIL}"
    if template_of(asset) is None:
        stays = "it stays HeldOrphaned until a person empties it, or a job takes it over (mode: TakeOver)"
        return f"{name} has {inside}, and no compensation: {GOES if leaving else stays}"
    after = "then it goes, as it is being deleted" if leaving else UNTIL
    return f"{name} has {inside}: its compensation will empty it; {after}"
