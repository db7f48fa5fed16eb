import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.exchange import PYTHON, SAMPLES, Exchange, running_exchange

RUN_ID = "run-1"


class Bot:
    """A bot process and its control API."""

    def __init__(self, directory: Path, *options: str, env: dict[str, str] | None = None) -> None:
        command = [*PYTHON, str(SAMPLES / "bot" / "bot.py"), f"--data-dir={directory}", *options]
        if not any(option.startswith("--strategy") for option in options):
            command.append(f"--strategy={SAMPLES / 'strategies' / 'MeanReversionStrategy.py'}")
        self.log = directory.with_suffix(".log")
        with self.log.open("a") as log:
            self._start = log.tell()
            self.process = subprocess.Popen(
                command,
                env={"PATH": os.environ["PATH"], "RUN_ID": RUN_ID, "ATTEMPT": "1", **(env or {})},
                stdout=log,
                stderr=subprocess.PIPE,
                text=True,
            )

    def url(self) -> str:
        wait_for(lambda: "http://" in self.output() or self.process.poll() is not None)
        found = re.search(r"http://127\.0\.0\.1:\d+", self.output())
        assert found, self.process.communicate()[1]
        return found[0]

    def output(self) -> str:
        return self.log.read_text()[self._start :]

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(self.url() + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def status(self) -> dict[str, Any]:
        return self.ask("GET", "/status")[1]

    def wait_until(self, condition: Callable[[dict[str, Any]], Any]) -> None:
        wait_for(lambda: condition(self.status()))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        self.stderr = self.process.communicate(timeout=20)[1]
        return self.process.returncode


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with running_exchange(tmp_path) as running:
        yield running


@pytest.fixture
def start_bot(tmp_path: Path) -> Iterator[Callable[..., Bot]]:
    """Starts bots (`data` names the data directory); those still alive at the end are killed."""
    bots: list[Bot] = []

    def start(*options: str, data: str = "data", env: dict[str, str] | None = None) -> Bot:
        bots.append(Bot(tmp_path / data, *options, env=env))
        return bots[-1]

    yield start
    for bot in bots:
        if bot.process.poll() is None:
            bot.process.kill()
        with contextlib.suppress(ValueError):  # its stderr is read already
            bot.process.communicate()


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The sample programs' modules, imported as their own directories see them."""
    names = ("book", "broker", "options", "position", "prices", "trader")
    monkeypatch.syspath_prepend(str(SAMPLES / "bot"))
    monkeypatch.syspath_prepend(str(SAMPLES / "exchange"))
    yield SimpleNamespace(**{name: __import__(name) for name in names})
    for name in names:
        sys.modules.pop(name)


@pytest.fixture
def strategy(modules: SimpleNamespace) -> Iterator[Callable[..., Any]]:
    """Creates a sample strategy by name, with parameters."""
    created = []

    def create(name: str, **params: Any) -> Any:
        created.append(name)
        return modules.options.load_strategy(str(SAMPLES / "strategies" / f"{name}.py"), {name: params})

    yield create
    for name in created:
        sys.modules.pop(name, None)
