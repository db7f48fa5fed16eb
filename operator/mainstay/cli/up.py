"""`mainstay up` and `mainstay down`: the whole of Mainstay on this machine, and nothing left of it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from mainstay.cli.apply import apply_all, documents, established, served
from mainstay.cli.console import err, fail, note, out, show, step
from mainstay.cli.home import Home, data
from mainstay.cli.options import ContextOption, HomeOption, home_of
from mainstay.cli.samples import copy_samples
from mainstay.runtime.process import known_scopes
from mainstay.shell.kube import LIBRARIES, POOLS, RUNS, STACKS, Kube, Object, path

if TYPE_CHECKING:
    from mainstay.controlplane.rungs.base import Binaries
    from mainstay.runtime.process import ProcessRuntime
    from mainstay.runtime.process.tasks import ProcessTaskRuntime

SAMPLE = "ema-rsi"
FALLBACK = "EmaRsiStrategy"
"""The default of a library that `up --strategies` makes, where it has one of that name."""


def up(
    home: HomeOption = None,
    kubeconfig: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--kubeconfig",
            help="Use this cluster instead of bringing an own control plane.",
            show_default=False,
        ),
    ] = None,
    context: ContextOption = None,
    ports: Annotated[
        str, typer.Option("--ports", help="Range of the default PortPool when it is made, as FIRST-LAST.")
    ] = "8766-8799",
    quickstart: Annotated[
        bool, typer.Option("--quickstart/--no-quickstart", help="Apply the sample bot at the first start.")
    ] = True,
    strategies: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--strategies",
            help="Directory of strategies: StrategyLibrary main is made of it, or changed to it.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the sample bot.")] = 60,
) -> None:
    """Start everything: a control plane, the operator and a sample bot. Running it again is harmless."""
    place = home_of(home)
    _range(ports)
    if kubeconfig is not None and not Path(kubeconfig).is_file():
        fail(f"there is no {kubeconfig}")
    directory = _directory(strategies) if strategies is not None else None
    place.create()
    if kubeconfig is None and (other := os.environ.get("KUBECONFIG")) and Path(other) != place.kubeconfig:
        note(f"KUBECONFIG is set to {other} and not used; say --kubeconfig to use that cluster")
    with _only_one(place):
        try:
            asyncio.run(_up(place, kubeconfig, context, ports, quickstart, directory, timeout))
        except KeyboardInterrupt:
            err.print()
            fail("interrupted; what was started goes on. `mainstay down` ends it, `mainstay up` goes on", 130)


async def _up(
    home: Home,
    kubeconfig: str | None,
    context: str | None,
    ports: str,
    quickstart: bool,
    strategies: Path | None,
    timeout: float,
) -> None:
    from mainstay.cli import system as parts

    system = parts.runtime(home)
    await system.start_up()
    try:
        if kubeconfig is None:
            await _control_plane(home, system)
            admin, operators, embedded = home.kubeconfig, home.operator_kubeconfig, True
        else:
            admin = operators = Path(kubeconfig).absolute()
            embedded = False
            if not home.kubeconfig.exists():
                home.kubeconfig.symlink_to(admin)  # where the other commands look
        kube = await Kube.connect(str(admin), context)
        try:
            fresh = await _objects(home, kube, ports, quickstart)
            if strategies is not None:
                await _library(kube, strategies)
            with step("operator"):
                await parts.ensure(system, parts.operator_program(home, operators, embedded=embedded))
                await parts.operator_works(system, home, 60)
            await _first_run(kube, fresh, timeout)
            await _tell(home, kube, admin)
        finally:
            await kube.close()
    except parts.PartFailedError as error:
        fail(str(error))
    finally:
        await system.close()


async def _control_plane(home: Home, system: Any) -> None:
    from mainstay.cli import system as parts
    from mainstay.controlplane.binaries import NoBinariesError, obtain
    from mainstay.controlplane.plane import KUBE_APISERVER, prepare
    from mainstay.controlplane.ready import NotReadyError, wait_ready

    try:
        binaries = await asyncio.to_thread(obtain, None, note)
    except NoBinariesError as error:
        fail(str(error))
    note(f"control plane {binaries.version} from {binaries.rung}, {binaries.kube_apiserver.parent}")
    prepared = prepare(home.root, binaries)
    with step("etcd and kube-apiserver"):
        for part in prepared.parts:
            program = parts.Program(part.name, part.argv, part.env)
            if prepared.renewed & {"ca", "etcd/ca", "sa"}:
                await parts.end(system, part.name)
            await parts.ensure(system, program)
        api = next(p for p in prepared.parts if p.name == KUBE_APISERVER)
        logs = {p.name: parts.logs(home, p.name) for p in prepared.parts}
        try:
            await wait_ready(api.ready, timeout=120, logs=logs)
        except NotReadyError as error:
            fail(str(error))
    _tools(home, binaries)


def _tools(home: Home, binaries: Binaries) -> None:
    """Put the matching kubectl, and ourselves as its plugin, with its completion, into the home's bin."""
    home.bin.mkdir(exist_ok=True)
    wanted = {"kubectl": binaries.kubectl}
    scripts = Path(sys.executable).parent
    for name in ("mainstay", "kubectl-mainstay", "kubectl_complete-mainstay"):
        if (scripts / name).exists():
            wanted[name] = scripts / name
    for name, target in wanted.items():
        link = home.bin / name
        if not link.is_symlink() or link.readlink() != target:
            fresh = home.bin / f".{name}"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
            fresh.rename(link)


