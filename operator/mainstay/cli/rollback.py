"""`mainstay rollback`: a run gets an earlier revision of its strategy, or follows the newest again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn, Optional

import typer

from mainstay.api.meta import API_VERSION
from mainstay.cli.cluster import Target, call, get_run
from mainstay.cli.console import fail, note, out
from mainstay.cli.names import runs
from mainstay.cli.options import (
    ContextOption,
    DryRunOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    TimeoutOption,
    WaitOption,
    target_of,
)
from mainstay.cli.strategies import DEFAULT_LIBRARY, called, library_of, use_of
from mainstay.cli.verbs import change
from mainstay.cli.words import age, condition, one_line, print_yaml
from mainstay.core.strategy.resolve import short
from mainstay.shell.kube import STRATEGIES, Kube, Object, path

LEAST_DIGITS = 6
_LATER = {"Paused": "resumed", "Stopped": "started"}
_DIGITS = re.compile(rf"[0-9a-f]{{{LEAST_DIGITS},64}}")


def rollback(
    name: Annotated[str, typer.Argument(help="A StrategyRun.", metavar="RUN")],
    revision: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Argument(
            help="Revision of its strategy, at least the first 6 digits. Default: the one before the present.",
            show_default=False,
        ),
    ] = None,
    off: Annotated[
        bool, typer.Option("--off", help="Follow the newest revision again.", show_default=False)
    ] = False,
    namespace: NamespaceOption = "default",
    wait: WaitOption = True,
    timeout: TimeoutOption = 60,
    dry_run: DryRunOption = False,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Have a run use an earlier revision of its strategy (spec.strategy.revision): one restart, same port and run id.

    It stays there through edits until `mainstay rollback RUN --off`. `mainstay status strategy/NAME` lists the revisions.
    """
    (wanted,) = runs([name], "rollback")
    if off and revision is not None:
        fail(f"--off goes without a revision: it lets {wanted} follow the newest")
    target = target_of(home, namespace, kubeconfig, context)

    async def work(kube: Kube) -> None:
        run = await get_run(kube, target, wanted)
        asked = run["spec"].get("strategy")
        if not asked:
            fail(f"{wanted} uses no strategy (it has no spec.strategy), so there is nothing to go back to")
        if off and not asked.get("revision"):
            note(f"{wanted} follows the newest revision of {asked['name']} already")
            return
        chosen = None if off else await _chosen(kube, target, run, revision)
        if dry_run:
            print_yaml(
                {
                    "apiVersion": API_VERSION,
                    "kind": "StrategyRun",
                    "metadata": {"name": wanted, "namespace": target.namespace},
                    "spec": {"strategy": {**asked, "revision": chosen}},
                }
            )
            return
        words = f"revision: {chosen}" if chosen else f"follows the newest revision of {asked['name']}"
        await change(kube, target, wanted, {"strategy": {"revision": chosen}}, words, wait, timeout, dry_run)
        if chosen is not None:
            note(
                f"edits don't reach it from now on; `{target.say(f'rollback {wanted} --off')}` lets it follow them"
            )
        if wait:
            _told(await get_run(kube, target, wanted), chosen)

    call(target, work)


def _told(run: Object, chosen: str | None) -> None:
    """What the run runs now; a paused or stopped one takes its revision later."""
    name, use, resolved = run["metadata"]["name"], use_of(run), condition(run, "StrategyResolved")
    if use and (chosen is None or use["hash"] == chosen):
        out.print(f"strategyrun/{name} runs {use['name']}, revision {short(use['hash'])}")
    elif (phase := (run.get("status") or {}).get("phase")) in _LATER:
        out.print(f"strategyrun/{name} takes it when it is {_LATER[phase]}")
    else:
        note(f"{name}: {resolved.get('reason', 'Pending')}: {one_line(resolved.get('message', ''))}")


async def _chosen(kube: Kube, target: Target, run: Object, wanted: str | None) -> str:
    """The whole hash of the revision that is meant; ends the command if that is not one."""
    asked, use = run["spec"]["strategy"], use_of(run)
    strategy = await _strategy(kube, target, asked)
    seen = (strategy or {}).get("status") or {}
    known = list(seen.get("revisions") or [])
    hashes = [revision["hash"] for revision in known]
    its_own = not use.get("fallback") and _named(use) == _named(asked)
    runs_it = use["hash"] if use and its_own else None
    present = str(asked.get("revision") or runs_it or seen.get("revision") or "what it runs")
    if wanted is None:
        if strategy is None:
            fail(
                f"there is no strategy {asked['name']}, and its list of revisions went with it; "
                f"name one by its whole hash: {target.say('rollback ' + run['metadata']['name'] + ' sha256:...')}"
            )
        if present not in hashes:
            _refuse(
                f"{present} is not one of the revisions that are kept of {asked['name']}; say which one",
                known,
            )
        if hashes.index(present) + 1 == len(hashes):
            _refuse(f"there is none before {short(present)} of {asked['name']}", known)
        return str(hashes[hashes.index(present) + 1])
    digits = wanted.lower().removeprefix("sha256:")
    if not _DIGITS.fullmatch(digits):
        _refuse(
            f"{wanted}: write at least the first {LEAST_DIGITS} digits of a revision, as in 1f3c9a", known
        )
    others = [content for content in (runs_it, asked.get("revision")) if content]
    fitting = sorted({content for content in (*hashes, *others) if content.startswith("sha256:" + digits)})
    if len(fitting) == 1:
        return str(fitting[0])
    if fitting:
        fail(f"{wanted} is the beginning of {len(fitting)} revisions: {', '.join(fitting)}")
    if strategy is not None or len(digits) < 64:
        _refuse(f"{wanted} is no revision that is kept of {asked['name']}", known)
    return "sha256:" + digits


def _named(strategy: Mapping[str, Any]) -> tuple[str, str | None]:
    """Library and name of what is asked for, or runs."""
    return strategy.get("library") or DEFAULT_LIBRARY, strategy.get("name")


async def _strategy(kube: Kube, target: Target, asked: dict[str, Any]) -> Object | None:
    async for page in kube.pages(path(STRATEGIES, target.namespace)):
        for obj in page["items"]:
            if (library_of(obj)[1], called(obj)) == _named(asked):
                return dict(obj)
    return None


def _refuse(words: str, known: Sequence[dict[str, Any]]) -> NoReturn:
    lines = "".join(f"\n  {revision['hash']}   seen {age(revision['seenAt'])} ago" for revision in known)
    fail(words + (f":{lines}" if lines else "; none is kept"))
