"""`mainstay up` copies the samples, and keeps those that the user changed."""

from __future__ import annotations

import pytest

from mainstay.cli.samples import SHIPPED, copy_samples

SAID = "samples/bot/bot.py was changed by you and is kept; the shipped one is beside it as bot.py.new"


@pytest.fixture
def places(tmp_path):
    source, target = tmp_path / "shipped", tmp_path / "home" / "samples"
    (source / "bot").mkdir(parents=True)
    target.parent.mkdir()
    (source / "bot" / "bot.py").write_text("one")
    (source / "README.md").write_text("read")
    assert copy_samples(source, target) == []
    return source, target


def test_everything_is_copied_but_caches(places):
    source, target = places
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "bot.pyc").write_text("")
    assert copy_samples(source, target) == []
    assert {f.name for f in target.rglob("*") if f.is_file()} == {"bot.py", "README.md", SHIPPED}


def test_what_is_as_shipped_is_renewed(places):
    source, target = places
    (source / "bot" / "bot.py").write_text("two")
    assert copy_samples(source, target) == []
    assert (target / "bot" / "bot.py").read_text() == "two"


def test_what_the_user_changed_is_kept_and_nothing_is_said_while_nothing_newer_is_shipped(places):
    source, target = places
    (target / "bot" / "bot.py").write_text("mine")
    assert copy_samples(source, target) == []
    assert (target / "bot" / "bot.py").read_text() == "mine"
    assert not (target / "bot" / "bot.py.new").exists()


def test_a_newer_one_is_put_beside_what_the_user_changed_and_told_once(places):
    source, target = places
    (target / "bot" / "bot.py").write_text("mine")
    (source / "bot" / "bot.py").write_text("two")
    assert copy_samples(source, target) == [SAID]
    assert (target / "bot" / "bot.py").read_text() == "mine"
    assert (target / "bot" / "bot.py.new").read_text() == "two"
    assert copy_samples(source, target) == []


def test_what_the_user_changed_back_is_renewed_again(places):
    source, target = places
    (target / "bot" / "bot.py").write_text("mine")
    (source / "bot" / "bot.py").write_text("two")
    copy_samples(source, target)
    (target / "bot" / "bot.py").write_text("two")
    (source / "bot" / "bot.py").write_text("three")
    assert copy_samples(source, target) == []
    assert (target / "bot" / "bot.py").read_text() == "three"


def test_what_was_removed_comes_back_and_what_the_user_added_stays(places):
    source, target = places
    (target / "bot" / "bot.py").unlink()
    (target / "bot" / "mine.py").write_text("mine")
    assert copy_samples(source, target) == []
    assert (target / "bot" / "bot.py").read_text() == "one"
    assert (target / "bot" / "mine.py").read_text() == "mine"


def test_a_strategy_that_was_deleted_is_not_offered_again(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "strategies").mkdir(parents=True)
    (source / "strategies" / "Dip.py").write_text("one")
    copy_samples(source, target)
    (target / "strategies" / "Dip.py").unlink()
    assert copy_samples(source, target) == []
    (source / "strategies" / "Dip.py").write_text("two")
    assert copy_samples(source, target) == []
    assert not (target / "strategies" / "Dip.py").exists()


@pytest.mark.parametrize("spoilt", [None, "{", "[]"])
def test_a_home_that_does_not_know_what_was_shipped_overwrites_nothing(places, spoilt):
    source, target = places
    (target / SHIPPED).unlink() if spoilt is None else (target / SHIPPED).write_text(spoilt)
    (target / "bot" / "bot.py").write_text("mine")
    told = copy_samples(source, target)
    assert told == [SAID.replace("was changed by you", "is not what is shipped now, perhaps by you,")]
    assert (target / "bot" / "bot.py").read_text() == "mine"
