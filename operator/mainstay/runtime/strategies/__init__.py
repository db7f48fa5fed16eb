"""Strategies on this host: directories that are watched, files that are checked, contents that are kept."""

from mainstay.runtime.strategies.shelf import Shelf

__all__ = ["Shelf"]
