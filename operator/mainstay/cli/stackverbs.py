"""restart, flush, and the older words for a restart of a stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Optional

import typer

from mainstay.cli.cluster import Target
from mainstay.cli.console import misuse
from mainstay.cli.meant import Meant, meant, stacks_meant
from mainstay.cli.names import Kind
from mainstay.cli.options import (
    ContextOption,
    DryRunOption,
    DryRunOutputOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    dry,
    target_of,
)
from mainstay.cli.stackrestart import Wish, mode, possible, restart_stack
from mainstay.cli.stacks import stack_name
from mainstay.cli.stackservice import restart_service
from mainstay.cli.verbs import RUN_SECONDS, refuse_held, restart_run

Names = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Argument(
        help="Runs and stacks by name; run/NAME, stack/NAME; stack/NAME/SERVICE is one service. With --mode a stack: "
        "the only one there is, if none is named.",
        metavar="NAME...",
        show_default=False,
    ),
]
StackName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(
        help="Name of a ServiceStack. Default: the only one in the namespace.",
        metavar="STACK",
        show_default=False,
    ),
]
ModeOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--mode",
        "-m",
        metavar="MODE",
        help="Of a stack: full, quick, emergency or flush. Default: full.",
        show_default=False,
    ),
]
RestartWaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Follow it to its end, step by step.")
]
RestartTimeoutOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--timeout",
        help="Seconds to wait at most. Default: 60 for runs and services, no limit for stacks: their steps have some.",
        show_default=False,
    ),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Print every detail of each step of a stack's restart.", show_default=False
    ),
]


def restart(
    names: Names = None,
    mode_: ModeOption = None,
    namespace: NamespaceOption = "default",
    wait: RestartWaitOption = True,
    timeout: RestartTimeoutOption = None,
    verbose: VerboseOption = False,
    dry_run: DryRunOption = False,
    output: DryRunOutputOption = None,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Restart runs once (raises spec.restartNonce), with the same port and run id; or a stack step by step, verified.

    A stack's restart is an object of its own (kind StackRestart). Modes:

    full: end strangers on its ports, stop services and supervisor,
    start both fresh, verify each service
    quick: the same, but strangers are left alone
    emergency: kill services and supervisor, end strangers, start fresh, verify
    flush: end strangers on its ports, and nothing else

    A stack has one restart at a time; others wait, in order of age. Ctrl-C ends
    the following, not the restart. `kubectl delete srestart NAME` gives it up:
    the stack then goes on as declared.

    stack/NAME/SERVICE restarts that service alone (raises its restartNonce).
    With --dry-run it prints the JSON patch, as kubectl patch --type json has it.

    Older words: master is restart --mode full, force is --mode emergency.
    """
    target = target_of(home, namespace, kubeconfig, context)
    wish = Wish(mode(mode_ or "full"), wait, timeout, verbose, dry(dry_run, output))
    if mode_ is not None:
        wish = replace(wish, verb=f"restart --mode {mode_}")
        stacks = stacks_meant(target, names or [])
        for one in stacks:
            possible(target, one.obj, wish)
        for one in stacks:
            restart_stack(target, one.ref.name, wish)
        if not stacks:
            restart_stack(target, None, wish)
        return
    if not names:
        misuse("name a run or a stack, for example: mainstay restart my-bot, mainstay restart stack/backend")
    found = meant(target, names, "restart")
    refuse_held(target, found)
    for one in found:
        if one.ref.kind is Kind.STACK:
            possible(target, one.obj, wish)
    for one in found:
        _restart(target, one, wish)


def _restart(target: Target, one: Meant, wish: Wish) -> None:
    seconds = RUN_SECONDS if wish.timeout is None else wish.timeout
    if one.service is not None:
        restart_service(target, one.ref.name, one.service, wish.wait, seconds, wish.dry_run)
    elif one.ref.kind is Kind.STACK:
        restart_stack(target, one.ref.name, wish)
    else:
        restart_run(target, one.ref.name, wish.wait, seconds, wish.dry_run)


def _mode_verb(name: str, told: str) -> Callable[..., None]:
    """Make the command for a restart of that mode; `told` is its help."""

    def verb(
        stack: StackName = None,
        namespace: NamespaceOption = "default",
        wait: RestartWaitOption = True,
        timeout: TimeoutOfStack = None,
        verbose: VerboseOption = False,
        dry_run: DryRunOption = False,
        output: DryRunOutputOption = None,
        home: HomeOption = None,
        kubeconfig: KubeconfigOption = None,
        context: ContextOption = None,
    ) -> None:
        target = target_of(home, namespace, kubeconfig, context)
        wanted = None if stack is None else stack_name(stack)
        wish = Wish(mode(name), wait, timeout, verbose, dry(dry_run, output), verb=name)
        restart_stack(target, wanted, wish)

    verb.__name__, verb.__doc__ = name, told
    return verb


TimeoutOfStack = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--timeout",
        help="Seconds to wait at most. Default: no limit; its steps have their own.",
        show_default=False,
    ),
]
flush = _mode_verb(
    "flush",
    "End strangers on the assigned ports of a stack, and nothing else: its services go on, reserved ports are never "
    "touched.",
)
_FULL = "Restart a stack: end strangers on its ports, stop services and supervisor, start both fresh, verify."
_EMERGENCY = "Restart a stack by force: kill its services and supervisor, end strangers, start fresh, verify."
full = _mode_verb("full", _FULL)
master = _mode_verb("master", _FULL)
quick = _mode_verb("quick", "Restart a stack as `full` does, but without ending strangers on its ports.")
emergency = _mode_verb("emergency", _EMERGENCY)
force = _mode_verb("force", _EMERGENCY)


def help_(
    context: typer.Context,
    verb: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="A command. Default: all of them.", metavar="VERB", show_default=False),
    ] = None,
) -> None:
    """Print this help, or that of a command."""
    root = context.find_root()
    words = list(verb or [])
    known = getattr(root.command, "commands", {})
    if words and words[0] not in known:
        misuse(f"no command {words[0]}; `{root.info_name} help` lists them")
    root.command.main([*words, "--help"], prog_name=root.info_name, standalone_mode=False)


OLDER: dict[str, Callable[..., None]] = {
    "master": master,
    "full": full,
    "quick": quick,
    "emergency": emergency,
    "force": force,
    "help": help_,
}
"""Words of those who restarted their services with a script; understood, and listed in one line only."""
