"""Asset in the API: what may be declared, what holds when it is not, and how it goes over the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mainstay.api.asset import Asset, AssetSpec, AssetState, AssetStatus, Probe
from mainstay.api.crd import crd
from mainstay.api.holdings import CLAIMS_MAX, HOLDINGS_MAX, AssetClaim, AssetReport, ClaimMode, Holding
from mainstay.api.kinds import ASSET, KINDS
from mainstay.api.phasedjob import OnFailure, PhasedJobSpec, TaskStatus

STEPS = [{"name": "s", "phases": [{"name": "p", "tasks": [{"name": "t", "program": {"command": ["t"]}}]}]}]
HTTP = {"http": {"url": "http://127.0.0.1:8090/ships/ship-1"}}
NOW = "2030-01-02T03:04:05Z"


def schema() -> dict[str, Any]:
    made = crd(ASSET)
    return made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def at(path: str) -> dict[str, Any]:
    found = schema()
    for part in path.split("."):
        found = found["items"] if part == "[]" else found["properties"][part]
    return found


# --- what holds when nothing is said


def test_an_asset_without_a_word_is_one_that_tasks_tell_of() -> None:
    asset = Asset.model_validate({"metadata": {"name": "a"}})
    spec = asset.spec
    assert (spec.type, spec.owner, spec.holdings, spec.accepts, spec.compensation) == (None,) * 5
    assert asset.status.wire() == {
        "observedGeneration": 0,
        "holdings": [],
        "summary": "",
        "delivered": [],
        "deliveries": [],
        "taken": [],
        "conditions": [],
    }


def test_defaults() -> None:
    spec = AssetSpec.model_validate(
        {
            "holdings": {"probe": HTTP},
            "accepts": {"probe": HTTP},
            "compensation": {"template": {"steps": STEPS}},
        }
    )
    assert spec.holdings is not None
    assert spec.accepts is not None
    assert (spec.holdings.every_seconds, spec.accepts.every_seconds) == (30, 300)
    assert (spec.holdings.probe.timeout_seconds, spec.holdings.probe.path) == (5, None)
    c = spec.compensation
    assert c is not None
    assert (c.parallelism, c.unclaimed, c.initial_backoff_seconds, c.max_backoff_seconds) == (
        1,
        False,
        10,
        600,
    )
    assert c.template.on_failure is OnFailure.FAIL
    assert PhasedJobSpec.model_validate({"steps": STEPS}).on_failure is not OnFailure.FAIL


def test_the_schema_sets_no_defaults() -> None:
    """They are the operator's: a later version may have others, also for what is declared already."""
    assert '"default"' not in json.dumps(schema())


def test_a_claim_is_exclusive_unless_it_says_otherwise() -> None:
    assert [AssetClaim(name="x", ref="y", mode=mode).exclusive for mode in (None, *ClaimMode)] == [
        mode is not ClaimMode.SHARED for mode in (None, *ClaimMode)
    ]


# --- what is refused


