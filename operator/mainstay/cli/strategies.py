"""What `mainstay status` says of libraries and strategies: who uses which content, what is wrong with the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from mainstay.cli.cluster import Target, missing
from mainstay.cli.console import MESSAGE, NEXT, Rows, fail, note, out, show, table
from mainstay.cli.jobtree import here_alone
from mainstay.cli.names import Kind, Ref
from mainstay.cli.words import age, condition, middle, moment, one_line, some
from mainstay.core import reasons
from mainstay.core.strategy.names import object_name, split
from mainstay.core.strategy.resolve import short
from mainstay.shell.kube import RUNS, STRATEGIES, Kube, Object, path

DEFAULT_LIBRARY = "main"
INVALID = ("✗", "red")
MISSING = ("!", "yellow")
_TWICE = re.compile(r"(?P<reason>\w+): (?P<file>.+?): (?P<quote>['\"])(?P<again>.+?)(?P=quote): ")


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


def libraries_table(
    target: Target, libraries: Sequence[Object], strategies: Sequence[Object], *, listed: bool = True
) -> Rows:
    """Each library, and below it, if they are to be listed, those of its strategies that can't be run as they are."""
    made = table(
        "NAMESPACE", "LIBRARY", "STRATEGIES", "INVALID", "PROBLEMS", "DEFAULT", "SOURCE", NEXT, MESSAGE
    )
    rows: dict[tuple[str, str], list[Object]] = {_key(library): [] for library in libraries}
    for strategy in strategies:
        rows.setdefault(library_of(strategy), []).append(strategy)
    known = {_key(library): library for library in libraries}
    for key, members in sorted(rows.items()):
        library = known.get(key)
        wrong = [strategy for strategy in members if trouble(strategy)]
        if library is not None:
            made.add_row(*_library_row(library, members))
        elif wrong:
            words = "there is no StrategyLibrary of this name"
            made.add_row(*key, str(len(members)), "", "", "", "", "", words)
        for strategy in sorted(wrong, key=called) if library is None or listed else ():
            made.add_row(key[0], _marked(strategy), "", "", "", "", "", "", trouble(strategy))
    if not any(row[made.columns.index(NEXT)].plain for row in made.rows):
        made = made.without(NEXT)
    return here_alone(target, made, [*libraries, *strategies])


def _library_row(library: Object, members: Sequence[Object]) -> tuple[str | Text, ...]:
    seen = library.get("status") or {}
    default = str(library["spec"].get("default") or "")
    reason = condition(library, "DefaultAvailable").get("reason")
    cell, words, way = Text(default), "", ""
    if reason == reasons.DEFAULT_NOT_FOUND:
        there = any(called(strategy) == default and not _source_missing(strategy) for strategy in members)
        there = there or any(split(p["file"])[0] == default for p in seen.get("problems") or [])
        cell = Text(f"{default} ({'invalid' if there else 'missing'})", style="red")
        words = f"the default {default} is {'invalid' if there else 'not there'}"
    elif reason == reasons.NO_DEFAULT:
        words = "no default"
    if words:
        words += ": users of a deleted strategy keep its last code"
        way = set_default(library)
    told = [_once(trouble(library)) or _unwatched(library), words]
    return (
        *_key(library),
        str(seen.get("strategies", "")),
        _counted(seen.get("invalid", "")),
        _counted(seen.get("problemCount", "")),
        cell,
        source_of(library),
        way,
        "; ".join(part for part in told if part),
    )


def _once(words: str) -> str:
    """Names a file once, and short, where its name begins the message too."""
    found = _TWICE.match(words)
    if not found or not found["file"].startswith(found["again"]):
        return words
    return f"{found['reason']}: {middle(found['file'])}: {words[found.end() :]}"


def patch(kind: str, namespace: str, name: str, spec: Mapping[str, Any]) -> str:
    """A kubectl command to tell the user."""
    where = f" -n {namespace}" if namespace != "default" else ""
    return f"kubectl patch {kind} {name}{where} --type merge -p '{json.dumps({'spec': spec}, separators=(',', ':'))}'"


