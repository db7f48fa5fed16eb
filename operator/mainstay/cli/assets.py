"""`mainstay assets`: who has which asset, what is in it and who waits, failures first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Optional

import typer

from mainstay.cli import called
from mainstay.cli.assetstate import (
    Key,
    by_key,
    coloured,
    compensation_of,
    holder_of,
    holdings_of,
    is_wrong,
    key,
    rank,
    state_of,
    summary,
    trouble,
    waiting,
)
from mainstay.cli.cluster import Target, call, everything
from mainstay.cli.cluster import missing as nobody
from mainstay.cli.console import Rows, fail, misuse, out, show, table
from mainstay.cli.jobs import status_of
from mainstay.cli.jobtree import here_alone
from mainstay.cli.names import Kind, Ref, ref
from mainstay.cli.options import (
    AllNamespacesOption,
    ContextOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    target_of,
)
from mainstay.cli.words import age, count, print_as
from mainstay.shell.kube import ASSETS, JOBS, Kube, Object

SHOWN = 20
"""So many assets are listed beside everything else; those with a problem first."""
WIDE = ("SINCE", "COMPENSATION", "OWNER")
READABLE = 80
"""Columns that the words of an asset need: they name others, and what to do."""


def _form(value: str | None) -> str | None:
    if value not in (None, "json", "yaml", "wide"):
        misuse(f"--output {value} is unknown; it is json, yaml or wide")
    return value


def assets(
    names: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it at run time
        typer.Argument(
            help="Assets by name. Default: all of the namespace.", metavar="NAME", show_default=False
        ),
    ] = None,
    namespace: NamespaceOption = "default",
    everywhere: AllNamespacesOption = False,
    output: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--output",
            "-o",
            help="json or yaml instead of a table; wide: since when, the compensation, and whose it is.",
            show_default=False,
            callback=_form,
        ),
    ] = None,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show assets: state, who has each, what is in it, and how many jobs wait for it; what is wrong first.

    `mainstay status asset/NAME` shows one in depth, with the jobs that wait for it.
    """
    target = target_of(home, namespace, kubeconfig, context)
    if names and everywhere:
        misuse("-A goes without names; -n names their namespace")
    wanted = [
        ref(one if "/" in one else f"{Kind.ASSET.word}/{one}", (Kind.ASSET,)).name for one in names or ()
    ]

    async def work(kube: Kube) -> tuple[list[Object], list[Object]]:
        where = "" if everywhere else namespace
        there = await everything(kube, ASSETS, where)
        known = by_key(there)
        for name in wanted:
            if (namespace, name) not in known:
                fail(await nobody(kube, target, Ref(Kind.ASSET, name)))
        return there, await everything(kube, JOBS, where)

    there, jobs = call(target, work)
    shown = sorted((one for one in there if not wanted or key(one)[1] in wanted), key=rank)
    queues = waiting(jobs, by_key(there))
    if output in ("json", "yaml"):
        print_as({"assets": [summary(one, queues.get(key(one), ())) for one in shown]}, output)
        return
    if shown:
        made = assets_table(shown, queues)
        show(here_alone(target, made if output == "wide" else made.without(*WIDE), shown))
    else:
        out.print(
            "no assets" + ("" if everywhere else f" in namespace {namespace}; -A shows every namespace")
        )


def assets_table(assets: Sequence[Object], queues: Mapping[Key, Sequence[Object]]) -> Rows:
    """Return assets as a table, in that order, with all columns."""
    heads = ("NAMESPACE", "ASSET", "TYPE", "STATE", "HOLDER", "HOLDINGS", "WAITING", "AGE")
    made = table(*heads, *WIDE, "MESSAGE", least=READABLE)
    for asset in assets:
        namespace, name = key(asset)
        made.add_row(
            namespace,
            name,
            asset["spec"].get("type") or "",
            coloured(state_of(asset)),
            holder_of(asset),
            holdings_of(asset),
            str(len(queues.get((namespace, name), ())) or ""),
            age(asset["metadata"]["creationTimestamp"]),
            *_wide(asset),
            trouble(asset),
        )
    return made


def _wide(asset: Object) -> tuple[str, str, str]:
    since = (status_of(asset).get("holder") or {}).get("since")
    told = compensation_of(asset)
    return (
        age(since) if since else "",
        f"{told['batch']} (attempt {told['attempt']})" if told else "",
        (asset["spec"].get("owner") or {}).get("userId") or "",
    )


def show_glance(target: Target, found: Sequence[Object], jobs: Sequence[Object], *, apart: bool) -> None:
    """Print assets, failures first, and how many there are where not all are listed; `apart` from what is above."""
    if not found:
        return
    assets_ = sorted(found, key=rank)
    if apart:
        out.print()
    made = assets_table(assets_[:SHOWN], waiting(jobs, by_key(found))).without(*WIDE)
    show(here_alone(target, made, found))
    if len(assets_) <= SHOWN:
        return
    states = Counter(map(state_of, assets_))
    wrong = sum(map(is_wrong, assets_))
    parts = [f"{number} {state}" for state, number in states.most_common()]
    if wrong:
        parts.append(f"{wrong} with a problem")
    way = (
        target.say("assets")
        if {key(one)[0] for one in found} == {target.namespace}
        else f"{called.me()} assets -A"
    )
    out.print(
        f"{SHOWN} of {count(len(assets_), 'asset')}: {', '.join(parts)}; all of them: {way}", markup=False
    )
