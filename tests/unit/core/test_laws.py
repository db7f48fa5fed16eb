"""Laws of decide(): from any state, every plan is allowed, and following the plans ends where the spec asks."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from tests.unit.core import laws
from tests.unit.core.worlds import World, worlds

from mainstay.core.plan import Wait

PASSES = 60
"""Enough from any state; a path that is longer goes in circles."""
QUIET = 3
"""Waits in a row, with time passing between them, after which nothing more is expected."""


def follow(world: World) -> list[str]:
    """Plans followed, each of them judged, until nothing is left to do: what was done."""
    story: list[str] = []
    quiet = 0
    for _ in range(PASSES):
        if world.run is None:
            return story
        s = world.snapshot()
        plan = world.decide()
        story.append(f"{s.status.phase} {s.reason} | {s.unit.state} | {list(world.leases)} -> {plan}")
        broken = list(laws.broken_by(s, plan))
        assert not broken, (broken, story)
        if isinstance(plan, Wait):
            quiet += 1
            if quiet == QUIET:
                return story
            world.pass_time(plan.seconds or 1.0)
        else:
            quiet = 0
            world.apply(plan)
    raise AssertionError(("no end", story))


def ends_as_asked(world: World) -> None:
    story = follow(world)
    missing = list(laws.unmet(world))
    assert not missing, (missing, story)


@settings(max_examples=3000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_every_plan_is_allowed_and_all_paths_end_where_the_spec_asks(world: World) -> None:
    ends_as_asked(world)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_deciding_changes_nothing_and_always_answers_the_same(world: World) -> None:
    s = world.snapshot()
    before = repr(s)
    assert world.decide() == world.decide()
    assert repr(s) == before


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(worlds(), worlds())
def test_a_wish_that_changes_on_the_way_is_met_too(world: World, other: World) -> None:
    """The spec, the clock and the ports become others after a few passes; what was claimed stays."""
    for _ in range(4):
        if world.run is None:
            return
        plan = world.decide()
        if isinstance(plan, Wait):
            world.pass_time(1.0)
        else:
            world.apply(plan)
    if world.run is None or world.run.metadata.deletion_timestamp or other.run is None:
        return
    api = world.run.spec.control_api
    spec = other.run.spec.model_copy(update={"control_api": api, "run_id": world.run.spec.run_id})
    world.run = world.run.model_copy(update={"spec": spec})
    world.older_waiting, world.ready = other.older_waiting, other.ready
    ends_as_asked(world)
