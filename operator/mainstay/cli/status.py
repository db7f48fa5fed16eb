"""`mainstay status` and `mainstay env`: what runs here, and how to reach it."""

from __future__ import annotations

import asyncio
import os
import shlex
from typing import Annotated, Any, Optional

import typer
from rich.text import Text

from mainstay.cli import called, machine
from mainstay.cli.cluster import NoClusterError, Target, call, connection, everything, get
from mainstay.cli.console import Rows, fail, note, out, show, table
from mainstay.cli.names import Kind, Ref, ref
from mainstay.cli.options import (
    AllNamespacesOption,
    ContextOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    home_of,
    target_of,
)
from mainstay.cli.stacklogs import split
from mainstay.cli.words import age, condition, count, one_line, print_as
from mainstay.core.names import object_key, task_key
from mainstay.shell.kube import (
    ASSETS,
    BATCHES,
    JOBS,
    LIBRARIES,
    RESTARTS,
    RUNS,
    STACKS,
    STRATEGIES,
    ApiError,
    ApiUnavailableError,
    Kube,
    Object,
    path,
)

STUCK_SHOWN = 20
_COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}


def env(home: HomeOption = None) -> None:
    """Print exports for your shell: eval "$(mainstay env)"."""
    place = home_of(home)
    if not place.kubeconfig.exists():
        fail(f"{place.root} has no control plane yet; `mainstay up` makes it")
    typer.echo(f"export MAINSTAY_HOME={shlex.quote(str(place.root))}")
    typer.echo(f"export KUBECONFIG={shlex.quote(str(place.kubeconfig))}")
    if str(place.bin) not in os.environ.get("PATH", "").split(os.pathsep):
        typer.echo(f'export PATH={shlex.quote(str(place.bin))}:"$PATH"')


