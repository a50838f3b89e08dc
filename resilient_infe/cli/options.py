"""The options of ``run``: those of a job, and what the command alone is told."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..batch.files.option import GROUPS, Option, option, options_of
from ..batch.files.options import JobOptions
from ..batch.kinds import count


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(JobOptions):
    """What ``run`` is told. The text of each option says what it is."""

    config: str | None = option(
        None, "TOML with any of these options, and limits by model; what the command itself is "
        "given wins", "FILE", group="run",
    )  # fmt: skip
    dry_run: bool = option(
        False, "check every line, estimate calls, tokens and time, and send nothing", group="run"
    )
    quiet: bool = option(False, "show no progress", group="run")
    json_log: bool = option(
        False, "progress, messages and events on stderr, as JSON lines with ts (UTC), level and "
        "event", group="run",
    )  # fmt: skip
    metrics_port: int | None = option(
        None, "show the metrics to Prometheus on this port of 127.0.0.1, like `9464`; needs the "
        "extra `[prometheus]`", "PORT", count, group="run", usual="none",
    )  # fmt: skip
    api_key_file: str | None = option(
        None, "a file that has the key; a server on this machine needs none", "FILE",
        group="API", usual="INFE_API_KEY",
    )  # fmt: skip
    tokens_per_row: int | None = option(
        None, "what each row costs, output included, if you know it", "N", count,
        group="limits", usual="estimated",
    )  # fmt: skip
    estimate: str | None = option(
        None, "a function of your own that returns the tokens of a request's body; the module is "
        "looked for in the working directory too", "MODULE:FUNCTION",
        group="limits", usual="estimate_tokens",
    )  # fmt: skip


OPTIONS = options_of(RunOptions)
"""The options of ``run``."""


def options_for(verb: str) -> tuple[Option, ...]:
    """Return the options that a command takes."""
    return tuple(each for each in OPTIONS if verb in each.verbs)


def add_options(
    parser: argparse.ArgumentParser, options: Iterable[Option], config: Mapping[str, Any]
) -> None:
    """Add options to a command's parser.

    Args:
        parser: the parser of the command.
        options: the options.
        config: values by field that replace the defaults and the environment's.
    """
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    for each in options:
        default = config.get(each.field, os.environ.get(each.environment or "") or each.default)
        told: dict[str, Any] = {"default": default, "help": help_of(each)}
        if each.unit is None:
            told["action"] = "store_false" if each.default else "store_true"
        else:
            told |= {"metavar": each.unit, "type": each.kind}
        if each.positional:
            groups[each.group].add_argument(each.field, nargs="?", **told)
        else:
            groups[each.group].add_argument(*each.names, dest=each.field, **told)


def help_of(each: Option) -> str:
    """Return the text of an option for ``--help``."""
    if not each.help:
        return argparse.SUPPRESS
    usual = f" (default {each.shown_default})" if each.shown_default and each.unit else ""
    variable = f"; else that of {each.environment}" if each.environment else ""
    return f"{each.help}{variable}{usual}".replace("`", "").replace("%", "%%")
