"""What `mainstay status` says of libraries and strategies: who uses which content, what is wrong with the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.text import Text

from mainstay.cli.cluster import Target, missing
from mainstay.cli.console import Rows, fail, out, show, table
from mainstay.cli.jobtree import here_alone
from mainstay.cli.names import Ref
from mainstay.cli.words import age, condition, one_line
from mainstay.core import reasons
from mainstay.core.strategy.resolve import short
from mainstay.shell.kube import RUNS, STRATEGIES, Kube, Object, path

DEFAULT_LIBRARY = "main"
INVALID = ("✗", "red")
MISSING = ("!", "yellow")


def called(strategy: Object) -> str:
    """Its name as runs write it."""
    return str(strategy["spec"].get("name") or strategy["metadata"]["name"])


def library_of(strategy: Object) -> tuple[str, str]:
    """Namespace and name of its library."""
    return strategy["metadata"]["namespace"], str(strategy["spec"].get("library") or DEFAULT_LIBRARY)


def trouble(obj: Object) -> str:
    """Why it can't be run as it is, or be read as a whole; empty where all is well."""
    ready = condition(obj, "Ready")
    return (
        one_line(f"{ready['reason']}: {ready.get('message', '')}") if ready.get("status") == "False" else ""
    )


def source_of(library: Object) -> str:
    """Where its strategies are, in a word."""
    source = library["spec"]["source"]
    if source.get("directory"):
        return str(source["directory"])
    labels = (source.get("configMaps") or {}).get("matchLabels") or {}
    return "ConfigMaps " + ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


# --- all of them


def libraries_table(target: Target, libraries: Sequence[Object], strategies: Sequence[Object]) -> Rows:
    """Each library, and below it those of its strategies that can't be run as they are."""
    made = table("NAMESPACE", "LIBRARY", "STRATEGIES", "INVALID", "PROBLEMS", "DEFAULT", "SOURCE", "MESSAGE")
    rows: dict[tuple[str, str], list[Object]] = {_key(library): [] for library in libraries}
    for strategy in strategies:
        rows.setdefault(library_of(strategy), []).append(strategy)
    known = {_key(library): library for library in libraries}
    for key, members in sorted(rows.items()):
        library = known.get(key)
        wrong = [strategy for strategy in members if trouble(strategy)]
        if library is not None:
            made.add_row(*_library_row(library))
        elif wrong:
            made.add_row(*key, str(len(members)), "", "", "", "", "there is no StrategyLibrary of this name")
        for strategy in sorted(wrong, key=called):
            made.add_row(key[0], _marked(strategy), "", "", "", "", "", trouble(strategy))
    return here_alone(target, made, [*libraries, *strategies])


def _library_row(library: Object) -> tuple[str | Text, ...]:
    seen = library.get("status") or {}
    default = str(library["spec"].get("default") or "")
    there = condition(library, "DefaultAvailable").get("reason") != reasons.DEFAULT_NOT_FOUND
    return (
        *_key(library),
        str(seen.get("strategies", "")),
        _counted(seen.get("invalid", "")),
        _counted(seen.get("problemCount", "")),
        Text(default) if there else Text(f"{default} (missing)", style="red"),
        source_of(library),
        trouble(library) or _unwatched(library),
    )


def _counted(number: Any) -> Text:
    return Text(str(number), style="red" if number else "")


def _unwatched(library: Object) -> str:
    watching = condition(library, "Watching")
    words = f"{watching.get('reason')}: {watching.get('message', '')}"
    return one_line(words) if watching.get("status") == "False" else ""


def _marked(strategy: Object) -> Text:
    gone = condition(strategy, "Ready").get("reason") == reasons.SOURCE_MISSING
    sign, style = MISSING if gone else INVALID
    return Text(f"  {sign} ", style=style) + Text(called(strategy))


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def summary(library: Object, strategies: Iterable[Object]) -> dict[str, Any]:
    """A library for -o json, with those of its strategies that can't be run as they are."""
    seen = library.get("status") or {}
    wrong = [s for s in strategies if library_of(s) == _key(library) and trouble(s)]
    return {
        "namespace": library["metadata"]["namespace"],
        "name": library["metadata"]["name"],
        "source": source_of(library),
        "default": library["spec"].get("default"),
        "strategies": seen.get("strategies", 0),
        "invalid": seen.get("invalid", 0),
        "problems": seen.get("problems") or [],
        "ready": condition(library, "Ready").get("status", "Unknown"),
        "reason": condition(library, "Ready").get("reason", ""),
        "message": condition(library, "Ready").get("message", ""),
        "notReady": [{"name": called(s), "message": trouble(s)} for s in wrong],
    }


# --- one of them


async def find(kube: Kube, target: Target, wanted: Ref) -> Object:
    """The strategy of that name, its object's or its own; ends the command if it is not one."""
    obj = await kube.get(path(STRATEGIES, target.namespace, wanted.name))
    if obj is not None:
        return obj
    named = [s for s in await _all(kube, STRATEGIES, target.namespace) if called(s) == wanted.name]
    if not named:
        fail(await missing(kube, target, wanted))
    if len(named) > 1:
        names = ", ".join(f"strategy/{s['metadata']['name']}" for s in named)
        fail(f"{wanted.name} is the name of {len(named)} strategies; say which: {names}")
    return named[0]


async def users_of(kube: Kube, strategy: Object) -> dict[str, Object]:
    """Runs that name the strategy, or run it as their fallback."""
    library, name = library_of(strategy), called(strategy)
    found = {}
    for run in await _all(kube, RUNS, library[0]):
        asked = run["spec"].get("strategy") or {}
        if (asked.get("library") or DEFAULT_LIBRARY) == library[1] and asked:
            use = (run.get("status") or {}).get("strategy") or {}
            if name in (asked.get("name"), use.get("name")):
                found[run["metadata"]["name"]] = run
    return found