async def _objects(home: Home, kube: Kube, ports: str, quickstart: bool) -> bool:
    """Apply CRDs, policies, the default pool and, once in a home's life, the sample; True if that was now."""
    for words in copy_samples(data("samples"), home.samples):
        note(words)
    with step("CRDs, policies and the default port pool"):
        crds = list(documents(data("crds")))
        await apply_all(kube, crds)
        await apply_all(kube, documents(data("policies")))
        await established(kube, crds)
        await _pool(kube, ports)
    marker = home.root / "quickstart-applied"
    if not quickstart or marker.exists():
        return False
    objects = list(documents(data("samples") / "quickstart.yaml"))
    await served(lambda: apply_all(kube, objects))
    marker.touch()
    return True


def _range(ports: str) -> tuple[int, int]:
    first, dash, last = ports.partition("-")
    if not (dash and first.isdigit() and last.isdigit()):
        fail(f"--ports {ports}: write FIRST-LAST, for example 8766-8799")
    if not 1024 <= int(first) <= int(last) <= 65535:
        fail(f"--ports {ports}: FIRST is at least 1024 and at most LAST, which is at most 65535")
    return int(first), int(last)


async def _pool(kube: Kube, ports: str) -> None:
    """Make the default pool where there is none; one that exists is the user's."""
    first, last = _range(ports)
    url = path(POOLS, name="default")

    async def make() -> None:
        if await kube.get(url) is None:
            ranges = [{"first": first, "last": last}]
            body = {"metadata": {"name": "default"}, "spec": {"ranges": ranges}}
            await kube.create(POOLS, "PortPool", "", body)

    await served(make)


