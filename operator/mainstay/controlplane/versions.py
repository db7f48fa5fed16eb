"""The one Kubernetes release that the embedded control plane is built and tested with."""

from __future__ import annotations

import re
from dataclasses import dataclass

KUBERNETES = "v1.36.3"
"""Pinned here and in modules/kubernetes/go.mod; a test keeps the two equal."""

OLDEST_MINOR = (1, 30)
"""ValidatingAdmissionPolicy is generally available from here on; older servers are refused."""

_RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?![-\w.])")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A released Kubernetes version; pre-releases are no versions to us."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        """Render as the field writes it: v1.36.3."""
        return f"v{self.major}.{self.minor}.{self.patch}"

    @property
    def release(self) -> tuple[int, int]:
        """What decides which APIs are served."""
        return (self.major, self.minor)


def parse(text: str) -> Version | None:
    """Find the first release in `text` ("Kubernetes v1.36.3"); None if there is none or a pre-release."""
    found = _RELEASE.search(text)
    return Version(*(int(part) for part in found.groups())) if found else None


PINNED = Version(*(int(part) for part in KUBERNETES[1:].split(".")))


def best(candidates: set[Version], wanted: Version = PINNED) -> Version | None:
    """Choose the wanted version, else the newest patch of the same minor; never another minor.

    Another minor serves other APIs, and an older one can't read what a newer one stored.
    """
    if wanted in candidates:
        return wanted
    return max((each for each in candidates if each.release == wanted.release), default=None)
