"""Inputs that admission refuses, with the field named; strict validation is what kubectl asks for by default."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.integration.api.client import Answer, Api, lease, path, pool, program, run
from tests.support.plane import RealPlane

from mainstay.api.kinds import KINDS

P = "spec.program"

INVALID: dict[str, tuple[dict[str, Any], str, str]] = {
    # numbers
    "port 0": (run(controlApi={"port": 0}), "spec.controlApi.port", "greater than or equal to 1"),
    "port -1": (run(controlApi={"port": -1}), "spec.controlApi.port", "greater than or equal to 1"),
    "port 65536": (run(controlApi={"port": 65536}), "spec.controlApi.port", "less than or equal to 65535"),
    "port as text": (run(controlApi={"port": "8766"}), "spec.controlApi.port", "must be of type integer"),
    "port 8766.5": (run(controlApi={"port": 8766.5}), "spec.controlApi.port", "must be of type integer"),
    "nonce 2^63": (run(restartNonce=2**63), "spec.restartNonce", "must be of type integer"),
    "nonce 2^53 + 1": (run(restartNonce=2**53 + 1), "spec.restartNonce", "less than or equal to"),
    "nonce below 0": (run(restartNonce=-1), "spec.restartNonce", "greater than or equal to 0"),
    "probe port 0": (
        run(**program(readiness={"tcp": {"port": 0}})),
        f"{P}.readiness.tcp.port",
        "greater than or equal to 1",
    ),
    "probe port 2^40": (
        run(**program(readiness={"tcp": {"port": 2**40}})),
        f"{P}.readiness.tcp.port",
        "less than or equal to 65535",
    ),
    "probe port as digits": (
        run(**program(readiness={"tcp": {"port": "8766"}})),
        f"{P}.readiness.tcp.port",
        "should match",
    ),
    "probe port as a list": (
        run(**program(readiness={"tcp": {"port": [1]}})),
        f"{P}.readiness.tcp.port",
        "must be of type",
    ),
    "backoff 1e300": (
        run(restartPolicy={"initialBackoffSeconds": 1e300}),
        "spec.restartPolicy.initialBackoffSeconds",
        "less than or equal to 3600",
    ),
    "backoff as text": (
        run(restartPolicy={"initialBackoffSeconds": "NaN"}),
        "spec.restartPolicy.initialBackoffSeconds",
        "must be of type number",
    ),
    "pool below 1024": (
        pool(ranges=[{"first": 80, "last": 90}]),
        "spec.ranges[0].first",
        "greater than or equal to 1024",
    ),
    "empty pool": (pool(ranges=[]), "spec.ranges", "at least 1 items"),
    "lease of port 0": (lease("port-0", 0), "spec.port", "greater than or equal to 1"),
    # enums
    "state running": (run(state="running"), "spec.state", "supported values"),
    "state RUNNING": (run(state="RUNNING"), "spec.state", "supported values"),
    "state with a lookalike": (run(state="Runnіng"), "spec.state", "supported values"),
    "another runtime": (run(runtime="Pod"), "spec.runtime", "supported values"),
    # null, missing and wrong types
    "null argument": (run(**program(args=[None])), f"{P}.args[0]", "must be of type string"),
    "null program": (run(program=None), f"{P}", "Required value"),
    "no program": (run() | {"spec": {}}, f"{P}", "Required value"),
    "no spec": ({k: v for k, v in run().items() if k != "spec"}, "spec", "Required value"),
    "command as text": (run(program={"command": "sleep 1"}), f"{P}.command", "must be of type array"),
    "empty command": (run(program={"command": []}), f"{P}.command", "at least 1 items"),
    "config as a list": (run(config={"values": [1]}), "spec.config.values", "must be of type object"),
    # names and text
    "name of 254": (run("a" * 254), "metadata.name", "no more than 253"),
    "name that climbs": (run("../../x"), "metadata.name", "RFC 1123"),
    "name with a lookalike": (run("bоt"), "metadata.name", "RFC 1123"),
    "owner of 254": (run(owner={"userId": "u" * 254}), "spec.owner.userId", "may not be more than 253"),
    "pool that climbs": (run(controlApi={"pool": "../x"}), "spec.controlApi.pool", "should match"),
    "secret that climbs": (
        run(configFrom={"secret": {"name": "../x", "key": "k"}}),
        "spec.configFrom.secret.name",
        "should match",
    ),
    "key that climbs": (
        run(configFrom={"secret": {"name": "x", "key": "../k"}}),
        "spec.configFrom.secret.key",
        "should match",
    ),
    "NUL in an argument": (run(**program(args=["a\0b"])), f"{P}.args[0]", "should match"),
    "NUL in a directory": (run(**program(workingDir="a\0")), f"{P}.workingDir", "should match"),
    "NUL in a value": (
        run(**program(env=[{"name": "A", "value": "\0"}])),
        f"{P}.env[0].value",
        "should match",
    ),
    "newline in a variable's name": (
        run(**program(env=[{"name": "A\nB", "value": "x"}])),
        f"{P}.env[0].name",
        "should match",
    ),
    "= in a variable's name": (run(**program(env=[{"name": "A=B"}])), f"{P}.env[0].name", "should match"),
    "newline in a user": (run(**program(user="root\n")), f"{P}.user", "should match"),
    "space in a path": (
        run(**program(readiness={"http": {"path": "/ HTTP/1.1\r\n", "port": 1}})),
        f"{P}.readiness.http.path",
        "should match",
    ),
    "runId that climbs": (run(runId="../x"), "spec.runId", "should match"),
    # size
    "argument of 200 kB": (
        run(**program(args=["x" * 200_000])),
        f"{P}.args[0]",
        "may not be more than 65536",
    ),
    "10,000 arguments": (run(**program(args=["x"] * 10_000)), f"{P}.args", "at most 256 items"),
    "10,000 variables": (
        run(**program(env=[{"name": f"A{n}"} for n in range(10_000)])),
        f"{P}.env",
        "at most 256 items",
    ),
    "10,000 ranges": (
        pool(ranges=[{"first": 2000, "last": 2000}] * 10_000),
        "spec.ranges",
        "at most 32 items",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid(api: Api, case: str) -> None:
    document, field, text = INVALID[case]
    api.create(document, dry=True).refuses(field, text)


def post(api: Api, text: str) -> Answer:
    return api.request("POST", path("StrategyRun"), text, dryRun="All", fieldValidation="Strict")


@pytest.mark.parametrize(
    ("where", "field"),
    [
        (run(sttae="Running"), 'unknown field "spec.sttae"'),
        (run(**program(Command=["x"])), 'unknown field "spec.program.Command"'),
        (run(**program(env=[{"name": "A", "vlaue": "x"}])), 'unknown field "spec.program.env[0].vlaue"'),
        (run(**program(readiness={"none": {"x": 1}})), 'unknown field "spec.program.readiness.none.x"'),
        (run() | {"sepc": {}}, 'unknown field "sepc"'),
    ],
    ids=["spec", "case", "env", "none", "root"],
)
def test_unknown_fields(api: Api, where: dict[str, Any], field: str) -> None:
    answer = api.create(where, dry=True)
    assert answer.code == 400
    assert f"strict decoding error: {field}" in answer.message


def test_null_is_absent(api: Api) -> None:
    """The API server drops it before it validates; so a null is never stored, nor a way round a rule."""
    stored = api.create(run(state=None, owner=None, config={"values": {"kept": None}}), dry=True).ok()
    assert stored["spec"] == run(config={"values": {"kept": None}})["spec"]


def test_duplicate_keys(api: Api) -> None:
    text = json.dumps(run()).replace('"spec": {', '"spec": {"state": "Running", "state": "Stopped", ')
    answer = post(api, text)
    assert answer.code == 400
    assert 'duplicate field "spec.state"' in answer.message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "01", "0x10"])
def test_what_is_no_json_number(api: Api, number: str) -> None:
    answer = post(
        api, json.dumps(run(restartNonce=7)).replace('"restartNonce": 7', f'"restartNonce": {number}')
    )
    assert answer.code == 400, answer.body


@pytest.mark.usefixtures("api")
def test_nan_in_yaml(plane: RealPlane) -> None:
    text = yaml.safe_dump(run(restartNonce=float("nan")))
    assert "restartNonce: .nan" in text
    with pytest.raises(AssertionError, match=r"unsupported value: NaN"):
        plane.kubectl("create", "--dry-run=server", "-n", "api-tests", "-f", "-", input=text)


def test_an_object_of_1_6_mb(api: Api) -> None:
    answer = api.create(run(config={"values": {"x": "y" * 1_600_000}}))
    assert answer.code in {413, 500}, answer.code
    assert "too large" in answer.message


def test_nothing_was_stored(api: Api) -> None:
    for kind in KINDS:
        names = [item["metadata"]["name"] for item in api.request("GET", path(kind.name)).ok()["items"]]
        assert not {"r", "p", "port-0"} & set(names)
