"""What can't be changed can't be removed either: not by PUT, patch, two steps, or through status."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api.client import Api, lease, path, run
from tests.integration.api.copies import two_runtimes

OWNER = {"userId": "u-7", "accountId": "a-1"}
RUN = "StrategyRun"

SPECS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "owner changed": ({"owner": OWNER}, {"owner": {"userId": "u-8", "accountId": "a-1"}}, "spec.owner"),
    "owner's account changed": ({"owner": OWNER}, {"owner": {**OWNER, "accountId": "a-2"}}, "spec.owner"),
    "owner's account removed": ({"owner": OWNER}, {"owner": {"userId": "u-7"}}, "spec.owner"),
    "owner's account added": ({"owner": {"userId": "u-7"}}, {"owner": OWNER}, "spec.owner"),
    "owner removed": ({"owner": OWNER}, {}, "spec.owner"),
    "owner null": ({"owner": OWNER}, {"owner": None}, "spec.owner"),
    "runId changed": ({"runId": "a"}, {"runId": "b"}, "spec.runId"),
    "runId removed": ({"runId": "a"}, {}, "spec.runId"),
    "runId added": ({}, {"runId": "a"}, "spec.runId"),
}


@pytest.mark.parametrize("case", SPECS)
def test_spec_by_put(api: Api, case: str) -> None:
    before, after, field = SPECS[case]
    stored = api.create(run(**before)).ok()
    changed = {**run(**after), "metadata": stored["metadata"]}
    api.request("PUT", path(RUN, "r"), changed).refuses(field, "can")


@pytest.mark.parametrize("field", ["owner", "runId"])
def test_spec_by_removing_with_a_patch(api: Api, field: str) -> None:
    api.create(run(owner=OWNER, runId="a")).ok()
    api.patch(RUN, "r", {"spec": {field: None}}).refuses(f"spec.{field}", "can")
    json_patch = f'[{{"op": "remove", "path": "/spec/{field}"}}]'
    answer = api.request("PATCH", path(RUN, "r"), json_patch, kind="application/json-patch+json")
    answer.refuses(f"spec.{field}", "can")


def test_spec_by_a_server_side_apply_that_gives_the_field_up(api: Api) -> None:
    def apply(document: dict[str, Any]) -> Any:
        kind = "application/apply-patch+yaml"
        return api.request("PATCH", path(RUN, "r"), document, kind=kind, fieldManager="t")

    apply(run(owner=OWNER, runId="a")).ok()
    answer = apply(run())
    answer.refuses("spec.owner", "can't be changed or removed")
    answer.refuses("spec.runId", "can't be added, changed or removed")


def test_allowed_changes(api: Api) -> None:
    api.create(run()).ok()
    api.patch(RUN, "r", {"spec": {"owner": OWNER}}).ok()
    api.patch(RUN, "r", {"spec": {"state": "Stopped", "runtime": "Process"}}).ok()
    api.patch(RUN, "r", {"spec": {"runtime": None, "state": None}}).ok()


STATUSES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str]] = {
    "runId changed": ({"runId": "a"}, {"runId": "b"}, "status.runId"),
    "runId removed": ({"runId": "a"}, {}, "status.runId"),
    "runId removed with status": ({"runId": "a"}, None, "status.runId"),
    "attempt lower": ({"attempt": 3}, {"attempt": 2}, "status.attempt"),
    "attempt removed": ({"attempt": 3}, {}, "status.attempt"),
    "attempt removed with status": ({"attempt": 3}, None, "status.attempt"),
}


@pytest.mark.parametrize("case", STATUSES)
def test_status_by_put_and_patch(api: Api, case: str) -> None:
    before, after, field = STATUSES[case]
    api.create(run()).ok()
    stored = api.patch(RUN, "r", {"status": before}, "status").ok()
    assert stored["status"] == before
    put = {k: v for k, v in stored.items() if k != "status"} | ({} if after is None else {"status": after})
    api.request("PUT", path(RUN, "r", "status"), put).refuses(field, "can't")
    removed = None if after is None else {**dict.fromkeys(before), **after}
    api.patch(RUN, "r", {"status": removed}, "status").refuses(field, "can't")


def test_status_goes_forward(api: Api) -> None:
    api.create(run()).ok()
    for status in ({"runId": "a", "attempt": 1}, {"attempt": 1, "phase": "Starting"}, {"attempt": 2}):
        api.patch(RUN, "r", {"status": status}, "status").ok()
    assert api.patch(RUN, "r", {"status": {"phase": None}}, "status").ok()["status"] == {
        "runId": "a",
        "attempt": 2,
    }


def test_status_is_untouched_by_writes_to_the_object(api: Api) -> None:
    assert "status" not in api.create(run() | {"status": {"attempt": 9}}).ok()
    stored = api.patch(RUN, "r", {"status": {"attempt": 3}}, "status").ok()
    bare = {k: v for k, v in stored.items() if k != "status"}
    assert api.request("PUT", path(RUN, "r"), bare).ok()["status"] == {"attempt": 3}


def test_a_lease_never_changes(api: Api) -> None:
    stored = api.create(lease("port-5001", 5001)).ok()
    other = {**stored["spec"], "holder": {**stored["spec"]["holder"], "uid": "u-2"}}
    api.request("PUT", path("PortLease", "port-5001"), stored | {"spec": other}).refuses(
        "spec", "never changed"
    )
    api.patch("PortLease", "port-5001", {"spec": {"pool": "q"}}).refuses("spec", "never changed")
    assert api.create(lease("port-5001", 5001)).code == 409
    api.patch("PortLease", "port-5001", {"metadata": {"labels": {"a": "b"}}}).ok()


def test_runtime_once_there_are_two(api: Api) -> None:
    """The rule on a copy of our CRD that knows a second runtime: absent means Process, and neither way changes."""
    with two_runtimes(api) as url:
        for before, after in ((None, "Pod"), ("Process", "Pod"), ("Pod", None), ("Pod", "Process")):
            document = run() | {"apiVersion": "copy.mainstay.dev/v1alpha1"}
            document["spec"] |= {"runtime": before} if before else {}
            api.request("POST", url, document).ok()
            answer = api.request(
                "PATCH", f"{url}/r", {"spec": {"runtime": after}}, kind="application/merge-patch+json"
            )
            answer.refuses("spec.runtime", "absent means Process")
            api.request("DELETE", f"{url}/r")
