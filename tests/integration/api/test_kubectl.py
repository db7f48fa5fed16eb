"""What people and GitOps tools see: columns, explain, field selectors, apply without drift."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.integration.api.client import NAMESPACE, ROOT, Api, lease, path, pool, run
from tests.integration.api.copies import CRDS, PROJECT
from tests.support.plane import RealPlane
from tests.unit.api.models import any_model, values

from mainstay.api.crd import VALIDATIONS, crd
from mainstay.api.kinds import KINDS, PORT_POOL
from mainstay.api.strategyrun import StrategyRun
from mainstay.api.structural import NotStructuralError, structural

NS = ("-n", NAMESPACE)
READY = {
    "type": "Ready",
    "status": "False",
    "reason": "PoolExhausted",
    "message": "no port is free",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
STATUS = {
    "phase": "Pending",
    "runId": "2f1c",
    "attempt": 3,
    "restarts": 2,
    "port": 8766,
    "strategy": {"name": "EmaRsi", "hash": "sha256:" + "a" * 64, "file": "EmaRsi.py"},
    "conditions": [READY],
}


def table(text: str) -> tuple[list[str], list[str]]:
    head, row = text.strip().splitlines()
    return head.split(), row.split()


def test_columns_of_a_run(api: Api, plane: RealPlane) -> None:
    api.create(run(owner={"userId": "u-7"}), user="u-7", groups=("system:masters",)).ok()
    api.patch("StrategyRun", "r", {"status": STATUS}, "status").ok()
    head, row = table(plane.kubectl("get", "srun", *NS))
    assert head == ["NAME", "STATE", "READY", "PORT", "RESTARTS", "STRATEGY", "USE", "AGE"]
    assert row[:5] == ["r", "Pending", "False", "2", "EmaRsi"], "a port that is only remembered is not shown"
    leased = {**STATUS["conditions"][0], "type": "PortAllocated", "status": "True", "reason": "Leased"}
    holds = {**STATUS, "conditions": [*STATUS["conditions"], {**leased, "message": "8766"}]}
    api.patch("StrategyRun", "r", {"status": holds}, "status").ok()
    _, row = table(plane.kubectl("get", "srun", *NS))
    assert row[:6] == ["r", "Pending", "False", "8766", "2", "EmaRsi"]
    head, row = table(plane.kubectl("get", "strategyrun", "-o", "wide", *NS))
    assert head[8:] == ["REASON", "MESSAGE", "REVISION", "RUNID", "OWNER", "ATTEMPT"]
    told = ["PoolExhausted", "no", "port", "is", "free", "sha256:" + "a" * 64, "2f1c", "u-7", "3"]
    assert row[7:] == told


def test_columns_of_pools_and_leases(api: Api, plane: RealPlane) -> None:
    api.create(pool(ranges=[{"first": 5001, "last": 5009}])).ok()
    api.patch("PortPool", "p", {"status": {"capacity": 9, "allocated": 1}}, "status").ok()
    api.create(lease("port-5001", 5001)).ok()
    head, row = table(plane.kubectl("get", "pp", "p"))
    assert head == ["NAME", "CAPACITY", "ALLOCATED", "AGE"]
    assert row[:3] == ["p", "9", "1"]
    head, row = table(plane.kubectl("get", "pl", "port-5001"))
    assert head == ["NAME", "PORT", "POOL", "HOLDER-NAMESPACE", "HOLDER", "AGE"]
    assert row[:5] == ["port-5001", "5001", "p", NAMESPACE, "r"]
    everything = plane.kubectl("get", "mainstay", "-A")
    assert "portpool.mainstay.dev/p" in everything
    assert "portlease.mainstay.dev/port-5001" in everything


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("spec.owner.userId=u-7", ["mine"]),
        ("spec.owner.userId=", ["nobodys"]),
        ("status.phase=Pending", ["mine"]),
        ("spec.state=Stopped", ["nobodys"]),
    ],
)
def test_field_selectors(api: Api, plane: RealPlane, selector: str, expected: list[str]) -> None:
    api.create(run("mine", owner={"userId": "u-7"}), user="u-7", groups=("system:masters",)).ok()
    api.patch("StrategyRun", "mine", {"status": {"phase": "Pending"}}, "status").ok()
    api.create(run("nobodys", state="Stopped")).ok()
    found = plane.kubectl("get", "srun", *NS, "--field-selector", selector, "-o", "name")
    assert found.split() == [f"strategyrun.mainstay.dev/{name}" for name in expected]


def properties(schema: dict[str, Any], at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{at}.{name}", field
        if name != "metadata" or "." in at:
            yield from properties(field.get("items", field), f"{at}.{name}")


def test_every_field_is_explained(api: Api, plane: RealPlane) -> None:
    """The document that `kubectl explain` reads has a text for each field."""
    published = api.request("GET", f"/openapi/v3{ROOT}").ok()["components"]["schemas"]
    seen = 0
    for kind in KINDS:
        schema = published[f"dev.mainstay.v1alpha1.{kind.name}"]
        for at, field in properties(schema, kind.name):
            assert field.get("description") or at.endswith(".metadata"), at
            seen += 1
    assert seen > 100
    assert "given back" in plane.kubectl("explain", "pp.spec.quarantineSeconds")
    assert "SIGSTOP" in plane.kubectl("explain", "srun.spec.pause.method")


def everything() -> dict[str, Any]:
    """A run with as many fields as the rules allow together."""
    return run(
        state="Paused",
        owner={"userId": "mainstay-admin", "accountId": "a", "configId": "c"},
        program={
            "command": ["x"],
            "args": ["$(CONTROL_API_PORT)"],
            "env": [{"name": "B", "value": "1"}, {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "workingDir": "data",
            "user": "bot",
            "umask": "022",
            "nice": 5,
            "limits": {"memory": "512Mi", "cpu": "1", "openFiles": 1024},
            "readiness": {"http": {"path": "/health", "port": "control"}, "periodSeconds": 3, "timeoutSeconds": 2},
            "terminationGracePeriodSeconds": 0,
        },
        strategy={"library": "main", "name": "EmaRsi", "revision": "sha256:" + "a" * 64},
        strategyUpdatePolicy="Ignore",
        fallbackPolicy="KeepLast",
        config={"format": "TOML", "values": {"a": {"b": [1, 2.5, "x", True]}}},
        controlApi={"pool": "default", "port": 8766},
        pause={"method": "HTTP", "http": {"path": "/p", "resumePath": "/r", "timeoutSeconds": 3}},
        restartPolicy={"policy": "OnFailure", "initialBackoffSeconds": 0.5, "maxBackoffSeconds": 60},
        restartNonce=2**53,
        runId="2f1c",
        runtime="Process",
    )  # fmt: skip


def test_what_is_read_back_is_what_was_said(api: Api) -> None:
    said = everything()
    read = api.create(said).ok()
    assert read["spec"] == said["spec"], "no default, nothing pruned"
    assert StrategyRun.model_validate(read).wire()["spec"] == said["spec"]


def test_applying_twice_leaves_no_diff(api: Api, plane: RealPlane) -> None:
    text = yaml.safe_dump(everything())
    apply = ("apply", "--server-side", "-f", "-", *NS)
    plane.kubectl(*apply, input=text)
    first = api.request("GET", path("StrategyRun", "r")).ok()["metadata"]["resourceVersion"]
    plane.kubectl(*apply, input=text)
    assert plane.kubectl("diff", "--server-side", "-f", "-", *NS, input=text) == ""
    assert api.request("GET", path("StrategyRun", "r")).ok()["metadata"]["resourceVersion"] == first


@pytest.mark.usefixtures("api")
def test_the_crds_and_policies_apply_twice_without_a_change(plane: RealPlane) -> None:
    for directory in ("crds", "manifests/policies"):
        assert plane.kubectl("diff", "--server-side", "-f", str(PROJECT / directory)) == ""


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("overlay", ["base", "overlays/persistent"])
def test_kustomizations_apply(plane: RealPlane, overlay: str) -> None:
    built = plane.kubectl("kustomize", str(PROJECT / "manifests" / overlay))
    documents = list(yaml.safe_load_all(built))
    assert {"Deployment", "ServiceAccount", "ClusterRole", "CustomResourceDefinition"} <= {
        d["kind"] for d in documents
    }
    for document in documents:
        for rule in document.get("rules", []):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], document["metadata"][
                "name"
            ]
        if "namespace" in document["metadata"]:
            document["metadata"]["namespace"] = NAMESPACE  # in a dry run its own is not there yet
    plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(documents)
    )


@settings(
    deadline=None,
    max_examples=40,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(model=any_model())
def test_the_server_takes_whatever_the_converter_made(api: Api, model: type[BaseModel]) -> None:
    try:
        schema = structural(model)
    except NotStructuralError:
        return
    document = crd(PORT_POOL)
    document["metadata"]["name"] = "portpools.random.mainstay.dev"
    document["spec"]["group"] = "random.mainstay.dev"
    version = document["spec"]["versions"][0]
    version["additionalPrinterColumns"] = []
    root = version["schema"]["openAPIV3Schema"]
    root.pop(VALIDATIONS, None)
    root["properties"]["spec"] = {"description": "x", **schema}
    stored = api.request("POST", CRDS, document, dryRun="All", fieldValidation="Strict").ok()
    found = stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert json.dumps(found, sort_keys=True) == json.dumps(root["properties"]["spec"], sort_keys=True)


@settings(deadline=None, max_examples=25, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_server_reads_a_schema_as_the_models_do(api: Api, data: st.DataObject) -> None:
    """Any spec that fits the schema is taken, or refused by a rule, never for its form."""
    spec = data.draw(values(structural(StrategyRun, without="metadata")["properties"]["spec"]))
    spec.pop("owner", None)
    answer = api.create(run() | {"spec": spec}, dry=True)
    if answer.code != 201:
        assert answer.code == 422, answer.body
        for field, message in answer.causes:
            assert any(rule in message for rule in RULES), (field, message)


def _messages(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get(VALIDATIONS, []))
        for inner in schema.values():
            yield from _messages(inner)


RULES = set(_messages(structural(StrategyRun, without="metadata")))