def _directory(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if path.exists() and not path.is_dir():
        fail(f"--strategies {text}: that is a file; name the directory it is in: {path.parent}")
    if not path.is_dir():
        fail(f"--strategies {text}: there is no directory {path}; make it first")
    return path


async def _library(kube: Kube, directory: Path) -> None:
    """Have library main look there. What else its spec says, the default included, is the user's."""
    url = path(LIBRARIES, "default", "main")
    source = {"directory": str(directory), "configMaps": None}
    with step(f"strategies of {directory}"):
        known = await kube.get(url)
        if known is not None:
            await kube.patch(url, {"spec": {"source": source}})
            _default(known, directory)
            return
        default = {"default": FALLBACK} if (directory / f"{FALLBACK}.py").is_file() else {}
        spec = {"source": {"directory": str(directory)}, **default}
        body = {"metadata": {"name": "main", "namespace": "default"}, "spec": spec}
        await kube.create(LIBRARIES, "StrategyLibrary", "default", body)


def _default(library: Object, directory: Path) -> None:
    """Say so where the library's default is not in the directory that it looks at from now on."""
    from mainstay.cli.strategies import set_default

    default = library["spec"].get("default")
    if default and not any(file.stem == default for file in directory.iterdir()):
        note(
            f"the default of library main, {default}, is not in {directory}: users of a deleted strategy keep its "
            f"last code.\n  Put {default}.py there, or: {set_default(library)}"
        )


async def _first_run(kube: Kube, fresh: bool, timeout: float) -> None:
    """Wait for the sample bot where it should run; what else there is comes by itself."""
    from mainstay.cli.words import condition

    url = path(RUNS, "default", SAMPLE)
    obj = await kube.get(url)
    if obj is None or obj["spec"].get("state", "Running") != "Running":
        return
    if not fresh and condition(obj, "HeldLocally").get("status") == "True":
        return
    with step(f"sample bot {SAMPLE}"):
        deadline = time.monotonic() + timeout
        while True:
            obj = await kube.get(url) or {}
            ready = condition(obj, "Ready")
            current = (obj.get("status") or {}).get("observedGeneration") == obj["metadata"]["generation"]
            if (
                current
                and ready.get("status") == "True"
                and condition(obj, "Serving").get("status") == "True"
            ):
                return
            if time.monotonic() > deadline:
                fail(
                    f"{SAMPLE} is not Ready after {timeout:.0f} s: {ready.get('reason')}: {ready.get('message')}\n"
                    f"  mainstay logs {SAMPLE}\n  kubectl describe srun {SAMPLE}"
                )
            await asyncio.sleep(0.05)


async def _tell(home: Home, kube: Kube, admin: Path) -> None:
    from mainstay.cli.cluster import everything
    from mainstay.cli.status import runs_table

    out.print()
    show(await runs_table(kube, None))
    stacks = await everything(kube, STACKS)
    if stacks:
        out.print()
    for stack in stacks:
        meta, seen = stack["metadata"], stack.get("status") or {}
        where = "" if meta["namespace"] == "default" else f" in namespace {meta['namespace']}"
        out.print(f"stack/{meta['name']} {seen.get('ready') or seen.get('phase') or 'Pending'}{where}")
    out.print()
    out.print(f"kubeconfig: {admin}")
    out.print("try next:")
    shell = "" if shutil.which("mainstay") else f"{os.path.relpath(Path(sys.executable).parent)}/"
    extra = f" --home {home.root}" if home.root != Home.resolve().root else ""
    out.print(f'  eval "$({shell}mainstay env{extra})"   # kubectl and mainstay on PATH, KUBECONFIG set')
    out.print("  mainstay status")
    out.print("  kubectl get srun")
    if await kube.get(path(RUNS, "default", SAMPLE)) is not None:
        out.print(f"  mainstay logs -f {SAMPLE}")
        out.print(f"  mainstay pause {SAMPLE}; mainstay resume {SAMPLE}")
    out.print("  mainstay run web --port -- python3 -m http.server '$(CONTROL_API_PORT)'")


def down(
    home: HomeOption = None,
    keep_runs: Annotated[
        bool,
        typer.Option(
            "--keep-runs", help="Leave bots, services and tasks running, for an upgrade of Mainstay."
        ),
    ] = False,
) -> None:
    """Stop everything gracefully: bots, services and tasks first, the control plane last. Objects and data stay.

    At the next `up` bots start again under their run ids, services too, and tasks that were cut off as their next
    attempt.
    """
    place = home_of(home)
    from mainstay.cli import system as parts

    scopes = ["system"] if keep_runs else ["system", *parts.scopes(place)]
    if not place.exists or not any(parts.lives(place, scope) for scope in scopes):
        out.print(f"nothing runs from {place.root}")
        return
    with _only_one(place):
        asyncio.run(_down(place, keep_runs))
    out.print(
        "down; `mainstay up` brings it back"
        + (", bots, services and tasks go on running" if keep_runs else "")
    )


async def _down(home: Home, keep_runs: bool) -> None:
    from mainstay.cli import system as parts
    from mainstay.controlplane.plane import ETCD, KUBE_APISERVER

    system = parts.runtime(home)
    try:
        await system.start_up()  # one that was killed is replaced, so that what it left can be ended
        with step("operator"):
            await parts.end(system, parts.OPERATOR)
        if not keep_runs:
            if parts.lives(home, "runs"):
                await _shut_down("bots", parts.runtime(home, "runs"))
            if parts.lives(home, "jobs"):
                await _shut_down("tasks", parts.task_runtime(home))
            for (namespace, stack), scope in known_scopes(home.root):
                if parts.lives(home, scope):
                    await _shut_down(f"stack {stack} in {namespace}", parts.runtime(home, scope))
        with step("kube-apiserver and etcd"):
            await parts.end(system, KUBE_APISERVER)
            await parts.end(system, ETCD)
        await system.shut_down_scope(stop_units=True)
    finally:
        await system.close()


async def _shut_down(words: str, runtime: ProcessRuntime | ProcessTaskRuntime) -> None:
    """End every unit of a scope within its grace period, and then its supervisord."""
    with step(words):
        await runtime.start_up()
        await runtime.shut_down_scope(stop_units=True)
    await runtime.close()


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """Hold the home: one `up` or `down` at a time."""
    home.create()
    with (home.root / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("another `mainstay up` or `down` works on this home; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
