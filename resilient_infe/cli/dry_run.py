"""``run --dry-run``: what a run would do, and nothing is sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

from ..adapters.http.masking import printable
from ..batch.files.check import CheckResult, check_file
from ..batch.files.input import Input
from ..batch.files.layers import stack_for
from ..batch.files.options import JobOptions, defaults_of, place_of
from ..batch.monitor import counted
from ..batch.progress import NO_LIMIT, short, span
from ..batch.store import Entry, Journal
from ..core.by_model import value_for
from ..rate.estimate import estimate_tokens
from .limits import notes_on_limits
from .telling import bad_lines

DAY = 86_400.0

NO_END = 1e9
"""Periods of a limit at most: more need not be told apart, and can be infinitely many."""


def dry_run(options: JobOptions) -> int:
    """Look at every line and print what it comes to; returns the exit code."""
    find: Callable[[str], Entry | None] = _nothing
    kept, given = None, Input(options.input)
    if Path(options.journal).exists():
        kept = Journal(options.journal, {"base_url": place_of(options.base_url)})
        find = kept.find
    try:
        with given.read() as file:
            found = check_file(
                file,
                options.input,
                defaults_of(options),
                find,
                retry_failed=options.retry_failed,
                count=options.count,
                estimate=True,
            )
    finally:
        given.close()
        if kept is not None:
            kept.close()
    print("\n".join(forecast(found, options)))
    return 1 if found.bad and not options.skip_bad else 0


def _nothing(_: str) -> None:
    return None


def forecast(found: CheckResult, options: JobOptions) -> list[str]:
    """Return what a run would do, line by line."""
    lines = [f"{options.input}: {counted(found.rows, 'request')}, {counted(found.bad, 'bad line')}"]
    lines += bad_lines(found, options.input)
    if not found.rows:
        return lines
    lines += [
        f"  {printable(model)}: {number:,} to send" for model, number in found.models.most_common()
    ]
    if found.pending < found.rows:
        lines.append(f"  {found.rows - found.pending:,} are done already, by {options.journal}")
    calls = found.pending if options.limit is None else min(found.pending, options.limit)
    tokens = found.tokens * calls / max(1, found.pending)
    built_in = options.count is estimate_tokens
    how = "characters / 4, and the output that is asked for" if built_in else "by your own count"
    lines.append(f"to send: {counted(calls, 'call')}, about {short(tokens)} tokens ({how})")
    if found.unknown:
        lines.append(f"  {found.unknown:,} of them could not be estimated, and count 0 tokens here")
    lines += notes_on_limits(options, found.models)
    if options.stack is not None:
        lines += str(stack_for(options)).splitlines()
    elif calls:
        lines += _duration(found, options, calls, tokens)
    lines.append("nothing was sent")
    return lines


def _duration(found: CheckResult, options: JobOptions, calls: int, tokens: float) -> list[str]:
    """Return how long it takes at least, and how often a limit of a day stops it."""
    parts = list(_parts(found, options, calls, tokens))
    pauses = max((math.ceil(part) - 1 for name, part in parts if name.endswith("_day")), default=0)
    minutes = [60.0 * part for name, part in parts if name.endswith("_minute")]
    if minutes:
        least = span(max(*minutes, DAY * pauses)) if pauses else span(max(minutes))
        lines = [f"at these limits it takes at least {least}"]
        if not max(minutes) and not pauses:
            lines = ["no limit is declared: it takes as long as the server does"]
    else:
        most = max(found.models.values(), default=0) / max(1, found.pending)
        at_600 = span(max(60.0 * calls * most / 600.0, DAY * pauses))
        lines = [f"the limit is learned; at 600 requests a minute it would take {at_600}"]
    if pauses:
        times = counted(pauses, "time")
        lines.append(f"it pauses {times} at the limit of a day: run the same command again then")
    if any("put_tokens" in name for name, _ in parts):
        lines.append("limits of the input or the output alone are not in this estimate")
    return lines


def _parts(
    found: CheckResult, options: JobOptions, calls: int, tokens: float
) -> Iterator[tuple[str, float]]:
    """Yield each declared limit, and how many of its periods the rows take.

    All rows count as equally large. What share of the tokens is input is not known: such a limit
    counts 0, and so does "none".
    """
    shares = {model: number / max(1, found.pending) for model, number in found.models.items()}
    for name, limit in options.rates.items():
        total = 0.0 if "put_tokens" in name else tokens if "tokens" in name else calls
        own = [(value_for(limit, model), share) for model, share in shares.items()]
        for value, share in [*own, ((options.account or {}).get(name), 1.0)]:
            if value is not None:
                part = value / options.processes
                parts = total * share / part if part < NO_LIMIT else 0.0
                yield name, min(parts, NO_END)
