"""What is asked of a probe, and what its answer says: read strictly, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mainstay.api.asset import ACCEPTS_MAX
from mainstay.api.holdings import HOLDINGS_MAX, Holding, Symbol
from mainstay.core.expressions import ExpressionError, extracted

UNITS_MAX = 2**53
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


class ObservationError(Exception):
    """The probe failed, or answered what is no list of holdings: nothing is known, and nothing is released."""


def read_holdings(body: Any, path: str | None) -> tuple[Holding, ...]:
    """The holdings that an answer tells of, by symbol; nothing of zero units. Raises ObservationError."""
    found = _at(body, path)
    if isinstance(found, Mapping):
        found = [{"symbol": symbol, "units": units} for symbol, units in found.items()]
    if not isinstance(found, list):
        raise ObservationError(
            f"it is {_kind(found)}, not a list of {{symbol, units}}; set path to where the list is"
        )
    totals: dict[str, int] = {}
    for index, item in enumerate(found):
        if not isinstance(item, Mapping) or "symbol" not in item or "units" not in item:
            raise ObservationError(f"item {index} is {_kind(item)} without symbol and units")
        symbol = _symbol(item["symbol"], index)
        totals[symbol] = totals.get(symbol, 0) + _units(item["units"], symbol)
    held = tuple(Holding(symbol=name, units=units) for name, units in sorted(totals.items()) if units)
    if len(held) > HOLDINGS_MAX:
        raise ObservationError(f"{len(held)} different holdings; an asset has at most {HOLDINGS_MAX}")
    return held


def read_accepts(body: Any, path: str | None) -> tuple[str, ...]:
    """The symbols that an answer lists, sorted. Raises ObservationError."""
    found = _at(body, path)
    if not isinstance(found, list):
        raise ObservationError(f"it is {_kind(found)}, not a list of symbols; set path to where the list is")
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


def _symbol(value: Any, index: int) -> str:
    try:
        return _SYMBOL.validate_python(value, strict=True)
    except ValidationError:
        raise ObservationError(f"item {index} has no usable symbol: {str(value)[:40]!r}") from None


def _units(value: Any, symbol: str) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    if not whole or not 0 <= value <= UNITS_MAX:
        raise ObservationError(
            f"units of {symbol} are {str(value)[:40]}: a whole number of at least 0 is needed"
        )
    return int(value)


def _kind(value: Any) -> str:
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
