"""`make bench`: measure, side by side with the limit and the peers, and hold it to the targets."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.bench import breakdown, fleet, jobs, library, scale, stacks, starts, whole
from tests.bench.figures import Figure, say, show
from tests.bench.installed import take_down_leftovers

Bench = Callable[[bool], Awaitable[list[Figure]]]

profile_prefix: str | None = None

BENCHES: dict[str, Bench] = {
    "fence": lambda quick: starts.fence(quick=quick),
    "one": lambda quick: starts.starts(quick=quick, many=False),
    "many": lambda quick: starts.starts(quick=quick, one=False),
    "job": lambda quick: jobs.jobs(quick=quick, many=False),
    "jobs": lambda quick: jobs.jobs(quick=quick, one=False),
    "thousand": lambda quick: scale.thousand(quick=quick, profile=profile_prefix),
    "library": lambda quick: library.measure(quick=quick),
    "stack-restart": lambda quick: stacks.stack_restart(quick=quick),
    "fleet": lambda quick: fleet.fleet(quick=quick),
    "whole": lambda quick: whole.whole(quick=quick),
}
PARTS: dict[str, Bench] = {
    f"library-{part}": lambda quick, part=part: library.measure(quick=quick, part=part)  # type: ignore[misc]
    for part in library.PARTS
}
LONG: dict[str, Bench] = {
    "crowd": lambda quick: jobs.crowd(quick=quick),
    "growth": lambda quick: scale.growth(quick=quick),
    "breakdown": lambda quick: breakdown.breakdown(quick=quick),
}


async def measure(names: list[str], quick: bool, figures: list[Figure]) -> int:
    await take_down_leftovers()
    everything = BENCHES | LONG | PARTS
    if {"one", "many"} <= set(names):
        everything |= {"one": lambda quick: starts.starts(quick=quick)}
        names = [name for name in names if name != "many"]
    failed = 0
    for name in names:
        try:
            figures += await everything[name](quick)
        except Exception:
            traceback.print_exc()
            say(f"{name} failed; the others go on")
            failed += 1
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=[*BENCHES, *LONG, *PARTS], help="one bench; repeatable"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and objects: about a minute")
    parser.add_argument(
        "--long", action="store_true", help="growth to 10,000 objects and the steps of a start too"
    )
    parser.add_argument("--json", type=Path, help="default: a new file below .bench")
    parser.add_argument("--profile", metavar="PREFIX", help="cProfile of the operator in `thousand`, slower")
    asked = parser.parse_args()
    global profile_prefix  # noqa: PLW0603
    profile_prefix = asked.profile
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    names = asked.only or [*BENCHES, *(LONG if asked.long else ())]
    figures: list[Figure] = []
    before, at = os.getloadavg(), time.time()
    try:
        code = asyncio.run(measure(names, asked.quick, figures))
    except KeyboardInterrupt:
        say("interrupted")
        code = 130
    after = os.getloadavg()
    show(figures)
    loads = {"before": before, "after": after}
    told = [f"{x:.2f}" for x in (before[0], after[0])]
    print(f"\n{os.cpu_count()} CPUs, load {told[0]} before and {told[1]} after, {time.time() - at:.0f} s")
    target = asked.json or Path(".bench") / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load": loads}
    report = {"quick": asked.quick, "machine": machine, "figures": [one.as_json() for one in figures]}
    target.write_text(json.dumps(report, indent=1) + "\n")
    print(f"stored in {target}")
    return code


if __name__ == "__main__":
    sys.exit(main())
