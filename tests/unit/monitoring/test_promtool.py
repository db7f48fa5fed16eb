"""Where the tests' promtool comes from, and what they say where there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import promtool

from mainstay.controlplane.rungs import toolchain


def program(file: Path, exits: int = 0) -> Path:
    """Something that runs, and exits so."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\nexit {exits}\n")
    file.chmod(0o755)
    return file


def cached(tmp_path: Path) -> Path:
    return tmp_path / "cache/mainstay/promtool" / promtool.version() / "promtool"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_the_one_on_path_comes_first(tmp_path: Path, environ: dict[str, str]):
    program(cached(tmp_path))
    named = program(tmp_path / "bin/promtool")
    assert promtool.find(environ) == named


def test_one_on_path_that_does_not_run_is_passed_over(tmp_path: Path, environ: dict[str, str]):
    program(tmp_path / "bin/promtool", exits=1)
    built = program(cached(tmp_path))
    assert promtool.find(environ) == built


def test_where_there_is_none_it_says_what_helps(tmp_path: Path, environ: dict[str, str]):
    program(tmp_path / "bin/promtool", exits=7)
    with pytest.raises(promtool.NoPromtoolError, match="exits with 7") as told:
        promtool.find(environ)
    assert "tests.support.prepare" in str(told.value)


def test_what_is_there_is_not_built(tmp_path: Path, environ: dict[str, str]):
    built = program(cached(tmp_path))
    said: list[str] = []
    assert promtool.obtain(said.append, environ) == built
    assert said == []


def test_a_go_that_builds_the_control_plane_builds_promtool_too():
    asked = re.search(r"^go (\d+)\.(\d+)\.(\d+)$", (promtool.MODULE / "go.mod").read_text(), re.MULTILINE)
    assert asked
    assert tuple(int(part) for part in asked.groups()) <= toolchain.needed()
