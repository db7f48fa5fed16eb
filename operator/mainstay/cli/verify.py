"""`mainstay verify`: whether this installation does what it promises, tried on a run of its own that it takes away again."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from rich.text import Text

from mainstay.cli.cluster import Target, connection
from mainstay.cli.console import err, note, out
from mainstay.cli.options import (
    ContextOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    target_of,
)
from mainstay.cli.verification import LABEL, Check, Outcome, Verification
from mainstay.cli.verifyparts import PREREQUISITES
from mainstay.cli.words import one_line
from mainstay.shell.kube import Kube

CLEAN_UP_SECONDS = 30.0
"""How long may be spent on taking everything away again, on top of --timeout."""

_MARKS = {Outcome.PASSED: ("✓", "green"), Outcome.FAILED: ("✗", "bold red"), Outcome.SKIPPED: ("-", "yellow")}
_WORDS = {Outcome.PASSED: "ok", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "skipped"}


def verify(
    namespace: NamespaceOption = "default",
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds that all checks together may take.", min=1)
    ] = 60,
    pool: Annotated[str, typer.Option("--pool", help="PortPool that the run leases from.")] = "default",
    home: HomeOption = None,
    output: OutputOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Check this installation from end to end, with a strategy and a run of its own; both are gone afterwards.

    Exit status: 0 if every check that could be made is good, 1 if not, 130 after Ctrl-C.
    """
    target = target_of(home, namespace, kubeconfig, context)
    work = Verification(target, pool=pool, timeout=timeout, tell=_tell if output is None else _silent)
    try:
        asyncio.run(_main(target, work))
    except KeyboardInterrupt:  # a second one, in the middle of taking things away
        work.interrupted = True
    _sum_up(work, output)
    if work.interrupted:
        raise typer.Exit(130)
    if not work.good:
        raise typer.Exit(1)


async def _main(target: Target, work: Verification) -> None:
    """All checks, and whatever comes, the taking away."""
    me = asyncio.current_task()
    assert me is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, me.cancel)
    try:
        await _checks(target, work)
    except asyncio.CancelledError:
        work.interrupted = True
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _checks(target: Target, work: Verification) -> None:
    try:
        async with connection(target) as kube:
            await _with(kube, work)
    except Exception as error:
        if type(error).__name__ != "ConfigException":
            raise
        words = f"no cluster to talk to: {str(error).rstrip('.')}. `mainstay up` makes one, or name one with --kubeconfig"
        work.done(Check("the API server answers", Outcome.FAILED, 0.0, one_line(words)))


async def _with(kube: Kube, work: Verification) -> None:
    try:
        for title, check in PREREQUISITES:
            if not await work.check(title, _bound(check, kube, work)):
                return
        await work.walk(kube)
    finally:
        await work.clean_up(kube, CLEAN_UP_SECONDS)


def _bound(
    check: Callable[[Kube, Verification], Awaitable[str]], kube: Kube, work: Verification
) -> Callable[[], Awaitable[str]]:
    return lambda: check(kube, work)


def _tell(check: Check) -> None:
    """One line, as soon as it is known."""
    if out.is_terminal:
        mark, style = _MARKS[check.outcome]
        line = Text.assemble((mark, style), " ")
    else:
        line = Text(f"{_WORDS[check.outcome]:<8}")
    line.append(f"{check.title} ({check.seconds:.1f} s)")
    if check.message:
        line.append(f": {check.message}")
    out.print(line)


def _silent(_: Check) -> None:
    pass


def _sum_up(work: Verification, output: str | None) -> None:
    if output is not None:
        _print(work, output)
    for left in work.left:
        err.print(Text("left: ", style="bold red") + Text(left))
    if work.left:
        names = f"kubectl delete strategyruns,strategies -n {work.target.namespace} -l {LABEL}={work.token}"
        note(f"the next `mainstay verify` removes it, or: {names}")
    if work.interrupted:
        note("interrupted" + ("" if work.left else "; nothing of it is left"))
    if output is not None or work.interrupted:
        return
    skipped = sum(1 for check in work.checks if check.outcome is Outcome.SKIPPED)
    rest = f", {skipped} skipped" if skipped else ""
    failed = sum(1 for check in work.checks if check.outcome is Outcome.FAILED)
    total = sum(check.seconds for check in work.checks)
    if failed:
        unreached = f"; {work.unreached} were not reached" if work.unreached else ""
        out.print(f"{failed} of {len(work.checks)} checks failed{rest}{unreached}")
    else:
        out.print(f"{len(work.checks) - skipped} checks passed{rest}, in {total:.1f} s")


def _print(work: Verification, output: str) -> None:
    told: dict[str, Any] = {
        "ok": work.good and not work.interrupted,
        "interrupted": work.interrupted,
        "checks": [
            {
                "check": check.title,
                "outcome": str(check.outcome),
                "seconds": round(check.seconds, 3),
                "message": check.message,
            }
            for check in work.checks
        ],
        "unreached": work.unreached,
        "left": work.left,
    }
    if output == "json":
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        import yaml

        typer.echo(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), nl=False)
