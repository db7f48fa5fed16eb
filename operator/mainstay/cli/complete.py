"""What may follow on a command line, for kubectl: `kubectl_complete-mainstay` prints it, one a line, then a directive.

A key was pressed, so it must be quick and can't fail: the tree of verbs is read from a cache, names are asked of the
cluster through kubectl itself, and whatever goes wrong is nothing to offer.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import mainstay
from mainstay.cli.called import MACHINE, PLUGIN

NO_FILES, FILES, NO_SPACE = 4, 0, 2
"""Directives of cobra's: what the shell may do with the candidates."""
ASK_SECONDS = 0.4
"""How long the cluster may take to name its objects; $MAINSTAY_COMPLETION_SECONDS, where it is far away."""

SERVICES = "{.spec.services[*].name}"
_GROUP = ".mainstay.dev"
_WORDS = {
    "run": "strategyrun",
    "job": "phasedjob",
    "batch": "jobbatch",
    "stack": "servicestack",
    "library": "strategylibrary",
    "strategy": "strategy",
    "srestart": "stackrestart",
    "asset": "asset",
}
_OF_VERB = {
    "status": tuple(_WORDS),
    "start": ("run", "job", "batch", "stack"),
    "stop": ("run", "stack"),
    "pause": ("run", "job", "batch"),
    "resume": ("run", "job", "batch"),
    "restart": ("run", "stack"),
    "release": ("run", "job", "stack"),
    "logs": ("run", "job", "stack"),
    "input": ("job", "batch"),
    "cancel": ("job", "batch"),
    "assets": ("asset",),
    "rollback": ("strategy", "run"),
    "flush": ("stack",),
    "master": ("stack",),
    "full": ("stack",),
    "quick": ("stack",),
    "emergency": ("stack",),
    "force": ("stack",),
}
"""Kinds that a verb is given."""
_LATER = ("srestart",)
"""Kinds that are offered only once they are named: there are many."""
_BARE, _JOBS = ("run", "stack"), ("job", "batch")
"""Kinds whose bare names are understood, by the verbs that have them; those of jobs by some."""
_BARE_JOBS = ("start", "pause", "resume", "input", "cancel")
_OF_SERVICES = ("restart", "logs", "release")
"""Verbs that are given stack/NAME/SERVICE."""


def main() -> None:
    """Print the candidates for the words typed so far; the last one is unfinished."""
    sys.argv[0] = PLUGIN
    try:
        found, directive = candidates(sys.argv[1:] or [""])
    except Exception:  # nothing to offer, and nothing to say in the middle of a command line
        found, directive = [], NO_FILES
    sys.stdout.write("".join(f"{one}\n" for one in found) + f":{directive}\n")


def candidates(words: Sequence[str]) -> tuple[list[str], int]:
    """Candidates with their descriptions after a tab, and the directive."""
    *typed, last = words
    verbs = tree()
    if not typed:
        offered = {name: told["help"] for name, told in verbs.items() if name not in MACHINE}
        return _beginning(last, {**offered, "--help": "What there is.", "--version": "Print the version."})
    told = verbs.get(typed[0])
    if told is None or "--" in typed:
        return [], FILES
    options: dict[str, Any] = told["options"]
    option, sign, begun = last.partition("=")
    if sign and option in options:
        found, directive = _values(options[option], typed, begun)
        return [f"{option}={one}" for one in found], directive
    if (before := options.get(typed[-1])) is not None and before["valued"]:
        return _values(before, typed, last)
    if last.startswith("-"):
        return _beginning(last, {name: one["help"] for name, one in options.items()})
    return _names(typed, _given(typed, options), last)


def _beginning(last: str, offered: dict[str, str], directive: int = NO_FILES) -> tuple[list[str], int]:
    fit = {name: told for name, told in offered.items() if name.startswith(last)}
    return [f"{name}\t{told}" if told else name for name, told in fit.items()], directive


def _values(option: dict[str, Any], typed: Sequence[str], last: str) -> tuple[list[str], int]:
    """Values of an option, where they are known."""
    match option["names"]:
        case [*_, "--output"] | ["--output", *_]:
            found = ["json", "yaml", *(["wide"] if typed[0] == "assets" else [])]
        case names if "--mode" in names:
            found = ["full", "quick", "emergency", "flush"]
        case names if "--namespace" in names:
            found = [one.removeprefix("namespace/") for one in _ask(typed, "get", "namespaces", "-o", "name")]
        case names if "--context" in names:
            found = _ask(typed, "config", "get-contexts", "-o", "name")
        case _:
            return [], FILES
    return [one for one in found if one.startswith(last)], NO_FILES


def _given(typed: Sequence[str], options: dict[str, Any]) -> list[str]:
    """The arguments among what was typed after the verb."""
    found, value = [], False
    for word in typed[1:]:
        if value:
            value = False
        elif word.startswith("-") and len(word) > 1:
            value = "=" not in word and bool(options.get(word, {}).get("valued"))
        else:
            found.append(word)
    return found


