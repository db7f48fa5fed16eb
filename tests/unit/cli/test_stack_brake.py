"""The brake for services of stacks: what a name stands for, from files alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mainstay.cli import system
from mainstay.cli.app import app
from mainstay.cli.home import Home
from mainstay.core.names import stack_scope
from mainstay.runtime.process.stackscope import write_key
from mainstay.runtime.process.unitdir import ScopeDir

run = CliRunner()


class Units:
    """Units whose processes have ended, as they leave their directories."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self, scope: str, *names: str) -> None:
        for name in names:
            ScopeDir(self.root, scope).unit(name).create()

    def stack(self, name: str, *services: str, namespace: str = "default") -> None:
        scope = stack_scope(namespace, name)
        self.make(scope, *services)
        write_key(ScopeDir(self.root, scope), (namespace, name))

    def held(self) -> set[str]:
        return {
            f"{scope}/{unit}"
            for scope in system.scopes(Home(self.root))
            for unit in ScopeDir(self.root, scope).unit_names()
            if ScopeDir(self.root, scope).unit(unit).marked("held")
        }


@pytest.fixture
def units(tmp_path, monkeypatch) -> Units:
    monkeypatch.setattr("mainstay.cli.home.LONGEST", 500)
    monkeypatch.setenv("MAINSTAY_HOME", str(tmp_path))
    made = Units(tmp_path)
    made.make("runs", "default.bot", "default.both")
    made.stack("backend", "main_app", "db_poller")
    made.stack("both", "web")
    made.stack("far", "web", namespace="other")
    return made


BACKEND, BOTH, FAR = (
    stack_scope("default", "backend"),
    stack_scope("default", "both"),
    stack_scope("other", "far"),
)


@pytest.mark.parametrize(
    ("names", "held"),
    [
        (["stack/backend/main_app"], {f"{BACKEND}/main_app"}),
        (["stack/backend"], {f"{BACKEND}/main_app", f"{BACKEND}/db_poller"}),
        (["backend"], {f"{BACKEND}/main_app", f"{BACKEND}/db_poller"}),
        (["bot", "stack/both"], {"runs/default.bot", f"{BOTH}/web"}),
        (["run/both"], {"runs/default.both"}),
        (["far", "-n", "other"], {f"{FAR}/web"}),
        (
            ["--all"],
            {"runs/default.bot", "runs/default.both", f"{BACKEND}/main_app", f"{BACKEND}/db_poller", f"{BOTH}/web", f"{FAR}/web"},
        ),
    ],
)  # fmt: skip
def test_what_is_named_is_held_and_released(units, names, held):
    stopped = run.invoke(app, ["stop", "--offline", *names])
    assert stopped.exit_code == 0, stopped.output
    assert units.held() == held
    released = run.invoke(app, ["release", *names])
    assert released.exit_code == 0, released.output
    assert units.held() == set()
    assert released.stdout.count("released") == len(held)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["both"], "write run/both or stack/both"),
        (["stack/backend/nix"], "it has: db_poller, main_app"),
        (["stack/nix"], "there are stacks: default/backend, default/both, other/far"),
        (["run/backend"], "no run backend"),
        (["nix"], "no run nix"),
    ],
)
def test_refusals_hold_nothing(units, names, says):
    result = run.invoke(app, ["stop", "--offline", *names])
    assert result.exit_code == 1
    assert says in result.output
    assert units.held() == set()


@pytest.mark.usefixtures("units")
def test_one_service_is_stopped_with_the_brake_alone():
    result = run.invoke(app, ["stop", "stack/backend/main_app"])
    assert result.exit_code == 1
    assert "mainstay stop --offline stack/backend/main_app" in result.output


def test_down_is_for_stacks_too(units, monkeypatch):
    asked = []
    monkeypatch.setattr(system, "lives", lambda _, scope: bool(asked.append(scope)))
    Home(units.root).identity()
    assert "nothing runs" in run.invoke(app, ["down"]).output
    assert asked == ["system", "runs", "jobs", BACKEND, BOTH, FAR]
    asked.clear()
    run.invoke(app, ["down", "--keep-runs"])
    assert asked == ["system"]
