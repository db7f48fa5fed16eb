"""Getting files over HTTP: quick to give up where there is no network, resumable where there is a poor one."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONNECT_SECONDS = 3.0
SMALL_SECONDS = 10.0
"""For all of a small file, name resolution included, which has no timeout of its own."""
STALL_SECONDS = 20.0
SMALL_BYTES = 8 * 1024**2
LARGEST_BYTES = 2 * 1024**3
ATTEMPTS_WITHOUT_PROGRESS = 3
REPORT_SECONDS = 2.0

_CHUNK = 256 * 1024
_ERRORS = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)


class DownloadError(Exception):
    """The file can't be had now; the message says why."""


def small(url: str) -> bytes:
    """Return a file of at most 8 MiB, or raise DownloadError within ten seconds."""
    result: list[bytes | BaseException] = []

    def get() -> None:
        try:
            with _open(url, {}, CONNECT_SECONDS) as response:
                result.append(response.read(SMALL_BYTES + 1))
        except (DownloadError, *_ERRORS) as error:
            result.append(error)

    thread = threading.Thread(target=get, daemon=True, name="download")
    thread.start()
    thread.join(SMALL_SECONDS)
    match result:
        case [bytes(content)] if len(content) <= SMALL_BYTES:
            return content
        case [bytes()]:
            raise DownloadError(f"{url}: larger than {SMALL_BYTES} bytes")
        case [DownloadError() as error]:
            raise error
        case [BaseException() as error]:
            raise DownloadError(f"{url}: {_reason(error)}")
        case _:
            raise DownloadError(f"{url}: no answer within {SMALL_SECONDS:g} s")


def resumable(url: str, sha512: str, directory: Path, report: Callable[[str], None]) -> Path:
    """Download into `directory`, going on where an earlier call stopped; return the verified file.

    A file whose sum differs is deleted, never returned.
    """
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f"{sha512[:32]}.part"
    attempts = 0
    while attempts < ATTEMPTS_WITHOUT_PROGRESS:
        before = _size(part)
        try:
            complete = _fetch(url, part, report)
        except _ERRORS as error:
            complete, reason = False, _reason(error)
        else:
            reason = "the connection ended too early"
        if complete:
            return _verified(url, part, sha512)
        attempts = 0 if _size(part) > before else attempts + 1
        if attempts < ATTEMPTS_WITHOUT_PROGRESS:
            report(f"{reason}; going on at {_size(part) / 1e6:.0f} MB")
            time.sleep(0.2 * attempts)
    raise DownloadError(f"{url}: {reason}; the next try goes on at {_size(part) / 1e6:.0f} MB")


def _fetch(url: str, part: Path, report: Callable[[str], None]) -> bool:
    """Append what is missing; True once everything that the server announced is there."""
    offset = _size(part)
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    try:
        response = _open(url, headers, STALL_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            return True  # nothing is missing; the sum will tell
        if error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise DownloadError(f"{url}: HTTP {error.code}") from error
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            offset = 0  # the server sends it from the start
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            raise ValueError("the server answered another range than the one asked for")
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length is not None else None
        if (total or 0) > LARGEST_BYTES:
            raise DownloadError(f"{url}: {total} bytes is more than any release has")
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            received = _copy(response, file, offset, total, report)
        return total is None or received == total


def _copy(response: Any, file: Any, received: int, total: int | None, report: Callable[[str], None]) -> int:
    told = time.monotonic()
    while chunk := response.read(_CHUNK):
        file.write(chunk)
        received += len(chunk)
        if received > LARGEST_BYTES:
            raise DownloadError("the server sends more than any release has")
        if time.monotonic() - told >= REPORT_SECONDS:
            told = time.monotonic()
            of = f" of {total / 1e6:.0f}" if total else ""
            report(f"  {received / 1e6:.0f}{of} MB")
    return received


def _verified(url: str, part: Path, sha512: str) -> Path:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").hexdigest()
    if found != sha512:
        part.unlink()
        raise DownloadError(
            f"{url}: its SHA-512 is {found[:16]}…, the index says {sha512[:16]}…; thrown away, not installed"
        )
    return part


def _open(url: str, headers: dict[str, str], timeout: float) -> Any:
    if urllib.parse.urlsplit(url).scheme not in {"https", "http"}:
        raise DownloadError(f"{url}: only http and https are fetched")
    request = urllib.request.Request(url, headers={"User-Agent": "mainstay", **headers})  # noqa: S310 - checked above
    return urllib.request.urlopen(request, timeout=timeout)  # noqa: S310


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
