"""What the eight services of this sample have in common. Standard library only.

    PORT=3000 DATA_DIR=/tmp/main_app python3 -S main_app.py trade_manager=4000

Each has a function `work`, called when it starts and then every INTERVAL seconds. What it returns is shown at `/` and
kept in $DATA_DIR/state.json, so that the next process goes on from there. Arguments say where the services are that it
asks: NAME=PORT. Nothing real is traded, and nobody outside this machine is ever called.

    GET /health    it serves; says nothing about the services it depends on, or one that is down would take all along
    GET /          pid, start, what it knows of its dependencies, and what `work` returned

It is written on bare sockets because that starts 40 ms sooner than http.server, which matters in a restart of eight.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time

ASK_SECONDS = 0.3  # a service that is asked answers from memory; one that takes longer hangs
RETRY_SECONDS = 0.5  # until the next look, while a dependency is away
CLIENT_SECONDS = 2.0  # a client may take to ask and to read
REQUEST_LIMIT = 8192  # bytes


class Service:
    """One service: who it is, what it remembers, and the way to those it depends on."""

    def __init__(self) -> None:
        """Read the environment that Mainstay, or any other supervisor, gives. Ends the program if a part is missing."""
        here = os.path.splitext(os.path.basename(sys.argv[0]))[0]
        self.name = os.environ.get("SERVICE_NAME", here)
        try:
            self.port = int(os.environ["PORT"])
            self.data = os.environ["DATA_DIR"]
            self.interval = float(os.environ.get("INTERVAL", "5"))
            self._ports = {name: int(port) for name, _, port in (one.partition("=") for one in sys.argv[1:])}
        except (KeyError, ValueError) as error:
            sys.exit(f"{self.name}: PORT, DATA_DIR and arguments as NAME=PORT are needed: {error!r}")
        self.started = time.time()
        self.beats = 0
        self.dependencies: dict[str, dict] = {name: {"up": False} for name in self._ports}
        self.state: dict = self._remembered()
        self._wakeup, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(
            wake
        )  # the kernel may give a signal to any thread, and the main one sleeps in select
        self._signal = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def log(self, words: str) -> None:
        """Print a line, at once."""
        print(f"{time.strftime('%H:%M:%S')} {self.name} {words}", flush=True)

    def ask(self, name: str) -> dict:
        """What that service says at `/`; empty while it is away, and once this one is to stop."""
        if self._signal:
            return {}
        try:
            said = _get(self._ports[name])
        except (OSError, ValueError) as error:
            self.dependencies[name] = {"up": False, "error": str(error)}
            return {}
        self.dependencies[name] = {"up": True, "pid": said.get("pid"), "startedAt": said.get("startedAt")}
        return said

    def run(self, work, *, listen: bool = True, heartbeat: bool = False) -> None:  # noqa: ANN001 (Service → dict)
        """Work until SIGTERM."""
        if listen:
            self._listen()
        where = (
            f"http://127.0.0.1:{self.port}" if listen else f"port {self.port} is kept for it, nobody listens"
        )
        self.log(f"started: pid {os.getpid()}, attempt {os.environ.get('ATTEMPT', '-')}, {where}")
        while not self._signal:
            self.state = work(self)
            self.beats += 1
            self._remember()
            if heartbeat:
                told = ", ".join(f"{key} {value}" for key, value in self.state.items())
                self.log(f"heartbeat {self.beats}: {told}")
            away = not all(one["up"] for one in self.dependencies.values())
            pause = min(RETRY_SECONDS, self.interval) if away else self.interval
            select.select([self._wakeup], [], [], pause)
        self.log(f"stopped by {self._signal} after {time.time() - self.started:.1f} s")

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signal = signal.Signals(number).name

    def _about(self) -> dict:
        return {
            "service": self.name,
            "pid": os.getpid(),
            "startedAt": round(self.started, 3),
            "attempt": os.environ.get("ATTEMPT", ""),
            "beats": self.beats,
            "dependencies": self.dependencies,
            "state": self.state,
        }

    def _remembered(self) -> dict:
        try:
            with open(os.path.join(self.data, "state.json")) as file:
                return json.load(file)["state"]
        except (OSError, ValueError, KeyError):
            return {}  # its first start

    def _remember(self) -> None:
        path = os.path.join(self.data, "state.json")
        try:
            os.makedirs(self.data, exist_ok=True)
            with open(path + ".tmp", "w") as file:
                json.dump(self._about(), file, indent=1)
            os.replace(path + ".tmp", path)  # a reader, or a kill, finds the old one or the new one whole
        except OSError as error:
            sys.exit(f"{self.name}: can't keep its state: {error}")

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self.port))
        except OSError as error:
            sys.exit(f"{self.name}: can't listen on 127.0.0.1:{self.port}: {error.strerror}")
        listener.listen(64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # out of descriptors: let some clients finish
                time.sleep(0.1)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.settimeout(CLIENT_SECONDS)
            try:
                request = _read_until(client, b"\r\n\r\n").split(b" ")
                path = request[1] if request[0] == b"GET" and len(request) > 1 else b""
                pages = {b"/health": {"status": "ok", "pid": os.getpid()}, b"/": self._about()}
                status = "200 OK" if path in pages else "404 Not Found"
                content = json.dumps(pages.get(path, {"error": "GET / or /health"})).encode() + b"\n"
                client.sendall(
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode()
                    + content
                )
            except OSError:
                return  # the client went away


def _read_until(peer: socket.socket, end: bytes) -> bytes:
    """Read up to that mark, the end of the stream, or the limit."""
    received = b""
    while end not in received and len(received) < REQUEST_LIMIT:
        part = peer.recv(REQUEST_LIMIT)
        if not part:
            break
        received += part
    return received


def _get(port: int) -> dict:
    """GET / of a service on this machine. Raises OSError and ValueError."""
    with socket.create_connection(("127.0.0.1", port), ASK_SECONDS) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        content = b""
        while part := peer.recv(65536):
            content += part
    said = json.loads(content.partition(b"\r\n\r\n")[2])
    if not isinstance(said, dict):
        raise ValueError(f"port {port} answers something else")  # noqa: TRY004 (wrong data, not a wrong call)
    return said
