"""Get the control plane and promtool before the tests start, so that a first build shows its progress and no test waits."""

from __future__ import annotations

import sys

from tests.support import promtool

from mainstay.controlplane.binaries import obtain
from mainstay.controlplane.rungs.base import RungFailedError


def main() -> None:
    binaries = obtain(report=_tell)
    _tell(f"control plane {binaries.version} from {binaries.rung}")
    try:
        _tell(f"promtool at {promtool.obtain(_tell)}")
    except (promtool.NoPromtoolError, RungFailedError, OSError) as error:
        _tell(f"no promtool, so tests of alerts and dashboard will fail: {error}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
