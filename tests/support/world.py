"""The sample world and its worker as a judge for tests.

with running_world(tmp_path) as world:
    ...run workers, kill anything...
    world.assert_sound()
"""

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.exchange import PYTHON, SAMPLES

HERE = SAMPLES / "world"


class World:
    """A server on a directory; it may be killed and started again on the same port."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data, self._options, self.port = data, options, 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*PYTHON, str(HERE / "world.py"), f"--port={self.port}", f"--data={self.data}", *self._options],
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise AssertionError(f"the world didn't start: {self.process.communicate()[1]}")
        self.port = int(line.partition(",")[0].rpartition(":")[2])
        self.url = f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """kill -9, and wait until the kernel has taken everything back."""
        self.process.kill()
        self.process.communicate()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status, and what is under `data`, or under `error`."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)["error"]["message"]

    def get(self, path: str) -> Any:
        status, data = self.ask("GET", path)
        assert status == 200, data
        return data

    def act(self, ship: str, operation: str, **body: Any) -> tuple[int, Any]:
        return self.ask("POST", f"/my/ships/{ship}/{operation}", body)

    def set(self, what: str, **body: Any) -> None:
        status, data = self.ask("PUT", f"/admin/{what}", body)
        assert status == 200, data

    def forget(self, what: str) -> None:
        status, data = self.ask("DELETE", f"/admin/{what}")
        assert status == 200, data

    def cargo(self, ship: str) -> dict[str, int]:
        inventory = self.get(f"/my/ships/{ship}")["cargo"]["inventory"]
        return {one["symbol"]: one["units"] for one in inventory}

    def trades(self, ship: str | None = None) -> list[tuple[str, str, int]]:
        """What happened, in order: kind, symbol, units."""
        lines = self.get(f"/ledger?ship={ship}" if ship else "/ledger")
        return [(line["kind"], line["symbol"], line["units"]) for line in lines]

    def wait_held(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many requests are held; return them."""

        def look() -> list[dict[str, Any]]:
            held: list[dict[str, Any]] = self.get("/admin/held")
            return held if len(held) >= count else []

        held: list[dict[str, Any]] = wait_for(look)
        return held

    def assert_sound(self) -> None:
        """Nothing was lost or doubled: by the server's own account, and by the file's."""
        found = self.get("/audit")
        assert found["ok"], json.dumps(found, indent=1)
        assert audit(self.data)[0] == 0


def audit(data: Path) -> tuple[int, str]:
    """Exit status and words of `world.py audit`."""
    done = subprocess.run(
        [*PYTHON, str(HERE / "world.py"), "audit", f"--data={data}"], capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def wait_for(look: Callable[[], Any], seconds: float = 20) -> Any:
    """Poll until there is something; return it."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return seen


@contextmanager
def running_world(directory: Path, *options: str) -> Iterator[World]:
    """Start a world in `directory`/world; it is killed at the end."""
    world = World(directory / "world", *options)
    try:
        yield world
    finally:
        with contextlib.suppress(ValueError):  # its pipes are read already
            world.kill()


class Worker:
    """One attempt of a task, as Mainstay starts it."""

    def __init__(self, world: World, directory: Path, task: str, *, uid: str = "u-1", **given: Any) -> None:
        """`given`: inputs, and assets as name → ref."""
        directory.mkdir(exist_ok=True)
        self._outputs = directory / "outputs.json"
        self._outputs.unlink(missing_ok=True)
        assets = given.get("assets", {"ship": "ship-1"})
        inputs = {
            "job": {"name": "job", "uid": uid},
            "task": {"name": task, "attempt": 1},
            "inputs": {"world": world.url, **given.get("inputs", {})},
            "context": {},
            "assets": {name: {"ref": ref} for name, ref in assets.items()},
        }
        (directory / "inputs.json").write_text(json.dumps(inputs))
        self.process = subprocess.Popen(
            [*PYTHON, str(HERE / "worker.py"), task],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONDONTWRITEBYTECODE": "1",
                "INPUTS_PATH": str(directory / "inputs.json"),
                "OUTPUTS_PATH": str(self._outputs),
                **given.get("env", {}),
            },
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, dict[str, Any] | None]:
        """Wait; return the exit status, stderr, and the outputs if there are any."""
        err = self.process.communicate(timeout=60)[1]
        outputs = json.loads(self._outputs.read_text()) if self._outputs.exists() else None
        return self.process.returncode, err, outputs

    def done(self) -> dict[str, Any]:
        """Wait; return the outputs of one that completed."""
        status, err, outputs = self.end()
        assert (status, outputs is None) == (0, False), err
        return outputs or {}

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
