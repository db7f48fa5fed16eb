"""The sample world's manifests: what they say is known, their expressions mean what the documentation says."""

import pytest
import yaml
from tests.support.exchange import SAMPLES
from tests.support.world import running_world

from mainstay.api.asset import AssetSpec
from mainstay.api.holdings import AssetClaim
from mainstay.api.jobbatch import JobBatchSpec
from mainstay.api.phasedjob import PhasedJobSpec
from mainstay.api.servicestack import ServiceStackSpec
from mainstay.core.asset.observation import read_accepts, read_holdings
from mainstay.core.expressions import evaluate
from mainstay.core.job.check import problems
from mainstay.core.job.graph import Graph

HERE = SAMPLES / "world"
MODELS = {"Asset": AssetSpec, "JobBatch": JobBatchSpec, "ServiceStack": ServiceStackSpec}


def _documents():
    for path in sorted(HERE.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield from document["items"] if document["kind"] == "List" else [document]


DOCUMENTS = list(_documents())
ASSETS = {
    one["metadata"]["name"]: AssetSpec.model_validate(one["spec"])
    for one in DOCUMENTS
    if one["kind"] == "Asset"
}
BATCHES = {
    one["metadata"]["name"]: JobBatchSpec.model_validate(one["spec"])
    for one in DOCUMENTS
    if one["kind"] == "JobBatch"
}
SHIPS = [name for name, spec in ASSETS.items() if spec.type == "Ship"]
(STACK,) = [
    ServiceStackSpec.model_validate(one["spec"]) for one in DOCUMENTS if one["kind"] == "ServiceStack"
]
WORLD = f"http://127.0.0.1:{STACK.services[0].port}"


def _jobs():
    """Every job of the pipeline, as its batch makes it, and what empties each ship."""
    for batch, spec in BATCHES.items():
        for entry in spec.jobs:
            claims = {claim.name: claim for claim in (*spec.template.assets, *entry.assets)}
            template = spec.template.model_dump(exclude={"inputs", "assets"}, exclude_unset=True)
            yield (
                f"{batch}-{entry.name}",
                PhasedJobSpec(
                    **template, inputs=spec.template.inputs | entry.inputs, assets=list(claims.values())
                ),
            )
    for name in SHIPS:
        template = ASSETS[name].compensation.template
        inputs = {**template.inputs, "asset": name, "symbol": "IRON_ORE", "units": 40}
        update = {"inputs": inputs, "assets": [AssetClaim(name="asset", ref=name)]}
        yield f"empty-{name}", PhasedJobSpec(**(template.model_dump(exclude_unset=True) | update))


JOBS = dict(_jobs())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_the_manifests_say_only_what_the_api_knows(document):
    assert document["apiVersion"] == "mainstay.dev/v1alpha1"
    spec = MODELS[document["kind"]].model_validate(document["spec"])
    assert spec.model_dump(mode="json", by_alias=True, exclude_unset=True) == document["spec"]


@pytest.mark.parametrize("name", JOBS)
def test_the_operator_finds_nothing_wrong(name):
    assert list(problems(JOBS[name], Graph.of(JOBS[name]))) == []


@pytest.mark.parametrize("name", JOBS)
def test_each_job_knows_its_world_and_its_assets(name):
    job = JOBS[name]
    assert job.inputs["world"] == WORLD
    assert {claim.ref for claim in job.assets} <= ASSETS.keys()
    assert {claim.ref for claim in job.assets if claim.exclusive} <= set(SHIPS)
    for task_name, task in Graph.of(job).tasks.items():
        assert task.program.command == ["python3", "worker.py", task_name]
        assert task.program.working_dir == "samples/world"
        assert (task.retries > 0, task.timeout_seconds) == (True, 60)


def test_the_probes_read_what_the_world_answers(tmp_path):
    with running_world(tmp_path) as world:
        for name, spec in ASSETS.items():
            kind = spec.holdings or spec.accepts
            base, _, path = kind.probe.http.url.partition("/my" if spec.holdings else "/factories")
            assert base == WORLD
            body = {"data": world.get(f"{'/my' if spec.holdings else '/factories'}{path}")}
            if spec.holdings:
                assert read_holdings(body, kind.probe.path) == ()
                world.act(name, "purchase", symbol="IRON_ORE", units=40)
                (held,) = read_holdings({"data": world.get(f"/my{path}")}, kind.probe.path)
                assert (held.symbol, held.units) == ("IRON_ORE", 40)
            else:
                assert read_accepts(body, kind.probe.path) == tuple(body["data"]["accepts"])


PROOFS = {
    # holdings: (collect is done, sell is done, as the documentation has it)
    "nothing": ({}, False, True),
    "all of it": ({"IRON_ORE": 40}, True, False),
    "more than that": ({"IRON_ORE": 55, "COPPER_ORE": 1}, True, False),
    "a part of it": ({"IRON_ORE": 39}, False, False),
    "something else": ({"COPPER_ORE": 60}, False, True),
}


@pytest.mark.parametrize("name", PROOFS)
def test_what_proves_a_phase(name):
    holdings, collected, sold = PROOFS[name]
    held = [{"symbol": symbol, "units": units} for symbol, units in holdings.items()]
    for job, phase, expected in (
        ("collect-sell-iron", "collect", collected),
        ("collect-sell-iron", "sell", sold),
        ("acquire-deliver-sand", "acquire", collected),
        ("empty-ship-1", "liquidate", sold),
    ):
        spec = JOBS[job]
        (found,) = [one for phases in Graph.of(spec).phases.values() for one in phases if one.name == phase]
        assets = {claim.name: {"ref": claim.ref, "holdings": held} for claim in spec.assets}
        inputs = {**spec.inputs, "symbol": "IRON_ORE", "units": 40}
        assert evaluate(found.complete_when, {"inputs": inputs, "assets": assets}) is expected


def test_an_empty_ship_does_not_prove_that_a_delivery_was_reported():
    graph = Graph.of(JOBS["acquire-deliver-sand"])
    (deliver,) = [one for phases in graph.phases.values() for one in phases if one.name == "deliver"]
    assert deliver.complete_when is None


def test_the_readme_names_them():
    readme = (SAMPLES / "README.md").read_text()
    assert "(world/pipeline.yaml)" in readme
    assert "(world/world.py)" in readme
