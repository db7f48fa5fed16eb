"""What a scope of tasks has on disk before its first task: the code of its fork server, and its program."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil

from mainstay.runtime.process import fence, records
from mainstay.runtime.process.scope import Scope

PROGRAM = "_tasks"  # no unit's name begins with an underscore
SOCKET = "tasks.sock"
SECTION = f"""
[program:{PROGRAM}]
command=/bin/sh forkserver
autostart=true
autorestart=true
startsecs=0
startretries=1000000000
stopsignal=TERM
stdout_logfile=NONE
stderr_logfile=NONE
"""
HERE = os.path.dirname(__file__)
SOURCES = (fence.__file__, *(f"{HERE}/{name}.py" for name in ("record", "shim", "forkserver")))
CODE = "import sys; sys.path.insert(0, sys.argv[1]); import forkserver; forkserver.main(sys.argv[2])"


def install(scope: Scope) -> str:
    """Copy the code into a directory of its version and write the script that supervisord runs.

    Returns the directory. Code of other versions is deleted: who runs it has it loaded.
    """
    sources = {os.path.basename(path): records.read(path) or b"" for path in SOURCES}
    digest = hashlib.sha256(b"\0".join(sources.values())).hexdigest()[:12]
    code = f"{scope.dir.path}/code-{digest}"
    os.makedirs(code, mode=0o700, exist_ok=True)
    for name, source in sources.items():
        records.write_if_changed(f"{code}/{name}", source)
    records.sync_directory(code)
    words = [scope.python, "-I", "-S", "-c", CODE, code, scope.dir.path]
    script = f"exec {shlex.join(words)}\n".encode()
    records.write_if_changed(f"{scope.dir.path}/forkserver", script)
    records.sync_directory(scope.dir.path)
    for entry in os.listdir(scope.dir.path):
        if entry.startswith("code-") and entry != os.path.basename(code):
            shutil.rmtree(f"{scope.dir.path}/{entry}", ignore_errors=True)
    return code
