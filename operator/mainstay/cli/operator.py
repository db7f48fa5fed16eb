"""`mainstay operator`: the reconciler, against any cluster, on the laptop or in a Pod."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Optional
from urllib.parse import urlsplit

import typer

from mainstay.cli.console import fail
from mainstay.cli.home import Home
from mainstay.cli.options import ContextOption, HomeOption, home_of

if TYPE_CHECKING:
    from mainstay.shell.endpoints import Endpoints
    from mainstay.shell.operator import Operator

logger = logging.getLogger("mainstay")

API_PATIENCE_SECONDS = 60.0
END_SECONDS = 1.0
"""What kopf's watches, and after them our connections, have to end by themselves, and once more when cancelled."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)
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
        typer.Option(
            "--health",
            help="HOST:PORT to serve /healthz, /readyz and /metrics on; port 0 takes a free one.",
            show_default=False,
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every step.")] = False,
) -> None:
    """Run the operator in the foreground until SIGTERM or Ctrl-C, twice for at once. Bots go on without it."""
    place = home_of(home)
    address = _address(health) if health is not None else None
    place.create()
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("kopf", "asyncio", "aiohttp", "watchfiles"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if kubeconfig is not None:
        os.environ["KUBECONFIG"] = kubeconfig  # kopf reads it there
    with _only_one(place):
        # Whatever supervises us may have made us the reaper of our descendants. Supervisors of bots must
        # not become our children: they outlive us.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        code = asyncio.run(_main(place, kubeconfig, context, embedded, impersonate, take_over, address))
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
    address: tuple[str, int] | None,
) -> int:
    from mainstay.runtime.probes import HostProbes
    from mainstay.runtime.process.runtime import ProcessRuntime
    from mainstay.runtime.process.stacks import ProcessStacks
    from mainstay.runtime.process.tasks import ProcessTaskRuntime
    from mainstay.runtime.strategies import Shelf
    from mainstay.shell.endpoints import Endpoints
    from mainstay.shell.kube import Kube
    from mainstay.shell.operator import SHUTDOWN_SECONDS, Operator
    from mainstay.shell.store import HistoryLostError

    stop, stop_watching = asyncio.Event(), asyncio.Event()
    _on_signals(stop)
    kube = await Kube.connect(kubeconfig, context, as_operator=impersonate)
    admin = await Kube.connect(str(home.kubeconfig)) if embedded else None
    runtime = ProcessRuntime(home.root, "runs", home_id=home.identity(), extra_env=_user_env())
    tasks = ProcessTaskRuntime(home.root, home_id=home.identity(), extra_env=_user_env())
    shelf = Shelf(home.root)
    stacks = ProcessStacks(home.root, home_id=home.identity(), extra_env=_user_env())
    probes = HostProbes(str(home.root))
    worker = Operator(
        kube, runtime, tasks, shelf, stacks, probes, home=home.root, ephemeral_ports=ephemeral_ports()
    )
    worker.metrics.shutdowns.keep(home.root / "shutdowns.json")
    endpoints = Endpoints(worker, kube)
    watches: list[asyncio.Task[Any]] = []
    sweeps: list[asyncio.Task[Any]] = []

    async def operate() -> int:
        """Return or raise what ended it other than a signal."""
        if address is not None:
            await _serve(endpoints, home, *address)
        await kube.wait_ready(API_PATIENCE_SECONDS)
        await _own(home, kube, take_over)
        await asyncio.gather(runtime.start_up(), tasks.start_up(), shelf.start_up(), stacks.start_up())
        await worker.start()
        assert worker.lost is not None
        if admin is not None:
            from mainstay.controlplane import garbage, namespaces

            sweeps.append(asyncio.create_task(namespaces.run(admin)))
            sweeps.append(asyncio.create_task(garbage.run(admin)))
        watches.append(watching := asyncio.create_task(_watch(worker, stop, stop_watching)))
        await _either(watching, worker.lost, worker.caught_up.wait())
        if worker.caught_up.is_set():
            home.operator_ready.write_text(f"{os.getpid()}\n")
            logger.info(
                "operating %d runs and %d jobs from %s",
                len(worker.store.runs.objects),
                len(worker.index.jobs.objects),
                home.root,
            )
            await _either(watching, worker.lost)
        if worker.lost.done():
            worker.lost.result()
        await watching
        return 1

    working = asyncio.create_task(operate())
    try:
        await _either(working, stop.wait())
        return 0 if stop.is_set() else await working
    except HistoryLostError as error:
        logger.error("%s", error)
        return 75
    finally:
        # Should anything of what follows hang, a thread or a lock: it tells where, and ends us.
        faulthandler.dump_traceback_later(SHUTDOWN_SECONDS - 1, exit=True, file=2)
        home.operator_ready.unlink(missing_ok=True)
        await _ended([working, *sweeps], END_SECONDS)
        await worker.close()  # before kopf: its end is not gentle to tasks that are not its own
        stop_watching.set()
        await _ended(watches, END_SECONDS, gently=True)
        home.operator_url.unlink(missing_ok=True)
        closing = [runtime.close(), tasks.close(), shelf.close(), stacks.close()]
        closing += [endpoints.close(), kube.close()]
        if admin is not None:
            closing.append(admin.close())
        await _ended([asyncio.ensure_future(one) for one in closing], END_SECONDS, gently=True)
        faulthandler.cancel_dump_traceback_later()


async def _watch(worker: Operator, stop: asyncio.Event, enough: asyncio.Event) -> None:
    """Have kopf tell the operator of events, until it is enough or kopf gives up."""
    import kopf

    from mainstay import handlers

    watches = await kopf.spawn_tasks(
        registry=handlers.registry(worker), clusterwide=True, standalone=True, stop_flag=enough
    )
    _on_signals(stop)  # kopf has just taken them over
    await kopf.run_tasks(watches, ignored=_Everything())


class _Everything(Collection[Any]):
    """Kopf ends every task of the loop that began after its own; ours are none of its business."""

    def __contains__(self, _: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


async def _serve(endpoints: Endpoints, home: Home, host: str, port: int) -> None:
    try:
        url = await endpoints.listen(host, port)
    except OSError as error:
        fail(f"--health {host}:{port} can't be listened on: {error.strerror or error}")
    home.operator_url.write_text(url + "\n")
    logger.info("health and metrics at %s", url)


def _address(text: str) -> tuple[str, int]:
    """Split HOST:PORT; IPv6 in brackets."""
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None or parts.netloc != text:
        fail(f"--health {text}: write HOST:PORT, for example 127.0.0.1:8080 or [::]:8080")
    return host, port


async def _either(*awaitables: Awaitable[Any]) -> None:
    """Return when one of them is done; the others go on."""
    futures = [asyncio.ensure_future(one) for one in awaitables]
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _ended(tasks: Sequence[asyncio.Future[Any]], seconds: float, *, gently: bool = False) -> None:
    """See them end: cancelled at once, or only when the time is up."""
    if not tasks:
        return
    if gently:
        await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("shutdown: %s", error)


def _on_signals(stop: asyncio.Event) -> None:
    """Stop at the first signal; the second one ends the process at once, whatever it is doing."""
    loop = asyncio.get_running_loop()

    def told() -> None:
        stop.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in SIGNALS:
        loop.add_signal_handler(number, told)
    if stop.is_set():
        told()


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


def ephemeral_ports() -> tuple[int, int] | None:
    """The kernel's range for outgoing connections, where it can be known."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except (OSError, ValueError):
        return None
    return int(first), int(last)
