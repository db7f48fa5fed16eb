"""`mainstay operator`: the reconciler, against any cluster, on the laptop or in a Pod."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import IO, Annotated, Any, Optional

import typer

from mainstay.cli.console import fail
from mainstay.cli.home import Home
from mainstay.cli.options import ContextOption, HomeOption, home_of

logger = logging.getLogger("mainstay")

API_PATIENCE_SECONDS = 60.0
_PR_SET_CHILD_SUBREAPER = 36


def operator(
    home: HomeOption = None,
    kubeconfig: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--kubeconfig",
            help="Cluster to reconcile. Default: $KUBECONFIG, ~/.kube/config, or the Pod's own account.",
            show_default=False,
        ),
    ] = None,
    context: ContextOption = None,
    embedded: Annotated[
        bool,
        typer.Option(
            "--embedded", help="The cluster is the home's own, without controllers: also finish namespaces."
        ),
    ] = False,
    impersonate: Annotated[
        bool,
        typer.Option(
            "--impersonate",
            help="Act as user mainstay-operator, with a kubeconfig that may: owned runs are closed to others.",
        ),
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Use this home with another cluster than before. Its processes that the new cluster does not "
            "know are left alone and reported.",
        ),
    ] = False,
    health: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--health", help="HOST:PORT to serve /healthz on.", show_default=False),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every step.")] = False,
) -> None:
    """Run the operator in the foreground until SIGTERM or Ctrl-C. Bots go on without it."""
    place = home_of(home)
    place.create()
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("kopf", "asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if kubeconfig is not None:
        os.environ["KUBECONFIG"] = kubeconfig  # kopf reads it there
    with _only_one(place):
        # Whatever supervises us may have made us the reaper of our descendants. Supervisors of bots must
        # not become our children: they outlive us.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        code = asyncio.run(_main(place, kubeconfig, context, embedded, impersonate, take_over, health))
    raise typer.Exit(code)


@contextlib.contextmanager
def _only_one(home: Home) -> Any:
    """Hold the home's operator lock: a second operator waits until the first is gone."""
    lock: IO[str] = (home.root / "operator.lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning(
                "another operator works on %s; waiting for it to end (`mainstay down` ends it, Ctrl-C this one)",
                home.root,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def _main(
    home: Home,
    kubeconfig: str | None,
    context: str | None,
    embedded: bool,
    impersonate: bool,
    take_over: bool,
    health: str | None,
) -> int:
    import kopf

    from mainstay import handlers
    from mainstay.runtime.process.runtime import ProcessRuntime
    from mainstay.runtime.process.tasks import ProcessTaskRuntime
    from mainstay.shell.kube import Kube
    from mainstay.shell.operator import Operator
    from mainstay.shell.store import HistoryLostError

    stop, started = asyncio.Event(), asyncio.Event()
    _on_signals(stop)
    kube = await Kube.connect(kubeconfig, context, as_operator=impersonate)
    admin = await Kube.connect(str(home.kubeconfig)) if embedded else None
    background: list[asyncio.Task[Any]] = []
    runtime = ProcessRuntime(home.root, "runs", home_id=home.identity(), extra_env=_user_env())
    tasks = ProcessTaskRuntime(home.root, home_id=home.identity(), extra_env=_user_env())
    worker = Operator(kube, runtime, tasks, ephemeral_ports=_ephemeral_ports())
    try:
        await kube.wait_ready(API_PATIENCE_SECONDS)
        await _own(home, kube, take_over)
        await asyncio.gather(runtime.start_up(), tasks.start_up())
        await worker.start()
        if admin is not None:
            from mainstay.controlplane import namespaces

            background.append(asyncio.create_task(namespaces.run(admin)))
        background.append(
            watching := asyncio.create_task(
                kopf.operator(
                    ready_flag=started,
                    registry=handlers.registry(worker),
                    clusterwide=True,
                    standalone=True,
                    liveness_endpoint=f"http://{health}/healthz" if health else None,
                )
            )
        )
        await _either(watching, started.wait())
        _on_signals(stop)  # kopf takes them over when it starts, and would take seconds to end
        await _either(watching, worker.caught_up.wait())
        home.operator_ready.write_text(f"{os.getpid()}\n")
        logger.info(
            "operating %d runs and %d jobs from %s",
            len(worker.store.runs.objects),
            len(worker.index.jobs.objects),
            home.root,
        )
        assert worker.lost is not None
        await _either(watching, worker.lost, stop.wait())
        if worker.lost.done():
            worker.lost.result()
        if not stop.is_set():
            await watching  # raises what ended it
            return 1
        return 0
    except HistoryLostError as error:
        logger.error("%s", error)
        return 75
    finally:
        home.operator_ready.unlink(missing_ok=True)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await worker.close()
        await asyncio.gather(runtime.close(), tasks.close())
        await kube.close()
        if admin is not None:
            await admin.close()


async def _either(*awaitables: Awaitable[Any]) -> None:
    """Return when one of them is done; the others go on."""
    futures = [asyncio.ensure_future(one) for one in awaitables]
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _on_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _own(home: Home, kube: Any, take_over: bool) -> None:
    """Refuse another cluster than the one this home's processes belong to: it must not stop them."""
    from mainstay.shell.kube import core_path

    namespace = await kube.get(core_path("namespaces", name="kube-system"))
    uid = (namespace or {}).get("metadata", {}).get("uid", "")
    if not uid:
        fail("the cluster has no namespace kube-system yet; nothing is done until its identity is known", 75)
    known = json.loads(home.owner.read_text())["cluster"] if home.owner.exists() else None
    if known not in (None, uid) and not take_over:
        fail(
            f"{home.root} belongs to cluster {known}, and this is cluster {uid}. Its processes are left alone. "
            "Name the right kubeconfig, use another MAINSTAY_HOME, or say --take-over.",
            78,
        )
    if known != uid:
        fresh = home.owner.with_suffix(".tmp")
        fresh.write_text(json.dumps({"cluster": uid}) + "\n")
        fresh.rename(home.owner)


def _user_env() -> dict[str, str]:
    """What every unit's clean environment takes over from ours."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}


def _ephemeral_ports() -> tuple[int, int] | None:
    """The kernel's range for outgoing connections, where it can be known."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except (OSError, ValueError):
        return None
    return int(first), int(last)
