"""What is asked of a probe, and what its answer says: read strictly, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from mainstay.api.asset import ACCEPTS_MAX
from mainstay.api.holdings import HOLDINGS_MAX, Holding, Symbol
from mainstay.core.expressions import ExpressionError, extracted

UNITS_MAX = 2**53
_SHOWN = 200
_SYMBOL: TypeAdapter[str] = TypeAdapter(Symbol)


@dataclass(frozen=True, slots=True)
class Question:
    """One probe, resolved: an URL to GET, or a command to run. Values of headers and env may be secrets."""

    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    working_dir: str | None = None
    timeout_seconds: float = 5.0

    @property
    def shown(self) -> str:
        """What is asked, without anything that may be a secret."""
        return repr(self.argv[0]) if self.argv else f"GET {shown(self.url)}"


class ObservationError(Exception):
    """The probe failed, or answered what is no list of holdings: nothing is known, and nothing is released."""


def shown(url: str) -> str:
    """An URL without its user, its password, the values of its query, and its fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an URL that can't be read"
    pairs = [part.partition("=") for part in parts.query.split("&") if part]
    query = "&".join(f"{name}=…" if equals else "…" for name, equals, _ in pairs)
    scheme = f"{parts.scheme}://" if parts.netloc else ""
    plain = f"{scheme}{parts.netloc.rpartition('@')[2]}{parts.path}" + (f"?{query}" if query else "")
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"


def read_holdings(body: Any, path: str | None) -> tuple[Holding, ...]:
    """The holdings that an answer tells of, by symbol; nothing of zero units. Raises ObservationError."""
    found = _at(body, path)
    if isinstance(found, Mapping):
        found = [{"symbol": symbol, "units": units} for symbol, units in found.items()]
    if not isinstance(found, list):
        raise ObservationError(_not_a_list(found, path, "{symbol, units}"))
    totals: dict[str, int] = {}
    for index, item in enumerate(found):
        lacks = [name for name in ("symbol", "units") if not isinstance(item, Mapping) or name not in item]
        if lacks:
            raise ObservationError(f"item {index} is {_kind(item)} without {' and '.join(lacks)}")
        symbol = _symbol(item["symbol"], index)
        totals[symbol] = _units(totals.get(symbol, 0) + _units(item["units"], symbol), symbol)
    held = tuple(Holding(symbol=name, units=units) for name, units in sorted(totals.items()) if units)
    if len(held) > HOLDINGS_MAX:
        raise ObservationError(f"{len(held)} different holdings; an asset has at most {HOLDINGS_MAX}")
    return held


def read_accepts(body: Any, path: str | None) -> tuple[str, ...]:
    """The symbols that an answer lists, sorted. Raises ObservationError."""
    found = _at(body, path)
    if not isinstance(found, list):
        raise ObservationError(_not_a_list(found, path, "symbols"))
    symbols = sorted({_symbol(item, index) for index, item in enumerate(found)})
    if len(symbols) > ACCEPTS_MAX:
        raise ObservationError(f"{len(symbols)} symbols; an asset accepts at most {ACCEPTS_MAX}")
    return tuple(symbols)


def _at(body: Any, path: str | None) -> Any:
    if path is None:
        return body
    try:
        return extracted(path, body)
    except ExpressionError as error:
        raise ObservationError(f"path {path!r}: {error}") from None


def _not_a_list(found: Any, path: str | None, of: str) -> str:
    if path is None:
        return f"it is {_kind(found)}, not a list of {of}; set path to where the list is"
    return f"path {path!r} comes to {_kind(found)}, not a list of {of}"


def _symbol(value: Any, index: int) -> str:
    try:
        return _SYMBOL.validate_python(value, strict=True)
    except ValidationError:
        raise ObservationError(f"item {index} has no usable symbol: {_said(value)}") from None


def _units(value: Any, symbol: str) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    if not whole or not 0 <= value <= UNITS_MAX:
        raise ObservationError(
            f"units of {symbol} are {_said(value)}: a whole number from 0 to 2^53 is needed; "
            "count in a smaller unit, by path"
        )
    return int(value)


def _said(value: Any) -> str:
    """A value in an error: of a list or an object, and of a number that is too long, only what it is."""
    if not isinstance(value, str | int | float) or (isinstance(value, int) and abs(value) > 10**39):
        return _kind(value)
    return repr(value[:40] if isinstance(value, str) else value)


def _kind(value: Any) -> str:
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
