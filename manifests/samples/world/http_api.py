"""The world over HTTP: JSON in SpaceTraders' shape, on loopback.

An answer is {"data": ...}, or {"error": {"message", "code"}} with a status from 400 on.
"""

from __future__ import annotations

import hmac
import json
import os
import select
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from controls import OPERATIONS, Invalid
from service import Dropped, Service
from state import Refused

BODY_LIMIT = 1 << 20  # bytes of one request
LOCAL_NAMES = ("127.0.0.1", "localhost")
PATHS = """GET /my/agent /my/ships /my/ships/SHIP /my/ships/SHIP/cargo
POST /my/ships/SHIP/navigate /purchase /sell /deliver /jettison
GET /markets /markets/WAYPOINT /factories /factories/FACTORY /ledger /audit /health
GET PUT DELETE /admin/failures /admin/hold
GET /admin/held, GET PUT /admin/latency, PUT /admin/accepts/FACTORY, POST /admin/reset""".splitlines()


class Server(ThreadingHTTPServer):
    """A thread for each client."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, service: Service, token: str | None) -> None:
        self.service, self.token = service, token
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, _request: object, _client: object) -> None:
        """Say nothing of a client that went away: tasks are killed now and then."""


class Handler(BaseHTTPRequestHandler):
    """One client."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds a client may be silent
    disable_nagle_algorithm = True

    def log_message(self, _format: str, *args: object) -> None:
        """Say nothing: the ledger is the log."""

    def do_GET(self) -> None:
        """Tell."""
        self._serve("GET")

    def do_POST(self) -> None:
        """Trade."""
        self._serve("POST")

    def do_PUT(self) -> None:
        """Set."""
        self._serve("PUT")

    def do_DELETE(self) -> None:
        """Take back."""
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        url = urlsplit(self.path)
        parts = tuple(unquote(part) for part in url.path.split("/") if part)
        try:
            body = self._body()
            self._admit(parts)
            if method == "GET":
                self._answer(200, {"data": self._told(parts, parse_qs(url.query))})
            elif method == "POST" and parts[:2] == ("my", "ships") and len(parts) == 4:
                self._operate(parts[2], parts[3], body)
            else:
                self._answer(200, {"data": self._set(method, parts, body)})
        except Refused as refusal:
            self._error(refusal.status, str(refusal))
        except Invalid as invalid:
            self._error(422, str(invalid))
        except ValueError as error:
            self.close_connection = True
            self._error(400, f"malformed request: {error}")
        except Dropped:
            self.close_connection = True

    def _body(self) -> dict:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= BODY_LIMIT:
            raise ValueError(f"a body has at most {BODY_LIMIT} bytes")
        body = json.loads(self.rfile.read(length) or b"{}")
        if not isinstance(body, dict):
            raise ValueError("the body must be an object")  # noqa: TRY004 (the client's mistake)
        return body

    def _admit(self, parts: tuple[str, ...]) -> None:
        """Refuse web pages, and whoever has no token where one is asked for."""
        host = self.headers.get("Host", "").partition(":")[0]
        if "Origin" in self.headers or host not in LOCAL_NAMES:
            raise Refused(403, "this is for programs on this machine, not for web pages")
        wanted = self.server.token
        given = self.headers.get("Authorization", "")
        if (
            wanted
            and parts != ("health",)
            and not hmac.compare_digest(given.encode(), f"Bearer {wanted}".encode())
        ):
            raise Refused(401, "send the header Authorization: Bearer, with the token of --token-file")

    # --- what there is

    def _told(self, parts: tuple[str, ...], query: dict[str, list[str]]) -> object:
        service = self.server.service
        controls = service.controls
        if len(parts) == 3 and parts[:2] == ("my", "ships"):
            return self._read(("ship", "cargo"), parts[2], lambda: service.ship(parts[2]))
        if len(parts) == 4 and parts[:2] == ("my", "ships") and parts[3] == "cargo":
            return self._read(("cargo",), parts[2], lambda: service.ship(parts[2])["cargo"])
        if len(parts) == 2 and parts[0] == "factories":
            return self._read(("factory",), None, lambda: service.factory(parts[1]))
        if parts and parts[0] == "markets" and len(parts) <= 2:
            told = (lambda: service.market(parts[1])) if parts[1:] else service.markets
            return self._read(("market",), None, told)
        if parts == ("ledger",):
            return service.ledger(_first(query, "ship"), _first(query, "requestId"))
        simple = {
            ("health",): lambda: {"status": "ok", "pid": os.getpid()},
            ("my", "agent"): service.agent,
            ("my", "ships"): service.ships,
            ("factories",): service.factories,
            ("audit",): service.audit,
            ("admin", "latency"): controls.latency,
            ("admin", "failures"): controls.failures,
            ("admin", "hold"): controls.holds,
            ("admin", "held"): controls.held,
        }
        if parts not in simple:
            raise Refused(404, f"no such path; there are {'; '.join(PATHS)}")
        return simple[parts]()

    def _read(self, names: tuple[str, ...], ship: str | None, told) -> object:  # noqa: ANN001 (() → dict)
        self._suffer(names, ship)
        return told()

    def _suffer(self, names: tuple[str, ...], ship: str | None) -> None:
        """Be as slow, and fail as often, as the controls say."""
        time.sleep(self.server.service.controls.seconds(names))
        if status := self.server.service.controls.failure(names, ship):
            raise Refused(status, f"{names[0]} is told to fail")

    # --- what is done

    def _operate(self, ship: str, operation: str, body: dict) -> None:
        if operation not in OPERATIONS:
            raise Refused(404, f"a ship can {', '.join(OPERATIONS)}")
        self._suffer((operation,), ship)
        answer, again = self.server.service.operate(operation, ship, body, self._is_gone)
        self._answer(200, {"data": answer}, {"Idempotent-Replayed": "true"} if again else {})

    def _set(self, method: str, parts: tuple[str, ...], body: dict) -> object:
        service, controls = self.server.service, self.server.service.controls
        if method == "PUT" and len(parts) == 3 and parts[:2] == ("admin", "accepts"):
            return service.accept(parts[2], body)
        simple = {
            ("PUT", "admin", "latency"): lambda: controls.set_latency(body),
            ("PUT", "admin", "failures"): lambda: controls.add_failure(body),
            ("DELETE", "admin", "failures"): controls.forget_failures,
            ("PUT", "admin", "hold"): lambda: controls.hold(body),
            ("DELETE", "admin", "hold"): controls.release,
            ("POST", "admin", "reset"): lambda: service.begin(body),
        }
        if (method, *parts) not in simple:
            raise Refused(404, f"no such path; there are {'; '.join(PATHS)}")
        return simple[method, *parts]()

    def _is_gone(self) -> bool:
        """Whether the client has hung up, as a killed one has."""
        if not select.select([self.connection], [], [], 0)[0]:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return True

    def _error(self, status: int, message: str) -> None:
        self._answer(status, {"error": {"message": message, "code": status}})

    def _answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self._headers_buffer.append(b"\r\n" + body)  # in one piece with the headers: one packet, one wake-up
        self.flush_headers()


def _first(query: dict[str, list[str]], name: str) -> str | None:
    return query[name][0] if name in query else None
