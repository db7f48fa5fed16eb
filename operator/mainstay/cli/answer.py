"""`mainstay input`: the answer to what a job asks. Checked first; its secrets go into a Secret, never into the job."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn, Optional, TypeVar

import typer
import yaml

from mainstay.api.meta import API_VERSION
from mainstay.cli.answersecret import Stored, every_one, prompt, required_only, secret_for, store
from mainstay.cli.cluster import Target, call, get
from mainstay.cli.console import fail, note, out
from mainstay.cli.jobs import Asked, asks, follow_all, is_over, phase_of, status_of
from mainstay.cli.meant import job_or
from mainstay.cli.names import Kind, Ref, ref
from mainstay.cli.options import (
    ContextOption,
    DryRunOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    NoTimeoutOption,
    NoWaitOption,
    target_of,
)
from mainstay.cli.words import condition, one_line
from mainstay.core import reasons
from mainstay.shell.kube import JOBS, ApiError, Kube, Object, path

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """YAML as far as JSON has it: a date stays the text it is."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the options say, before any of it is held against a schema."""

    base: Any = None  # of --file; None without one
    fields: dict[str, str] = field(default_factory=dict)  # of --set
    secrets: dict[str, str] = field(default_factory=dict)  # of --secret

    @property
    def nothing(self) -> bool:
        """No option gives a value."""
        return self.base is None and not self.fields and not self.secrets


