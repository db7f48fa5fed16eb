"""Stacks and restarts that admission refuses, with the field named, and what it lets pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.api.client import Answer, Api, path

from mainstay.api.meta import API_VERSION

ALL = ("system:masters",)
S = "spec.services"
OPERATOR = {"user": "mainstay-operator", "groups": ALL}


def service(name: str = "a", **fields: Any) -> dict[str, Any]:
    """A service, by default one that only lives."""
    return {"name": name, "kind": "Background", "program": {"command": ["x"]}, **fields}


def http(name: str = "a", port: Any = 8001, **fields: Any) -> dict[str, Any]:
    return service(name, kind="Http", port=port, **fields)


def stack(*services: dict[str, Any], name: str = "s", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "ServiceStack",
        "metadata": {"name": name},
        "spec": {"services": list(services) or [service()], **spec},
    }


def restart(name: str = "r", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "StackRestart",
        "metadata": {"name": name},
        "spec": {"stack": "s", **spec},
    }


def program(**fields: Any) -> dict[str, Any]:
    return service(program={"command": ["x"], **fields})


@pytest.fixture(autouse=True)
def clean_stacks(api: Api) -> Iterator[None]:
    yield
    for kind in ("StackRestart", "ServiceStack"):
        for item in api.request("GET", path(kind)).ok()["items"]:
            api.delete(kind, item["metadata"]["name"])


def as_user(name: str, *groups: str) -> dict[str, Any]:
    return {"user": name, "groups": (*ALL, *groups)}


def forbidden(answer: Answer, *words: str) -> None:
    assert answer.code == 403, answer.body
    for word in words:
        assert word in answer.message


# --- what it refuses

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    # ports
    "two of a port": (stack(http("a"), http("b")), S, "two services have the same port"),
    "an Http one without": (stack(service(kind="Http")), f"{S}[0].port", "a service of kind Http needs a port"),
    "port 0": (stack(http(port=0)), f"{S}[0].port", "greater than or equal to 1"),
    "port -1": (stack(http(port=-1)), f"{S}[0].port", "greater than or equal to 1"),
    "port 65536": (stack(http(port=65536)), f"{S}[0].port", "less than or equal to 65535"),
    "port 2^63": (stack(http(port=2**63)), f"{S}[0].port", "must be of type integer"),
    "port as text": (stack(http(port="3000")), f"{S}[0].port", "must be of type integer"),
    "port 3000.5": (stack(http(port=3000.5)), f"{S}[0].port", "must be of type integer"),
    "a reserved port of the user's": (stack(http(), reservedPorts=[8001]), S, "a service has a reserved port"),
    "reserved port 0": (stack(reservedPorts=[0]), "spec.reservedPorts[0]", "greater than or equal to 1"),
    "257 reserved ports": (stack(reservedPorts=list(range(1, 258))), "spec.reservedPorts", "at most 256 items"),
    # order
    "needs nobody we know": (stack(service(dependsOn=["b"])), S, "dependsOn names a service that the stack doesn't have"),
    "needs one twice": (stack(service(), service("b", dependsOn=["a", "a"])), f"{S}[1].dependsOn[1]", "Duplicate value"),
    "needs an odd name": (stack(service(dependsOn=["../a"])), f"{S}[0].dependsOn[0]", "should match"),
    # services
    "none": (stack() | {"spec": {"services": []}}, S, "at least 1 items"),
    "no list": (stack() | {"spec": {}}, S, "Required value"),
    "65": (stack(*(service(f"s{n}") for n in range(65))), S, "at most 64 items"),
    "one name twice": (stack(service(), service()), f"{S}[1]", "Duplicate value"),
    "no kind": (stack({k: v for k, v in service().items() if k != "kind"}), f"{S}[0].kind", "Required value"),
    "kind http": (stack(service(kind="http")), f"{S}[0].kind", "supported values"),
    "no program": (stack({k: v for k, v in service().items() if k != "program"}), f"{S}[0].program", "Required value"),
    "two probes": (
        stack(program(readiness={"none": {}, "exec": {"command": ["x"]}})), f"{S}[0].program.readiness", "at most one",
    ),
    "a variable of ours": (
        stack(program(env=[{"name": "CONTROL_API_PORT", "value": "1"}])), f"{S}[0].program.env[0].name", "set by Mainstay",
    ),
    "a directory that climbs": (stack(program(workingDir="/a/../..")), f"{S}[0].program.workingDir", "`..` segment"),
    "grace below 0": (
        stack(program(terminationGracePeriodSeconds=-1)),
        f"{S}[0].program.terminationGracePeriodSeconds",
        "greater than or equal to 0",
    ),
    # the rest of a stack
    "state running": (stack(state="running"), "spec.state", "supported values"),
    "an owner without a name": (stack(owner={"userId": ""}), "spec.owner.userId", "at least 1 chars"),
    "flush below 0": (stack(timeouts={"flushSeconds": -1}), "spec.timeouts.flushSeconds", "greater than or equal to 0"),
    "no time to start": (stack(timeouts={"startSeconds": 0}), "spec.timeouts.startSeconds", "greater than or equal to 1"),
    "a supervisor that may take an hour": (
        stack(timeouts={"supervisorSeconds": 3600}), "spec.timeouts.supervisorSeconds", "less than or equal to 600",
    ),
    "time as text": (stack(timeouts={"steadySeconds": "1s"}), "spec.timeouts.steadySeconds", "must be of type integer"),
    "logs elsewhere": (stack(logs={"directory": "logs"}), "spec.logs.directory", "should match"),
    "logs with a NUL": (stack(logs={"directory": "/a\0b"}), "spec.logs.directory", "should match"),
    "logs of 10 MB": (stack(logs={"maxSize": "10MB"}), "spec.logs.maxSize", "should match"),
    "no backups": (stack(logs={"backups": 0}), "spec.logs.backups", "greater than or equal to 1"),
    "a name that climbs": (stack(name="../../x"), "metadata.name", "RFC 1123"),
    # restarts
    "of nothing": (restart() | {"spec": {}}, "spec.stack", "Required value"),
    "of an odd name": (restart(stack="../s"), "spec.stack", "should match"),
    "mode full": (restart(mode="full"), "spec.mode", "supported values"),
    "mode Master": (restart(mode="Master"), "spec.mode", "supported values"),
    "kept for less than nothing": (
        restart(ttlSecondsAfterFinished=-1), "spec.ttlSecondsAfterFinished", "greater than or equal to 0",
    ),
}  # fmt: skip
for _port in (5000, 7000, 9000, 10000):
    REFUSED[f"reserved port {_port}"] = (stack(http(port=_port)), S, "a service has a reserved port")
    REFUSED[f"reserved port {_port} in the background"] = (
        stack(service(port=_port)),
        S,
        "spec.reservedPorts says which they are",
    )
for _name in ("", "-a", "a-", ".a", "a.", "../x", "a/b", "a b", "a\nb", "a\0", "%(x)s", "ü", "а"):
    REFUSED[f"service named {_name!r}"] = (stack(service(_name)), f"{S}[0].name", "should match")
REFUSED["service of 64 characters"] = (stack(service("a" * 64)), f"{S}[0].name", "Too long")


@pytest.mark.parametrize("case", REFUSED)
def test_refused(api: Api, case: str) -> None:
    document, field, text = REFUSED[case]
    api.create(document, dry=True).refuses(field, text)


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "of a stack": (stack(ports=[1]), "spec.ports"),
    "of a service": (stack(service(restart="always")), "spec.services[0].restart"),
    "of the timeouts": (stack(timeouts={"flush": 1}), "spec.timeouts.flush"),
    "of a restart": (restart(force=True), "spec.force"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_field_is_named(api: Api, case: str) -> None:
    document, field = UNKNOWN[case]
    answer = api.create(document, dry=True)
    assert answer.code == 400
    assert f'unknown field "{field}"' in answer.message


ALLOWED: dict[str, dict[str, Any]] = {
    "smallest": stack(),
    "64 services, each needing 32": stack(
        *(service(f"s{n}", dependsOn=[f"s{m}" for m in range(max(0, n - 32), n)], port=20000 + n) for n in range(64))
    ),
    "63 characters": stack(service("a" * 63)),
    "every sign of a name": stack(service("A.b_c-9")),
    "the sample's ports": stack(*(http(f"s{p}", p) for p in (3000, 4000, 6000, 8001)), service("b", port=8002)),
    "port 5000 where it isn't reserved": stack(http(port=5000), reservedPorts=[7000]),
    "nothing reserved": stack(http(port=9000), reservedPorts=[]),
    "a circle, which a condition tells": stack(service("a", dependsOn=["b"]), service("b", dependsOn=["a"])),
    "itself": stack(service("a", dependsOn=["a"])),
    "a restart": restart(),
    "a restart of each mode": restart(mode="Emergency", ttlSecondsAfterFinished=0),
}  # fmt: skip


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(api: Api, case: str) -> None:
    api.create(ALLOWED[case], dry=True).ok()


# --- what may not be changed


def test_a_stack_keeps_its_owner(api: Api) -> None:
    api.create(stack(owner={"userId": "u-7"})).ok()
    for owner in (None, {"userId": "u-8"}):
        api.patch("ServiceStack", "s", {"spec": {"owner": owner}}).refuses(
            "spec.owner", "can't be changed or removed"
        )


def test_a_change_is_judged_as_a_creation(api: Api) -> None:
    api.create(stack(http("a"), service("b"))).ok()
    doubled = {"spec": {"services": [http("a"), http("b")]}}
    api.patch("ServiceStack", "s", doubled).refuses(S, "two services have the same port")
    api.patch("ServiceStack", "s", {"spec": {"reservedPorts": [8001]}}).refuses(
        S, "a service has a reserved port"
    )
    orphaned = {"spec": {"services": [service("b", dependsOn=["a"])]}}
    api.patch("ServiceStack", "s", orphaned).refuses(S, "dependsOn names a service")


def test_a_restart_stays_what_it_is(api: Api) -> None:
    api.create(restart(owner={"userId": "u-7"})).ok()
    for change, field in (
        ({"stack": "t"}, "spec.stack"),
        ({"mode": "Flush"}, "spec.mode"),
        ({"owner": None}, "spec.owner"),
        ({"owner": {"userId": "u-8"}}, "spec.owner"),
    ):
        api.patch("StackRestart", "r", {"spec": change}).refuses(field, "can't be changed")
    api.patch("StackRestart", "r", {"spec": {"ttlSecondsAfterFinished": 5}}).ok()
    api.patch("StackRestart", "r", {"spec": {"mode": "Full"}}).ok()


@pytest.mark.parametrize("end", ["Completed", "Failed"])
def test_a_restart_that_is_over_stays_so(api: Api, end: str) -> None:
    api.create(restart()).ok()
    for phase in ("Pending", "Running", end):
        api.patch("StackRestart", "r", {"status": {"phase": phase}}, "status").ok()
    for phase in ("Running", "Pending", "Failed" if end == "Completed" else "Completed", None):
        answer = api.patch("StackRestart", "r", {"status": {"phase": phase}}, "status")
        assert answer.code == 422, answer.body
        assert answer.causes[0][0] == "status.phase"


def test_an_attempt_never_falls(api: Api) -> None:
    api.create(stack()).ok()
    api.patch("ServiceStack", "s", {"status": {"services": [{"name": "a", "attempt": 3}]}}, "status").ok()
    for attempt in ({"attempt": 2}, {}):
        change = {"status": {"services": [{"name": "a", **attempt}]}}
        answer = api.patch("ServiceStack", "s", change, "status")
        assert answer.code == 422, answer.body
        assert answer.causes[0][0].startswith("status.services[")
        assert "attempt can't become lower" in answer.causes[0][1]
    api.patch("ServiceStack", "s", {"status": {"services": []}}, "status").ok()  # it was removed


# --- whose it is


@pytest.mark.parametrize("kind", ["ServiceStack", "StackRestart"])
def test_only_the_owner_may(api: Api, kind: str) -> None:
    made, word = (stack, "stack") if kind == "ServiceStack" else (restart, "restart")
    mine = made(owner={"userId": "u-7"})
    name = mine["metadata"]["name"]
    forbidden(api.create(mine, **as_user("u-8")), "only oneself")
    api.create(mine, **as_user("bob", "u-7")).ok()
    for answer in (
        api.patch(kind, name, {"metadata": {"labels": {"a": "b"}}}, **as_user("u-8")),
        api.patch(kind, name, {"status": {"phase": "Running"}}, "status", **as_user("u-8")),
        api.delete(kind, name, **as_user("u-8")),
    ):
        forbidden(answer, "'u-7'", f"may change or delete the {word}; 'u-8' is neither")
    api.patch(kind, name, {"status": {"phase": "Running"}}, "status", **OPERATOR).ok()
    api.delete(kind, name, **as_user("u-7")).ok()


def test_nobody_asks_for_a_restart_in_the_name_of_another(api: Api) -> None:
    """Without a name it is created, and the operator refuses it: NotOwner."""
    api.create(stack(owner={"userId": "u-7"}), **as_user("u-7")).ok()
    forbidden(
        api.create(restart(owner={"userId": "u-7"}), **as_user("u-8")), "'u-7'", "'u-8'", "only oneself"
    )
    api.create(restart(), **as_user("u-8")).ok()
    forbidden(
        api.patch("StackRestart", "r", {"spec": {"owner": {"userId": "u-7"}}}, **as_user("u-8")),
        "only oneself",
    )
    api.create(restart("mine", owner={"userId": "u-7"}), **as_user("carol", "u-7")).ok()
