"""The strategy that `mainstay verify` offers: a small server that says which code it is."""

from __future__ import annotations

import hashlib

_SOURCE = '''\
"""Made by `mainstay verify`, edition {edition}: says on its port who it is. Its run is removed after some seconds."""

import http.server
import json
import os

COUNTER = os.path.join(os.environ["DATA_DIR"], "starts")
with open(COUNTER, "ab") as file:
    file.write(b".")
WHO = {{
    "edition": {edition},
    "hash": os.environ["STRATEGY_HASH"],
    "runId": os.environ["RUN_ID"],
    "attempt": int(os.environ["ATTEMPT"]),
    "starts": os.path.getsize(COUNTER),
    "pid": os.getpid(),
}}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(WHO).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


address = ("127.0.0.1", int(os.environ["CONTROL_API_PORT"]))
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
'''


def source(edition: int) -> str:
    """The code; another edition has another hash."""
    return _SOURCE.format(edition=edition)


def broken() -> tuple[str, int]:
    """Code with a mistake, and the line it is in."""
    good = source(3)
    return good + "def mistake(:\n", good.count("\n") + 1


def hash_of(code: str) -> str:
    """As Mainstay tells it."""
    return "sha256:" + hashlib.sha256(code.encode()).hexdigest()
