"""What is wrong with an asset's declaration, with the place named. One with a problem is given to nobody."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.api.asset import AssetSpec, CompensationTemplate, Probe
from mainstay.api.holdings import AssetClaim, ClaimMode
from mainstay.core.expressions import ExpressionError, compiled_path
from mainstay.core.job.check import Problem
from mainstay.core.job.check import problems as job_problems
from mainstay.core.job.graph import Graph

CLAIM = "asset"
"""What the asset is called in the jobs that empty it."""


def problems(name: str, spec: AssetSpec) -> Iterator[Problem]:
    """Everything that is wrong, in the order of the declaration."""
    if spec.holdings is not None:
        yield from _probe("spec.holdings.probe", spec.holdings.probe)
    if spec.accepts is not None:
        yield from _probe("spec.accepts.probe", spec.accepts.probe)
    if spec.compensation is None:
        return
    for claim in spec.compensation.template.assets:
        if claim.mode is not ClaimMode.SHARED:
            # while it has this asset it would wait for another one, out of the order that rules out deadlocks
            yield "spec.compensation.template.assets", f"{claim.name}: mode must be Shared"
        if claim.name == CLAIM or claim.ref == name:
            yield (
                "spec.compensation.template.assets",
                f"{claim.name}: the asset itself is there already, as {CLAIM}",
            )
    template = claiming(name, spec.compensation.template)
    for place, what in job_problems(template, Graph.of(template)):
        yield place.replace("spec.", "spec.compensation.template.", 1), what


def claiming(name: str, template: CompensationTemplate) -> CompensationTemplate:
    """The template with the asset itself among its assets."""
    own = AssetClaim(name=CLAIM, ref=name)
    return template.model_copy(update={"assets": [own, *template.assets]})


def _probe(place: str, probe: Probe) -> Iterator[Problem]:
    if probe.path is not None:
        try:
            compiled_path(probe.path)
        except ExpressionError as error:
            yield f"{place}.path", f"{probe.path!r}: {error}"
