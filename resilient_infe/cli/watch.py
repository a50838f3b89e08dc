"""``status --watch``: how a run goes that another terminal has started, until it ends.

It reads the journal, where the run writes how it goes once a second. So it needs no connection to
the run, and a run whose machine has hung is seen as such.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..adapters.http.masking import printable
from ..aio import wall_time
from ..batch.monitor import counted
from ..batch.progress import (
    NO_LIMIT,
    limits_in_words,
    pace_in_words,
    short,
    span,
    spent_in_words,
    took,
)
from ..batch.sample import ACCOUNT
from ..batch.spending import total_of
from ..batch.steered import is_paused
from ..batch.store import Recorded, is_in_use
from ..batch.store.recorded import reading
from ..batch.store.schema import is_empty
from ..batch.store.summary import live_in
from ..errors import JournalError

EVERY = 1.0
"""Seconds between two looks at the journal."""

SILENT = 10.0
"""Seconds without a word of the run after which that is said."""

WIDTH = 80
"""Columns of a line; what is longer is cut."""

PERIODS = {1.0: "s", 60.0: "min", 3_600.0: "h", 86_400.0: "day"}
"""How usual periods of a limit are called."""


def watch(path: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show how a run goes, on stdout, until it ends.

    Args:
        path: of the journal.
        sleep: waits so many seconds.

    Raises:
        JournalError: it cannot be read.
    """
    with _screen() as draw:
        while True:
            running = is_in_use(path)
            lines = view(path)
            if not running:
                return
            draw("\n".join(lines))
            sleep(EVERY)


def view(path: str) -> list[str]:
    """Return what is shown of a run: lines of 80 columns at most.

    Raises:
        JournalError: it cannot be read.
    """
    try:
        with reading(path) as db:
            if is_empty(db):
                return [f"{path}: the run begins"]
            recorded, live, paused = Recorded.read(db, Path(path)), live_in(db), is_paused(db)
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from None
    lines = [*_rows_of(recorded, live or {}), *(_live_lines(live) if live else ())]
    if paused:
        lines.append("paused    no new row is sent until `resilient-infe ctl ... --resume`")
    return [
        line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in map(printable, lines)
    ]


def _rows_of(recorded: Recorded, live: dict[str, Any]) -> Iterator[str]:
    rows, ended = recorded.about.get("rows"), recorded.done + recorded.failed
    of = f" of {rows:,} ({ended * 100 // rows}%)" if rows else ""
    yield f"rows      {ended:,}{of}, {recorded.failed:,} failed"
    if live:
        yield f"this run  {pace_in_words(live['ok'] + live['failed'], live['seconds'])}"
    kinds = [f"{n:,} {kind}" for kind, n in recorded.kinds.most_common() if kind != "ok" and n]
    if kinds:
        yield f"failed    {', '.join(kinds)}"
    spent = spent_in_words(total_of(recorded.spent.values()))
    if spent is not None:
        yield f"spent     {spent}"


def _live_lines(live: dict[str, Any]) -> Iterator[str]:
    if "in_flight" in live:
        yield f"sending   {live['in_flight']:,} in flight, {live['waiting']:,} in the queue"
    if "retries" in live:
        retries = counted(live["retries"], "retry", "retries")
        yield f"retries   {retries}, {counted(live['rejected'], '429')}"
    limits = list(live.get("limits", {}).items())
    for name, limit in limits:
        yield from _model(live, name, limit, several=len(limits) > 1)
    more = live.get("models", 0) - len(limits)
    if more > 0:
        yield f"          and {counted(more, 'more model')}"
    account = live.get("account")
    if account is not None:
        yield f"account   {_limit(account)}"
        yield from _used(live, ACCOUNT)
    if live.get("waits"):
        yield f"waits     {live['waits']}"
    for reason in live.get("reasons", ()):
        yield f"again     {reason}"
    silent = wall_time() - live["at"]
    if silent > SILENT:
        yield f"silent    the run has not said how it goes for {span(silent)}"


def _model(live: dict[str, Any], name: str, limit: Any, *, several: bool) -> Iterator[str]:
    if several or name:
        yield f"model     {printable(name) or 'none named'}"
    yield f"limit     {_limit(limit)}"
    yield from _used(live, name)
    slots = live.get("slots", {})
    held = slots.get(name) or (next(iter(slots.values())) if len(slots) == 1 else None)
    circuits = live.get("circuits", {})
    circuit = circuits.get(name) or (circuits.get("") or "closed")
    shown = f"{held[0]:,} of {held[1]:,} in use, " if held else ""
    yield f"slots     {shown}circuit {circuit.replace('_', '-')}"


def _limit(limit: dict[str, float | None]) -> str:
    known = {f"{name}_per_minute": value for name, value in limit.items() if value is not None}
    return limits_in_words(known) if known else "none is known yet"


def _used(live: dict[str, Any], name: str) -> Iterator[str]:
    windows = live.get("used", {}).get(name, ())
    used = [
        f"{short(spent)} of {short(limit)} {dimension.replace('_', ' ')}/"
        f"{PERIODS.get(period) or took(period)}"
        for dimension, period, spent, limit in windows
        if spent is not None and limit is not None and limit < NO_LIMIT
    ]
    if used:
        yield f"used      {', '.join(used)}"


@contextlib.contextmanager
def _screen() -> Iterator[Callable[[str], None]]:
    """Yield what draws a text in place of the last one: with rich, on a terminal."""
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        yield lambda text: print(text, end="\n\n", flush=True)
        return
    from rich.live import Live  # an optional package
    from rich.text import Text

    with Live(transient=True, auto_refresh=False) as live:
        yield lambda text: live.update(Text(text), refresh=True)