def _names(typed: Sequence[str], given: Sequence[str], last: str) -> tuple[list[str], int]:
    """Objects that the verb is given; after a job or a stack of `logs` and the like, its parts."""
    verb = typed[0]
    if given and verb in ("logs", "input"):
        return _parts(typed, given[0], last) if len(given) == 1 else ([], NO_FILES)
    kinds = _OF_VERB.get(verb, ())
    word, slash, rest = last.partition("/")
    if slash:
        kinds = tuple(kind for kind in kinds if kind == word)
        if kinds == ("stack",) and "/" in rest and verb in _OF_SERVICES:
            stack = rest.partition("/")[0]
            there = [f"stack/{stack}/{one}" for one in _told(typed, "stack", stack, SERVICES)]
            return _beginning(last, {one: "" for one in there if one not in given})
    else:
        kinds = tuple(kind for kind in kinds if kind not in _LATER)
    if not kinds:
        return [], NO_FILES
    objects = _objects(typed, kinds)
    names = [name for _, name in objects]
    found: dict[str, str] = {}
    for kind, name in objects:
        full = f"{kind}/{name}"
        bare = kind in _BARE or verb == "assets" or (kind in _JOBS and verb in _BARE_JOBS and bool(last))
        if full in given or (name in given and names.count(name) == 1):
            continue
        plain = bare and names.count(name) == 1 and not slash and name.startswith(last)
        found[name if plain else full] = ""
    return _beginning(last, found)


def _parts(typed: Sequence[str], of: str, last: str) -> tuple[list[str], int]:
    word, _, name = of.rpartition("/")
    paths = {
        ("logs", "job"): "{.spec.steps[*].phases[*].tasks[*].name} {.spec.steps[?(@.program)].name}",
        ("input", "job"): "{.spec.steps[?(@.action)].name}",
        ("logs", "stack"): SERVICES,
    }
    wanted = paths.get((typed[0], word))
    if wanted is None:
        return [], NO_FILES
    return _beginning(last, dict.fromkeys(_told(typed, word, name, wanted), ""))


def _told(typed: Sequence[str], word: str, name: str, wanted: str) -> list[str]:
    """The words that an object has at a JSONPath."""
    answer = _ask(typed, "get", _WORDS[word] + _GROUP, name, "-o", f"jsonpath={wanted}")
    return " ".join(answer).split()


def _objects(typed: Sequence[str], kinds: Iterable[str]) -> list[tuple[str, str]]:
    """Kind and name of each object, by one question: tables, for their rows leave out what objects say."""
    wanted = {_WORDS[kind] + _GROUP: kind for kind in kinds}
    lines = _ask(typed, "get", ",".join(wanted), "--no-headers", "--show-kind", "--ignore-not-found")
    found = []
    for line in lines:
        kind, _, name = (line.split() or [""])[0].partition("/")
        if (known := wanted.get(kind)) is not None and name:
            found.append((known, name))
    return found


def _ask(typed: Sequence[str], *words: str) -> list[str]:
    """Lines that kubectl answers, about the cluster and namespace that were typed."""
    beside = Path(sys.argv[0]).parent / "kubectl"
    kubectl = shutil.which("kubectl") or (str(beside) if beside.exists() else "")
    if not kubectl:
        return []
    options = []
    for at, word in enumerate(typed):
        name, sign, value = word.partition("=")
        if name in ("-n", "--namespace", "--context", "--kubeconfig"):
            options.append(
                f"{'--namespace' if name == '-n' else name}={value if sign else ''.join(typed[at + 1 : at + 2])}"
            )
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        seconds = float(os.environ.get("MAINSTAY_COMPLETION_SECONDS", ASK_SECONDS))
        done = subprocess.run(
            [kubectl, *words, *options, f"--request-timeout={seconds}s"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        return done.stdout.splitlines()
    return []


def tree() -> dict[str, Any]:
    """Every verb with its help and options; read from the cache, made anew for another version of us."""
    here = Path(__file__).parent
    newest = max(int(file.stat().st_mtime) for file in here.glob("*.py"))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mainstay"
    file = cache / f"verbs-{mainstay.__version__}-{newest}.json"
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(file.read_text()))
    made = _made()
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob("verbs-*.json"):
            old.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache, delete=False) as fresh:
            json.dump(made, fresh)
        Path(fresh.name).rename(file)
    return made


def _made() -> dict[str, Any]:
    import typer

    from mainstay.cli.app import app

    verbs = {}
    root: Any = typer.main.get_command(app)
    for name, command in sorted(root.commands.items()):
        if command.hidden:
            continue
        options = {
            word: {"names": [*one.opts], "valued": not one.is_flag, "help": _short(getattr(one, "help", ""))}
            for one in command.params
            if one.param_type_name == "option"
            for word in [*one.opts, *one.secondary_opts]
        }
        options["--help"] = {"names": ["--help"], "valued": False, "help": "Show what the verb does."}
        verbs[name] = {"help": _short(command.get_short_help_str(80)), "options": options}
    return verbs


def _short(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())[:90]
