"""A release server in the shape of the envtest one, with tiny programs, that can be told to misbehave."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from mainstay.controlplane.rungs.release import this_platform

VERSION = "v1.36.3"
PROGRAMS = ("etcd", "kube-apiserver", "kubectl")


def program(version: str = VERSION) -> bytes:
    padding = hashlib.shake_256(version.encode()).hexdigest(200_000)
    return f"#!/bin/sh\necho Kubernetes {version}\nexit 0\n# {padding}\n".encode()


def put_programs(directory: Path, version: str = VERSION, names=PROGRAMS) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_bytes(program(version))
        (directory / name).chmod(0o755)
    return directory


def tarball(members: dict[str, bytes] | None = None, links: dict[str, str] | None = None) -> bytes:
    members = members or {f"controller-tools/envtest/{name}": program() for name in PROGRAMS}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        folder = tarfile.TarInfo("controller-tools/envtest")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class ReleaseServer:
    """Serves /index.yaml and the tarballs it lists."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.index_url = f"{url}/index.yaml"
        self.files: dict[str, bytes] = {}
        self.releases: dict[str, dict[str, dict[str, str]]] = {}
        self.cut_after: list[int] = []  # the next answers stop after so many bytes
        self.ignores_ranges = False
        self.ranges: list[str | None] = []  # what each request for a tarball asked for

    def add(self, content: bytes, version: str = VERSION, sha512: str | None = None, url: str | None = None):
        name = f"envtest-{version}-{this_platform()}.tar.gz"
        self.files[f"/{name}"] = content
        self.releases.setdefault(version, {})[name] = {
            "hash": sha512 or hashlib.sha512(content).hexdigest(),
            "selfLink": url or f"{self.url}/{name}",
        }
        self.files["/index.yaml"] = yaml.safe_dump({"releases": self.releases}).encode()


@contextmanager
def release_server() -> Iterator[ReleaseServer]:
    server: ReleaseServer

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = server.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = 0
            if self.path.endswith(".gz"):
                asked = self.headers.get("Range")
                server.ranges.append(asked)
                if asked and not server.ignores_ranges:
                    start = int(asked.removeprefix("bytes=").removesuffix("-"))
                    if start >= len(content):
                        self.send_error(416)
                        return
            rest = content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            cut = server.cut_after.pop(0) if server.cut_after and self.path.endswith(".gz") else len(rest)
            self.wfile.write(rest[:cut])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = ReleaseServer(f"http://127.0.0.1:{listener.server_port}")
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
