"""Libraries in real directories, and programs that tell which code they were given and which they loaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.stage import PATIENCE, Object, Stage, condition, eventually, ready

from mainstay.api.meta import API_VERSION
from mainstay.shell.kube import CONFIG_MAPS, LEASES, LIBRARIES, RUNS, STRATEGIES, core_path, path

PYTHON = os.path.realpath(sys.executable)

_SERVER = """
import _socket, fcntl, posix, sys
try:
    from _sha256 import sha256
except ImportError:
    from _sha2 import sha256
env = posix.environ
judge, run = env[b"JUDGE"], env[b"RUN_ID"]
def say(name, line):
    fd = posix.open(judge + b"/" + name, posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT, 0o600)
    posix.write(fd, line + b"\\n")
    posix.close(fd)
def read(path):
    with open(path, "rb") as file:
        return file.read()
lock = posix.open(judge + b"/" + run + b".lock", posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    say(b"violations", b"two programs of run " + run + b" at once, the second as attempt " + env[b"ATTEMPT"])
code = read(env[b"STRATEGY_PATH"])
loaded = b"sha256:" + sha256(code).hexdigest().encode()
me = (run, env[b"ATTEMPT"], env[b"CONTROL_API_PORT"], str(posix.getpid()).encode())
say(b"journal", b" ".join((*me, env[b"STRATEGY_HASH"])))
if loaded != env[b"STRATEGY_HASH"]:
    say(b"violations", run + b" was told " + env[b"STRATEGY_HASH"] + b" and loaded " + loaded)
config = read(env[b"CONFIG_PATH"]) if b"CONFIG_PATH" in env else b""
told = [env[b"STRATEGY_NAME"], env[b"STRATEGY_PATH"], env[b"STRATEGY_HASH"], loaded, sys.argv[2].encode(), config]
server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen(8)
while True:
    fd = server._accept()[0]
    try:
        posix.write(fd, b"\\0".join(told))
    except OSError:
        pass
    posix.close(fd)
"""

_SHELL = """
echo "$RUN_ID $ATTEMPT ${CONTROL_API_PORT:--} $$ $STRATEGY_HASH" >> "$JUDGE/journal"
read -r first < "$STRATEGY_PATH"
[ "$first" = "# $STRATEGY_NAME" ] || echo "$RUN_ID loaded '$first' as $STRATEGY_NAME" >> "$JUDGE/violations"
exec sleep 3600
"""


def code(name: str, version: object = 1) -> str:
    """A strategy; its first line is its name, which programs in sh compare."""
    return f"# {name}\nVERSION = {version!r}\n\n\ndef signal(price):\n    return price > VERSION\n"


def digest(text: str | bytes) -> str:
    """As STRATEGY_HASH says it."""
    data = text if isinstance(text, bytes) else text.encode()
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What a program says of itself."""

    name: str
    path: str
    hash: str
    loaded: str
    argument: str  # $(STRATEGY_NAME)=$(STRATEGY_PATH)
    config: str


@dataclass
class Shop:
    """Makes, changes and looks."""

    stage: Stage

    @property
    def namespace(self) -> str:
        return self.stage.namespace

    # --- libraries

    def library(self, name: str, *, files: dict[str, str] | None = None, **spec: Any) -> Path:
        """A library and its directory, with these files."""
        directory = self.stage.home / "lib" / name
        directory.mkdir(parents=True, exist_ok=True)
        for file, text in (files or {}).items():
            (directory / file).write_text(text)
        body = {
            "source": {"directory": str(directory)},
            "debounceMilliseconds": 30,
            "rescanSeconds": 2,
            **spec,
        }
        self.make("StrategyLibrary", LIBRARIES, name, body)
        return directory

    def make(self, kind: str, plural: str, name: str, spec: Object) -> Object:
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        return self.stage.client.ok("POST", path(plural, self.namespace), body)

    def strategy(self, object_name: str, **spec: Any) -> Object:
        """A Strategy made by hand."""
        return self.make("Strategy", STRATEGIES, object_name, spec)

    def get(self, plural: str, name: str) -> Object | None:
        return self.stage.client.get(path(plural, self.namespace, name))

    def change(self, plural: str, name: str, spec: Object) -> Object:
        return self.stage.client.merge(path(plural, self.namespace, name), {"spec": spec})

    def delete(self, plural: str, name: str) -> None:
        self.stage.client.ok("DELETE", path(plural, self.namespace, name))

    def strategies(self, library: str) -> dict[str, Object]:
        """The strategies of a library, by the names that runs write."""
        url = path(STRATEGIES, self.namespace)
        found = self.stage.client.ok("GET", url)["items"]
        return {
            o["spec"]["name"]: o for o in found if o["spec"]["library"] == library and "name" in o["spec"]
        }

    def offered(self, library: str) -> dict[str, str]:
        """What each strategy of a library offers."""
        return {
            name: (o.get("status") or {}).get("revision", "") for name, o in self.strategies(library).items()
        }

    def offers(self, library: str, want: dict[str, str], seconds: float = PATIENCE) -> None:
        """Wait until the objects equal these files: name → text."""
        hashes = {name: digest(text) for name, text in want.items()}
        until = time.monotonic() + seconds
        while (found := self.offered(library)) != hashes:
            odd = {n: (found.get(n), hashes.get(n)) for n in found | hashes if found.get(n) != hashes.get(n)}
            assert time.monotonic() < until, f"{library}: (is, should be) {odd}"
            time.sleep(0.01)

    def until(self, plural: str, name: str, is_so: Callable[[Object], Any]) -> Object:
        last: list[Object | None] = [None]

        def there() -> bool:
            last[0] = self.get(plural, name)
            return last[0] is not None and bool(is_so(last[0]))

        try:
            eventually(there)
        except AssertionError:
            raise AssertionError(f"{plural} {name} is {last[0]}") from None
        assert last[0] is not None
        return last[0]

    def config_map(self, name: str, data: dict[str, str] | None, **labels: str) -> None:
        """Make it, or replace it; None deletes it."""
        url = core_path(CONFIG_MAPS, self.namespace, name)
        if data is None:
            self.stage.client.ok("DELETE", url)
            return
        body = {"metadata": {"name": name, "labels": labels}, "data": data}
        if self.stage.client.get(url) is None:
            self.stage.client.ok("POST", core_path(CONFIG_MAPS, self.namespace), body)
        else:
            self.stage.client.ok("PUT", url, body)

    # --- runs

    def server(
        self, name: str, library: str, strategy: str, *, ref: Object | None = None, **spec: Any
    ) -> Object:
        """A run of the server above."""
        program = {
            "command": [PYTHON, "-S", "-I", "-c", _SERVER],
            "args": ["$(CONTROL_API_PORT)", "$(STRATEGY_NAME)=$(STRATEGY_PATH)"],
            "env": [{"name": "JUDGE", "value": str(self.stage.judge)}],
            "terminationGracePeriodSeconds": 2,
        }
        body = {
            "program": program,
            "controlApi": {"pool": "stage"},
            "strategy": {"library": library, "name": strategy, **(ref or {})},
            **spec,
        }
        return self.stage.create(name, body)

    def sleeper(self, name: str, library: str, strategy: str, *, port: bool = True, **spec: Any) -> Object:
        """A run that costs nothing."""
        program = {
            "command": ["/bin/sh", "-c", _SHELL],
            "env": [{"name": "JUDGE", "value": str(self.stage.judge)}],
            "readiness": {"none": {}},
            "terminationGracePeriodSeconds": 2,
        }
        api = {"controlApi": {"pool": "stage"}} if port else {}
        body = {"program": program, **api, "strategy": {"library": library, "name": strategy}, **spec}
        return self.stage.create(name, body)

    def run(self, name: str) -> Object:
        obj = self.stage.get(name)
        assert obj is not None, name
        return obj

    def runs(self, text: str, *names: str, strategy: str | None = None) -> list[Object]:
        """Wait until all of them run this code, Ready."""
        return [self.stage.until(name, running(text, strategy)) for name in names]

    def says(self, name: str, *, reason: str, resolved: bool = False) -> Object:
        """Wait for this reason of StrategyResolved."""
        status = "True" if resolved else "False"

        def is_so(obj: Object) -> bool:
            told = condition(obj, "StrategyResolved")
            return (told.get("reason"), told.get("status")) == (reason, status)

        return self.stage.until(name, is_so)

    def answer(self, name: str) -> Answer:
        """What its program says."""
        port = self.run(name)["status"]["port"]
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            told = b""
            while more := connection.recv(65536):
                told += more
        return Answer(*told.decode().split("\0"))

    def starts(self, *names: str) -> dict[str, list[tuple[int, int, str]]]:
        """Of each run: (attempt, port or 0, hash) of every start of its program, in order."""
        file = self.stage.judge / "journal"
        by_id: dict[str, list[tuple[int, int, str]]] = {}
        for line in file.read_text().splitlines() if file.exists() else ():
            run_id, attempt, port, _, told = line.split()
            by_id.setdefault(run_id, []).append((int(attempt), int(port) if port != "-" else 0, told))
        return {name: by_id.get(self.run(name)["status"].get("runId", ""), []) for name in names}

    def lives(self, *names: str) -> dict[str, tuple[int, int, int | None]]:
        """(pid, attempt, port) of each: what must not change where nothing should happen."""
        found = {}
        for name in names:
            status = self.run(name)["status"]
            found[name] = (status["process"]["pid"], status["attempt"], status.get("port"))
        return found

    def leases(self) -> dict[str, int]:
        return {i["spec"]["holder"]["name"]: i["spec"]["port"] for i in self.stage.client.items(LEASES)}

    def clear(self) -> None:
        """Every run, library and strategy of this stage goes, and every file."""
        for plural in (RUNS, LIBRARIES, STRATEGIES):
            for item in self.stage.client.items(plural):
                with suppress(AssertionError):
                    self.delete(plural, item["metadata"]["name"])
        eventually(
            lambda: not [i for p in (RUNS, LIBRARIES, STRATEGIES) for i in self.stage.client.items(p)],
            "an empty stage",
        )
        shutil.rmtree(self.stage.home / "lib", ignore_errors=True)


def running(text: str, strategy: str | None = None) -> Callable[[Object], bool]:
    """Running this code, Ready; of that strategy if named."""
    want = digest(text)

    def is_so(obj: Object) -> bool:
        use = (obj.get("status") or {}).get("strategy") or {}
        same = use.get("hash") == want and strategy in (None, use.get("name"))
        return same and ready("Running")(obj) and "process" in obj["status"]

    return is_so


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Nothing happened to any of them."""
    assert before == after, {n: (before[n], after.get(n)) for n in before if before[n] != after.get(n)}


def told(obj: Object, kind: str = "Ready") -> tuple[str, str]:
    """(status, reason) of a condition."""
    one = condition(obj, kind)
    return one.get("status", ""), one.get("reason", "")


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:02}" for number in range(count)]


__all__ = ["Answer", "Shop", "code", "digest", "names", "running", "same", "told"]
