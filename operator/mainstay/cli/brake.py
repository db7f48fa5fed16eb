"""stop and release: by the API, or with nothing but files and processes (the brake)."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from mainstay.cli.cluster import Target, this_machine
from mainstay.cli.console import fail, misuse, note, out
from mainstay.cli.names import Kind
from mainstay.cli.options import (
    ContextOption,
    DryRunOption,
    DryRunOutputOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    TimeoutOption,
    WaitOption,
    dry,
    home_of,
    target_of,
)
from mainstay.cli.verbs import set_state

_AFTER = {
    "runs": ", its port is given back; `mainstay release {name}` lets it run again",
    "jobs": "; `mainstay release {name}` lifts that, and `mainstay resume` goes on with the job",
}
_AFTER_SERVICE = "; `mainstay release {name}` lets it run again"
OptionalNames = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Argument(
        help="Runs and stacks by name; run/NAME, stack/NAME. With the brake also stack/NAME/SERVICE and job/NAME.",
        metavar="NAME...",
        show_default=False,
    ),
]
AllOption = Annotated[
    bool, typer.Option("--all", help="Every run, service and task on this machine, in every namespace.")
]


def stop(
    names: OptionalNames = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="The brake: needs only files and processes, works with everything else dead, and holds until "
            "`mainstay release`.",
        ),
    ] = False,
    everything: AllOption = False,
    namespace: NamespaceOption = "default",
    wait: WaitOption = True,
    timeout: TimeoutOption = 60,
    dry_run: DryRunOption = False,
    output: DryRunOutputOption = None,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Stop runs and stacks (spec.state: Stopped); their definition, data and run id stay. With --offline: the brake."""
    dry_run = dry(dry_run, output)
    if everything and not offline:
        misuse("--all goes with --offline; without it, name what to stop")
    if not offline:
        if not names:
            misuse("name at least one run or stack, for example: mainstay stop my-bot")
        _online(target_of(home, namespace, kubeconfig, context), names, wait, timeout, dry_run)
        return
    if dry_run:
        misuse("--dry-run doesn't go with --offline: the brake is no change of an object")
    from mainstay.cli import braked
    from mainstay.runtime.process import brake

    place = home_of(home)
    this_machine(Target(place, namespace, kubeconfig, context), "the brake ends processes")
    for one in braked.units(place, names, everything, namespace, stop=True):
        note(f"stopping {one.told}")
        ended = brake.stop_offline(place.root, one.scope, one.unit)
        if not ended:
            fail(f"{one.told}: some of its processes can't be ended; `mainstay status` shows them")
        after = _AFTER.get(one.scope, _AFTER_SERVICE).format(name=one.name)
        out.print(f"{one.told} stopped and held{after}")
    if jobs := [name for name in names or [] if name.partition("/")[0] == Kind.JOB.word]:
        note(f"its other tasks are not held: where an operator works, `mainstay pause {' '.join(jobs)}` too")


def _online(target: Target, names: list[str], wait: bool, timeout: float, dry_run: bool) -> None:
    from mainstay.cli.meant import meant
    from mainstay.cli.stacklogs import split
    from mainstay.cli.stacks import set_stack_state

    for name in names:
        stack, service = split(name)
        if service is not None:
            fail(
                f"{name}: a stack is stopped as a whole: {target.say(f'stop {stack}')}\n"
                f"  mainstay stop --offline {name}   holds one service of it, until `mainstay release {name}`"
            )
    wanted = [one.ref for one in meant(target, names, "stop")]
    if bots := [one.name for one in wanted if one.kind is Kind.RUN]:
        set_state(target, bots, "Stopped", wait, timeout, dry_run)
    if stacks := [one.name for one in wanted if one.kind is Kind.STACK]:
        set_stack_state(target, stacks, "Stopped", wait, timeout, dry_run)


def release(
    names: OptionalNames = None,
    everything: AllOption = False,
    namespace: NamespaceOption = "default",
    home: HomeOption = None,
) -> None:
    """Lift the brake of `stop --offline`: the run, or the service, goes back to what its spec asks."""
    from mainstay.cli import braked
    from mainstay.runtime.process import brake

    place = home_of(home)
    this_machine(Target(place, namespace), "the brake is lifted")
    for one in braked.units(place, names, everything, namespace, stop=False):
        if brake.release(place.root, one.scope, one.unit):
            out.print(f"{one.told} released")
        elif not everything:
            note(f"{one.told} was not held")
