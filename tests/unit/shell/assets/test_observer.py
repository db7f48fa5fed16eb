"""Looking at assets on a real event loop: a look is good for what was asked before it began, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.unit.shell.assets.houses import CARGO, JOB, KEY, URL, WHO, Clock, House, turns, until

from mainstay.core.asset.observation import ObservationError
from mainstay.shell.assets.observer import FAILURES_CAP_SECONDS, FRESH_SECONDS
from mainstay.shell.kube import ApiUnavailableError

IRON = [("IRON_ORE", 40)]


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    house = House(Clock.of(monkeypatch, "mainstay.shell.assets.observer"))
    house.declare()
    yield house
    house.probes.let()
    await house.observer.close()


async def test_a_look_is_good_for_what_asked_for_it_and_wakes_who_did_once(house: House) -> None:
    for who in (JOB, WHO, JOB):
        house.observer.ask(KEY, f"purpose of {who[0]}", who)
    await until(lambda: bool(house.woken))
    await turns()
    assert house.looked() == IRON
    assert house.good_for() == {"purpose of job", "purpose of asset"}
    assert sorted(set(house.woken)) == [WHO, JOB]
    assert house.answers.count(True) == len(house.probes.asked)


async def test_who_asks_while_a_question_is_under_way_gets_another_one(house: House) -> None:
    """That one began before he asked, and can't tell what came since."""
    house.probes.hold(URL)
    house.observer.ask(KEY, "first", WHO)
    await until(lambda: house.probes.waiting == 1)
    house.observer.ask(KEY, "second", JOB)
    house.observer.ask(KEY, "third", JOB)
    assert house.asking() == {"first", "second", "third"}
    assert len(house.probes.asked) == 1
    told: list[frozenset[str]] = []
    house.observer.woken = lambda _: told.append(house.good_for())
    house.probes.answers[URL] = CARGO
    house.probes.let(URL)
    await until(lambda: not house.asking())
    await turns()
    assert told[0] == {"first"}
    assert house.good_for() == {"first", "second", "third"}
    assert len(house.probes.asked) == 2


async def test_who_asks_again_for_the_same_is_answered_by_a_later_question(house: House) -> None:
    house.probes.hold(URL)
    house.observer.ask(KEY, "one", WHO)
    await until(lambda: house.probes.waiting == 1)
    house.observer.ask(KEY, "one", WHO)
    house.probes.let(URL)
    await until(lambda: not house.asking())
    assert len(house.probes.asked) == 2


async def test_what_is_seen_is_good_for_its_purpose_a_little_while(house: House) -> None:
    house.observer.ask(KEY, "one", WHO)
    await until(lambda: bool(house.woken))
    house.clock.now += FRESH_SECONDS
    assert house.good_for() == {"one"}
    house.clock.now += 0.01
    assert house.good_for() == frozenset()
    assert house.looked() == IRON
    house.observer.ask(KEY, "two", WHO)
    await until(lambda: len(house.woken) > 1)
    assert house.good_for() == {"two"}


@pytest.mark.parametrize("change", ["url", "uid", "path"])
async def test_what_was_seen_under_another_declaration_is_dropped(house: House, change: str) -> None:
    house.observer.ask(KEY, "one", WHO)
    await until(lambda: bool(house.woken))
    probe = {"http": {"url": URL}, "path": "body"}
    changes = {"url": {"url": URL + "0"}, "uid": {"uid": "u2"}, "path": {"holdings": {"probe": probe}}}[
        change
    ]
    house.declare(**changes)  # type: ignore[arg-type]
    assert (house.looked(), house.good_for()) == (None, frozenset())
    assert house.observer.next_look(house.observer.sight(KEY, house.asset())) == 0.0


async def test_what_is_declared_beside_the_probe_leaves_what_was_seen(house: House) -> None:
    house.observer.ask(KEY, "one", WHO)
    await until(lambda: bool(house.woken))
    house.declare(type="Ship", holdings={"probe": {"http": {"url": URL}}, "everySeconds": 5})
    assert (house.looked(), house.good_for()) == (IRON, {"one"})


@pytest.mark.parametrize("noticed", [True, False])
async def test_a_declaration_that_changes_while_it_is_asked_drops_the_answer(
    house: House, noticed: bool
) -> None:
    house.probes.hold(URL)
    house.observer.ask(KEY, "one", JOB)
    await until(lambda: house.probes.waiting == 1)
    house.declare(url=URL + "0")
    house.probes.answers[URL + "0"] = []
    if noticed:
        house.good_for()
    house.probes.let(URL)
    await until(lambda: JOB in house.woken)
    assert (house.looked(), house.good_for(), house.asking()) == (None, frozenset(), frozenset())
    house.observer.ask(KEY, "one", JOB)
    await until(lambda: not house.asking())
    assert (house.looked(), house.good_for()) == ([], {"one"})


# --- failing


