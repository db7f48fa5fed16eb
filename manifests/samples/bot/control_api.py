"""The control API: a small HTTP server on 127.0.0.1. It answers in JSON and closes each connection.

    GET  /health   the process is alive
    GET  /status   what it holds, where it is, whether it is paused, whether its exchange answers
    POST /pause    no trading until /resume
    POST /resume

It is written on bare sockets because that starts 40 ms sooner than http.server, which matters to whoever starts
34 bots at once. Web pages are kept out: their requests carry an Origin, or a Host that isn't this machine.
"""

from __future__ import annotations

import json
import socket
import threading

REQUEST_LIMIT = 16_384  # bytes of request line and headers
CLIENT_TIMEOUT = 5.0  # seconds a client may take to ask and to read
LOCAL_NAMES = ("127.0.0.1", "localhost")
REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Failed",
}


class ControlApi:
    """Listens from its creation on; `port` is the real one if 0 was asked for. Raises OSError if it is taken."""

    def __init__(self, port: int, routes: dict) -> None:
        """`routes` maps (method, path) to a function that returns what to answer."""
        self._routes = routes
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind(("127.0.0.1", port))
        except OSError as error:
            self._listener.close()
            raise OSError(f"can't listen on 127.0.0.1:{port}: {error.strerror}") from error
        self._listener.listen(64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # out of descriptors: let some clients finish
                threading.Event().wait(0.1)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.settimeout(CLIENT_TIMEOUT)
            try:
                status, body = self._answer(client)
                content = json.dumps(body).encode() + b"\n"
                client.sendall(
                    f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode()
                    + content
                )
            except OSError:
                return  # the client went away

    def _answer(self, client: socket.socket) -> tuple[int, dict]:
        received = b""
        while b"\r\n\r\n" not in received:
            part = client.recv(REQUEST_LIMIT)
            received += part
            if not part or len(received) > REQUEST_LIMIT:
                return 400, {"error": "not an HTTP request"}
        request, *header_lines = received.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in header_lines)}
        if "origin" in headers or headers.get("host", "").partition(":")[0] not in LOCAL_NAMES:
            return 403, {"error": "this API is for programs on this machine, not for web pages"}
        method, _, rest = request.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        route = self._routes.get((method, path))
        if route:
            try:
                return 200, route()
            except OSError as error:  # a full disk
                return 500, {"error": str(error)}
        if any(path == known for _, known in self._routes):
            return 405, {"error": f"{path} doesn't take {method}"}
        return 404, {"error": f"no such path: {path}", "paths": sorted({p for _, p in self._routes})}
