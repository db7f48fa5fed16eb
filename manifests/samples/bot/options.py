"""What the bot is given: options (argparse would take 5 ms to start), a configuration file and a strategy file."""

from __future__ import annotations

import json
import os
import sys
import types

# option: (type, environment variable that Mainstay sets, default, what it is)
OPTIONS = {
    "--control-api-port": (int, "CONTROL_API_PORT", "0", "port on 127.0.0.1; 0 takes a free one"),
    "--config": (str, "CONFIG_PATH", None, "JSON file: interval, quantity, takeProfit, params"),
    "--strategy": (str, "STRATEGY_PATH", None, "Python file"),
    "--data-dir": (str, "DATA_DIR", ".", "where position.json is kept"),
    "--exchange": (str, None, None, "http://HOST:PORT; without it, trades on paper"),
    "--interval": (float, None, None, "seconds per candle, 0 for no wait; default: the config's, or 1"),
    "--until": (int, None, None, "stop at this candle, as if told to"),
}


def arguments(argv: list[str]) -> dict:
    """Options by name without dashes. Raises ValueError, with the usage."""
    usage = "options:\n" + "\n".join(f"  {name:20} {option[3]}" for name, option in OPTIONS.items())
    given = {
        name: os.environ.get(variable or "", default) for name, (_, variable, default, _) in OPTIONS.items()
    }
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in OPTIONS:
            raise ValueError(f"unknown option {word}\n{usage}")
        given[name] = value if equals else next(words, None)
        if given[name] is None:
            raise ValueError(f"{name} needs a value\n{usage}")
    if not given["--strategy"]:
        raise ValueError(f"--strategy FILE is needed\n{usage}")
    options = {}
    for name, (kind, *_) in OPTIONS.items():
        try:
            options[name[2:]] = None if given[name] is None else kind(given[name])
        except ValueError as error:
            raise ValueError(f"{name} {given[name]}: not a number") from error
    return options


def load_config(path: str | None) -> dict:
    """The JSON object in a file. Raises ValueError, or OSError."""
    if not path:
        return {}
    with open(path, encoding="utf-8") as file:
        try:
            config = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected an object, {{...}}")  # noqa: TRY004 (one kind for all user errors)
    return config


def load_strategy(path: str, params: dict) -> object:
    """Create the strategy in a file: the class that is named as the file. Raises ValueError.

    `params` holds keyword arguments per strategy name, so that a bot that falls back to another strategy is not
    given the first one's. The source is compiled each time: Python's own cache tells an edit by size and
    whole seconds, and would run the old code after a quick change of one digit.
    """
    name = os.path.splitext(os.path.basename(path))[0]
    module = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    try:
        with open(path, encoding="utf-8") as file:
            exec(compile(file.read(), path, "exec"), module.__dict__)  # noqa: S102
        return getattr(module, name)(**params.get(name, {}))
    except Exception as error:  # whatever a strategy's author may have written
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"can't load strategy {path}{where}: {type(error).__name__}: {error}") from error