def status(
    asked: typer.Context,
    name: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Argument(
            help="One run, stack/NAME, srestart/NAME, job/NAME, batch/NAME, asset/NAME, strategy/NAME or library/NAME, "
            "in depth. "
            "Default: everything.",
            show_default=False,
        ),
    ] = None,
    namespace: NamespaceOption = "default",
    everywhere: AllNamespacesOption = False,
    home: HomeOption = None,
    output: OutputOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show this machine's parts of Mainstay, every run, stack, job, batch, asset and library, what is wrong and what to do.

    Without a name it is about every namespace, with -n about that one.
    """
    target = target_of(home, namespace, kubeconfig, context)
    if name is not None:
        if everywhere:
            fail(f"-A goes without a name; -n names the namespace of {name}")
        _one(target, ref(split(name)[0], tuple(Kind)), output, bare="/" not in name)
        return
    if not target.home.exists and not target.named:
        fail(f"{target.home.root} is not in use; `mainstay up` starts there")
    from mainstay.cli import health

    source = asked.get_parameter_source("namespace")
    alone = namespace if not everywhere and source is not None and source.name == "COMMANDLINE" else None
    told, objects = asyncio.run(_status(target, alone))
    if output is not None:
        print_as(told, output)
        return
    if told["runs"] is None and not told["parts"]:
        fail(told["problem"])
    measured = f"   metrics: {told['metrics']}" if told["metrics"] else ""
    place = f"home: {told['home']}   " if told["home"] else ""
    out.print(f"{place}api: {told['api']}{measured}")
    out.print()
    parts = table("PART", "STATE", "PID", "RESTARTS")
    for part in told["parts"]:
        parts.add_row(part["name"], part["state"], str(part["pid"] or ""), str(part["restarts"]))
    if told["parts"]:
        show(parts)
        out.print()
    missing = [part["name"] for part in told["parts"] if part["state"] == machine.NOT_RUNNING]
    if told["runs"] is None:
        down = len(missing) == len(parts.rows)
        note(f"{told['problem']}; `mainstay up` starts {'everything' if down else 'what is missing'}")
        if told["units"]:
            local = table("UNIT", "STATE", "PID", "PORT")
            for unit in told["units"]:
                local.add_row(unit["name"], unit["state"], str(unit["pid"] or ""), str(unit["port"] or ""))
            show(local)
        raise typer.Exit(1)
    if told["runs"]:
        show(_table(told["runs"], target.namespace))
    elif not any(objects.values()):
        where = f" in namespace {alone}; -A shows every namespace" if alone else " yet"
        out.print(f"no runs, stacks, jobs, batches or assets{where}")
    from mainstay.cli import stackstate

    apart = bool(told["runs"]) or not any(objects.values())
    stackstate.show_glance(target, objects[STACKS], objects[RESTARTS], apart=apart)
    if objects[LIBRARIES] or objects[STRATEGIES]:
        from mainstay.cli import strategies

        if (libraries := strategies.libraries_table(target, objects[LIBRARIES], objects[STRATEGIES])).rows:
            out.print()
            show(libraries)
    _show_jobs(target, objects[BATCHES], objects[JOBS])
    from mainstay.cli import assets

    apart = bool(told["runs"]) or any(objects[plural] for plural in objects if plural != ASSETS)
    assets.show_glance(target, objects[ASSETS], objects[JOBS], apart=apart)
    if alone is None and (left := _without_object(told, objects)):
        out.print(f"\n{count(left, 'unit')} without an object: mainstay doctor")
    words = [f"{', '.join(missing)}: not running; `mainstay up` starts it"] if missing else []
    words += [still] if (still := health.paused(told["parts"])) else []
    if words:
        note(f"{'. '.join(words)}. What stands above may be old.")
        raise typer.Exit(1)


def _without_object(told: dict[str, Any], objects: dict[str, list[Object]]) -> int:
    """How many units of this machine no object stands for; they were looked at before the objects."""
    known = {(Kind.RUN, run["namespace"], run["name"]) for run in told["runs"]}
    known |= {
        (kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
        for plural, kind in ((JOBS, Kind.JOB), (STACKS, Kind.STACK))
        for obj in objects[plural]
    }
    return sum(_owner(unit["name"]) not in known for unit in told["units"])


def _owner(unit: str) -> tuple[Kind, str, str]:
    """The object that a unit is of, by its name as `machine.units` has it."""
    if "/" in unit:
        return Kind.STACK, *object_key(unit.partition("/")[0])
    if "_" in unit:
        return Kind.JOB, *task_key(unit)[:2]
    return Kind.RUN, *object_key(unit)


def _one(target: Target, named: Ref, output: str | None, *, bare: bool) -> None:
    """One object in depth; with -o as it is. A bare name is a stack, where there is no run of it."""
    from mainstay.cli import assetdepth, jobtree, restartstate, stackdepth, strategies
    from mainstay.cli.jobs import jobs_of
    from mainstay.cli.meant import run_or_stack

    async def work(kube: Kube) -> tuple[Ref, Object, dict[str, Object]]:
        wanted = await run_or_stack(kube, target, named.name) if bare else named
        return wanted, *await found(kube, wanted)

    async def found(kube: Kube, wanted: Ref) -> tuple[Object, dict[str, Object]]:
        if wanted.kind is Kind.STRATEGY:
            obj = await strategies.find(kube, target, wanted)
            return obj, await strategies.users_of(kube, obj)
        obj = await get(kube, target, wanted)
        match wanted.kind:
            case Kind.BATCH:
                return obj, await jobs_of(kube, target, obj)
            case Kind.LIBRARY:
                return obj, await strategies.strategies_of(kube, obj)
            case Kind.STACK:
                return obj, await stackdepth.restarts_for(kube, obj)
            case Kind.ASSET:
                return obj, await assetdepth.around(kube, obj)
            case Kind.JOB:
                return obj, await assetdepth.assets_of(kube, obj)
        return obj, {}

    wanted, obj, children = call(target, work)
    if output is not None:
        obj["metadata"].pop("managedFields", None)
        print_as(obj, output)
        return
    match wanted.kind:
        case Kind.JOB:
            jobtree.show_job(target, obj, assetdepth.claims_table(obj, children))
        case Kind.BATCH:
            jobtree.show_batch(target, obj, children)
        case Kind.STRATEGY:
            strategies.show_strategy(obj, children)
        case Kind.LIBRARY:
            strategies.show_library(target, obj, children)
        case Kind.STACK:
            stackdepth.show_stack(target, obj, children)
        case Kind.RESTART:
            restartstate.show_restart(target, obj)
        case Kind.ASSET:
            assetdepth.show_asset(target, obj, children)
        case Kind.RUN:
            show(_table([_row(obj)], target.namespace))
            strategies.show_of_run(obj)
            out.print(f"\nkubectl describe srun {wanted.name} -n {target.namespace}")


def _show_jobs(target: Target, batches: list[Object], jobs: list[Object]) -> None:
    """Batches, then jobs; of a batch's jobs only those that need somebody."""
    from mainstay.cli import jobtree
    from mainstay.cli.jobs import batch_of

    if batches:
        out.print()
        show(jobtree.batches_table(target, batches))
    alone = [job for job in jobs if batch_of(job) is None]
    stuck = [job for job in jobs if batch_of(job) is not None and jobtree.needs_someone(job)]
    if shown := [*alone, *stuck[:STUCK_SHOWN]]:
        out.print()
        show(jobtree.jobs_table(target, shown))
    if len(stuck) > STUCK_SHOWN:
        note(
            f"and {len(stuck) - STUCK_SHOWN} more jobs of batches that need somebody; `mainstay status batch/NAME`"
        )


