"""Reads options from a TOML file, with the same names and checks as on the command line."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..core.by_model import OTHERS
from ..core.ids import safe_name
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
    # Options may stand in a [run] table or at the top level; tables of limits at either place.
    table = parsed.get("run", parsed)
    if not isinstance(table, dict):
        return parsed
    outside = {name: parsed[name] for name in ("limits", "account") if name in parsed}
    return {**outside, **table}


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
    short = {name[2:]: each for each in actions.values() for name in each.option_strings[1:]}
    options = dict(config)
    limited = actions | {name: each for name, each in short.items() if _is_limit(each.dest)}
    limits = _limits(options.pop("limits", None), limited)
    account = _account(options.pop("account", None), limited)
    outside = {short[each].dest if each in short else each.replace("-", "_") for each in options}
    for name, value in limits.pop(OTHERS, {}).items():  # the same as outside of [limits]
        if name in outside:
            raise ConfigurationError(f"--config: [limits.'*'] repeats {name.replace('_', '-')}")
        parser.set_defaults(**{name: value})
    parser.set_defaults(limits=limits, account=account)
    for name, value in options.items():
        action = actions.get(name.replace("-", "_")) or short.get(name)
        if action is None:
            shown = (dest for dest, each in actions.items() if each.help != argparse.SUPPRESS)
            known = sorted(each.replace("_", "-") for each in shown)
            near = get_close_matches(name.replace("_", "-"), known, 1)
            hint = f"do you mean {near[0]}? " if near else ""
            raise ConfigurationError(
                f"--config: unknown option {name!r}; {hint}valid options: {', '.join(known)}"
            )
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


def _limits(tables: Any, actions: Mapping[str, argparse.Action]) -> dict[str, dict[str, Any]]:
    """Return the options of each model in ``[limits]``, by the model's name.

    Args:
        tables: what the file has there; None if it has nothing.
        actions: the options of the command, by name.

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
        found[name] = _options_of(f"limits.{name}", table, actions)
    return found


def _account(table: Any, actions: Mapping[str, argparse.Action]) -> dict[str, Any] | None:
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
    rates = {name: action for name, action in actions.items() if name != "concurrency"}
    return _options_of("account", table, rates)


def _options_of(
    where: str,
    table: Mapping[str, Any],
    actions: Mapping[str, argparse.Action],
) -> dict[str, Any]:
    known = {name: each for name, each in actions.items() if _is_limit(each.dest)}
    found: dict[str, Any] = {}
    for given, value in table.items():
        name = given.replace("-", "_")
        if isinstance(value, dict):
            raise ConfigurationError(
                f"--config: [{where}.{safe_name(given)}] is a table in a table: a name with a dot "
                f'needs quotes, as in [limits."gpt-4.1"]'
            )
        if name not in known:
            full = [each for each in known if _is_limit(each)]
            near = get_close_matches(name, full, 1)
            shown = [each.replace("_", "-") for each in near or full]
            hint = f"do you mean {shown[0]}?" if near else f"it may have {', '.join(shown)}"
            raise ConfigurationError(f"--config: [{where}] has no option {given!r}: {hint}")
        dest = known[name].dest
        if dest in found:
            raise ConfigurationError(f"--config: [{where}] has {dest.replace('_', '-')} twice")
        found[dest] = _converted(f"{where}.{safe_name(given)}", value, known[name])
    return found


def _is_limit(name: str) -> bool:
    """Whether an option is a limit, which may differ by model."""
    return name == "concurrency" or name.endswith(("_per_minute", "_per_day"))
