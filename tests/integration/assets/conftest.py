"""One control plane per worker."""

from tests.support.plane import plane

__all__ = ["plane"]
