"""Reads options from a TOML file, with the same names and checks as on the command line."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..batch.files.option import Option
from ..batch.files.options import RATES
from ..core.by_model import OTHERS
from ..core.ids import safe_name
from ..errors import ConfigurationError

TABLES = ("run", "limits", "account", "stack")
"""The tables that a file may have."""

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
    # Options may stand in a [run] table or at the top level; tables of limits at either place.
    table = parsed.pop("run", {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"--config: run is a table: [run]; got {table!r}")
    stray = [name for name in parsed if table and (name not in TABLES or name in table)]
    if stray:
        raise ConfigurationError(f"--config: {stray[0]} stands outside of [run]: move it there")
    return {**parsed, **table}


def values_in(config: Mapping[str, Any], options: Iterable[Option]) -> dict[str, Any]:
    """Return the values in a file by the field of their option, and its tables of limits.

    Args:
        config: what the file has.
        options: those that the command takes.

    Raises:
        ConfigurationError: there is no such option, or its value has the wrong type or is out of
            range.
    """
    options = [each for each in options if each.field != "config"]  # a file names no other
    known = {name: each for each in options for name in each.in_tables}
    given = dict(config)
    limits = _limits(given.pop("limits", None), options)
    values = {"account": _account(given.pop("account", None), options)}
    stack = values["stack"] = given.pop("stack", None)
    if stack is not None and not isinstance(stack, dict):
        raise ConfigurationError(f"--config: stack is a table: [stack]; got {stack!r}")
    if stack is not None and (limits or values["account"] is not None):
        raise ConfigurationError(
            "--config: [stack] names all layers: put what [limits] and [account] say into it"
        )
    for name, value in given.items():
        found = known.get(name.replace("_", "-"))
        if found is None or isinstance(value, dict):
            raise ConfigurationError(f"--config: {_unknown(name, value, options)}")
        if found.field in values:
            raise ConfigurationError(f"--config: {found.name} is there twice")
        values[found.field] = _converted(name, value, found)
    for field, value in limits.pop(OTHERS, {}).items():  # the same as outside of [limits]
        if field in values:
            raise ConfigurationError(f"--config: [limits.'*'] repeats {field.replace('_', '-')}")
        values[field] = value
    return values | {"limits": limits}


def _unknown(name: str, value: Any, options: Iterable[Option]) -> str:
    """Return what is wrong with a name that is none, and what it may be meant to be."""
    known = sorted(each.name for each in options if each.help)
    if isinstance(value, dict):
        near = get_close_matches(name, TABLES, 1)
        hint = f"do you mean [{near[0]}]?" if near else f"it may be {' or '.join(TABLES)}"
        return f"there is no table [{safe_name(name)}]; {hint}"
    near = get_close_matches(name.replace("_", "-"), known, 1)
    hint = f"do you mean {near[0]}? " if near else ""
    return f"unknown option {name!r}; {hint}valid options: {', '.join(known)}"


def _converted(name: str, value: Any, option: Option) -> Any:
    """Check and convert a value as the command line would.

    There are three cases: a flag takes true or false; an option with a conversion function takes a
    string or a number; any other option takes a string.
    """
    if option.unit is None:
        if not isinstance(value, bool):
            raise ConfigurationError(f"--config: {name} must be true or false; got {value!r}")
        return value is not option.default
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigurationError(f"--config: {name} must be a string or a number; got {value!r}")
    if isinstance(value, str) and "\0" in value:
        raise ConfigurationError(f"--config: {name} contains a NUL character: take it out")
    if option.kind is None and not isinstance(value, str):
        raise ConfigurationError(f"--config: {name} must be a string; got {value!r}")
    try:
        return (option.kind or str)(str(value))
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise ConfigurationError(f"--config: {name}: {error}") from None


def _limits(tables: Any, options: Iterable[Option]) -> dict[str, dict[str, Any]]:
    """Return the options of each model in ``[limits]``, by the model's name.

    Args:
        tables: what the file has there; None if it has nothing.
        options: those that the command takes.

    Raises:
        ConfigurationError: it is no table of tables, or has an option that is no limit.
    """
    if tables is None:
        return {}
    if not isinstance(tables, dict):
        raise ConfigurationError("--config: limits is a table for each model: [limits.infe-titan]")
    found: dict[str, dict[str, Any]] = {}
    for model, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigurationError(
                f"--config: limits.{safe_name(model)} is not a table: name a model, as in "
                f"[limits.infe-titan], and put {safe_name(model)} below it; what is for every "
                f"other model stands outside of [limits]"
            )
        name = model if model == OTHERS else safe_name(model)
        if not name or name in found:
            raise ConfigurationError(f"--config: limits names {name!r} twice, or names nothing")
        found[name] = _options_of(f"limits.{name}", table, options)
    return found


def _account(table: Any, options: Iterable[Option]) -> dict[str, Any] | None:
    """Return the limits in ``[account]`` by name; None if there are none.

    Raises:
        ConfigurationError: it is no table, or has an option that is no limit.
    """
    if table is None:
        return None
    if not isinstance(table, dict):
        raise ConfigurationError("--config: account is a table: [account]")
    if not table:
        raise ConfigurationError("--config: account names no limit, like requests-per-minute = 600")
    return _options_of("account", table, [each for each in options if each in RATES])


def _options_of(where: str, table: Mapping[str, Any], options: Iterable[Option]) -> dict[str, Any]:
    known = {name: each for each in options if each.by_model for name in each.in_tables}
    found: dict[str, Any] = {}
    for given, value in table.items():
        name = given.replace("_", "-")
        if isinstance(value, dict):
            raise ConfigurationError(
                f"--config: [{where}.{safe_name(given)}] is a table in a table: a name with a dot "
                f'needs quotes, as in [limits."gpt-4.1"]'
            )
        if name not in known:
            full = list(dict.fromkeys(each.name for each in known.values()))
            near = get_close_matches(name, full, 1)
            hint = f"do you mean {near[0]}?" if near else f"it may have {', '.join(full)}"
            raise ConfigurationError(f"--config: [{where}] has no option {given!r}: {hint}")
        option = known[name]
        if option.field in found:
            raise ConfigurationError(f"--config: [{where}] has {option.name} twice")
        found[option.field] = _converted(f"{where}.{safe_name(given)}", value, option)
    return found
