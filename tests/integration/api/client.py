"""A small client that shows what the API server answers, word for word, and can ask as anybody."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

from mainstay.api.kinds import KINDS
from mainstay.api.meta import API_VERSION

ROOT = f"/apis/{API_VERSION}"
NAMESPACE = "api-tests"


@dataclass(frozen=True)
class Answer:
    """Status code and JSON; `causes` as (field, message)."""

    code: int
    body: dict[str, Any]

    @property
    def causes(self) -> list[tuple[str, str]]:
        details = self.body.get("details") or {}
        return [(c.get("field", ""), c.get("message", "")) for c in details.get("causes", [])]

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    def ok(self) -> dict[str, Any]:
        assert self.code in {200, 201}, self.body
        return self.body

    def refuses(self, field: str, text: str) -> None:
        """Refused as invalid, naming the field, with this text."""
        assert self.code == 422, self.body
        assert any(f == field and text in m for f, m in self.causes), self.causes


class Api:
    """One connection with the admin's certificate."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as both:
            for key in ("client-certificate-data", "client-key-data"):
                both.write(base64.b64decode(user[key]))
            both.flush()
            context.load_cert_chain(both.name)
        address = urlsplit(cluster["server"])
        self._connection = http.client.HTTPSConnection(address.hostname, address.port, context=context)

    def close(self) -> None:
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str = "",
        groups: tuple[str, ...] = (),
        kind: str = "application/json",
        **query: str,
    ) -> Answer:
        """`body` may be text, to send what no JSON library would write."""
        self._connection.putrequest(method, f"{path}?{urlencode(query)}" if query else path)
        data = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        headers = [("Content-Type", kind), ("Content-Length", str(len(data))), ("Accept", "application/json")]
        headers += [("Impersonate-User", user)] if user else []
        headers += [("Impersonate-Group", group) for group in groups]
        for name, value in headers:
            self._connection.putheader(name, value)
        self._connection.endheaders(data)
        response = self._connection.getresponse()
        text = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return Answer(response.status, json.loads(text) if is_json else {"message": text.decode()})

    def create(self, document: dict[str, Any], *, dry: bool = False, **options: Any) -> Answer:
        """POST with strict field validation."""
        dry_run = {"dryRun": "All"} if dry else {}
        return self.request(
            "POST", path(document["kind"]), document, fieldValidation="Strict", **dry_run, **options
        )

    def patch(self, kind: str, name: str, change: dict[str, Any], sub: str = "", **options: Any) -> Answer:
        """JSON merge patch: null removes."""
        return self.request(
            "PATCH", path(kind, name, sub), change, kind="application/merge-patch+json", **options
        )

    def delete(self, kind: str, name: str, **options: Any) -> Answer:
        return self.request("DELETE", path(kind, name), **options)


_KINDS = {kind.name: kind for kind in KINDS}


def path(kind: str, name: str = "", sub: str = "") -> str:
    known = _KINDS[kind]
    scope = f"/namespaces/{NAMESPACE}" if known.scope == "Namespaced" else ""
    return "/".join([f"{ROOT}{scope}/{known.plural}", *filter(None, (name, sub))])


def run(name: str = "r", **spec: Any) -> dict[str, Any]:
    """A StrategyRun, by default the smallest useful one."""
    return {
        "apiVersion": API_VERSION,
        "kind": "StrategyRun",
        "metadata": {"name": name},
        "spec": {"program": {"command": ["sleep", "1"]}, **spec},
    }


def program(**fields: Any) -> dict[str, Any]:
    return {"program": {"command": ["x"], **fields}}


def pool(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "PortPool", "metadata": {"name": name}, "spec": spec}


def lease(name: str, port: int, **more: Any) -> dict[str, Any]:
    holder = {"kind": "StrategyRun", "namespace": NAMESPACE, "name": "r", "uid": "u-1"}
    spec = {"pool": "p", "port": port, "holder": holder, **more}
    return {"apiVersion": API_VERSION, "kind": "PortLease", "metadata": {"name": name}, "spec": spec}


def library(name: str = "l", **spec: Any) -> dict[str, Any]:
    """A StrategyLibrary, by default of a directory."""
    body = {"source": {"directory": "/strategies"}, **spec}
    return {"apiVersion": API_VERSION, "kind": "StrategyLibrary", "metadata": {"name": name}, "spec": body}


def strategy(object_name: str = "s", /, **spec: Any) -> dict[str, Any]:
    """A Strategy, by default an inline one."""
    body = {"source": {"inline": "x = 1"}, **spec}
    return {"apiVersion": API_VERSION, "kind": "Strategy", "metadata": {"name": object_name}, "spec": body}


def job(*steps: dict[str, Any], name: str = "j", **spec: Any) -> dict[str, Any]:
    """A PhasedJob, by default of one task."""
    body = {"steps": list(steps) or [step("a")], **spec}
    return {"apiVersion": API_VERSION, "kind": "PhasedJob", "metadata": {"name": name}, "spec": body}


def batch(*steps: dict[str, Any], name: str = "b", jobs: Any = None, **spec: Any) -> dict[str, Any]:
    """A JobBatch, by default of one job of one task. `inputs` are the template's."""
    template = {"steps": list(steps) or [step("a")], **{k: spec.pop(k) for k in ("inputs",) if k in spec}}
    body = {"template": template, "jobs": jobs or [{"name": "one"}], **spec}
    return {"apiVersion": API_VERSION, "kind": "JobBatch", "metadata": {"name": name}, "spec": body}


def step(name: str, **task: Any) -> dict[str, Any]:
    """A step of one task."""
    return {"name": name, "task": {**program(), **task}}


def action(name: str, *secrets: str, **fields: Any) -> dict[str, Any]:
    """A step that asks a user."""
    asks = {"title": f"Give {name}", **({"secretFields": list(secrets)} if secrets else {}), **fields}
    return {"name": name, "action": asks}


def phases(name: str, *phases: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A step of phases."""
    return {"name": name, "phases": [{"name": phase, "tasks": tasks} for phase, tasks in phases]}
