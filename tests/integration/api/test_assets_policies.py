"""What the policies say of assets: whose they are, and secrets of a compensation by reference only."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from tests.integration.api.client import Answer, Api, action, path, step
from tests.integration.api.test_jobs_policies import CANARY, FITTING, LITERALS, OPERATOR

from mainstay.api.meta import API_VERSION

ALL = ("system:masters",)
ASSET = "Asset"
LOGIN = action("login", "password", "pin")


def asset(*steps: dict[str, Any], inputs: Any = None, **spec: Any) -> dict[str, Any]:
    """An Asset, with a compensation where there are steps."""
    if steps:
        template = {"steps": list(steps), **({} if inputs is None else {"inputs": inputs})}
        spec["compensation"] = {"template": template}
    return {"apiVersion": API_VERSION, "kind": ASSET, "metadata": {"name": "ship-1"}, "spec": spec}


@pytest.fixture(scope="module", autouse=True)
def in_force(api: Api) -> None:
    """A policy is compiled a moment after it was applied."""
    until = time.monotonic() + 20
    while api.create(asset(LOGIN, inputs={"login": CANARY}), dry=True).code not in {403, 422}:
        assert time.monotonic() < until, "the policy is not in force after 20 s"
        time.sleep(0.1)


def refused(answer: Answer, words: str) -> None:
    assert answer.code in {403, 422}, answer.body
    assert words in answer.message, answer.message
    assert CANARY not in json.dumps(answer.body)


@pytest.mark.parametrize(
    "who", [{"user": "u-7", "groups": ALL}, {"user": "alice", "groups": (*ALL, "u-7")}, OPERATOR]
)
def test_its_owner_and_the_operator_may(api: Api, who: dict[str, Any]) -> None:
    api.create(asset(owner={"userId": "u-7"}), user="u-7", groups=ALL).ok()
    api.patch(ASSET, "ship-1", {"spec": {"type": "Ship"}}, **who).ok()
    api.patch(ASSET, "ship-1", {"status": {"state": "Free"}}, "status", **who).ok()
    api.delete(ASSET, "ship-1", **who).ok()


def test_nobody_else_may(api: Api) -> None:
    eve = {"user": "eve", "groups": ALL}
    words = "spec.owner.userId is 'u-7': only this user, or a member of this group, may change or delete the asset"
    refused(api.create(asset(owner={"userId": "u-7"}), **eve), "an owner can name only oneself")
    api.create(asset(owner={"userId": "u-7"}), user="u-7", groups=ALL).ok()
    refused(api.patch(ASSET, "ship-1", {"spec": {"compensation": None, "type": "x"}}, **eve), words)
    refused(api.patch(ASSET, "ship-1", {"metadata": {"finalizers": ["e.ve/held"]}}, **eve), words)
    refused(api.patch(ASSET, "ship-1", {"status": {"state": "Free"}}, "status", **eve), words)
    refused(api.delete(ASSET, "ship-1", **eve), words)


@pytest.mark.parametrize("case", LITERALS)
def test_a_literal_in_a_secret_field_of_a_compensation(api: Api, case: str) -> None:
    value, words = LITERALS[case]
    place = f"spec.compensation.template.inputs.login{words}"
    refused(api.create(asset(LOGIN, inputs={"login": value}), dry=True), place)
    refused(api.create(asset(LOGIN, inputs={"login": value}), dry=True, **OPERATOR), place)


@pytest.mark.parametrize("case", FITTING)
def test_references_and_other_fields(api: Api, case: str) -> None:
    inputs = {"login": FITTING[case], "other": {"password": "of no action"}}
    api.create(asset(step("a"), LOGIN, inputs=inputs), dry=True).ok()


def test_every_way_to_give_it_later(api: Api) -> None:
    api.create(asset()).ok()
    bad = asset(LOGIN, inputs={"login": {"password": CANARY}})
    words = "spec.compensation.template.inputs.login.password is a secret"
    refused(api.patch(ASSET, "ship-1", {"spec": bad["spec"]}), words)
    stored = api.patch(ASSET, "ship-1", {"spec": asset(LOGIN)["spec"]}).ok()
    refused(api.request("PUT", path(ASSET, "ship-1"), {**stored, "spec": bad["spec"]}), words)
    api.patch(ASSET, "ship-1", {"status": {"state": "Free"}}, "status").ok()
