"""`$(NAME)` expansion exactly as Kubernetes does it in command and args.

`$(NAME)` becomes the variable's value, one that is not set stays as it is written, `$$` is an escaped
dollar (so `$$(NAME)` becomes `$(NAME)`), and any other `$` is literal. Values are not expanded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping


def _tokens(text: str) -> Iterator[tuple[str, str | None]]:
    """Split into (literal, None) and (text as written, name) pieces, in order."""
    position = 0
    while position < len(text):
        dollar = text.find("$", position)
        if dollar < 0 or dollar + 1 == len(text):
            yield text[position:], None
            return
        if dollar > position:
            yield text[position:dollar], None
        match text[dollar + 1]:
            case "$":
                yield "$", None
                position = dollar + 2
            case "(" if (end := text.find(")", dollar + 2)) >= 0:
                yield text[dollar : end + 1], text[dollar + 2 : end]
                position = end + 1
            case "(":
                yield "$(", None
                position = dollar + 2
            case other:
                yield "$" + other, None
                position = dollar + 2


def expand(text: str, values: Mapping[str, str]) -> str:
    """`text` with every `$(NAME)` that `values` knows replaced."""
    if "$" not in text:
        return text
    return "".join(piece if name is None else values.get(name, piece) for piece, name in _tokens(text))


def referenced(texts: Iterable[str]) -> frozenset[str]:
    """The names that `expand` would look up in any of these texts."""
    return frozenset(name for text in texts for _, name in _tokens(text) if name is not None)
