"""Names of strategies as people write them, and names of their objects."""

from __future__ import annotations

import hashlib
import re

from mainstay.api.meta import NAME_MAX

STRATEGY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""EmaRsiStrategy, ema_rsi, ema-rsi. ASCII alone: two names that look the same are the same."""
NAME_RULE = "names of strategies are letters, digits, _ and -, at most 100, and begin with a letter or digit"

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+")


def split(file: str) -> tuple[str, str]:
    """(name, suffix) of a file: `EmaRsi.py` is EmaRsi and `.py`."""
    stem, dot, suffix = file.rpartition(".")
    return (stem, dot + suffix) if stem else (file, "")


def hidden(file: str) -> bool:
    """Whether the file is nobody's strategy: dot files, editors' copies, and `_` for what others import."""
    return file.startswith((".", "_", "#")) or file.endswith(("~", ".tmp", ".swp", ".part"))


def object_name(library: str, name: str) -> str:
    """`main.ema-rsi-strategy`, at most NAME_MAX characters. Two names may come to the same object name."""
    words = re.sub(r"-+", "-", _WORDS.sub("-", name)).strip("-").lower()
    whole = f"{library}.{words}"
    if len(whole) <= NAME_MAX:
        return whole
    digest = hashlib.sha256(f"{library}/{name}".encode()).hexdigest()[:8]
    return f"{whole[: NAME_MAX - 9].rstrip('-.')}-{digest}"
