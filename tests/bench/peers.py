"""Who else starts programs: the bare kernel, and supervisord driven directly."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

PYTHON_SERVER = (
    "import http.server as h; import sys; h.test(h.SimpleHTTPRequestHandler, port=int(sys.argv[1]))"
)


def server(port: int | str) -> list[str]:
    """A tiny HTTP server: busybox's, or Python's where there is no busybox."""
    if shutil.which("busybox"):
        return ["busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "/var/empty"]
    return [sys.executable, "-c", PYTHON_SERVER, str(port)]


def server_name() -> str:
    return "busybox httpd" if shutil.which("busybox") else "python3 -m http.server"


def connected(port: int, timeout: float = 30) -> None:
    """Return once something accepts on the port."""
    deadline = time.perf_counter() + timeout
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.0005)
        else:
            return


def bare(ports: Sequence[int]) -> float:
    """Seconds to spawn a server per port and connect to each; they are ended."""
    children: list[subprocess.Popen[bytes]] = []
    began = time.perf_counter()
    try:
        children.extend(subprocess.Popen(server(port), stdout=subprocess.DEVNULL) for port in ports)
        for port in ports:
            connected(port)
        return time.perf_counter() - began
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()


CONF = """\
[unix_http_server]
file={directory}/s
[supervisord]
nodaemon=true
silent=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={directory}/pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[include]
files={directory}/conf.d/*.conf
"""

SECTION = """\
[program:{name}]
command={command}
autostart=false
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE
"""


class Supervisord:
    """A supervisord that a person would drive by hand: a section per program, reread, add, start."""

    def __init__(self, directory: Path) -> None:
        self._conf_d = directory / "conf.d"
        self._conf_d.mkdir()
        (directory / "conf").write_text(CONF.format(directory=directory))
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(directory / "conf")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        self._socket = directory / "s"
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        self._proxy = ServerProxy("http://127.0.0.1", transport=transport)

    def wait(self) -> None:
        deadline = time.perf_counter() + 20
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self._socket))
            except OSError:
                if time.perf_counter() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def start(self, ports: Sequence[int]) -> float:
        """Seconds from the sections to a connection to each server; they are removed."""
        began = time.perf_counter()
        for port in ports:
            words = " ".join(server(port))
            (self._conf_d / f"p{port}.conf").write_text(SECTION.format(name=f"p{port}", command=words))
        self._proxy.supervisor.reloadConfig()
        if len(ports) == 1:
            self._proxy.supervisor.addProcessGroup(f"p{ports[0]}")
            self._proxy.supervisor.startProcess(f"p{ports[0]}", False)
        else:
            self._calls(("addProcessGroup", [f"p{port}"]) for port in ports)
            self._calls(("startProcess", [f"p{port}", False]) for port in ports)
        for port in ports:
            connected(port)
        took = time.perf_counter() - began
        self._remove([f"p{port}" for port in ports])
        for port in ports:
            (self._conf_d / f"p{port}.conf").unlink()
        self._proxy.supervisor.reloadConfig()
        return took

    def hold(self, ports: Sequence[int]) -> None:
        """Start a server per port and leave them running."""
        for port in ports:
            words = " ".join(server(port))
            (self._conf_d / f"p{port}.conf").write_text(SECTION.format(name=f"p{port}", command=words))
        self._proxy.supervisor.reloadConfig()
        self._calls(("addProcessGroup", [f"p{port}"]) for port in ports)
        self._calls(("startProcess", [f"p{port}", False]) for port in ports)
        for port in ports:
            connected(port)

    def restart_all(self, ports: Sequence[int]) -> float:
        """Seconds of `supervisorctl restart all`, until each of the held servers accepts again."""
        conf = self._conf_d.parent / "ctl"
        conf.write_text(f"[supervisorctl]\nserverurl=unix://{self._socket}\n")
        began = time.perf_counter()
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(conf), "restart", "all"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for port in ports:
            connected(port)
        return time.perf_counter() - began

    def _remove(self, names: list[str]) -> None:
        """Without waiting inside supervisord: many stops at once that wait for their ends may never return."""
        self._calls(("stopProcess", [name, False]) for name in names)
        deadline = time.perf_counter() + 20
        while left := [group["name"] for group in self._proxy.supervisor.getAllProcessInfo()]:
            self._calls(("removeProcessGroup", [name]) for name in left)
            if time.perf_counter() > deadline:
                raise RuntimeError(f"supervisord does not let go of {left}")
            time.sleep(0.02)

    def _calls(self, calls: Iterable[tuple[str, list[object]]]) -> None:
        self._proxy.system.multicall(
            [{"methodName": f"supervisor.{name}", "params": params} for name, params in calls]
        )


@contextmanager
def supervisord() -> Iterator[Supervisord]:
    """Yield one, ended afterwards with all it started."""
    directory = Path(tempfile.mkdtemp(prefix="mainstay-bench-"))
    one = Supervisord(directory)
    try:
        one.wait()
        yield one
    finally:
        with suppress(ProcessLookupError):
            one.process.terminate()
        one.process.wait(20)
        shutil.rmtree(directory, ignore_errors=True)
