"""What a name on the command line stands for."""

from __future__ import annotations

import pytest
import typer

from mainstay.api.kinds import (
    ASSET,
    JOB_BATCH,
    PHASED_JOB,
    SERVICE_STACK,
    STACK_RESTART,
    STRATEGY,
    STRATEGY_LIBRARY,
    STRATEGY_RUN,
)
from mainstay.cli.names import Kind, Ref, ref, refs, runs


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x", Kind.RUN),
        ("run/x", Kind.RUN),
        ("srun/x", Kind.RUN),
        ("strategyrun.mainstay.dev/x", Kind.RUN),
        ("strategyruns.v1alpha1.mainstay.dev/x", Kind.RUN),
        ("job/x", Kind.JOB),
        ("jobs/x", Kind.JOB),
        ("pjob/x", Kind.JOB),
        ("phasedjob/x", Kind.JOB),
        ("PhasedJob/x", Kind.JOB),
        ("phasedjob.mainstay.dev/x", Kind.JOB),
        ("phasedjobs/x", Kind.JOB),
        ("batch/x", Kind.BATCH),
        ("jbatch/x", Kind.BATCH),
        ("jobbatch.mainstay.dev/x", Kind.BATCH),
        ("jobbatches/x", Kind.BATCH),
    ],
)
def test_kinds(name, kind):
    assert ref(name) == Ref(kind, "x")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("strategy/x", Kind.STRATEGY),
        ("strat/x", Kind.STRATEGY),
        ("strategies.mainstay.dev/x", Kind.STRATEGY),
        ("library/x", Kind.LIBRARY),
        ("libraries/x", Kind.LIBRARY),
        ("slib/x", Kind.LIBRARY),
        ("strategylibrary.mainstay.dev/x", Kind.LIBRARY),
        ("asset/x", Kind.ASSET),
        ("assets/x", Kind.ASSET),
        ("asset.mainstay.dev/x", Kind.ASSET),
    ],
)
def test_kinds_that_do_not_run(name, kind, capsys):
    assert ref(name, tuple(Kind)) == Ref(kind, "x")
    with pytest.raises(typer.Exit):
        ref(name)
    assert f"mainstay status {kind.word}/x" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pod/x", "/x", "job/", "a/b/c"])
def test_what_is_no_name(name):
    with pytest.raises(typer.Exit):
        ref(name)


def test_each_once_and_in_order():
    assert [str(one) for one in refs(["b", "job/a", "run/b", "pjob/a"])] == ["b", "job/a"]
    assert [one.told for one in refs(["b", "job/a"])] == ["strategyrun/b", "phasedjob/a"]


def test_runs_alone():
    assert runs(["a", "srun/b"], "restart") == ["a", "b"]
    with pytest.raises(typer.Exit):
        runs(["a", "job/b"], "restart")


def test_words_are_those_of_the_api():
    """They are written again beside the commands, which would start slower with all models."""
    of_api = (
        STRATEGY_RUN,
        PHASED_JOB,
        JOB_BATCH,
        STRATEGY,
        STRATEGY_LIBRARY,
        SERVICE_STACK,
        STACK_RESTART,
        ASSET,
    )
    for kind, api in zip(Kind, of_api, strict=True):
        assert (kind.told, kind.plural, kind.short) == (api.name, api.plural, api.short)
