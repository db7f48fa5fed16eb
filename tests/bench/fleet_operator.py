"""`mainstay operator` with another limit of tasks at once, and with a profile if one is asked for.

    python -m tests.bench.fleet_operator LIMIT PROFILE operator --home ...

PROFILE is a file that is written when the operator ends, "" for none. The other arguments are those of `mainstay`.
"""

from __future__ import annotations

import asyncio
import cProfile
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partialmethod
from pathlib import Path

from mainstay.cli import system as parts
from mainstay.cli.home import Home
from mainstay.cli.main import main
from mainstay.shell.operator import Operator


@asynccontextmanager
async def operator_with(home: Path, limit: int, profile: Path | None = None) -> AsyncIterator[None]:
    """Put such an operator in the place of the installation's own, until `mainstay down`."""
    system = parts.runtime(Home(home))
    try:
        await parts.end(system, parts.OPERATOR)
    finally:
        await system.close()
    with (home / "fleet-operator.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.fleet_operator", str(limit), str(profile or "")),
            *("operator", "--home", str(home), "--kubeconfig", str(home / "operator.kubeconfig")),
            *("--embedded", "--health", "127.0.0.1:0"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(60):
            while not (home / "operator.ready").exists():
                await asyncio.sleep(0.05)
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


if __name__ == "__main__":
    limit, profile = int(sys.argv[1]), sys.argv[2]
    Operator.__init__ = partialmethod(Operator.__init__, tasks_at_once=limit)  # type: ignore[assignment]
    sys.argv = ["mainstay", *sys.argv[3:]]
    if profile:
        profiler = cProfile.Profile(time.process_time)
        try:
            profiler.runcall(main)
        finally:
            profiler.dump_stats(profile)
    else:
        main()
