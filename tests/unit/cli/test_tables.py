"""Tables: what may be shortened, and what never is."""

from __future__ import annotations

from mainstay.cli.console import Rows, table

COMMAND = "mainstay input job/a-rather-long-name-of-a-job address -f values.yaml -n team"
MESSAGE = "ActionRequired: " + "very long words " * 20


def jobs() -> Rows:
    made = table("NAME", "STATE", "PHASE", "AGE", "NEXT", "MESSAGE")
    made.add_row("a-rather-long-name-of-a-job", "ActionRequired", "", "3m", COMMAND, MESSAGE)
    made.add_row("short", "Completed", "", "3m", "", "")
    return made


def told(made: Rows, width: int | None) -> list[str]:
    return [line.plain for line in made.lines(width)]


def test_nothing_is_cut_where_nobody_looks():
    lines = told(jobs(), None)
    assert len(lines) == 3
    assert COMMAND in lines[1]
    assert lines[1].endswith(MESSAGE.rstrip())
    assert "PHASE" in lines[0]


def test_only_messages_are_cut_on_a_narrow_terminal():
    lines = told(jobs(), 80)
    assert lines[0].split() == ["NAME", "STATE", "AGE", "MESSAGE"]
    assert lines[1].split()[:3] == ["a-rather-long-name-of-a-job", "ActionRequired", "3m"]
    assert lines[1].endswith("…")
    assert len(lines[1]) == 80
    assert lines[2].strip() == COMMAND
    assert lines[3].split() == ["short", "Completed", "3m"]


def test_a_message_without_room_has_a_line_of_its_own():
    lines = told(jobs(), 50)
    assert lines[1].split() == ["a-rather-long-name-of-a-job", "ActionRequired", "3m"]
    assert len(lines[2]) == 50
    assert lines[2].endswith("…")
    assert lines[3].strip() == COMMAND


def test_all_on_one_line_where_there_is_room():
    lines = told(jobs(), 240)
    assert len(lines) == 3
    assert COMMAND in lines[1]
    assert len(lines[1]) == 240


def test_text_is_no_markup():
    made = table("NAME", "MESSAGE")
    made.add_row("x", "[red]x[/red]")
    assert "[red]x[/red]" in told(made, None)[1]
