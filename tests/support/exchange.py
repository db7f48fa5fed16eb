"""The stub exchange as a judge for tests.

with running_exchange(tmp_path) as exchange:
    ...start bots with --exchange=<exchange.url>...
    exchange.assert_clean()
"""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"

PYTHON = [sys.executable, "-S"]
"""Without site-packages: the samples must do with the standard library alone."""


class Refused(Exception):  # noqa: N818 (an answer, not a malfunction)
    """The exchange refused a session or a request."""


class Session:
    """A bot's connection, without the bot."""

    def __init__(self, port: int, run_id: str, attempt: int, pid: int) -> None:
        body = json.dumps({"runId": run_id, "attempt": attempt, "pid": pid}).encode()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._lines = self._socket.makefile("rb")
        self._socket.sendall(
            b"POST /session HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: mainstay-session\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        accepted = b" 101 " in self._lines.readline()
        while self._lines.readline().strip():
            pass
        answer = json.loads(self._lines.readline())
        if not accepted:
            self.close()
            raise Refused(answer["error"])

    def ask(self, **request: Any) -> dict[str, Any]:
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(self._lines.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Exchange:
    """A running exchange and what it says."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)

    def ledger(self, run_id: str) -> list[dict[str, Any]]:
        return self.get(f"/ledger?runId={run_id}")

    def fills(self, run_id: str) -> list[tuple[str, float, float, int]]:
        """What was traded, in order: side, quantity, price, candle. Ids may differ after a stop."""
        fills = [e for e in self.ledger(run_id) if e["event"] == "order-filled"]
        return [(e["side"], e["quantity"], e["price"], e["candle"]) for e in fills]

    def open_orders(self, run_id: str) -> list[dict[str, Any]]:
        return self.get(f"/orders?open=1&runId={run_id}")

    def violations(self) -> list[str]:
        return [violation["kind"] for violation in self.get("/violations")]

    def live_sessions(self) -> list[dict[str, Any]]:
        return [session for session in self.get("/sessions") if session["live"]]

    def session(self, run_id: str, attempt: int, pid: int) -> Session:
        return Session(self.port, run_id, attempt, pid)

    def assert_clean(self) -> None:
        """No rule was broken, no order is left behind."""
        verdict = self.get("/judge")
        assert verdict["ok"], json.dumps(verdict, indent=1)


@contextmanager
def running_exchange(directory: Path, *, session_seconds: float = 10, port: int = 0) -> Iterator[Exchange]:
    """Start an exchange; its ledger is `directory`/ledger.jsonl. It is stopped at the end."""
    command = [*PYTHON, str(SAMPLES / "exchange" / "exchange.py"), f"--port={port}"]
    command += [f"--ledger={directory / 'ledger.jsonl'}", f"--session-seconds={session_seconds}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            assert line.startswith("listening on "), f"the exchange didn't start: {line!r}"
            yield Exchange(int(line.rpartition(":")[2]))
        finally:
            process.terminate()
            process.wait(10)
