"""What is seen of strategies at their source, before anything is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that can't be offered, and why."""

    file: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything a source had when it was last looked at.

    With `error` (reason, message) nothing is known of it: what was known before still counts.
    """

    files: Mapping[str, FileView] = field(default_factory=dict)  # by name
    problems: tuple[FileProblem, ...] = ()  # ascending by file
    error: tuple[str, str] | None = None
    watched: bool = True  # changes are told at once; else they are found by looking now and then
