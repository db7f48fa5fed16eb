"""start, pause: a change of spec, and nothing else. And `run`, which makes a run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Optional

import typer

from mainstay.api.meta import API_VERSION
from mainstay.cli.cluster import Target, call, get_run
from mainstay.cli.console import fail, note, out
from mainstay.cli.health import operator_trouble
from mainstay.cli.jobstate import refuse_never, set_job_state
from mainstay.cli.meant import Meant, meant
from mainstay.cli.names import Kind
from mainstay.cli.options import (
    ContextOption,
    DryRunOption,
    DryRunOutputOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    NoTimeoutOption,
    TimeoutOption,
    WaitOption,
    dry,
    target_of,
)
from mainstay.cli.stacks import set_stack_state
from mainstay.cli.words import condition, one_line, print_yaml
from mainstay.core import reasons
from mainstay.shell.kube import RUNS, ApiError, Kube, Object, path

STAY_SECONDS = 1.0
"""How long a program without a probe is watched before a command says that it runs."""

CRASHING_SECONDS = 3.0
"""How long a command waits for a program that ends by itself again and again."""

AnyNames = Annotated[list[str], typer.Argument(help="Runs by name; job/NAME, batch/NAME.", metavar="NAME...")]
SomeWaitOption = Annotated[
    Optional[bool],  # noqa: UP045 - typer reads it at run time
    typer.Option(
        "--wait/--no-wait",
        help="Wait until the state is reached. Default: for runs and stacks, not for jobs.",
        show_default=False,
    ),
]
RUN_SECONDS = 60.0


StartedNames = Annotated[
    list[str],
    typer.Argument(
        help="Runs and stacks by name; run/NAME, stack/NAME, job/NAME, batch/NAME.", metavar="NAME..."
    ),
]


def _state_verb(
    name: str, state: str, of_jobs: str, told: str, names_are: Any = AnyNames
) -> Callable[..., None]:
    """Make the command that asks for a state, of jobs and batches for `of_jobs`; `told` is its help."""

    def verb(
        names: AnyNames,
        namespace: NamespaceOption = "default",
        wait: SomeWaitOption = None,
        timeout: NoTimeoutOption = None,
        dry_run: DryRunOption = False,
        output: DryRunOutputOption = None,
        home: HomeOption = None,
        kubeconfig: KubeconfigOption = None,
        context: ContextOption = None,
    ) -> None:
        target = target_of(home, namespace, kubeconfig, context)
        dry_run = dry(dry_run, output)
        found = meant(target, names, name)
        refuse_never(target, found, of_jobs)
        refuse_held(target, found, state)
        wanted = [one.ref for one in found]
        if bots := [one.name for one in wanted if one.kind is Kind.RUN]:
            seconds = RUN_SECONDS if timeout is None else timeout
            set_state(target, bots, state, wait is not False, seconds, dry_run)
        if stacks := [one.name for one in wanted if one.kind is Kind.STACK]:
            seconds = RUN_SECONDS if timeout is None else timeout
            set_stack_state(target, stacks, state, wait is not False, seconds, dry_run)
        if others := [one for one in wanted if one.kind in (Kind.JOB, Kind.BATCH)]:
            set_job_state(target, others, of_jobs, bool(wait), timeout, dry_run)

    verb.__name__, verb.__doc__ = name, told
    verb.__annotations__["names"] = names_are
    return verb


start = _state_verb(
    "start",
    "Running",
    "Running",
    "Start stopped runs and stacks, and suspended jobs (spec.state: Running). One that runs already is left alone.",
    StartedNames,
)
pause = _state_verb(
    "pause",
    "Paused",
    "Suspended",
    "Pause runs (spec.state: Paused): they keep their process, port and identity. Jobs and batches are suspended "
    "(spec.state: Suspended): what runs is finished, nothing new starts.",
)


def restart_run(target: Target, name: str, wait: bool, timeout: float, dry_run: bool) -> None:
    """Ask for one restart of a run, and wait for it."""

    async def work(kube: Kube) -> None:
        obj = await get_run(kube, target, name)
        if obj["spec"].get("state") == "Stopped":
            note(f"{name} is stopped, there is nothing to restart; `mainstay start {name}` starts it")
            return
        nonce = int(obj["spec"].get("restartNonce") or 0) + 1
        await change(kube, target, name, {"restartNonce": nonce}, "restart asked for", wait, timeout, dry_run)

    call(target, work)


def run(
    name: Annotated[str, typer.Argument(help="Name of the new run.")],
    command: Annotated[
        list[str], typer.Argument(help="Program and arguments, after `--`.", metavar="-- COMMAND...")
    ],
    port: Annotated[
        bool,
        typer.Option(
            "--port", help="Lease a control port: $(CONTROL_API_PORT) in arguments and environment."
        ),
    ] = False,
    env: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--env", "-e", help="NAME=VALUE for the environment; repeatable.", show_default=False),
    ] = None,
    working_dir: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--working-dir",
            "-w",
            help="Directory to start in. Default: the run's own data directory.",
            show_default=False,
        ),
    ] = None,
    strategy: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--strategy",
            "-s",
            metavar="[LIBRARY/]NAME",
            help="Strategy it uses: $(STRATEGY_PATH) in arguments and environment. Default library: main.",
            show_default=False,
        ),
    ] = None,
    namespace: NamespaceOption = "default",
    wait: WaitOption = True,
    timeout: TimeoutOption = 60,
    dry_run: DryRunOption = False,
    output: DryRunOutputOption = None,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Create a run of a command, and wait until it is ready.

    For example: mainstay run web --port -- python3 -m http.server '$(CONTROL_API_PORT)'.
    """
    from mainstay.cli import asking

    target = target_of(home, namespace, kubeconfig, context)
    asked: dict[str, str] | None = None
    program: dict[str, Any] = {"command": command}
    if env:
        program["env"] = [_variable(item) for item in env]
    if working_dir:
        program["workingDir"] = os.path.abspath(working_dir)
    spec: dict[str, Any] = {"program": program}
    if port:
        spec["controlApi"] = {}
    if strategy is not None:
        spec["strategy"] = asked = asking.read(target, strategy)
    obj = {
        "apiVersion": API_VERSION,
        "kind": "StrategyRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    if dry(dry_run, output):
        print_yaml(obj)
        return

    async def work(kube: Kube) -> None:
        try:
            created = await kube.create(RUNS, "StrategyRun", namespace, obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            fail(
                f"{name} exists already: `mainstay start {name}`, `kubectl delete srun {name}`, or another name"
            )
        out.print(f"strategyrun/{name} created")
        if asked is not None:
            await asking.tell(kube, target, asked)
        if wait:
            try:
                await wait_for(kube, target, name, created["metadata"]["generation"], timeout)
            except typer.Exit:
                where = f" -n {namespace}" if namespace != "default" else ""
                note(
                    f"{name} is there all the same, and Mainstay goes on with it:\n"
                    f"  kubectl get srun {name}{where} -w   follows it\n"
                    f"  kubectl delete srun {name}{where}   takes it away"
                )
                raise

    call(target, work)


def _variable(item: str) -> dict[str, str]:
    name, sign, value = item.partition("=")
    if not sign:
        fail(f"--env {item}: write NAME=VALUE")
    return {"name": name, "value": value}


def set_state(
    target: Target, names: list[str], state: str, wait: bool, timeout: float, dry_run: bool
) -> None:
    """Ask for a state of each run, and wait for it."""

    async def work(kube: Kube) -> None:
        for name in names:
            obj = await get_run(kube, target, name)
            if not dry_run and (obj["spec"].get("state") or "Running") == state:
                if told := _so(obj, obj["metadata"]["generation"]):
                    out.print(f"{told} already")
                    continue
                note(f"{name}: state is {state} already; it is not reached yet")
                if wait:
                    await wait_for(kube, target, name, obj["metadata"]["generation"], timeout)
                continue
            await change(kube, target, name, {"state": state}, f"state: {state}", wait, timeout, dry_run)

    call(target, work)


def refuse_held(target: Target, found: Sequence[Meant], state: str = "Running") -> None:
    """End the command where a run can't come up, because the brake of its host is on."""
    for one in found:
        if state == "Running" and condition(one.obj, "HeldLocally").get("status") == "True":
            name = one.ref.name
            fail(f"{name} is held on its host; `{target.say(f'release {name}')}` lets it run again")


def _so(obj: Object, generation: int) -> str:
    """That a run is as it was asked to be, in words; empty while it is not."""
    current = (obj.get("status") or {}).get("observedGeneration", 0) >= generation
    if not current or condition(obj, "Ready").get("status") != "True":
        return ""
    return f"strategyrun/{obj['metadata']['name']} is {obj['status']['phase']}"


async def change(
    kube: Kube,
    target: Target,
    name: str,
    spec: dict[str, Any],
    words: str,
    wait: bool,
    timeout: float,
    dry_run: bool,
) -> None:
    """Change a run's spec, and wait until it is so; `words` say what was changed."""
    if dry_run:
        metadata = {"name": name, "namespace": target.namespace}
        print_yaml({"apiVersion": API_VERSION, "kind": "StrategyRun", "metadata": metadata, "spec": spec})
        return
    answer = await kube.patch(path(RUNS, target.namespace, name), {"spec": spec})
    out.print(f"strategyrun/{name} {words}")
    if wait:
        await wait_for(kube, target, name, answer["metadata"]["generation"], timeout)


async def wait_for(kube: Kube, target: Target, name: str, generation: int, timeout: float) -> None:
    """Return when what is observed is what was asked; end the command if that needs a person, or too long."""
    deadline = time.monotonic() + timeout
    said, settled = "", False
    crashing_since: float | None = None
    while True:
        obj = await get_run(kube, target, name)
        ready, stalled = condition(obj, "Ready"), condition(obj, "Stalled")
        current = (obj.get("status") or {}).get("observedGeneration", 0) >= generation
        if told := _so(obj, generation):
            if not settled and obj["status"]["phase"] == "Running" and not _probed(obj):
                settled = True  # started is all that was seen: does it stay?
                await asyncio.sleep(STAY_SECONDS)
                continue
            out.print(told)
            return
        crashed = current and ready.get("reason") == reasons.CRASH_LOOP
        crashing_since = (crashing_since or time.monotonic()) if crashed else None
        if crashing_since is not None and time.monotonic() - crashing_since > CRASHING_SECONDS:
            fail(f"{name} does not stay up: {one_line(ready.get('message', ''))}\n  mainstay logs -p {name}")
        if current and stalled.get("status") == "True":
            fail(f"{name}: {stalled['reason']}: {one_line(stalled.get('message', ''))}")
        words = f"{name}: {ready.get('reason', 'Pending')}"
        if current and words != said and ready.get("reason"):
            said = words
            note(f"{words}: {one_line(ready.get('message', ''))}")
        if time.monotonic() > deadline:
            trouble = await operator_trouble(target)
            fail(
                f"{name} is not as asked after {timeout:.0f} s: "
                + (
                    f"{ready['reason']}: {one_line(ready.get('message', ''))}"
                    if ready
                    else "nobody has looked at it"
                )
                + (f"\n{trouble}" if trouble else f"\n  kubectl describe srun {name}\n  mainstay logs {name}")
            )
        await asyncio.sleep(0.1)


def _probed(obj: Object) -> bool:
    readiness = obj["spec"]["program"].get("readiness") or {}
    return "controlApi" in obj["spec"] or any(kind in readiness for kind in ("tcp", "http", "exec"))