async def strategies_of(kube: Kube, library: Object) -> dict[str, Object]:
    """Every strategy of a library."""
    all_of_them = await _all(kube, STRATEGIES, library["metadata"]["namespace"])
    return {s["metadata"]["name"]: s for s in all_of_them if library_of(s) == _key(library)}


async def _all(kube: Kube, plural: str, namespace: str) -> list[Object]:
    return [obj async for page in kube.pages(path(plural, namespace)) for obj in page["items"]]


def show_library(target: Target, library: Object, strategies: dict[str, Object]) -> None:
    """A library, each of its strategies, and what of its source can't be offered."""
    show(libraries_table(target, [library], []))
    if strategies:
        out.print()
        made = table("STRATEGY", "READY", "REVISION", "USERS", "MODIFIED", "NAME", "MESSAGE")
        for strategy in sorted(strategies.values(), key=called):
            seen = strategy.get("status") or {}
            ready = condition(strategy, "Ready").get("status", "Unknown")
            made.add_row(
                called(strategy),
                Text(ready, style="green" if ready == "True" else "red"),
                short(seen.get("revision") or ""),
                str((seen.get("usedBy") or {}).get("count", 0)),
                age(seen["modifiedAt"]) if seen.get("modifiedAt") else "",
                strategy["metadata"]["name"],
                trouble(strategy),
            )
        show(made)
    if problems := (library.get("status") or {}).get("problems"):
        out.print()
        told = table("FILE", "PROBLEM", "MESSAGE")
        for problem in problems:
            told.add_row(problem["file"], problem["reason"], one_line(problem["message"]))
        show(told)


def show_strategy(strategy: Object, runs: dict[str, Object]) -> None:
    """A strategy: what its source has, what is offered, and which run runs which content."""
    seen, meta = strategy.get("status") or {}, strategy["metadata"]
    ready = condition(strategy, "Ready")
    facts = [f"strategy/{meta['name']}", called(strategy), f"library {library_of(strategy)[1]}"]
    out.print(Text("   ".join(facts), style="bold"))
    out.print(Text(one_line(f"{ready.get('reason', 'Pending')}: {ready.get('message', '')}")))
    out.print()
    for word, value in (
        ("hash", seen.get("hash")),
        ("md5", seen.get("md5")),
        ("size", f"{seen['size']} bytes" if seen.get("size") is not None else None),
        (
            "modified",
            f"{seen['modifiedAt']} ({age(seen['modifiedAt'])} ago)" if seen.get("modifiedAt") else None,
        ),
        ("source", _source(strategy)),
        ("external", ", ".join(_external(user) for user in strategy["spec"].get("users") or ()) or None),
    ):
        if value:
            out.print(Text(f"{word:<10}{value}"))
    out.print()
    show(_revisions(seen, called(strategy), runs))
    elsewhere = {name: run for name, run in runs.items() if _use(run).get("name") != called(strategy)}
    for name, run in sorted(elsewhere.items()):
        use = _use(run)
        words = f"runs {use['name']} {short(use['hash'])}" if use else "has not been started"
        out.print(Text(f"{name} names it and {words}"))


def _revisions(seen: dict[str, Any], name: str, runs: dict[str, Object]) -> Rows:
    users: dict[str, list[str]] = {}
    for run in sorted(runs):
        use = _use(runs[run])
        if use.get("name") == name:
            users.setdefault(use["hash"], []).append(run + (" (fallback)" if use.get("fallback") else ""))
    made = table("REVISION", "FILE", "SIZE", "SEEN", "RUNS")
    for revision in seen.get("revisions") or []:
        offered = revision["hash"] == seen.get("revision")
        made.add_row(
            Text(short(revision["hash"]), style="green" if offered else ""),
            revision["file"],
            str(revision["size"]),
            age(revision["seenAt"]),
            ", ".join(users.pop(revision["hash"], [])),
        )
    for content, names in users.items():  # older than the history
        made.add_row(short(content), "", "", "", ", ".join(names))
    return made


def _use(run: Object) -> dict[str, Any]:
    return (run.get("status") or {}).get("strategy") or {}


def _source(strategy: Object) -> str:
    source = strategy["spec"]["source"]
    if file := source.get("file"):
        return f"file {file['path']}"
    if key := source.get("configMap"):
        return f"ConfigMap {key['name']}, key {key['key']}"
    return "inline"


def _external(user: dict[str, Any]) -> str:
    return str(user["name"]) + (f" ({user['endpoint']})" if user.get("endpoint") else "")


def show_of_run(run: Object) -> None:
    """Which strategy a run has, and whether that is what it asked for."""
    asked = run["spec"].get("strategy")
    if not asked:
        return
    use, resolved = _use(run), condition(run, "StrategyResolved")
    out.print()
    out.print(Text(f"asks for   {asked['name']} of library {asked.get('library') or DEFAULT_LIBRARY}"
                   + (f", revision {asked['revision']}" if asked.get("revision") else "")))  # fmt: skip
    if use:
        fallback = " (fallback)" if use.get("fallback") else ""
        out.print(Text(f"runs       {use['name']}{fallback}, revision {use['hash']}"))
    words = f"{resolved.get('status', 'Unknown')} {resolved.get('reason', '')}: {resolved.get('message', '')}"
    out.print(Text(f"StrategyResolved   {one_line(words)}"))
