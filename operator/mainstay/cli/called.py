"""How we were called: as `mainstay`, or by kubectl as its plugin, which follows kubectl's cluster and namespace."""

from __future__ import annotations

import functools
import os
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mainstay.cli.home import Home

PLUGIN = "kubectl-mainstay"
MACHINE = ("up", "down", "verify", "env", "operator")
"""Verbs of this machine, not of the cluster that kubectl talks to: the plugin leaves them to `mainstay`."""

EPILOG = (
    "Exit codes: 0 done; 1 failed, refused, not found, or not so within --timeout; 2 wrong usage; 130 Ctrl-C.\n\n"
    "Also understood, of a stack: master = restart (full), force = --mode emergency, quick, full, emergency, flush. "
    "And help."
)
COMPLETION = (
    "Completion is that of kubectl: source <(kubectl completion bash). Names complete too, where "
    "kubectl_complete-mainstay is on PATH: mainstay env puts it there."
)
UNKNOWN = {
    "get": "`kubectl get stack` and `kubectl get srun` list objects; `mainstay status` shows everything",
    "delete": "objects are deleted by kubectl: kubectl delete srun NAME, kubectl delete stack NAME",
    "history": "`kubectl get srestart` is the history of restarts",
    "reload": "`kubectl apply -f FILE` takes in what was changed; `mainstay restart stack/NAME` restarts",
}
"""Verbs that people try, and what to say instead."""
_COMMAND = re.compile(r"(?<![\w/.-])(?<!kubectl )mainstay(?= (-h|--help|[a-z]+)\b)")


def plugin() -> bool:
    """Whether kubectl called us."""
    return os.path.basename(sys.argv[0]) == PLUGIN


def me() -> str:
    """What the user says to call us."""
    return "kubectl mainstay" if plugin() else "mainstay"


def spoken(text: str) -> str:
    """The same words with each of our commands as the user calls it; those of this machine stay `mainstay`."""
    if not plugin() or "mainstay " not in text:
        return text
    return _COMMAND.sub(lambda found: me() if found[1] in _verbs() else found[0], text)


@functools.cache
def _verbs() -> frozenset[str]:
    """Verbs that kubectl's plugin has, and asks for help."""
    import typer

    from mainstay.cli.app import app

    tree: Any = typer.main.get_command(app)
    return frozenset({*tree.commands, "-h", "--help"} - {*MACHINE})


def elsewhere(verb: str) -> str:
    """Why the plugin does not have this verb, and what to say instead."""
    return (
        f"`{verb}` is about this machine, not about the cluster that kubectl talks to. Say: mainstay {verb}"
    )


def namespace(kubeconfig: str | None, context: str | None) -> str:
    """Namespace of the context that kubectl uses; `default` where it names none, or can't be read."""
    return str(_context(kubeconfig, context).get("namespace") or "default")


def kubectls_own(home: Home, kubeconfig: str | None, context: str | None) -> bool:
    """Whether the cluster that kubectl talks to is the one that this home's commands talk to."""
    there = server(kubeconfig, context)
    return there is not None and there == server(str(home.kubeconfig), None)


def server(kubeconfig: str | None, context: str | None) -> str | None:
    """Address of the API server that a kubeconfig's context names; None if it names none."""
    merged = _merged(kubeconfig)
    try:
        return str(merged["clusters"][_context(kubeconfig, context)["cluster"]]["server"])
    except (KeyError, TypeError):
        return None


def _context(kubeconfig: str | None, name: str | None) -> dict[str, Any]:
    merged = _merged(kubeconfig)
    found = merged["contexts"].get(name or merged["current"])
    return found if isinstance(found, dict) else {}


def _merged(kubeconfig: str | None) -> dict[str, Any]:
    """Contexts and clusters by name, as kubectl merges the files: the first that has a name counts."""
    import yaml

    named = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    files = [named] if kubeconfig else named.split(os.pathsep)
    merged: dict[str, Any] = {"current": "", "contexts": {}, "clusters": {}}
    for file in files:
        try:
            with open(os.path.expanduser(file), encoding="utf-8") as text:
                loaded = yaml.safe_load(text)
            merged["current"] = merged["current"] or loaded.get("current-context") or ""
            for kind, inner in (("contexts", "context"), ("clusters", "cluster")):
                for one in loaded.get(kind) or []:
                    merged[kind].setdefault(one["name"], one.get(inner) or {})
        except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError):
            continue
    return merged
