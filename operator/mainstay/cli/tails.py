"""Ends of log files, and what is added to them; a log is rotated by a copy, and then truncated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from time import sleep as pause
from typing import IO

import typer

POLL_SECONDS = 0.1
CHUNK = 1 << 16


def print_files(streams: list[tuple[Path, IO[bytes]]], tail: int, *, follow: bool) -> None:
    """Print the last lines of each, and with `follow` what is added, until Ctrl-C."""
    positions = [print_tail(path, sink, tail) for path, sink in streams]
    if not follow:
        return
    try:
        while True:
            for index, (path, sink) in enumerate(streams):
                positions[index] = print_new(path, sink, positions[index])
            pause(POLL_SECONDS)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def start_of(path: Path, lines: int) -> int:
    """Position where the last lines of a file begin; 0 where it is missing."""
    try:
        with path.open("rb") as file:
            return 0 if lines < 0 else _start_of_tail(file, os.fstat(file.fileno()).st_size, lines)
    except FileNotFoundError:
        return 0


def print_tail(path: Path, sink: IO[bytes], lines: int) -> int:
    """Print the last lines; the position after them."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = 0 if lines < 0 else _start_of_tail(file, size, lines)
            file.seek(start)
            sink.write(file.read(size - start))
            sink.flush()
            return size
    except FileNotFoundError:
        return 0


def _start_of_tail(file: IO[bytes], size: int, lines: int) -> int:
    """Return where the last `lines` lines begin, reading backwards."""
    found, position = 0, size
    for block_start, block in _blocks_backwards(file, size):
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            position = block_start + at + 1
            if position < size:
                found += 1
            if found >= lines:
                return position
    return 0


def _blocks_backwards(file: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    end = size
    while end > 0:
        start = max(0, end - CHUNK)
        file.seek(start)
        yield start, file.read(end - start)
        end = start


def print_new(path: Path, sink: IO[bytes], position: int) -> int:
    """Print what was added since; from the start where the file was rotated under us."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < position:
                position = 0
            if size > position:
                file.seek(position)
                sink.write(file.read(size - position))
                sink.flush()
            return size
    except FileNotFoundError:
        return 0