def set_default(library: Object) -> str:
    """How a library gets a default."""
    namespace, name = _key(library)
    return patch("slib", namespace, name, {"default": "NAME"})


def _counted(number: Any) -> Text:
    return Text(str(number), style="red" if number else "")


def _unwatched(library: Object) -> str:
    watching = condition(library, "Watching")
    words = f"{watching.get('reason')}: {watching.get('message', '')}"
    return one_line(words) if watching.get("status") == "False" else ""


def _source_missing(strategy: Object) -> bool:
    return bool(condition(strategy, "Ready").get("reason") == reasons.SOURCE_MISSING)


def _marked(strategy: Object) -> Text:
    sign, style = MISSING if _source_missing(strategy) else INVALID
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
    """The strategy of that name, its object's or its own, also LIBRARY/NAME; ends the command if it is not one."""
    library, _, name = wanted.name.rpartition("/")
    if not library and (obj := await kube.get(path(STRATEGIES, target.namespace, name))):
        return obj
    everyone = await _all(kube, STRATEGIES, target.namespace)
    named = [s for s in everyone if called(s) == name and library in ("", library_of(s)[1])]
    if not named:
        fail(await _gone(kube, target, library, name, everyone))
    if len(named) > 1:
        names = ", ".join(f"strategy/{s['metadata']['name']}" for s in named)
        fail(f"{name} is the name of {len(named)} strategies; say which: {names}")
    return named[0]


async def _gone(kube: Kube, target: Target, library: str, name: str, everyone: Sequence[Object]) -> str:
    """That there is no such strategy, which ones are called alike, and who asks for it all the same."""
    words = await missing(kube, target, Ref(Kind.STRATEGY, name))
    there = [s for s in everyone if library in ("", library_of(s)[1])]
    if alike := close(name, [called(s) for s in there]):
        words += f" Called alike: {', '.join(alike)}."
    asking = []
    for run in await _all(kube, RUNS, target.namespace):
        asked = run["spec"].get("strategy") or {}
        of = asked.get("library") or DEFAULT_LIBRARY
        if asked and library in ("", of) and name in (asked["name"], object_name(of, asked["name"])):
            asking.append((run["metadata"]["name"], of))
    if asking:
        names = sorted(run for run, _ in asking)
        asks = "Runs that ask for it" if len(names) > 1 else "A run that asks for it"
        other = patch("srun", target.namespace, names[0], {"strategy": {"name": "OTHER"}})
        words += (
            f"\n{asks}: {some(names, 20)}. `{target.say('status ' + names[0])}` says what {'it' if len(names) == 1 else names[0]} runs.\n"
            f"  put it back into library {asking[0][1]}, or ask for another: {other}"
        )
    return words


def close(name: str, names: Iterable[str]) -> list[str]:
    """Those that somebody who wrote `name` may have meant."""
    import difflib

    by = {known.lower(): known for known in names}
    return [by[one] for one in difflib.get_close_matches(name.lower(), by, n=3, cutoff=0.6)]


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
    show(libraries_table(target, [library], list(strategies.values()), listed=False))
    if strategies:
        out.print()
        made = table("STRATEGY", "READY", "REVISION", "USERS", "MODIFIED", "NAME", "USED BY", MESSAGE)
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
                _users(seen.get("usedBy") or {}),
                trouble(strategy),
            )
        show(made)
    if problems := (library.get("status") or {}).get("problems"):
        out.print()
        told = table("FILE", "PROBLEM", "MESSAGE")
        for problem in problems:
            told.add_row(middle(problem["file"]), problem["reason"], _of_file(problem))
        show(told)


def _users(seen: Mapping[str, Any]) -> str:
    """Who uses a strategy: the first names, and how many more there are."""
    names = [*(seen.get("runs") or ()), *(seen.get("external") or ())]
    return some(names, of=int(seen.get("count", 0)))