async def test_a_failure_is_told_and_good_for_nothing_while_it_lasts(house: House) -> None:
    house.probes.answers[URL] = ObservationError("no answer")
    house.observer.ask(KEY, "one", JOB)
    await until(lambda: JOB in house.woken)
    assert house.looked() == "no answer"
    assert house.answers == [False]


@pytest.mark.parametrize("answer", [{"a": "b"}, 3, [{"symbol": "A"}], None])
async def test_an_answer_that_is_no_list_of_holdings_is_a_failure(house: House, answer: object) -> None:
    house.probes.answers[URL] = answer
    house.observer.ask(KEY, "one", JOB)
    await until(lambda: JOB in house.woken)
    assert isinstance(house.looked(), str)


async def test_one_that_fails_is_asked_again_sooner_and_ever_later(house: House) -> None:
    house.declare(holdings={"probe": {"http": {"url": URL}}, "everySeconds": 1000})
    house.probes.answers[URL] = ObservationError("no answer")
    waits = []
    for _ in range(8):
        house.woken.clear()
        house.observer.ask(KEY, "one", WHO)
        await until(lambda: bool(house.woken))
        waits.append(house.observer.next_look(house.observer.sight(KEY, house.asset())))
    assert waits == [1, 2, 4, 8, 16, FAILURES_CAP_SECONDS, FAILURES_CAP_SECONDS, FAILURES_CAP_SECONDS]
    house.clock.now += 10
    sight = house.observer.sight(KEY, house.asset())
    assert house.observer.next_look(sight) == FAILURES_CAP_SECONDS - 10
    house.probes.answers[URL] = CARGO
    house.observer.ask(KEY, "one", WHO)
    await until(lambda: house.looked() == IRON)
    assert 900 <= house.observer.next_look(sight) <= 1100
    house.clock.now += 2000
    assert house.observer.next_look(sight) == 0.0


async def test_a_failure_never_waits_longer_than_the_period(house: House) -> None:
    house.declare(holdings={"probe": {"http": {"url": URL}}, "everySeconds": 3})
    house.probes.answers[URL] = ObservationError("no answer")
    for _ in range(6):
        house.woken.clear()
        house.observer.ask(KEY, "one", WHO)
        await until(lambda: bool(house.woken))
    assert house.observer.next_look(house.observer.sight(KEY, house.asset())) <= 3.3


async def test_words_of_a_failure_fit_into_a_condition(house: House) -> None:
    house.probes.answers[URL] = ObservationError("x" * 5000)
    house.observer.ask(KEY, "one", JOB)
    await until(lambda: JOB in house.woken)
    assert len(house.looked()) == 512


# --- nobody to look for


async def test_without_an_asset_or_a_probe_nothing_is_asked(house: House) -> None:
    house.observer.ask(("d", "tanker"), "one", WHO)
    house.declare(holdings=None)
    house.observer.ask(KEY, "one", WHO)
    house.observer.look_up(KEY)
    await turns()
    assert (house.probes.asked, house.asking()) == ([], frozenset())


async def test_an_asset_that_is_gone_is_forgotten_and_its_question_with_it(house: House) -> None:
    house.probes.hold(URL)
    house.observer.ask(KEY, "one", WHO)
    await until(lambda: house.probes.waiting == 1)
    house.observer.ask(KEY, "two", WHO)
    house.observer.forget(KEY)
    await until(lambda: house.probes.waiting == 0)
    await turns()
    assert (len(house.probes.asked), len(house.probes.answered), house.woken) == (1, 0, [])
    assert (house.looked(), house.asking()) == (None, frozenset())


async def test_closing_sees_the_questions_end_and_begins_no_more(house: House) -> None:
    house.declare(accepts={"probe": {"http": {"url": URL}}})
    house.probes.hold(URL)
    house.observer.ask(KEY, "one", WHO)
    house.observer.look_up(KEY)
    await until(lambda: house.probes.waiting == 2)
    house.observer.ask(KEY, "two", WHO)
    tasks = asyncio.all_tasks()
    await house.observer.close()
    assert (house.probes.waiting, house.probes.closed) == (0, True)
    assert asyncio.all_tasks() <= tasks
    house.observer.ask(KEY, "three", WHO)
    house.observer.look_up(KEY)
    await turns()
    assert len(house.probes.asked) == 2


async def test_an_api_server_that_is_away_is_a_failure_of_the_look(house: House) -> None:
    house.server.error = ApiUnavailableError(503, "ServiceUnavailable", "away")
    header = {"name": "Authorization", "secretKeyRef": {"name": "s", "key": "k"}}
    house.declare(holdings={"probe": {"http": {"url": URL, "headers": [header]}}})
    house.observer.ask(KEY, "one", JOB)
    await until(lambda: JOB in house.woken)
    assert house.looked() == "its Secret can't be read: away"
    assert house.probes.asked == []
