"""Names from a file system, which may hold anything but NUL and a slash, made fit for a status."""

from __future__ import annotations


def shown(text: str, longest: int = 253) -> str:
    """Printable, at most `longest` characters: what isn't printable is escaped as Python would."""
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: longest + 1])
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def quoted(text: str, longest: int = 120) -> str:
    """As repr shows it, at most `longest` characters."""
    shortened = ascii(text) if not text.isprintable() else repr(text)
    return shortened if len(shortened) <= longest else shortened[: longest - 1] + "…"
