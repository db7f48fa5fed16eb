"""What a probe is asked: references resolved for each question and kept nowhere; and what an asset accepts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.shell.assets.houses import JOB, KEY, URL, WHO, Clock, House, turns, until

from mainstay.core.asset.observation import ObservationError
from mainstay.shell.assets.observer import UP_SECONDS

SECRET = "hunter2-hunter2"
TOKEN = {"name": "Authorization", "secretKeyRef": {"name": "venue", "key": "token"}}


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    house = House(Clock.of(monkeypatch, "mainstay.shell.assets.observer"))
    house.server.keep_secret("venue", token=f" {SECRET}\n")
    yield house
    house.probes.let()
    await house.observer.close()


async def ask(house: House, **holdings: Any) -> None:
    house.declare(holdings={"probe": holdings})
    house.observer.ask(KEY, "one", JOB)
    await until(lambda: JOB in house.woken)
    house.woken.clear()


async def test_a_request_with_its_headers(house: House) -> None:
    plain = {"name": "X-Ship", "value": "1"}
    await ask(house, http={"url": URL, "headers": [TOKEN, plain]}, timeoutSeconds=7)
    (question,) = house.probes.asked
    assert (question.url, question.timeout_seconds) == (URL, 7.0)
    assert question.headers == {"Authorization": SECRET, "X-Ship": "1"}


async def test_a_secret_is_read_for_each_question_and_kept_nowhere(house: House) -> None:
    await ask(house, http={"url": URL, "headers": [TOKEN]})
    (question,) = house.probes.asked
    assert SECRET not in repr(question)
    assert SECRET not in repr(house.observer.sight(KEY, house.asset()))
    assert SECRET not in repr(vars(house.store)) + repr(vars(house.observer))
    house.server.keep_secret("venue", token="another")
    house.observer.ask(KEY, "two", JOB)
    await until(lambda: JOB in house.woken)
    assert house.probes.asked[1].headers == {"Authorization": "another"}
    assert len(house.server.asked) == 2


@pytest.mark.parametrize("lacks", ["secret", "key"])
@pytest.mark.parametrize("optional", [True, False])
async def test_a_secret_that_is_not_there(house: House, lacks: str, optional: bool) -> None:
    ref = {"name": "venue", "key": "nothing"} if lacks == "key" else {"name": "nowhere", "key": "token"}
    header = {"name": "Authorization", "secretKeyRef": ref | ({"optional": True} if optional else {})}
    await ask(house, http={"url": URL, "headers": [header]})
    if optional:
        assert house.probes.asked[0].headers == {}
    else:
        assert house.probes.asked == []
        assert ref["name"] in house.looked()


async def test_a_command_with_its_environment(house: House) -> None:
    house.store.config_maps.put(
        {
            "metadata": {"name": "c", "namespace": "d", "uid": "c", "resourceVersion": "1"},
            "data": {"k": "text"},
        }
    )
    env = [
        {"name": "PLAIN", "value": "1"},
        {"name": "FROM", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "venue", "key": "token"}}},
    ]
    await ask(house, exec={"command": ["look", "ship-1"], "env": env, "workingDir": "bin"})
    (question,) = house.probes.asked
    assert (question.argv, question.working_dir, question.url) == (("look", "ship-1"), "bin", "")
    assert question.env["ASSET_NAME"] == "ship-1"
    assert (question.env["PLAIN"], question.env["FROM"], question.env["TOKEN"].strip()) == (
        "1",
        "text",
        SECRET,
    )
    assert SECRET not in repr(question)
    assert SECRET not in question.shown


async def test_the_path_reads_what_was_answered(house: House) -> None:
    house.probes.answers[URL] = {"data": {"cargo": {"IRON_ORE": 40, "GOLD": 0}}}
    await ask(house, http={"url": URL}, path="body.data.cargo")
    assert house.looked() == [("IRON_ORE", 40)]


# --- what it accepts


def accepting(house: House, url: str = URL) -> None:
    house.declare(accepts={"probe": {"http": {"url": url}}}, holdings=None)


def seen(house: House) -> Any:
    return house.observer.sight(KEY, house.asset()).looked_up


async def test_what_is_accepted_is_looked_up_once_at_a_time(house: House) -> None:
    accepting(house)
    house.probes.answers[URL] = ["FUEL", "IRON_ORE"]
    for _ in range(3):
        house.observer.look_up(KEY)
    await until(lambda: bool(house.woken))
    await turns()
    assert seen(house).accepts == ("FUEL", "IRON_ORE")
    assert (house.woken, len(house.probes.asked)) == ([WHO], 1)
    sight = house.observer.sight(KEY, house.asset())
    assert house.observer.next_look_up(sight, 300) == 300
    assert house.observer.next_look_up(sight, 0.1) == UP_SECONDS


async def test_a_failure_to_look_it_up_is_told_and_tried_again(house: House) -> None:
    accepting(house)
    house.probes.answers[URL] = ObservationError("no answer")
    for failures in (1, 2):
        house.observer.look_up(KEY)
        await until(lambda n=failures: house.observer.sight(KEY, house.asset()).up_failures == n)  # type: ignore[misc]
        await turns()
    sight = house.observer.sight(KEY, house.asset())
    assert (seen(house).error, seen(house).accepts) == ("no answer", None)
    assert house.observer.next_look_up(sight, 300) == 2


async def test_what_was_accepted_under_another_declaration_is_dropped(house: House) -> None:
    accepting(house)
    house.probes.answers[URL] = ["FUEL"]
    house.probes.hold(URL)
    house.observer.look_up(KEY)
    await until(lambda: house.probes.waiting == 1)
    accepting(house, URL + "0")
    assert seen(house) is None
    house.probes.let(URL)
    await until(lambda: bool(house.woken))
    assert seen(house) is None
    assert house.observer.next_look_up(house.observer.sight(KEY, house.asset()), 300) == 0.0
