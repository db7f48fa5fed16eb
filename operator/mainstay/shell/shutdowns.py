"""What is known of earlier shutdowns: the process ends right after it could have told.

A small file in the home keeps how long they took and what they cut off, summed up over the home's life, so that the
next operator's metrics go on counting where the last one's stopped.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from collections import Counter
from pathlib import Path

logger = logging.getLogger(__name__)

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0)
"""Seconds; the last is the limit of a shutdown."""

OPERATIONS = (
    "put_status",
    "set_finalizer",
    "create",
    "delete",
    "delete_object",
    "keep_config_map",
    "patch_state",
    "reconcile",
    "shutdown",
)
"""What can be cut off: the state writes of shell/kube.py, a visit to an object, the shutdown itself."""

WRITES = OPERATIONS[:-2]


class Shutdowns:
    """Counts, kept in a file where one is named."""

    def __init__(self) -> None:
        self.cut: Counter[str] = Counter(dict.fromkeys(OPERATIONS, 0))
        self.counts = [0] * (len(BOUNDS) + 1)  # by bound, the last beyond all of them
        self.seconds = 0.0
        self._file: Path | None = None

    def keep(self, file: Path) -> None:
        """Go on from what the file says, and keep it there. One that can't be read counts as none."""
        self._file = file
        try:
            known = json.loads(file.read_text())
            counts = [int(n) for n in known["counts"]]
            cut = {name: int(known["cut"].get(name, 0)) for name in OPERATIONS}
            seconds, begun = float(known["seconds"]), bool(known["begun"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("%s can't be read, shutdowns are counted anew: %s", file, error)
            return
        if len(counts) != len(self.counts):
            logger.warning("%s has other bounds, shutdowns are counted anew", file)
            return
        self.counts, self.seconds = counts, seconds
        self.cut.update(cut)
        if begun:
            logger.warning("the last shutdown was itself cut off")
            self.cut["shutdown"] += 1
            self._save(begun=False)

    def began(self) -> None:
        """A shutdown begins; a file that still says so later tells that it never ended."""
        self._save(begun=True)

    def ended(self, seconds: float) -> None:
        """It took that long."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        self._save(begun=False)

    def _save(self, *, begun: bool) -> None:
        if self._file is None:
            return
        body = {"begun": begun, "counts": self.counts, "seconds": round(self.seconds, 3), "cut": self.cut}
        fresh = self._file.with_suffix(".tmp")
        try:
            fresh.write_text(json.dumps(body) + "\n")
            fresh.chmod(0o600)
            fresh.rename(self._file)
        except OSError as error:
            logger.warning("%s can't be written: %s", self._file, error)
