"""What is wrong with a declaration of an asset, with its place; and the names that a compensation gets."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.asset.worlds import PROBE, TEMPLATE

from mainstay.api.asset import AssetSpec
from mainstay.api.holdings import HOLDINGS_MAX, AssetClaim, ClaimMode
from mainstay.api.meta import NAME_MAX
from mainstay.core.asset.check import CLAIM, claiming, problems
from mainstay.core.names import COMPENSATION_MAX, compensation_job, compensation_name

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
OBJECT_NAMES = st.from_regex(
    r"[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?){0,3}", fullmatch=True
)


def wrong(spec: dict[str, Any]) -> list[tuple[str, str]]:
    return list(problems("ship-1", AssetSpec.model_validate(spec)))


def template(**fields: Any) -> dict[str, Any]:
    return {"compensation": {"template": {**deepcopy(TEMPLATE), **fields}}}


def when(expression: str, where: str = "when") -> dict[str, Any]:
    made = template()
    phase = made["compensation"]["template"]["steps"][0]["phases"][0]
    (phase if where == "completeWhen" else phase["tasks"][0])[where] = expression
    return made


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"holdings": PROBE, "accepts": PROBE},
        {"holdings": {"probe": {**PROBE["probe"], "path": "body.data.cargo"}}},  # type: ignore[dict-item]
        template(),
        template(assets=[{"name": "market", "ref": "market-1", "mode": "Shared"}]),
        when("assets.asset.holdings.size() == 0", "completeWhen"),
        when("inputs.symbol == 'IRON_ORE'"),
    ],
)
def test_right(spec: dict[str, Any]) -> None:
    assert wrong(spec) == []


@pytest.mark.parametrize(
    ("spec", "place", "words"),
    [
        ({"holdings": {"probe": {**PROBE["probe"], "path": "body."}}}, "spec.holdings.probe.path", "body."),  # type: ignore[dict-item]
        ({"holdings": {"probe": {**PROBE["probe"], "path": "inputs.x"}}}, "spec.holdings.probe.path", "inputs"),  # type: ignore[dict-item]
        ({"accepts": {"probe": {**PROBE["probe"], "path": "("}}}, "spec.accepts.probe.path", "'('"),  # type: ignore[dict-item]
        (template(assets=[{"name": "m", "ref": "m-1"}]), "spec.compensation.template.assets", "m: mode must be Shared"),
        (
            template(assets=[{"name": "m", "ref": "m-1", "mode": "TakeOver"}]),
            "spec.compensation.template.assets",
            "m: mode must be Shared",
        ),
        (
            template(assets=[{"name": "me", "ref": "ship-1", "mode": "Shared"}]),
            "spec.compensation.template.assets",
            "me: the asset itself is there already, as asset",
        ),
        (
            template(assets=[{"name": CLAIM, "ref": "m-1", "mode": "Shared"}]),
            "spec.compensation.template.assets",
            "asset: the asset itself is there already, as asset",
        ),
        (when("assets.ship.state == 'Free'"), "spec.compensation.template.steps", "ship"),
        (when("inputs.("), "spec.compensation.template.steps", "inputs.("),
        (when("1 + 1", "completeWhen"), "spec.compensation.template.steps", "boolean"),
    ],
)  # fmt: skip
def test_wrong(spec: dict[str, Any], place: str, words: str) -> None:
    found = wrong(spec)
    assert found
    assert found[0][0].startswith(place)
    assert words in found[0][1]
    assert not any(where.startswith("spec.steps") for where, _ in found)


def test_its_jobs_have_the_asset_itself_first() -> None:
    spec = AssetSpec.model_validate(template(assets=[{"name": "m", "ref": "m-1", "mode": "Shared"}]))
    assert spec.compensation is not None
    claims = claiming("ship-1", spec.compensation.template).assets
    assert claims == [
        AssetClaim(name="asset", ref="ship-1"),
        AssetClaim(name="m", ref="m-1", mode=ClaimMode.SHARED),
    ]
    assert claims[0].exclusive
    assert len(spec.compensation.template.assets) == 1


# --- names


@given(OBJECT_NAMES, st.uuids().map(str), st.integers(1, 2**53))
def test_names_fit_whatever_the_asset_is_called(asset: str, uid: str, attempt: int) -> None:
    name = compensation_name(asset, uid, attempt)
    assert len(name) <= COMPENSATION_MAX
    assert LABEL.fullmatch(name)
    assert name == compensation_name(asset, uid, attempt)
    for index in (0, HOLDINGS_MAX - 1):
        job = f"{name}-{compensation_job(index)}"
        assert len(job) <= NAME_MAX
        assert LABEL.fullmatch(job)


def test_the_longest_name_there_is() -> None:
    longest = ".".join(["a" * 63] * 4)[:253]
    names = {compensation_name(longest, uid, n) for uid in ("u1", "u2") for n in range(1, 201)}
    assert len(names) == 400
    assert {len(one) for one in names} == {COMPENSATION_MAX}


def test_no_two_have_one_name() -> None:
    """Another asset, one of the same name that came after it, another attempt."""
    made = [
        ("a.b", "u1", 1),
        ("a-b", "u2", 1),
        ("a-b", "u3", 1),
        ("a-b", "u3", 2),
        ("a-b", "u3", 11),
        ("a" * 60, "u4", 1),
        ("a" * 61, "u5", 1),
    ]
    assert len({compensation_name(*one) for one in made}) == len(made)
    assert len({compensation_job(n) for n in range(HOLDINGS_MAX)}) == HOLDINGS_MAX
