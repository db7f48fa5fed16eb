"""Every rule refuses its case and names the field; what it allows is created."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api.client import Api, lease, pool, program, run

A, B = {"name": "s", "key": "k"}, {"name": "c", "key": "k"}
P = "spec.program"


def env(**variable: Any) -> dict[str, Any]:
    return run(**program(env=[variable]))


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "long name": (run("a" * 64), "metadata.name", "Too long"),
    "two probes": (
        run(**program(readiness={"none": {}, "exec": {"command": ["x"]}})),
        f"{P}.readiness",
        "at most one",
    ),
    "two literal sources": (env(name="A", value="x", valueFrom={"secretKeyRef": A}), f"{P}.env[0].valueFrom", "not both"),
    "no source": (env(name="A", valueFrom={}), f"{P}.env[0].valueFrom", "exactly one"),
    "two sources": (
        env(name="A", valueFrom={"secretKeyRef": A, "configMapKeyRef": B}),
        f"{P}.env[0].valueFrom",
        "exactly one",
    ),
    "config twice": (run(config={}, configFrom={"secret": A}), "spec.configFrom", "not both"),
    "configFrom nothing": (run(configFrom={}), "spec.configFrom", "exactly one"),
    "configFrom both": (run(configFrom={"secret": A, "configMap": B}), "spec.configFrom", "exactly one"),
    "http without the method": (run(controlApi={}, pause={"http": {}}), "spec.pause.http", "method HTTP only"),
    "http with Signal": (
        run(controlApi={}, pause={"method": "Signal", "http": {}}),
        "spec.pause.http",
        "method HTTP only",
    ),
    "pause by HTTP without a port": (run(pause={"method": "HTTP"}), "spec.pause.method", "needs controlApi"),
    "tcp on no control port": (run(**program(readiness={"tcp": {}})), f"{P}.readiness", "needs controlApi"),
    "tcp on `control`": (
        run(**program(readiness={"tcp": {"port": "control"}})),
        f"{P}.readiness",
        "needs controlApi",
    ),
    "http on no control port": (
        run(**program(readiness={"http": {"path": "/"}})),
        f"{P}.readiness",
        "needs controlApi",
    ),
    "argv of 200 kB in pieces": (run(**program(args=["x" * 50_000] * 4)), f"{P}.command", "longer than 131072"),
    "range upside down": (pool(ranges=[{"first": 6000, "last": 5999}]), "spec.ranges[0].first", "greater than last"),
    "4097 ports": (
        pool(ranges=[{"first": 2000, "last": 5999}, {"first": 7000, "last": 7096}]),
        "spec.ranges",
        "at most 4096",
    ),
    "another port's name": (lease("port-5001", 5002), "spec.port", "must be named port-N"),
    "a second name for a port": (lease("port-05001", 5001), "spec.port", "must be named port-N"),
    "no port's name": (lease("five", 5001), "spec.port", "must be named port-N"),
    "same variable twice": (
        run(**program(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}])),
        f"{P}.env[1]",
        "Duplicate value",
    ),
}  # fmt: skip
for segment in ("..", "../x", "a/../b", "a/..", "/..", "/a/../../etc"):
    REFUSED[f"workingDir {segment}"] = (run(**program(workingDir=segment)), f"{P}.workingDir", "`..` segment")
for reserved in (
    *("MAINSTAY_", "MAINSTAY_UNIT", "RUN_ID", "ATTEMPT", "CONTROL_API_PORT", "CONFIG_PATH", "DATA_DIR"),
):
    REFUSED[f"env {reserved}"] = (env(name=reserved, value="x"), f"{P}.env[0].name", "set by Mainstay")


@pytest.mark.parametrize("case", REFUSED)
def test_refused(api: Api, case: str) -> None:
    document, field, text = REFUSED[case]
    api.create(document, dry=True).refuses(field, text)


ALLOWED: dict[str, dict[str, Any]] = {
    "smallest": run(),
    "63 characters": run("a" * 63),
    "dots that are no segment": run(**program(workingDir="/a/..b/c../...")),
    "variable like ours": env(name="RUN_ID_2", value=""),
    "variable from a secret": env(name="A", valueFrom={"secretKeyRef": A}),
    "name without a value": env(name="A"),
    "pause by HTTP": run(controlApi={}, pause={"method": "HTTP", "http": {}}),
    "tcp on a number": run(**program(readiness={"tcp": {"port": 80}})),
    "tcp on the control port": run(controlApi={}, **program(readiness={"tcp": {"port": "control"}})),
    "http on the control port": run(controlApi={}, **program(readiness={"http": {"path": "/"}})),
    "no probe": run(**program(readiness={"none": {}})),
    "only a period": run(**program(readiness={"periodSeconds": 3})),
    "config": run(config={"values": {"any": {"thing": [1, "x", {"deep": True}]}}}),
    "configFrom": run(configFrom={"configMap": B}),
    "process text": run(**program(command=["a\nb", "c\rd", "%(X)s", "x ; y", "# ]", "$(id)", "ü\u202e"])),
    "longest argv": run(**program(command=["x" * 65536], args=["y" * 65536])),
    "4096 ports": pool(ranges=[{"first": 2000, "last": 6094}, {"first": 7000, "last": 7000}]),
    "lease": lease("port-5001", 5001),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(api: Api, case: str) -> None:
    api.create(ALLOWED[case], dry=True).ok()
