"""Strategies on this host: directories that are watched, a check that code compiles, and snapshots by hash."""

from mainstay.runtime.base import Shelf as _Shelf
from mainstay.runtime.strategies.shelf import Shelf

__all__ = ["Shelf"]

_implements: type[_Shelf] = Shelf
