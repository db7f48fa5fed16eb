"""Stories of strategies, each told to a world of its own. Their logs are the golden files."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.api import NAMESPACE
from tests.sim.strategies.oracle import digest
from tests.sim.strategies.world import StrategyWorld

from mainstay.core.names import unit_name
from mainstay.shell.kube import LIBRARIES, STRATEGIES

Story = Callable[[StrategyWorld], None]
STORIES: dict[str, Story] = {}
ONE, TWO, THREE, SAFE = "x = 1\n", "x = 2\n", "x = 3\n", "x = 0\n"
BROKEN = "x = 1\ndef f(:\n"


def story(tell: Story) -> Story:
    STORIES[tell.__name__] = tell
    return tell


def play(name: str, seed: int = 1, *, crash_at: frozenset[int] = frozenset()) -> StrategyWorld:
    """Tell a story to a new world; every pass of it is judged by the oracle."""
    world = StrategyWorld(seed, crash_at=crash_at)
    STORIES[name](world)
    return world


def up(world: StrategyWorld, *bots: str, default: str | None = "Safe", **library: object) -> None:
    """A pool, a library with Ema and a default, an operator, and these users of Ema, settled."""
    world.pool(8000, 8009)
    world.files({"Ema.py": ONE, "Safe.py": SAFE})
    world.library(**({"default": default} if default else {}), **library)
    world.start_operator()
    for name in bots:
        world.bot(name)
    world.converge()


def say(world: StrategyWorld, words: str) -> None:
    world.say(words)


def go_on(world: StrategyWorld) -> None:
    """Long enough for all that can be done; what is left is no state in which things could stay."""
    for _ in range(200):
        if not world._any_pass(resync=False):
            world.advance(0.5)


def expect(world: StrategyWorld, **runs: str) -> None:
    """What each runs, and how often it was started, as in `Ema x = 1 @1`."""
    for name, words in runs.items():
        unit = world.runtime.peek(unit_name(NAMESPACE, name))
        said = f"{world.runs_what(name)} @{unit.attempt}"
        assert said == words, f"{name}: {said}, not {words}"


@story
def a_file_is_added_and_who_waited_starts(world: StrategyWorld) -> None:
    world.pool(8000, 8009)
    world.library(default="Safe")
    world.start_operator()
    world.bot("a")
    world.converge()
    assert world.status("a")["phase"] == "Pending"
    say(world, "Ema.py is written")
    world.files({"Ema.py": ONE})
    world.converge()
    expect(world, a="Ema x = 1 @1")


@story
def an_edit_restarts_all_at_once(world: StrategyWorld) -> None:
    up(world, "a", "b", "c")
    say(world, "Ema.py is edited")
    world.files({"Ema.py": TWO})
    world.converge()
    expect(world, a="Ema x = 2 @2", b="Ema x = 2 @2", c="Ema x = 2 @2")


@story
def an_edit_restarts_one_after_another(world: StrategyWorld) -> None:
    up(world, "a", "b", "c", rollout={"maxUnavailable": 1})
    say(world, "Ema.py is edited")
    world.files({"Ema.py": TWO})
    world.converge()
    expect(world, a="Ema x = 2 @2", b="Ema x = 2 @2", c="Ema x = 2 @2")


@story
def turns_come_to_those_who_are_not_probed(world: StrategyWorld) -> None:
    """Without a port nothing looks at a run now and then: it has to be told that its turn came."""
    up(world, rollout={"maxUnavailable": 1})
    for name in ("a", "b", "c"):
        world.bot(name, controlApi=None)
    world.converge()
    say(world, "Ema.py is edited")
    world.files({"Ema.py": TWO})
    world.converge()
    expect(world, a="Ema x = 2 @2", b="Ema x = 2 @2", c="Ema x = 2 @2")


@story
def an_edit_waits_behind_a_user_that_does_not_come_back(world: StrategyWorld) -> None:
    up(world, "a", "b", "c", rollout={"maxUnavailable": 1})
    say(world, "Ema.py is edited, and a does not answer with it")
    world.runtime.set_ready("default.a", ready=False)
    world.files({"Ema.py": TWO})
    go_on(world)
    expect(world, a="Ema x = 2 @2", b="Ema x = 1 @1", c="Ema x = 1 @1")
    say(world, "it answers")
    world.runtime.set_ready("default.a")
    world.converge()
    expect(world, a="Ema x = 2 @2", b="Ema x = 2 @2", c="Ema x = 2 @2")


@story
def a_broken_edit_and_its_repair(world: StrategyWorld) -> None:
    up(world, "a", "b")
    say(world, "Ema.py is broken")
    world.files({"Ema.py": BROKEN})
    world.converge()
    expect(world, a="Ema x = 1 @1", b="Ema x = 1 @1")
    say(world, "a crashes, and c is new: both get the last good code")
    world.runtime.crash("default.a")
    world.bot("c")
    world.converge()
    expect(world, a="Ema x = 1 @1", b="Ema x = 1 @1", c="Ema x = 1 @1")
    say(world, "Ema.py is repaired as it was: nobody restarts")
    world.files({"Ema.py": ONE})
    world.converge()
    expect(world, a="Ema x = 1 @1", b="Ema x = 1 @1", c="Ema x = 1 @1")
    say(world, "Ema.py is broken, and repaired with something new")
    world.files({"Ema.py": BROKEN})
    world.converge()
    world.files({"Ema.py": THREE})
    world.converge()
    expect(world, a="Ema x = 3 @2", b="Ema x = 3 @2", c="Ema x = 3 @2")


@story
def broken_from_the_first(world: StrategyWorld) -> None:
    world.pool(8000, 8009)
    world.library()
    world.start_operator()
    world.files({"Ema.py": BROKEN})
    world.bot("a")
    world.converge()
    assert world.status("a")["phase"] == "Pending"
    say(world, "Ema.py is repaired")
    world.files({"Ema.py": ONE})
    world.converge()
    expect(world, a="Ema x = 1 @1")


@story
def deleted_and_back_again(world: StrategyWorld) -> None:
    up(world, "a", "b")
    say(world, "Ema.py is deleted")
    world.files({"Ema.py": None})
    world.converge()
    expect(world, a="Safe x = 0 as a fallback @2", b="Safe x = 0 as a fallback @2")
    say(world, "Ema.py is back")
    world.files({"Ema.py": TWO})
    world.converge()
    expect(world, a="Ema x = 2 @3", b="Ema x = 2 @3")


@story
def the_default_is_edited_under_a_fallback(world: StrategyWorld) -> None:
    up(world, "a")
    world.files({"Ema.py": None})
    world.converge()
    say(world, "the default is edited")
    world.files({"Safe.py": TWO})
    world.converge()
    expect(world, a="Safe x = 2 as a fallback @3")
    say(world, "the library has another default")
    world.files({"Calm.py": THREE})
    world.edit_library(default="Calm")
    world.converge()
    expect(world, a="Calm x = 3 as a fallback @4")


@story
def the_default_is_deleted_too(world: StrategyWorld) -> None:
    up(world, "a")
    world.files({"Ema.py": None})
    world.converge()
    say(world, "the default is deleted too: the last code goes on")
    world.files({"Safe.py": None})
    world.converge()
    expect(world, a="Safe x = 0 as a fallback @2")
    say(world, "the machine is rebooted: the last code is started")
    world.runtime.lose_everything()
    world.converge()
    expect(world, a="Safe x = 0 as a fallback @3")
    say(world, "the default is back as it was: nobody restarts")
    world.files({"Safe.py": SAFE})
    world.converge()
    expect(world, a="Safe x = 0 as a fallback @3")


@story
def both_are_deleted_at_once(world: StrategyWorld) -> None:
    up(world, "a")
    say(world, "the directory is emptied")
    world.files({"Ema.py": None, "Safe.py": None})
    world.converge()
    assert world.runs_what("a") in ("Ema x = 1", "Safe x = 0 as a fallback")
    say(world, "all is back")
    world.files({"Ema.py": ONE, "Safe.py": SAFE})
    world.converge()
    assert world.runs_what("a") == "Ema x = 1"


@story
def keep_last(world: StrategyWorld) -> None:
    up(world)
    world.bot("a", fallbackPolicy="KeepLast")
    world.converge()
    say(world, "Ema.py is deleted")
    world.files({"Ema.py": None})
    world.converge()
    expect(world, a="Ema x = 1 @1")
    say(world, "it crashes, and its process is lost")
    world.runtime.lose_everything()
    world.converge()
    expect(world, a="Ema x = 1 @2")
    say(world, "Ema.py is back, as it was")
    world.files({"Ema.py": ONE})
    world.converge()
    expect(world, a="Ema x = 1 @2")


@story
def stop_when_deleted(world: StrategyWorld) -> None:
    up(world)
    world.bot("a", fallbackPolicy="Stop")
    world.converge()
    say(world, "Ema.py is deleted")
    world.files({"Ema.py": None})
    world.converge()
    assert world.unit("a").state == "Exited"
    say(world, "Ema.py is back")
    world.files({"Ema.py": TWO})
    world.converge()
    expect(world, a="Ema x = 2 @2")


@story
def ignore_edits(world: StrategyWorld) -> None:
    up(world)
    world.bot("a", strategyUpdatePolicy="Ignore")
    world.converge()
    say(world, "Ema.py is edited")
    world.files({"Ema.py": TWO})
    world.converge()
    expect(world, a="Ema x = 1 @1")
    say(world, "user: restartNonce 1")
    world.edit("a", restartNonce=1)
    world.converge()
    say(world, "user: Stopped and Running: its next start takes it")
    world.edit("a", state="Stopped")
    world.converge()
    world.edit("a", state="Running")
    world.converge()
    assert world.runs_what("a") == "Ema x = 2"


@story
def a_paused_run_takes_it_when_resumed(world: StrategyWorld) -> None:
    up(world, "a")
    world.edit("a", state="Paused")
    world.converge()
    say(world, "Ema.py is edited twice")
    world.files({"Ema.py": TWO})
    world.converge()
    world.files({"Ema.py": THREE})
    world.converge()
    expect(world, a="Ema x = 1 @1")
    say(world, "user: Running")
    world.edit("a", state="Running")
    world.converge()
    expect(world, a="Ema x = 3 @2")


@story
def one_that_ended_is_not_revived(world: StrategyWorld) -> None:
    up(world)
    world.bot("a", restartPolicy={"policy": "Never"})
    world.bot("b", restartPolicy={"policy": "Never"})
    world.converge()
    world.runtime.exit_with("default.a", 0)
    world.runtime.exit_with("default.b", 1)
    world.converge()
    say(world, "Ema.py is edited, deleted, and back")
    for text in (TWO, None, THREE):
        world.files({"Ema.py": text})
        world.converge()
    assert [world.status(name)["phase"] for name in "ab"] == ["Stopped", "Failed"]
    say(world, "user: restartNonce 1 of both")
    world.edit("a", restartNonce=1)
    world.edit("b", restartNonce=1)
    world.converge()
    expect(world, a="Ema x = 3 @2", b="Ema x = 3 @2")


@story
def rolled_back_to_a_revision_and_forward_again(world: StrategyWorld) -> None:
    up(world, "a", "b")
    world.files({"Ema.py": TWO})
    world.converge()
    say(world, "user: a goes back to the revision before")
    before = digest(ONE.encode())
    assert before in [r["hash"] for r in world.strategy("main.ema")["status"]["revisions"]]
    world.edit("a", strategy={"name": "Ema", "revision": before})
    world.converge()
    expect(world, a="Ema x = 1 @3", b="Ema x = 2 @2")
    say(world, "Ema.py is edited: a stays")
    world.files({"Ema.py": THREE})
    world.converge()
    expect(world, a="Ema x = 1 @3", b="Ema x = 3 @3")
    say(world, "Ema.py is deleted: a stays")
    world.files({"Ema.py": None})
    world.converge()
    expect(world, a="Ema x = 1 @3", b="Safe x = 0 as a fallback @4")
    say(world, "Ema.py is back; user: no revision any more")
    world.files({"Ema.py": TWO})
    world.converge()
    world.edit("a", strategy={"name": "Ema"})
    world.converge()
    expect(world, a="Ema x = 2 @4", b="Ema x = 2 @5")


@story
def a_revision_outlives_the_history(world: StrategyWorld) -> None:
    up(world, revisionHistoryLimit=1)
    world.bot("a", revision=digest(ONE.encode()))
    world.converge()
    say(world, "Ema.py is edited twice, and the history is one long; it is resynced, and rebooted")
    for text in (TWO, THREE):
        world.files({"Ema.py": text})
        world.converge()
    world.runtime.lose_everything()
    world.restart_operator()
    world.converge()
    expect(world, a="Ema x = 1 @2")
    say(world, "b asks for a revision that is not kept")
    world.bot("b", revision=digest(TWO.encode()))
    world.converge()
    assert world.status("b")["phase"] == "Pending"


@story
def renamed(world: StrategyWorld) -> None:
    up(world, "a")
    say(world, "Ema.py becomes Ema2.py")
    world.files({"Ema.py": None, "Ema2.py": ONE})
    world.converge()
    expect(world, a="Safe x = 0 as a fallback @2")
    say(world, "user: a uses Ema2")
    world.edit("a", strategy={"name": "Ema2"})
    world.converge()
    expect(world, a="Ema2 x = 1 @3")


@story
def two_names_collide(world: StrategyWorld) -> None:
    up(world, "a")
    say(world, "EMA.py is added: its object would be that of Ema.py")
    world.files({"EMA.py": TWO})
    world.converge()
    assert world.api.get(LIBRARIES, NAMESPACE, "main")["status"]["problemCount"] == 1  # type: ignore[index]
    expect(world, a="Ema x = 1 @1")
    say(world, "Ema.py is deleted: EMA gets the name")
    world.files({"Ema.py": None})
    world.converge()
    expect(world, a="Safe x = 0 as a fallback @2")
    say(world, "they swap")
    world.files({"EMA.py": None, "Ema.py": THREE})
    world.converge()
    expect(world, a="Ema x = 3 @3")


@story
def the_directory_is_away_for_a_while(world: StrategyWorld) -> None:
    up(world, "a", "b")
    say(world, "the directory is unmounted")
    world.files(None)
    world.converge()
    expect(world, a="Ema x = 1 @1", b="Ema x = 1 @1")
    say(world, "the operator is restarted, b is lost, and c is new")
    world.runtime.crash("default.b")
    world.bot("c")
    world.restart_operator()
    world.converge()
    expect(world, a="Ema x = 1 @1", b="Ema x = 1 @1", c="Ema x = 1 @1")
    say(world, "it is mounted again")
    world.files({"Ema.py": ONE, "Safe.py": SAFE})
    world.converge()
    expect(world, a="Ema x = 1 @1", b="Ema x = 1 @1", c="Ema x = 1 @1")


@story
def the_library_is_deleted(world: StrategyWorld) -> None:
    up(world, "a")
    say(world, "user: kubectl delete strategylibrary main")
    world.api.remove(LIBRARIES, NAMESPACE, "main")
    world.converge()
    assert not list(world.api.all(STRATEGIES))
    expect(world, a="Ema x = 1 @1")
    say(world, "user: creates it again")
    world.library(default="Safe")
    world.converge()
    expect(world, a="Ema x = 1 @1")


@story
def the_library_is_replaced_while_the_operator_is_down(world: StrategyWorld) -> None:
    up(world, "a")
    world.crash_operator()
    say(world, "the library is deleted and created again, the objects stay: they are adopted")
    world.api.remove(LIBRARIES, NAMESPACE, "main")
    world.library(default="Safe")
    uid = world.strategy("main.ema")["metadata"]["uid"]
    world.start_operator()
    world.converge()
    assert world.strategy("main.ema")["metadata"]["uid"] == uid
    expect(world, a="Ema x = 1 @1")


@story
def a_strategy_is_deleted_by_hand(world: StrategyWorld) -> None:
    up(world, "a", "b")
    say(world, "user: kubectl delete strategy main.ema; its file is there")
    world.api.remove(STRATEGIES, NAMESPACE, "main.ema")
    world.converge()
    expect(world, a="Ema x = 1 @1", b="Ema x = 1 @1")
    assert world.strategy("main.ema")["status"]["revision"]


@story
def config_maps(world: StrategyWorld) -> None:
    world.pool(8000, 8009)
    world.api.create(
        LIBRARIES,
        NAMESPACE,
        "main",
        {"spec": {"source": {"configMaps": {"matchLabels": {"strategies": "yes"}}}, "default": "Safe"}},
    )
    world.start_operator()
    world.config_map("one", {"Ema.py": ONE, "notes.txt": "no strategy"}, strategies="yes")
    world.config_map("two", {"Safe.py": SAFE}, strategies="yes", more="labels")
    world.bot("a")
    world.converge()
    expect(world, a="Ema x = 1 @1")
    say(world, "the ConfigMap is edited")
    world.config_map("one", {"Ema.py": TWO}, strategies="yes")
    world.converge()
    expect(world, a="Ema x = 2 @2")
    say(world, "its label is removed")
    world.config_map("one", {"Ema.py": TWO})
    world.converge()
    expect(world, a="Safe x = 0 as a fallback @3")
    say(world, "its label is there again")
    world.config_map("one", {"Ema.py": TWO}, strategies="yes")
    world.converge()
    expect(world, a="Ema x = 2 @4")


@story
def inline(world: StrategyWorld) -> None:
    world.pool(8000, 8009)
    world.start_operator()
    world.bot("a")
    world.converge()
    say(world, "user: applies a Strategy with its code inline; there is no library")
    world.inline("Ema", ONE)
    world.converge()
    expect(world, a="Ema x = 1 @1")
    say(world, "it is edited, then broken")
    world.inline("Ema", TWO)
    world.converge()
    expect(world, a="Ema x = 2 @2")
    world.inline("Ema", BROKEN)
    world.converge()
    expect(world, a="Ema x = 2 @2")


@story
def registered_users_keep_the_object(world: StrategyWorld) -> None:
    up(world, "a")
    world.api.edit(STRATEGIES, NAMESPACE, "main.ema", users=[{"name": "notebook"}])
    world.converge()
    assert world.strategy("main.ema")["status"]["usedBy"]["count"] == 2
    say(world, "Ema.py is deleted")
    uid = world.strategy("main.ema")["metadata"]["uid"]
    world.files({"Ema.py": None})
    world.converge()
    assert world.strategy("main.ema")["metadata"]["uid"] == uid
    expect(world, a="Safe x = 0 as a fallback @2")
    say(world, "the registered user leaves")
    world.api.edit(STRATEGIES, NAMESPACE, "main.ema", users=None)
    world.converge()
    assert world.api.get(STRATEGIES, NAMESPACE, "main.ema") is None


@story
def the_operator_dies_in_mid_roll(world: StrategyWorld) -> None:
    up(world, "a", "b", "c", rollout={"maxUnavailable": 1})
    world.files({"Ema.py": TWO})
    for number in range(200):
        if number and number % 5 == 0:
            world.restart_operator()
        if number > 60 or not world._any_pass(resync=False):
            break
    world.converge()
    expect(world, a="Ema x = 2 @2", b="Ema x = 2 @2", c="Ema x = 2 @2")


@story
def edited_while_the_operator_was_down(world: StrategyWorld) -> None:
    up(world, "a")
    world.crash_operator()
    say(world, "the operator is down: Ema.py is edited twice, Safe.py is deleted")
    world.files({"Ema.py": TWO})
    world.files({"Ema.py": THREE, "Safe.py": None})
    world.advance(5)
    world.start_operator()
    world.converge()
    expect(world, a="Ema x = 3 @2")


@story
def etcd_restored_to_before_the_edit(world: StrategyWorld) -> None:
    up(world, "a")
    saved = world.backup()
    say(world, "Ema.py is edited")
    world.files({"Ema.py": TWO})
    world.converge()
    expect(world, a="Ema x = 2 @2")
    pid = world.unit("a").leader
    say(world, "etcd is restored from before that: what lives is right already")
    world.crash_operator()
    world.restore(saved)
    world.start_operator()
    world.converge()
    assert world.runs_what("a") == "Ema x = 2"
    assert world.unit("a").leader == pid, "it was restarted, and needed not be"


@story
def a_snapshot_is_lost(world: StrategyWorld) -> None:
    up(world, "a")
    say(world, "somebody empties the store of snapshots, and a is lost")
    world.disk.snapshots.clear()
    world.runtime.lose_everything()
    world.converge()
    expect(world, a="Ema x = 1 @2")


@story
def the_user_changes_the_strategy_of_a_paused_run(world: StrategyWorld) -> None:
    up(world, "a")
    world.edit("a", state="Paused")
    world.converge()
    say(world, "user: a uses Safe")
    world.edit("a", strategy={"name": "Safe"})
    world.converge()
    expect(world, a="Safe x = 0 @2")


@story
def a_default_that_is_there_later(world: StrategyWorld) -> None:
    up(world, "a", default=None)
    say(world, "Ema.py is deleted, and there is no default")
    world.files({"Ema.py": None})
    world.converge()
    expect(world, a="Ema x = 1 @1")
    say(world, "user: the library gets a default")
    world.edit_library(default="Safe")
    world.converge()
    expect(world, a="Safe x = 0 as a fallback @2")


@story
def everything_goes_at_once(world: StrategyWorld) -> None:
    """An unmounted directory looks like this: nobody falls back to a default that is gone as well."""
    up(world, "a", "b", "c")
    say(world, "the directory is empty")
    world.files({"Ema.py": None, "Safe.py": None})
    world.converge()
    expect(world, a="Ema x = 1 @1", b="Ema x = 1 @1", c="Ema x = 1 @1")
    say(world, "all is back")
    world.files({"Ema.py": ONE, "Safe.py": SAFE})
    world.converge()
    expect(world, a="Ema x = 1 @1", b="Ema x = 1 @1", c="Ema x = 1 @1")


@story
def an_edit_that_cannot_be_read_is_a_bad_edit(world: StrategyWorld) -> None:
    up(world, "a", maxFileBytes=100)
    world.bot("b", fallbackPolicy="Stop")
    world.converge()
    say(world, "Ema.py is too large")
    world.files({"Ema.py": "x = 1\n" * 100})
    go_on(world)
    expect(world, a="Ema x = 1 @1", b="Ema x = 1 @1")
    assert world.resolved("a") == "StrategyInvalid"
    say(world, "it is repaired")
    world.files({"Ema.py": TWO})
    world.converge()
    expect(world, a="Ema x = 2 @2", b="Ema x = 2 @2")


@story
def a_name_stays_with_its_file(world: StrategyWorld) -> None:
    up(world, "a", include=["*.py", "*.lua"])
    say(world, "Ema.lua is written, which comes first")
    world.files({"Ema.lua": TWO})
    world.converge()
    expect(world, a="Ema x = 1 @1")
    say(world, "an operator that knows of neither begins")
    world.restart_operator()
    world.converge()
    expect(world, a="Ema x = 1 @1")


@story
def a_limit_is_raised_in_the_middle(world: StrategyWorld) -> None:
    up(world, rollout={"maxUnavailable": 1})
    world.bot("a")
    for name in ("b", "c"):
        world.bot(name, controlApi=None)
    world.converge()
    say(world, "Ema.py is edited, and a does not answer with it")
    world.runtime.set_ready("default.a", ready=False)
    world.files({"Ema.py": TWO})
    go_on(world)
    expect(world, a="Ema x = 2 @2", b="Ema x = 1 @1", c="Ema x = 1 @1")
    say(world, "the limit is raised")
    world.edit_library(rollout={"maxUnavailable": "100%"})
    go_on(world)
    expect(world, a="Ema x = 2 @2", b="Ema x = 2 @2", c="Ema x = 2 @2")
    world.runtime.set_ready("default.a")
    world.converge()


@story
def what_a_run_changes_itself_is_obeyed_at_once(world: StrategyWorld) -> None:
    up(world, rollout={"maxUnavailable": 1})
    world.files({"Calm.py": THREE, "Gone.py": THREE})
    world.bot("a", "Gone", strategyUpdatePolicy="Ignore")
    world.converge()
    world.files({"Gone.py": None})
    world.converge()
    expect(world, a="Safe x = 0 as a fallback @2")
    say(world, "another strategy is asked for")
    world.edit("a", strategy={"name": "Calm"})
    world.converge()
    expect(world, a="Calm x = 3 @3")
    say(world, "one that was never there")
    world.edit("a", strategy={"name": "Cam"})
    world.converge()
    expect(world, a="Calm x = 3 @3")
    assert world.resolved("a") == "StrategyNotFound"
    say(world, "an older revision, and the newest again")
    first = digest(THREE.encode())
    world.edit("a", strategy={"name": "Calm"})
    world.files({"Calm.py": TWO})
    world.converge()
    expect(world, a="Calm x = 3 @3")
    world.edit("a", strategy={"name": "Calm", "revision": first})
    world.converge()
    world.edit("a", strategy={"name": "Calm"})
    world.converge()
    expect(world, a="Calm x = 2 @4")
