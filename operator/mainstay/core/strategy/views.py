"""What is seen of strategies at their source, before anything is decided."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self


def content_hash(data: bytes) -> str:
    """`sha256:<64 hex digits>`: what a content is called everywhere."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """A directory to be watched, and what of it counts."""

    path: str  # absolute
    include: tuple[str, ...] = ("*.py",)  # shell patterns of file names
    max_bytes: int = 262144
    debounce_seconds: float = 0.5
    rescan_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class FileView:
    """One strategy as it was read."""

    name: str  # EmaRsiStrategy
    file: str  # EmaRsiStrategy.py
    hash: str  # sha256:<64 hex digits>
    md5: str  # 32 hex digits
    size: int  # bytes
    modified_at: float | None = None  # wall clock, seconds since the epoch; None where the source doesn't say
    config_map: str = ""  # the ConfigMap that has it under the key `file`; empty for files

    @classmethod
    def of(
        cls, name: str, file: str, data: bytes, *, modified_at: float | None = None, config_map: str = ""
    ) -> Self:
        """What these bytes are seen as."""
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return cls(name, file, content_hash(data), md5, len(data), modified_at, config_map)


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that can't be offered, and why."""

    file: str
    reason: str
    message: str
    name: str = ""  # of the strategy that it would be, if it could be read; nobody else takes that name


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything a source had when it was last looked at.

    With `error` (reason, message) nothing is known of it: what was known before still counts.
    """

    files: Mapping[str, FileView] = field(default_factory=dict)  # by name
    problems: tuple[FileProblem, ...] = ()  # ascending by file
    error: tuple[str, str] | None = None
    watched: bool = True  # changes are told at once; else they are found by looking now and then

    def has(self, name: str) -> bool:
        """Whether that strategy is there, readable or not."""
        return name in self.files or name in self.withheld

    @property
    def withheld(self) -> Mapping[str, FileProblem]:
        """What is there and can't be read, by name: a bad edit, no deletion."""
        return {problem.name: problem for problem in self.problems if problem.name}
