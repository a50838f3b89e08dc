"""``ctl``: change a run while it goes on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..adapters.http.masking import printable
from ..batch.control import ask
from ..batch.files.option import Option
from ..batch.files.options import OPTIONS
from ..batch.progress import NO_LIMIT
from ..batch.steered import change_in_words
from ..core.verdict import DAY, MINUTE
from ..errors import BatchError, ConfigurationError
from .options import help_of
from .status import journal_at

RATE = "per model: a number, one with its period like `10/s` or `36000/h`, or `none` for no limit"
"""What is said of the first limit; ``run`` can learn one, too."""

LIMITS = tuple(
    replace(each, usual="as it is", help=RATE if each.field == "requests_per_minute" else each.help)
    for each in OPTIONS
    if each.by_model
)
"""The options of ``run`` that can be changed while it goes on."""

ACTIONS = {
    "pause": "send no row from now on; what is being sent comes to its end",
    "resume": "send again, after --pause",
    "drain": "end the run once what is being sent has come to its end; run it again to go on",
}

DESCRIPTION = """\
Changes a run that goes on, within a second and without losing a row. Without options it prints what
is set. What is changed is recorded in the journal and shown by `status` and `report`. The next run
begins with its own options again."""


def add_ctl(parser: argparse.ArgumentParser, _: Sequence[str]) -> None:
    """Add the options of ``ctl``."""
    parser.set_defaults(run=_ctl)
    parser.description = DESCRIPTION
    parser.add_argument("journal", metavar="JOURNAL", help="or the output that it belongs to")
    limits = parser.add_argument_group("limits")
    for each in LIMITS:
        limits.add_argument(*each.names, dest=each.field, metavar=each.unit, type=_kind(each),
            help=help_of(each))  # fmt: skip
    limits.add_argument("--model", metavar="ID", help="whose limits these are (default all)")
    limits.add_argument("--account", action="store_true", help="those over all models")
    group = parser.add_argument_group("the run").add_mutually_exclusive_group()
    for name, told in ACTIONS.items():
        group.add_argument(f"--{name}", dest="action", action="store_const", const=name, help=told)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _kind(option: Option) -> Callable[[str], Any]:
    def kind(text: str) -> Any:
        assert option.kind is not None
        value = option.kind(text)
        if value is None:
            raise argparse.ArgumentTypeError(
                "a limit that was declared cannot be learned while a run goes on: give a number, "
                "or none"
            )
        return value

    return kind


def _ctl(options: argparse.Namespace) -> int:
    reply = ask(Path(journal_at(options.journal)), order_of(options))
    try:
        shown = json.dumps(reply, indent=2) if options.json else "\n".join(in_lines(reply))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BatchError("the run is of another version of this library: see its status") from None
    print(shown)
    return 0


def order_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the order that a command line gives.

    Raises:
        ConfigurationError: it contradicts itself.
    """
    limits = {each.field: getattr(options, each.field) for each in LIMITS}
    limits = {name: value for name, value in limits.items() if value is not None}
    if (options.account or options.model is not None) and not limits:
        given = "--account" if options.account else "--model"
        raise ConfigurationError(f"{given} without a limit: say which one to change, like --rpm")
    if options.account:
        if options.model is not None or "concurrency" in limits:
            raise ConfigurationError("--account takes limits of the rate, and no --model")
        limits = {"account": limits}
    order = {"limits": limits, "model": options.model, "action": options.action}
    return {name: value for name, value in order.items() if value}


def in_lines(reply: Mapping[str, Any]) -> list[str]:
    """Return a reply in words: what has changed, and what is set."""
    lines = [f"changed: {change_in_words(each)}" for each in reply.get("changes", ())]
    lines.append(f"the run is {reply['state']}")
    models = reply["models"]
    for name, each in models.items():
        shown = f"{name}: " if name else ""
        under_way = f"{each['in_flight']:,} under way, {each['waiting']:,} wait"
        at_once = f", {each['concurrency']:,} at once" if "concurrency" in each else ""
        lines.append(f"{shown}{_limits(each)}{at_once}; {under_way}")
    if not models:
        lines.append("no row was sent yet")
    if reply["account"] is not None:
        lines.append(f"the account: {_limits(reply['account'])}")
    return [printable(line) for line in lines]


def _limits(found: Mapping[str, Any]) -> str:
    told = [_limit(each) for each in found["limits"] if each["limit"] < NO_LIMIT]
    learned = found["learned"]
    if learned is not None:
        told.append(f"{learned['per_minute']:,.0f} {learned['dimension']}/min (learned)")
    if not told:
        return "no limit" if found["limits"] else "a limit to be learned"
    return " and ".join(told)


def _limit(each: Mapping[str, Any]) -> str:
    names = {MINUTE: "min", DAY: "day"}
    period = names.get(each["period"], f"{each['period']:g} s")
    dimension = each["dimension"].replace("_", " ")
    return f"{each['limit']:,.10g} {dimension}/{period}, {each['spent']:,.0f} of it spent"
