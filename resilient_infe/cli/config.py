"""Reads options from a TOML file, with the same names and checks as on the command line."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError

LONGEST_CONFIG = 16 * 1024
"""Bytes. A file of options is shorter, and the parser's time grows with the square of a key."""


def read_config(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the options in the file named by ``--config``; empty if the option is absent.

    Args:
        arguments: the command line; only ``--config`` is parsed here, because the file's values
            become the defaults of the command's full parser.

    Raises:
        ConfigurationError: the file cannot be read or is not valid TOML.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    path = parser.parse_known_args(arguments)[0].config
    if path is None:
        return {}
    try:
        with Path(path).open("rb") as file:
            content = file.read(LONGEST_CONFIG + 1)
        if len(content) > LONGEST_CONFIG:
            raise ConfigurationError(f"--config {path} is over {LONGEST_CONFIG:,} bytes long")
        parsed = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--config {path}: {error.strerror}") from None
    except ConfigurationError:
        raise
    except RecursionError:
        raise ConfigurationError(f"--config {path} is nested too deeply") from None
    except ValueError as error:
        raise ConfigurationError(f"--config {path} is not valid TOML: {error}") from None
    # Options may stand in a [run] table or at the top level.
    table = parsed.get("run", parsed)
    return table if isinstance(table, dict) else parsed


def apply_config(parser: argparse.ArgumentParser, config: Mapping[str, Any]) -> None:
    """Set the file's values as the parser's defaults.

    Raises:
        ConfigurationError: there is no such option, or its value has the wrong type or is out of
            range.
    """
    # argparse has no public way to list the options.
    actions = {action.dest: action for action in parser._actions}  # noqa: SLF001
    # The file can set neither of these two.
    del actions["help"]
    actions.pop("config", None)
    for name, value in config.items():
        action = actions.get(name.replace("-", "_"))
        if action is None:
            shown = (dest for dest, each in actions.items() if each.help != argparse.SUPPRESS)
            known = ", ".join(sorted(each.replace("_", "-") for each in shown))
            raise ConfigurationError(f"--config: unknown option {name!r}; valid options: {known}")
        parser.set_defaults(**{action.dest: _converted(name, value, action)})
        action.required = False  # the file has a value for it


def _converted(name: str, value: Any, action: argparse.Action) -> Any:
    """Check and convert a value as the command line would.

    There are three cases: a flag takes true or false; an option with a conversion function takes a
    string or a number; any other option takes a string.
    """
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ConfigurationError(f"--config: {name} must be true or false; got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigurationError(f"--config: {name} must be a string or a number; got {value!r}")
    if isinstance(value, str) and "\0" in value:
        raise ConfigurationError(f"--config: {name} contains a NUL character: take it out")
    if action.type is None and not isinstance(value, str):
        raise ConfigurationError(f"--config: {name} must be a string; got {value!r}")
    try:
        convert: Any = action.type or str
        return convert(str(value))
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise ConfigurationError(f"--config: {name}: {error}") from None
