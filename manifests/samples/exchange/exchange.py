"""A stub exchange that judges the bots' keeper. Standard library only.

    python3 exchange.py --port 9200 --ledger ledger.jsonl

A bot opens a session, one long-lived TCP connection: the kernel closes it when the bot's process ends, however
it ends, so the exchange knows at once. It begins as HTTP: POST /session, `Upgrade: mainstay-session`, body
{"runId", "attempt", "pid"}. The answer is 101 and then a JSON request and a JSON answer per line, or 409 with the
reason. A session that says nothing for --session-seconds expires. The requests are described in book.py.

Everybody may ask: GET /ledger /violations /sessions /orders /judge; each takes ?runId=..., /orders also ?open=1.
`/judge` is {"ok": true} when no rule was broken and no order is left behind.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from book import Book, Refused

LINE_LIMIT = 65_536  # bytes of one request


class Exchange(ThreadingHTTPServer):
    """Serves one Book on 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, ledger: str, session_seconds: float) -> None:
        self.book = Book(ledger)
        self.session_seconds = session_seconds
        super().__init__(("127.0.0.1", port), Handler)


class Handler(BaseHTTPRequestHandler):
    """One connection: a question, or a session."""

    server: Exchange
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves in one piece

    def log_message(self, _format: str, *args: object) -> None:
        """Say nothing: the ledger is the log."""

    def do_GET(self) -> None:
        """Answer from the book."""
        book, url = self.server.book, urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        with book.lock:
            answers = {
                "/ledger": list(book.events),
                "/violations": list(book.violations),
                "/sessions": list(book.sessions.values()),
                "/orders": book.open_orders() if query.get("open") == "1" else book.all_orders(),
            }
            if url.path == "/judge":
                self._answer(200, book.verdict())
            elif url.path in answers:
                wanted = query.get("runId")
                self._answer(200, [e for e in answers[url.path] if wanted in (None, e["runId"])])
            else:
                self._answer(404, {"error": f"no such path: {url.path}", "paths": [*answers, "/judge"]})

    def do_POST(self) -> None:
        """Open a session and serve it to its end."""
        try:
            body = json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), LINE_LIMIT)))
            if self.path != "/session" or self.headers["Upgrade"] != "mainstay-session":
                raise ValueError("expected POST /session with Upgrade: mainstay-session")
            session = self.server.book.open_session(
                str(body["runId"]), int(body["attempt"]), int(body["pid"])
            )
        except Refused as refusal:
            self._answer(409, {"error": str(refusal)})
        except (KeyError, TypeError, ValueError) as error:
            self._answer(400, {"error": f"{type(error).__name__}: {error}"})
        else:
            self.close_connection = True
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "mainstay-session")
            self.end_headers()
            self._serve(session)

    def _serve(self, session: int) -> None:
        book, reason = self.server.book, "connection closed"
        self.connection.settimeout(self.server.session_seconds)
        try:
            self._line({"session": session, "expirySeconds": self.server.session_seconds})
            while line := self.rfile.readline(LINE_LIMIT):
                self._line(self._reply(session, line))
        except OSError as error:  # "timed out" after --session-seconds of silence
            reason = f"connection {error}"
        book.end_session(session, reason)

    def _reply(self, session: int, line: bytes) -> dict:
        try:
            return self.server.book.request(session, json.loads(line))
        except Refused as refusal:
            return {"error": str(refusal)}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": f"malformed request: {type(error).__name__}: {error}"}

    def _line(self, answer: dict) -> None:
        self.wfile.write(json.dumps(answer).encode() + b"\n")
        self.wfile.flush()

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="A stub exchange that judges the bots' keeper.")
    parser.add_argument("--port", type=int, default=9200, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--ledger", default="ledger.jsonl", help="appended to (default: %(default)s)")
    parser.add_argument("--session-seconds", type=float, default=10, help="silence that ends a session")
    options = parser.parse_args()
    try:
        exchange = Exchange(options.port, options.ledger, options.session_seconds)
    except (OSError, ValueError) as error:
        print(f"exchange: {error}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for the loop that the handler interrupts: it needs a thread of its own
        signal.signal(number, lambda *_: threading.Thread(target=exchange.shutdown).start())
    print(f"listening on http://127.0.0.1:{exchange.server_port}", flush=True)
    exchange.serve_forever(poll_interval=0.05)
    exchange.book.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
