"""The sample manifests say only what the API knows, and the price series is what its generator makes."""

import re
import subprocess
import sys

import pytest
import yaml
from tests.support.exchange import SAMPLES

from mainstay.api.ports import PortPoolSpec
from mainstay.api.servicestack import ServiceStackSpec
from mainstay.api.stackrestart import StackRestartSpec
from mainstay.api.strategy import StrategySpec
from mainstay.api.strategylibrary import StrategyLibrarySpec
from mainstay.api.strategyrun import StrategyRunSpec

MODELS = {
    "StrategyRun": StrategyRunSpec,
    "StrategyLibrary": StrategyLibrarySpec,
    "Strategy": StrategySpec,
    "PortPool": PortPoolSpec,
    "ServiceStack": ServiceStackSpec,
}
STACKS = {"ServiceStack": ServiceStackSpec, "StackRestart": StackRestartSpec}
OBJECTS = [
    pytest.param(document, id=f"{path.name}-{document['kind']}")
    for path in sorted(SAMPLES.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] in MODELS
]


@pytest.mark.parametrize("document", OBJECTS)
def test_every_field_is_known(document):
    assert document["apiVersion"] == "mainstay.dev/v1alpha1"
    spec = MODELS[document["kind"]].model_validate(document["spec"])
    assert spec.model_dump(mode="json", by_alias=True, exclude_unset=True) == document["spec"]


def _codes():
    """(name, code) of each strategy that is in a manifest itself."""
    for path in sorted(SAMPLES.glob("strateg*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == "Strategy":
                yield document["spec"]["name"], document["spec"]["source"]["inline"]
            elif document["kind"] == "ConfigMap":
                yield from ((key.removesuffix(".py"), text) for key, text in document["data"].items())


@pytest.mark.parametrize(("name", "code"), [pytest.param(*one, id=one[0]) for one in _codes()])
def test_strategies_in_manifests_trade(modules, name, code):
    found = {}
    exec(compile(code, f"{name}.py", "exec"), found)
    strategy, series = found[name](), modules.prices.Series()
    said = {strategy.on_candle(series.candle(index)) for index in range(len(series))}
    assert {"buy", "sell"} <= said <= {"buy", "sell", None}


def test_the_pool_has_34_ports():
    pool = yaml.safe_load((SAMPLES / "pool.yaml").read_text())
    (first_to_last,) = pool["spec"]["ranges"]
    assert (first_to_last["first"], first_to_last["last"]) == (8766, 8799)


def test_every_sample_is_in_the_readme():
    readme = (SAMPLES / "README.md").read_text()
    assert [path.name for path in SAMPLES.glob("*.yaml") if f"({path.name})" not in readme] == []


def test_prices_are_reproducible_and_sane(modules):
    made = subprocess.run(
        [sys.executable, SAMPLES / "bot" / "make_prices.py"], capture_output=True, check=True
    )
    assert made.stdout == (SAMPLES / "bot" / "prices.csv").read_bytes()
    series = modules.prices.Series()
    assert len(series) == 2000
    for index in range(len(series)):
        candle, following = series.candle(index), series.candle(index + 1)
        assert 0 < candle.low <= min(candle.open, candle.close)
        assert max(candle.open, candle.close) <= candle.high
        assert following.open == candle.close, index


def _snippets():
    """Each stack and restart that the documentation shows."""
    root = SAMPLES.parents[1]
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        for block in re.findall(r"^ *```yaml\n(.*?)^ *```", path.read_text(), re.DOTALL | re.MULTILINE):
            for document in yaml.safe_load_all(block):
                if isinstance(document, dict) and document.get("kind") in STACKS:
                    yield pytest.param(document, id=f"{path.name}-{document['kind']}")


@pytest.mark.parametrize("document", list(_snippets()))
def test_the_stacks_in_the_documentation_are_true(document):
    spec = STACKS[document["kind"]].model_validate(document["spec"])
    assert spec.model_dump(mode="json", by_alias=True, exclude_unset=True) == document["spec"]