@pytest.mark.parametrize(
    "probe",
    [
        {"http": {"url": "ftp://x/"}},
        {"http": {"url": "http://"}},
        {"http": {"url": "http://x/a b"}},
        {"http": {"url": "http://x/\n"}},
        {"exec": {"command": []}},
        {**HTTP, "timeoutSeconds": 0},
        {**HTTP, "timeoutSeconds": 61},
        {"http": {**HTTP["http"], "headers": [{"name": "a b", "value": "1"}]}},
        {"http": {**HTTP["http"], "headers": [{"name": "A", "value": "1\r\nB: 2"}]}},
        {"http": {**HTTP["http"], "headers": [{"name": "A"}] * 17}},
    ],
)
def test_probes_that_are_none(probe: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Probe.model_validate(probe)


@pytest.mark.parametrize(
    "spec",
    [
        {"holdings": {}},
        {"holdings": {"probe": HTTP, "everySeconds": 0}},
        {"accepts": {"probe": HTTP, "everySeconds": 86401}},
        {"compensation": {}},
        {"compensation": {"template": {"steps": STEPS}, "parallelism": 0}},
        {"compensation": {"template": {"steps": STEPS}, "maxBackoffSeconds": -1}},
    ],
)
def test_declarations_that_are_none(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AssetSpec.model_validate(spec)


@pytest.mark.parametrize("units", [-1, 2**53 + 1, 1.5, "many", None])
def test_units_are_whole(units: Any) -> None:
    with pytest.raises(ValidationError):
        Holding.model_validate({"symbol": "X", "units": units})


@pytest.mark.parametrize("symbol", ["", "a\nb", "\x00", "\t", "x" * 129])
def test_symbols_are_one_line(symbol: str) -> None:
    with pytest.raises(ValidationError):
        Holding(symbol=symbol, units=1)
    assert Holding(symbol="Eisenerz №1/€", units=1).wire() == {"symbol": "Eisenerz №1/€", "units": 1}


@pytest.mark.parametrize("name", ["", "1x", "a-b", "a.b", "x" * 64])
def test_the_name_of_a_claim_is_one_in_expressions(name: str) -> None:
    with pytest.raises(ValidationError):
        AssetClaim(name=name, ref="y")


# --- the schema that the API server has


def test_it_is_one_of_ours() -> None:
    made = crd(ASSET)
    assert ASSET in KINDS
    assert made["metadata"]["name"] == "assets.mainstay.dev"
    assert made["spec"]["scope"] == "Namespaced"
    version = made["spec"]["versions"][0]
    assert version["subresources"] == {"status": {}}
    assert [column["name"] for column in version["additionalPrinterColumns"]][:4] == [
        "Type",
        "State",
        "Holder",
        "Holdings",
    ]


@pytest.mark.parametrize(
    ("path", "key"),
    [("status.holdings", "symbol"), ("status.delivered", "symbol"), ("status.conditions", "type"),
     ("status.compensation.holdings", "symbol"), ("spec.holdings.probe.http.headers", "name")],
)  # fmt: skip
def test_lists_by_key(path: str, key: str) -> None:
    found = at(path)
    assert (found["x-kubernetes-list-type"], found["x-kubernetes-list-map-keys"]) == ("map", [key])


def test_words_and_bounds() -> None:
    assert at("status.state")["enum"] == [str(state) for state in AssetState]
    assert at("status.holder.kind")["enum"] == ["PhasedJob", "JobBatch"]
    assert at("status.holder")["required"] == ["kind", "name", "uid", "since"]
    assert at("status.holdings")["maxItems"] == HOLDINGS_MAX
    assert at("spec.holdings")["required"] == ["probe"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("spec.holdings.probe", "set exactly one of http and exec"),
        ("spec.holdings.probe.http.headers.[]", "set value or secretKeyRef"),
        ("spec.accepts.probe", "set exactly one of http and exec"),
    ],
)
def test_rules_of_the_declaration(path: str, words: str) -> None:
    assert [rule["message"] for rule in at(path)["x-kubernetes-validations"]] == [words]


def test_rules_of_the_status() -> None:
    """What no operator may write, whatever its version."""
    rules = [rule["message"] for rule in schema()["x-kubernetes-validations"]]
    assert "an asset is never Free while it has holdings" in rules
    assert "a holder is followed by another, or leaves an asset that is Free" in rules
    assert any("status.compensation.attempt" in words for words in rules)


# --- the wire

symbols = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)
holdings = st.lists(st.fixed_dictionaries({"symbol": symbols, "units": st.integers(0, 2**53)}), max_size=5)
deliveries = st.fixed_dictionaries(
    {
        "symbol": symbols,
        "units": st.integers(0, 2**53),
        "accepted": st.booleans(),
        "job": st.just("j"),
        "task": st.just("t"),
        "time": st.just(NOW),
    }
)
statuses = st.fixed_dictionaries(
    {},
    optional={
        "observedGeneration": st.integers(0, 2**53),
        "state": st.sampled_from([str(state) for state in AssetState]),
        "holder": st.just({"kind": "JobBatch", "name": "b", "uid": "u", "since": NOW}),
        "holdings": holdings,
        "accepts": st.lists(symbols, max_size=5),
        "deliveries": st.lists(deliveries, max_size=3),
        "taken": st.lists(st.just("u/t/1"), max_size=3),
        "compensation": st.fixed_dictionaries(
            {
                "batch": st.just("b"),
                "attempt": st.integers(1, 9),
                "startedAt": st.just(NOW),
                "holdings": holdings,
            }
        ),
    },
)


@settings(max_examples=100, deadline=None)
@given(statuses)
def test_a_status_is_read_as_it_was_written(said: dict[str, Any]) -> None:
    status = AssetStatus.model_validate(said)
    wire = json.loads(json.dumps(status.wire(), allow_nan=False))
    assert AssetStatus.model_validate(wire) == status
    assert said.items() <= wire.items() or "compensation" in said
    assert "retryAt" not in json.dumps(wire)


def test_accepts_of_nothing_is_not_accepts_that_is_not_known() -> None:
    assert AssetStatus(accepts=()).wire()["accepts"] == []
    assert "accepts" not in AssetStatus().wire()
    assert AssetReport(ref="a", holdings=()).wire() == {"ref": "a", "holdings": [], "deliveries": []}
    assert "holdings" not in AssetReport(ref="a").wire()


def test_what_a_newer_one_wrote_is_read() -> None:
    said = {"state": "Free", "berth": 7, "holder": None}
    assert AssetStatus.model_validate(said).state is AssetState.FREE


def test_jobs_have_room_for_what_they_tell_of_assets() -> None:
    claims = [{"name": f"a{n}", "ref": f"a-{n}"} for n in range(CLAIMS_MAX + 1)]
    PhasedJobSpec.model_validate({"steps": STEPS, "assets": claims[:-1]})
    with pytest.raises(ValidationError):
        PhasedJobSpec.model_validate({"steps": STEPS, "assets": claims})
    report = AssetReport(ref="a", holdings=(Holding(symbol="X", units=1),))
    task = TaskStatus.model_validate({"name": "t", "state": "Completed", "reports": [report.wire()]})
    assert TaskStatus.model_validate(task.wire()).reports == (report,)
