"""The bytes of a run's configuration file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, assert_never

import tomli_w
import yaml

from mainstay.api.strategyrun import Config, ConfigFormat

SUFFIXES = {
    ConfigFormat.YAML: ".yaml",
    ConfigFormat.JSON: ".json",
    ConfigFormat.TOML: ".toml",
    ConfigFormat.ENV: ".env",
}

DEPTH_MAX = 64

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ConfigInvalidError(ValueError):
    """`values` have no form in the wanted format; the message names the key."""


def render(config: Config) -> bytes:
    """`config.values` in the wanted format, UTF-8, keys in the order given.

    Raises ConfigInvalidError for what the format can't say: null in TOML, nesting in Env.
    """
    _refuse_depth(config.values)
    match config.format:
        case ConfigFormat.YAML:
            text = _yaml(config.values)
        case ConfigFormat.JSON:
            text = json.dumps(config.values, indent=2, ensure_ascii=False) + "\n"
        case ConfigFormat.TOML:
            text = _toml(config.values)
        case ConfigFormat.ENV:
            text = "".join(f"{k}={_env_value(k, v)}\n" for k, v in config.values.items())
        case _:
            assert_never(config.format)
    return text.encode()


def _refuse_depth(value: Any, depth: int = 0) -> None:
    """Refuse what no program would read, and no serializer would write without running out of stack."""
    if depth > DEPTH_MAX:
        raise ConfigInvalidError(f"spec.config.values are nested more than {DEPTH_MAX} levels deep")
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for item in inner:
        _refuse_depth(item, depth + 1)


def _yaml(values: Mapping[str, Any]) -> str:
    """Readable where that is also exact: YAML folds some line breaks of Unicode unless they are escaped."""
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    exact = yaml.safe_load(text) == values
    return text if exact else yaml.safe_dump(values, sort_keys=False, allow_unicode=False)


def _toml(values: Mapping[str, Any]) -> str:
    if path := _null(values, ()):
        raise ConfigInvalidError(f"spec.config.values.{'.'.join(path)} is null, which TOML can't say")
    return tomli_w.dumps(values)


def _null(value: Any, path: tuple[str, ...]) -> tuple[str, ...] | None:
    """The path of the first null, or None."""
    if value is None:
        return path
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    )
    return next((p for k, v in items if (p := _null(v, (*path, str(k))))), None)


def _env_value(key: str, value: Any) -> str:
    """The value as a shell reads it."""
    if not _ENV_NAME.fullmatch(key):
        raise ConfigInvalidError(f"spec.config.values has {key!r}, which is no name of a variable")
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise ConfigInvalidError(f"spec.config.values.{key} is nested, which format Env can't say")
    text = str(value)
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]*", text):
        return text
    if set("\n\r\0") & set(text):
        raise ConfigInvalidError(f"spec.config.values.{key} has a line break or NUL, which Env can't say")
    return "'" + text.replace("'", "'\\''") + "'"
