"""The hook around every effect outside the API: file renames, supervisor calls, signals.

A test installs `before` and `after` to crash at the N-th effect, or to see the order of effects. In
production both are None and cost one comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Hook = Callable[[str], None]

before: Hook | None = None
after: Hook | None = None


@contextmanager
def effect(name: str) -> Iterator[None]:
    """Wrap one effect. What `before` raises prevents it, what `after` raises comes after it."""
    if before is not None:
        before(name)
    yield
    if after is not None:
        after(name)


@contextmanager
def hooked(on_before: Hook | None = None, on_after: Hook | None = None) -> Iterator[None]:
    """Install hooks for the length of a `with` block, in this process."""
    global before, after
    saved = before, after
    before, after = on_before, on_after
    try:
        yield
    finally:
        before, after = saved
