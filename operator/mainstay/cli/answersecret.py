"""The Secret that holds the secret fields of one answer: `<job>-<step>`, owned by the job."""

from __future__ import annotations

import getpass
import hashlib
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import typer

from mainstay.api.meta import API_VERSION
from mainstay.cli.cluster import Target
from mainstay.cli.console import fail, note
from mainstay.shell.kube import Kube, Object, core_path

JOB_LABEL = "mainstay.dev/job-uid"
STEP_LABEL = "mainstay.dev/step"
Ask = Callable[[str, bool], str]
"""Takes the name of a secret field and whether it is required; what is typed, or nothing."""

_KEY = re.compile(r"[^-._a-zA-Z0-9]")


@dataclass(frozen=True, slots=True)
class Stored:
    """A Secret to be: its values are never printed."""

    name: str
    exists: bool
    labels: dict[str, str]
    owner: dict[str, Any]
    values: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def told(self) -> str:
        """What is done to it."""
        return "changed" if self.exists else "created"

    def take(
        self, values: Any, action: dict[str, Any], given: dict[str, str], ask: Ask | None
    ) -> tuple[Any, Stored]:
        """Move every secret of `values`, of `given` and of whom `ask` asks in here; what the job gets instead."""
        fields = action["secretFields"]
        for name in given:
            if name not in fields:
                fail(f"--secret {name}: not a secret field; these are: {', '.join(fields)}")
        if values is not None and not isinstance(values, dict):
            return values, self
        kept, hidden = dict(values or {}), {}
        required = (action.get("schema") or {}).get("required") or []
        for name in fields:
            value = given.get(name, kept.get(name))
            if value is None and ask is not None:
                value = ask(name, name in required) or None
            if value is None:
                kept.pop(name, None)
                continue
            if isinstance(value, dict) and value.keys() == {"secretKeyRef"}:
                continue
            if not isinstance(value, str):
                fail(f"{name} is a secret and must be a text: put it in quotes")
            key = _key(name)
            hidden[key] = value
            kept[name] = {"secretKeyRef": {"name": self.name, "key": key}}
        return kept, replace(self, values=hidden)


def prompt(name: str, needed: bool) -> str:
    """Ask without echo. Ctrl-C ends the command at once, also below an event loop, which would only take note of it."""
    words = f"{name} (secret{'' if needed else ', optional: Enter leaves it out'}): "
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while not (value := getpass.getpass(words)) and needed:
            note("a secret can't be empty; Ctrl-C gives up")
    except (KeyboardInterrupt, EOFError):
        note("\ngiven up; nothing is changed")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGINT, before)
    return value


def required_only(name: str, needed: bool) -> str:
    """Stands in for `prompt` while the rest is checked."""
    return name if needed else ""


def every_one(name: str, _: bool) -> str:
    """The same, with what is optional."""
    return name


def _key(name: str) -> str:
    clean = _KEY.sub("_", name)
    return clean if clean == name else f"{clean}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


async def secret_for(kube: Kube, target: Target, job: Object, step: str) -> Stored:
    """The Secret of this answer. One of the same name that is somebody else's is left alone: another name is taken."""
    meta = job["metadata"]
    base = f"{meta['name']}-{step.lower()}"
    unique = hashlib.sha256(f"{meta['uid']}/{step}".encode()).hexdigest()[:8]
    for name in (base, f"{base}-{unique}"):
        found = await kube.get(core_path("secrets", target.namespace, name))
        if found is None or _ours(found, job, step):
            break
    else:
        fail(f"Secret {name} is somebody else's; give the secret yourself as {{secretKeyRef: {{name, key}}}}")
    return Stored(
        name=name,
        exists=found is not None,
        labels={JOB_LABEL: meta["uid"], STEP_LABEL: step},
        owner={"apiVersion": API_VERSION, "kind": "PhasedJob", "name": meta["name"], "uid": meta["uid"]},
    )


def _ours(secret: Object, job: Object, step: str) -> bool:
    """Made for this answer, of this job or of one that had its name."""
    meta = secret["metadata"]
    owners = meta.get("ownerReferences") or []
    return (meta.get("labels") or {}).get(STEP_LABEL) == step and any(
        o.get("kind") == "PhasedJob" and o.get("name") == job["metadata"]["name"] for o in owners
    )


async def store(kube: Kube, target: Target, secret: Stored) -> None:
    """Create it, or change what is given and leave the rest."""
    metadata = {"name": secret.name, "labels": secret.labels, "ownerReferences": [secret.owner]}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": metadata,
        "stringData": secret.values,
    }
    if secret.exists:
        await kube.patch(core_path("secrets", target.namespace, secret.name), body)
    else:
        await kube.request("POST", core_path("secrets", target.namespace), body)