async def _status(target: Target, alone: str | None) -> tuple[dict[str, Any], dict[str, list[Object]]]:
    """What is told, and the objects beside runs that it was told of, by plural; with `alone` of that namespace."""
    from mainstay.cli import assetstate, stackstate, strategies
    from mainstay.cli.jobtree import summary

    plurals = (BATCHES, JOBS, LIBRARIES, STRATEGIES, STACKS, RESTARTS, ASSETS)
    objects: dict[str, list[Object]] = {plural: [] for plural in plurals}
    told: dict[str, Any] = {
        "home": str(target.home.root) if target.here else None,
        "api": _server(target),
        "metrics": machine.metrics(target) if target.here else None,
        "parts": await machine.parts_of(target) if target.here else [],
        "units": await machine.units(target.home) if target.here else [],
        "runs": None,
    }
    try:
        async with connection(target) as kube:
            for plural in objects:
                objects[plural] = await everything(kube, plural, alone or "")
            told["batches"] = [summary(batch) for batch in objects[BATCHES]]
            told["jobs"] = [summary(job) for job in objects[JOBS]]
            told["libraries"] = [
                strategies.summary(library, objects[STRATEGIES]) for library in objects[LIBRARIES]
            ]
            told["stacks"] = [stackstate.summary(stack, objects[RESTARTS]) for stack in objects[STACKS]]
            queues = assetstate.waiting(objects[JOBS], assetstate.by_key(objects[ASSETS]))
            told["assets"] = [
                assetstate.summary(asset, queues.get(assetstate.key(asset), ()))
                for asset in sorted(objects[ASSETS], key=assetstate.rank)
            ]
            told["runs"] = [run async for run in _runs(kube, alone)]
    except ApiUnavailableError:
        told["problem"] = "the API server does not answer"
    except ApiError as error:
        told["problem"] = f"the API server refuses: {error.message}"
    except NoClusterError as error:
        told["problem"] = str(error)
    except Exception as error:
        told["problem"] = f"the API server can't be reached: {one_line(str(error))[:200]}"
    return told, objects


def _server(target: Target) -> str:
    return called.server(target.config_file, target.context) or "a cluster of your own"


async def runs_table(kube: Kube, namespace: str | None) -> Rows:
    """Return all runs as a table, those with a problem first."""
    return _table([run async for run in _runs(kube, namespace)])


async def _runs(kube: Kube, namespace: str | None) -> Any:
    async for page in kube.pages(path(RUNS, namespace or "")):
        for obj in page["items"]:
            yield _row(obj)


def _row(obj: Object) -> dict[str, Any]:
    seen = obj.get("status") or {}
    ready, resolved = condition(obj, "Ready"), condition(obj, "StrategyResolved")
    use = seen.get("strategy") or {}
    return {
        "namespace": obj["metadata"]["namespace"],
        "name": obj["metadata"]["name"],
        "state": seen.get("phase", "Pending"),
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", ""),
        "message": ready.get("message", ""),
        "port": seen.get("port") if seen.get("endpoint") else None,
        "restarts": seen.get("restarts", 0),
        "attempt": seen.get("attempt", 0),
        "runId": seen.get("runId"),
        "strategy": use.get("name") or (obj["spec"].get("strategy") or {}).get("name"),
        "revision": use.get("hash"),
        "fallback": bool(use.get("fallback")),
        "strategyProblem": f"{resolved['reason']}: {resolved.get('message', '')}"
        if resolved.get("status") == "False"
        else "",
        "created": obj["metadata"]["creationTimestamp"],
    }


def _table(runs: list[dict[str, Any]], here: str = "default") -> Rows:
    made = table("NAMESPACE", "RUN", "STATE", "READY", "PORT", "RESTARTS", "STRATEGY", "AGE", "MESSAGE")
    for run in sorted(runs, key=lambda r: (r["ready"] == "True", r["namespace"], r["name"])):
        words = run["strategyProblem"] if run["ready"] == "True" else f"{run['reason']}: {run['message']}"
        made.add_row(
            run["namespace"],
            run["name"],
            run["state"],
            Text(run["ready"], style=_COLOURS.get(run["ready"], "")),
            str(run["port"] or ""),
            str(run["restarts"]),
            f"{run['strategy'] or ''}{' (fallback)' if run['fallback'] else ''}",
            age(run["created"]),
            one_line(words).removeprefix(":"),
        )
    return made if {run["namespace"] for run in runs} - {here} else made.without("NAMESPACE")