def _of_file(problem: Mapping[str, str]) -> str:
    """What is wrong with a file whose name stands beside it."""
    words, file = one_line(problem["message"]), problem["file"]
    for begin in (f"{file}: ", f"{file[:120]!r}: ", f"{file} "):
        words = words.removeprefix(begin)
    return words


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
            f"{moment(seen['modifiedAt'])} ({age(seen['modifiedAt'])} ago)"
            if seen.get("modifiedAt")
            else None,
        ),
        ("source", _source(strategy)),
        ("external", ", ".join(_external(user) for user in strategy["spec"].get("users") or ()) or None),
    ):
        if value:
            out.print(Text(f"{word:<10}{value}"))
    out.print()
    show(_revisions(seen, called(strategy), runs))
    _way_back(strategy, runs)
    elsewhere = {name: run for name, run in runs.items() if use_of(run).get("name") != called(strategy)}
    for name, run in sorted(elsewhere.items()):
        use = use_of(run)
        words = f"runs {use['name']} {short(use['hash'])}" if use else "has not been started"
        out.print(Text(f"{name} names it and {words}"))


def _way_back(strategy: Object, runs: Mapping[str, Object]) -> None:
    """How a run gets an earlier revision, where there is one."""
    seen, namespace = strategy.get("status") or {}, strategy["metadata"]["namespace"]
    earlier = [r["hash"] for r in seen.get("revisions") or [] if r["hash"] != seen.get("revision")]
    if not earlier:
        return
    asking = sorted(n for n, r in runs.items() if r["spec"]["strategy"].get("name") == called(strategy))
    run = asking[0] if asking else "RUN"
    where = f" -n {namespace}" if namespace != "default" else ""
    note(
        f"an earlier one for {run}: mainstay rollback {run} {short(earlier[0])}{where}\n"
        f"  or: {patch('srun', namespace, run, {'strategy': {'revision': earlier[0]}})}"
    )


def _revisions(seen: dict[str, Any], name: str, runs: dict[str, Object]) -> Rows:
    users: dict[str, list[str]] = {}
    for run in sorted(runs):
        use = use_of(runs[run])
        if use.get("name") == name:
            users.setdefault(use["hash"], []).append(run + (" (fallback)" if use.get("fallback") else ""))
    made = table("REVISION", "FILE", "SIZE", "SEEN", "RUNS")
    for revision in seen.get("revisions") or []:
        offered = revision["hash"] == seen.get("revision")
        made.add_row(
            Text(revision["hash"], style="green" if offered else ""),
            middle(revision["file"]),
            str(revision["size"]),
            age(revision["seenAt"]),
            ", ".join(users.pop(revision["hash"], [])),
        )
    for content, names in users.items():  # older than the history
        made.add_row(content, "", "", "", ", ".join(names))
    return made


def use_of(run: Object) -> dict[str, Any]:
    """Which code it has; empty before it has any."""
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
    use, resolved = use_of(run), condition(run, "StrategyResolved")
    out.print()
    out.print(Text(f"asks for   {asked['name']} of library {asked.get('library') or DEFAULT_LIBRARY}"
                   + (f", revision {asked['revision']}" if asked.get("revision") else "")))  # fmt: skip
    if asked.get("revision"):
        meta = run["metadata"]
        where = f" -n {meta['namespace']}" if meta["namespace"] != "default" else ""
        out.print(Text(f"           follow the newest again: mainstay rollback {meta['name']} --off{where}"))
    if use:
        fallback = " (fallback)" if use.get("fallback") else ""
        out.print(Text(f"runs       {use['name']}{fallback}, revision {use['hash']}"))
    words = f"{resolved.get('status', 'Unknown')} {resolved.get('reason', '')}: {resolved.get('message', '')}"
    out.print(Text(f"StrategyResolved   {one_line(words)}"))
