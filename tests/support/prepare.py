"""Get the control plane before the tests start, so that a first build shows its progress and no test waits."""

from __future__ import annotations

import sys

from mainstay.controlplane.binaries import obtain


def main() -> None:
    binaries = obtain(report=lambda line: print(line, file=sys.stderr, flush=True))
    print(f"control plane {binaries.version} from {binaries.rung}", file=sys.stderr)


if __name__ == "__main__":
    main()