def input_(
    name: Annotated[str, typer.Argument(help="job/NAME.", metavar="JOB")],
    step: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Argument(
            help="What is answered. Without it: a list of what the job waits for.", show_default=False
        ),
    ] = None,
    file: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--file",
            "-f",
            help="YAML or JSON file with the values; - reads standard input.",
            show_default=False,
        ),
    ] = None,
    fields: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set",
            help="FIELD=VALUE; repeatable. Without -f it changes the input that is there.",
            show_default=False,
        ),
    ] = None,
    secrets: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--secret", help="FIELD=- reads a secret field from standard input.", show_default=False
        ),
    ] = None,
    namespace: NamespaceOption = "default",
    wait: NoWaitOption = False,
    timeout: NoTimeoutOption = None,
    dry_run: DryRunOption = False,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Answer what a job asks (spec.inputs.STEP), checked against its schema first. Without STEP: list what it asks.

    Secret fields are asked for without echo on a terminal, or taken from the file or standard input. They go into a
    Secret of the job; the job itself only refers to it.
    """
    target = target_of(home, namespace, kubeconfig, context)
    told = ref(name)
    if told.kind is not Kind.JOB and "/" in name:
        _no_job(target, told)
    given = _given(file, fields or [], secrets or [])

    async def work(kube: Kube) -> None:
        one = told if "/" in name else await job_or(kube, target, name)
        if one.kind is not Kind.JOB:
            _no_job(target, one)
        job = await get(kube, target, one)
        if step is None:
            if not given.nothing:
                fail(f"which input? mainstay input {one} STEP ...\n{listed(target, job)}")
            out.print(listed(target, job))
            return
        action, later = _action(target, job, step)
        changed = await _give(kube, target, job, step, action, given, dry_run)
        if later and changed is not None:
            note(later)
        if wait and changed is not None:
            await follow_all(kube, target, [Asked.of(changed)], timeout)

    call(target, work)


def _no_job(target: Target, one: Ref) -> NoReturn:
    words = f"input is for jobs: write job/{one.name}"
    if one.kind is Kind.BATCH:
        words += f"-JOB; which of them wait: {target.say(f'status {one}')}"
    fail(words)


# -- what is asked


def listed(target: Target, job: Object) -> str:
    """What the job waits for, each with its fields and the command that answers it."""
    name = job["metadata"]["name"]
    waiting = asks(job)
    if not waiting:
        stalled = condition(job, "Stalled")
        if status_of(job).get("resumable"):
            return f"job/{name} waits for no input; it failed: {target.say(f'resume job/{name}')}"
        if stalled.get("reason") == reasons.SPEC_INVALID and stalled.get("status") == "True":
            mistake = one_line(stalled.get("message", ""))
            return f"job/{name} waits for no input; its spec has a mistake: {mistake}"
        return f"job/{name} waits for no input; it is {phase_of(job)}"
    lines = [f"job/{name} waits for:"]
    for action in waiting:
        lines.append(f"  {action['name']}   {action['title']}")
        if action.get("description"):
            lines += [f"      {line}" for line in action["description"].splitlines()]
        lines += [f"      {line}" for line in _fields(action)]
        lines.append(f"      {target.say(f'input job/{name} ' + action['name'] + ' ' + _way(action))}")
    return "\n".join(lines)


def _way(action: dict[str, Any]) -> str:
    """The option that gives the input: --set where one plain field is all it needs."""
    schema = action.get("schema") or {}
    required = _of(schema, "required", list) or []
    if len(required) == 1 and not action.get("secretFields"):
        about = _of(_of(schema, "properties", dict), str(required[0]), dict) or {}
        if about.get("type") in ("string", "integer", "number", "boolean"):
            return f"--set {required[0]}="
    return "-f values.yaml"


def _fields(action: dict[str, Any]) -> list[str]:
    """A line per field that the schema or the list of secrets names; those of an object below it."""
    schema, secret = action.get("schema") or {}, action.get("secretFields") or []
    properties = _of(schema, "properties", dict) or {}
    lines = []
    for name in _names(schema, secret):
        lines.append(_field(schema, name, secret))
        about = _of(properties, name, dict) or {}
        if name not in secret:
            lines += [f"  {_field(about, inner, [])}" for inner in _names(about, [])]
    return lines


def _names(schema: dict[str, Any], secret: list[str]) -> list[str]:
    properties = _of(schema, "properties", dict) or {}
    return list(dict.fromkeys([*properties, *(_of(schema, "required", list) or []), *secret]))


def _field(schema: dict[str, Any], name: str, secret: list[str]) -> str:
    about = _of(_of(schema, "properties", dict), name, dict) or {}
    kind = "secret" if name in secret else str(about.get("type") or "any value")
    if isinstance(about.get("enum"), list):
        kind = "one of " + ", ".join(str(value) for value in about["enum"])
    words = "" if name in (_of(schema, "required", list) or []) else ", optional"
    told = f": {about['description']}" if about.get("description") else ""
    return f"- {name} ({kind}{words}){told}"


def _of(schema: Any, key: str, kind: type[T]) -> T | None:
    """A part of a schema, if it is what schemas usually have there."""
    part = schema.get(key) if isinstance(schema, dict) else None
    return part if isinstance(part, kind) else None


def _action(target: Target, job: Object, step: str) -> tuple[dict[str, Any], str]:
    """What is asked under that name, now, later, or before, and what to say once it is given; ends the command if nothing is."""
    name = job["metadata"]["name"]
    if is_over(job):
        fail(f"job/{name} is {phase_of(job)}, and takes no input any more")
    for action in asks(job):
        if action["name"] == step:
            return action, ""
    declared = next(
        (s["action"] for s in job["spec"]["steps"] if s["name"] == step and s.get("action")), None
    )
    if declared is None:
        fail(f"job/{name} does not ask for {step}\n{listed(target, job)}")
    state = next((s["state"] for s in status_of(job).get("steps") or [] if s["name"] == step), "Pending")
    if state in ("Completed", "Skipped"):
        later = f"step {step} is {state}; what you give now is read by tasks that start from now on"
    else:
        later = f"step {step} is not reached yet; the answer is kept for it"
    return {**declared, "name": step}, later


# -- what is given


def on_terminal() -> bool:
    """Somebody can be asked."""
    return sys.stdin.isatty()


def _given(file: str | None, fields: list[str], secrets: list[str]) -> Given:
    read = dict(_pair("--set", item) for item in fields)
    hidden = dict(_pair("--secret", item) for item in secrets)
    for key, value in hidden.items():
        if value != "-":
            fail(
                f"--secret {key}=...: the command line is public; write {key}=- and give it on standard input"
            )
    if (file == "-") + len(hidden) > 1:
        fail("standard input can be read once: for -f - or for one --secret FIELD=-")
    base = None
    if file is not None:
        base = _parse(_read(file), "standard input" if file == "-" else file)
        if base is None:
            fail(f"{'standard input' if file == '-' else file} is empty")
    if read and base is not None and not isinstance(base, dict):
        fail("--set adds fields to an object, and the file holds none")
    if hidden:
        told = sys.stdin.read()
        hidden = {key: told.removesuffix("\n").removesuffix("\r") for key in hidden}
        for key in hidden:
            if not hidden[key]:
                fail(f"--secret {key}=-: standard input is empty")
    return Given(base, read, hidden)


def _pair(option: str, item: str) -> tuple[str, str]:
    key, sign, value = item.partition("=")
    if not sign or not key:
        fail(f"{option} {item}: write FIELD={'-' if option == '--secret' else 'VALUE'}")
    return key, value


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        fail(f"{file} can't be read: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{file} is no text in UTF-8")


def _parse(text: str, where: str) -> Any:
    """YAML or JSON. Errors never repeat what was read: it may hold a secret."""
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        json.dumps(value, allow_nan=False)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        telling = isinstance(
            error, yaml.scanner.ScannerError | yaml.parser.ParserError
        )  # others name the text
        fail(f"{at}: no YAML" + (f": {error.problem}" if telling else ""))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        fail(f"{where}: no value that JSON has: {type(error).__name__}")
    return value


def _values(job: Object, step: str, action: dict[str, Any], given: Given) -> Any:
    """The whole input: the file, or what is there already, with each --set over it."""
    base = given.base
    if base is None:
        base = (job["spec"].get("inputs") or {}).get(step)
    if not given.fields and not given.secrets and not action.get("secretFields"):
        return base
    if base is not None and not isinstance(base, dict):
        return base
    properties = _of(action.get("schema"), "properties", dict)
    value = dict(base or {})
    for key, text in given.fields.items():
        if key in (action.get("secretFields") or []):
            fail(f"--set {key}=...: it is a secret, and the command line is public; use --secret {key}=-")
        about = _of(properties, key, dict) or {}
        value[key] = text if about.get("type") == "string" else _parse(text, f"--set {key}")
    return value


async def _give(
    kube: Kube, target: Target, job: Object, step: str, action: dict[str, Any], given: Given, dry_run: bool
) -> Object | None:
    name = job["metadata"]["name"]
    terminal = on_terminal()
    if given.nothing and not (terminal and action.get("secretFields")):
        fields = "\n".join(f"  {line}" for line in _fields(action))
        fail(
            f"nothing is given for {step} ({action['title']}); -f values.yaml, -f - or --set FIELD=VALUE gives it"
            + (f":\n{fields}" if fields else "")
        )
    values = _values(job, step, action, given)
    secret = None
    if action.get("secretFields"):
        existing = await secret_for(kube, target, job, step)
        if terminal:  # nobody types a secret for an input that is refused
            trials = [
                existing.take(values, action, given.secrets, ask)[0] for ask in (required_only, every_one)
            ]
            _check(
                name,
                step,
                action,
                next((t for t in trials if not _problem(name, step, action, t)), trials[0]),
                given,
            )
        values, secret = existing.take(values, action, given.secrets, prompt if terminal else None)
    elif given.secrets:
        fail(f"--secret {next(iter(given.secrets))}: {step} has no secret fields")
    _check(name, step, action, values, given)
    if dry_run:
        _show(target, job, step, values, secret)
        return None
    if secret is not None and secret.values:
        await store(kube, target, secret)
        out.print(f"secret/{secret.name} {secret.told}: {', '.join(secret.values)}")
    changed = await _write(kube, target, job, step, values)
    out.print(f"{Ref(Kind.JOB, name).told} input {step} given")
    if status_of(job).get("resumable"):
        note(f"it failed before, and goes on with: {target.say(f'resume job/{name}')}")
    return changed


def _problem(name: str, step: str, action: dict[str, Any], values: Any) -> str:
    """What the operator will say against it; empty if nothing."""
    from pydantic import ValidationError

    from mainstay.api.phasedjob import UserAction
    from mainstay.core.answers import answer

    try:
        parsed = UserAction.model_validate(action)
    except ValidationError as error:
        fail(f"what job/{name} asks under {step} can't be read: {error.errors()[0]['msg']}")
    return answer(parsed, step, {step: values}).problem


def _check(name: str, step: str, action: dict[str, Any], values: Any, given: Given) -> None:
    """Hold it against the schema as the operator will."""
    problem = _problem(name, step, action, values)
    if not problem:
        return
    secret: list[str] = action.get("secretFields") or []
    missing = [f for f in secret if isinstance(values, dict) and f not in values]
    lines = [problem]
    if fields := _fields(action):
        lines += ["it takes:", *(f"  {line}" for line in fields)]
    if missing and not given.secrets:
        lines.append(f"  a secret from standard input: --secret {missing[0]}=-")
    if dotted := next((key for key in given.fields if "." in key), None):
        first, _, rest = dotted.partition(".")
        if first in (_of(action.get("schema"), "properties", dict) or {}):
            value = given.fields[dotted]
            lines.append(f"  --set takes no paths: --set '{first}={{{rest}: \"{value}\"}}' or -f values.yaml")
    fail("\n".join(lines))


async def _write(kube: Kube, target: Target, job: Object, step: str, values: Any) -> Object:
    """Replace the whole input: a merge would keep fields that are not given any more."""
    meta = job["metadata"]
    url = path(JOBS, target.namespace, meta["name"])
    place = f"/spec/inputs/{step}"
    patch: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        {"op": "add", "path": place, "value": values},
    ]
    if job["spec"].get("inputs") is None:
        patch[1] = {"op": "add", "path": "/spec/inputs", "value": {step: values}}
        patch.append({"op": "test", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]})
    try:
        return await kube.request("PATCH", url, patch, content_type="application/json-patch+json")
    except ApiError as error:
        if error.code == 422 and "test" in error.message:
            fail(f"job/{meta['name']} changed meanwhile; give the input again")
        raise


def _show(target: Target, job: Object, step: str, values: Any, secret: Stored | None) -> None:
    """The YAML it stands for, without any secret value."""
    from mainstay.cli.words import print_yaml

    if secret is not None and secret.values:
        typer.echo(
            f"# Secret {target.namespace}/{secret.name} gets: {', '.join(secret.values)} (values not shown)"
        )
    meta = {"name": job["metadata"]["name"], "namespace": target.namespace}
    spec = {"inputs": {step: values}}
    print_yaml({"apiVersion": API_VERSION, "kind": "PhasedJob", "metadata": meta, "spec": spec})
