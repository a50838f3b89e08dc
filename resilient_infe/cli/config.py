"""Options from a TOML file: the same names and the same checks as on the command line."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError


def config_in(arguments: Sequence[str]) -> dict[str, Any]:
    """Return what the file says that ``--config`` names; nothing if there is none.

    Raises:
        ConfigurationError: it cannot be read, or is not TOML.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    path = parser.parse_known_args(arguments)[0].config
    if path is None:
        return {}
    try:
        told = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--config {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"--config {path} is not TOML: {error}") from None
    table = told.get("run", told)
    return table if isinstance(table, dict) else told


def apply_config(parser: argparse.ArgumentParser, config: Mapping[str, Any]) -> None:
    """Make the values of a file the defaults of a parser.

    Raises:
        ConfigurationError: there is no such option, or the value does not fit it.
    """
    actions = {action.dest: action for action in parser._actions}  # noqa: SLF001  # no other way
    del actions["help"]
    actions.pop("config", None)
    for name, value in config.items():
        action = actions.get(name.replace("-", "_"))
        if action is None:
            known = ", ".join(sorted(each.replace("_", "-") for each in actions))
            raise ConfigurationError(f"--config: there is no option {name!r}; there are {known}")
        parser.set_defaults(**{action.dest: _converted(name, value, action)})
        action.required = False


def _converted(name: str, value: Any, action: argparse.Action) -> Any:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ConfigurationError(f"--config: {name} is true or false; got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigurationError(f"--config: {name} is a text or a number; got {value!r}")
    if action.type is None and not isinstance(value, str):
        raise ConfigurationError(f"--config: {name} is a text; got {value!r}")
    try:
        convert: Any = action.type or str
        return convert(str(value))
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise ConfigurationError(f"--config: {name}: {error}") from None
