"""The rows of the gym: each one server, with a name, and what happens to it.

`today` are those that the scoreboard has had from the beginning: calls of no tokens, one process,
steady work. `more` are off that road. Half of all rows are held out, by a hash of their names: what
is tuned on one half is judged on the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .scenarios import Scenario, chosen
from .servers import Outage, Shedding, Waves
from .world import Network, Work

CHAT = Work(tokens=200.0)
"""What a chat body is estimated at: a learner that counts must not take it for the limit."""

QUICK = Network(median=0.3, spread=0.5)
FAR, SIX_SECONDS = Network(median=30.0, spread=0.5), Network(median=6.0, spread=0.8)

LARGEST = ("47,000, bucket of 1 s", "200,000, bucket of 1 s")
"""The rows that `make gym` leaves out."""


def is_held_out(name: str) -> bool:
    """Whether a row is of the half that nothing is tuned on."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 1


def rows() -> list[Scenario]:
    """Return all of them; every name is there once."""
    return [*chosen(), *more()]


def row(name: str, per_minute: float, group: str, **changes: Any) -> Scenario:
    """Return a row with chat bodies, unless it is told otherwise."""
    return Scenario(name, per_minute, group, **{"work": CHAT, **changes})


def more() -> Iterator[Scenario]:
    """Yield the rows off today's road."""
    yield from _outages()
    yield from _small_and_odd()
    yield from _hints()
    yield from _noise()
    yield from _others()
    yield from _tokens()
    yield from _changes()
    yield from _jobs()
    yield from _declared()
    for name, per_minute in zip(LARGEST, (47_000.0, 200_000.0), strict=True):
        yield row(name, per_minute, "largest")


def _outages() -> Iterator[Scenario]:
    for style, burst, name in (
        ("bucket", 1.0, "bucket of 1 s"),
        ("bucket", 20.0, "bucket of 20 s"),
        ("fixed", 1.0, "fixed window"),
        ("sliding", 1.0, "sliding window"),
    ):
        for lasts in (30, 60, 120):
            yield row(f"600, {name}, {lasts} s of 429s", 600, "outage", style=style, burst=burst,
                      outages=(Outage(600.0, 600.0 + lasts),))  # fmt: skip
    yield row("3,000, bucket of 1 s, 60 s of 429s twice", 3_000, "outage", seconds=1_200,
              outages=(Outage(300.0, 360.0), Outage(700.0, 760.0)))  # fmt: skip
    yield row("600, bucket of 1 s, 60 s of 429s with Retry-After 20", 600, "outage",
              outages=(Outage(600.0, 660.0, 20.0),))  # fmt: skip
    yield row("60, fixed window, 90 s of 429s", 60, "outage", style="fixed",
              outages=(Outage(600.0, 690.0),))  # fmt: skip


def _small_and_odd() -> Iterator[Scenario]:
    for units in (5, 9, 13):
        yield row(f"{units} in fixed windows", units, "small", style="fixed", seconds=3_600)
    yield row("10 in sliding windows", 10, "small", style="sliding", seconds=3_600)
    for units in (15, 30, 120):
        yield row(f"{units} a minute, bucket of 1 s, chat", units, "small")
        yield row(f"{units} a minute, sliding window, chat", units, "small", style="sliding")
    yield row("17, tight bucket", 17, "small", burst=0.2)
    yield row("250, tight bucket", 250, "small", burst=0.2)
    yield row("20 a second, fixed windows of 1 s", 1_200, "period", style="fixed", period=1.0)
    yield row("20 a second, sliding windows of 1 s", 1_200, "period", style="sliding", period=1.0)
    yield row("100 in fixed windows of 10 s", 600, "period", style="fixed", period=10.0)
    yield row("100 in sliding windows of 10 s", 600, "period", style="sliding", period=10.0)
    yield row("2,000 an hour, fixed window", 2_000 / 60, "period", style="fixed",
              period=3_600.0, seconds=9_000)  # fmt: skip
    yield row("10 a second and 300 a minute", 600, "two", style="sliding", period=1.0,
              second=("sliding", 300.0, 60.0))  # fmt: skip
    yield row("600 a minute and 5,000 in 10 minutes", 600, "two", style="fixed",
              second=("fixed", 5_000.0, 600.0), seconds=3_000)  # fmt: skip
    yield row("900, bucket of 5 s, 30 s answers", 900, "steady", burst=5.0, network=FAR)
    yield row("400, bucket of 3 s, quick", 400, "steady", burst=3.0, network=QUICK)
    yield row("1,500, sliding window, 6 s answers", 1_500, "steady", style="sliding",
              network=SIX_SECONDS)  # fmt: skip
    for name, style in (("bucket of 1 s", "bucket"), ("fixed window", "fixed")):
        yield row(f"600, {name}, 429s that take 3 s", 600, "slow 429s", style=style,
                  network=Network(refusal=3.0))  # fmt: skip


def _hints() -> Iterator[Scenario]:
    for hint in (5.0, 60.0):
        for name, style in (("bucket of 1 s", "bucket"), ("fixed window", "fixed"),
                            ("sliding window", "sliding")):  # fmt: skip
            yield row(f"600, {name}, Retry-After always {hint:g}", 600, "hints", style=style,
                      hint=hint)  # fmt: skip
    yield row("600, bucket of 20 s, Retry-After always 60", 600, "hints", burst=20.0, hint=60.0)
    yield row("600, bucket of 1 s, Retry-After always 60, an hour", 600, "hints", hint=60.0,
              seconds=3_600)  # fmt: skip
    yield row("600, bucket of 1 s, milliseconds", 600, "hints", hint="milliseconds")
    yield row("600, fixed window, a clock 30 s off", 600, "hints", style="fixed", hint="clock")
    yield row("120, sliding window, Retry-After rounded", 120, "hints", style="sliding",
              hint="rounded")  # fmt: skip


def _noise() -> Iterator[Scenario]:
    for share in (0.01, 0.02, 0.05):
        for name, style in (("bucket of 1 s", "bucket"), ("fixed window", "fixed"),
                            ("sliding window", "sliding")):  # fmt: skip
            yield row(f"900, {name}, {share:.0%} noise", 900, "noise", style=style, noise=share)
    yield row("3,000, bucket of 10 s, 5 % noise", 3_000, "noise", burst=10.0, noise=0.05,
              seconds=900)  # fmt: skip
    yield row("600, bucket of 1 s, 2 % noise with Retry-After 1", 600, "noise", noise=0.02,
              noise_hint=1.0)  # fmt: skip
    yield row("1,200, bucket of 5 s, half shed in 2 s of a minute", 1_200, "noise", burst=5.0,
              shedding=Shedding(60.0, 2.0, 0.5))  # fmt: skip
    yield row("600, fixed window, half shed in 2 s of a minute", 600, "noise", style="fixed",
              shedding=Shedding(60.0, 2.0, 0.5))  # fmt: skip


def _others() -> Iterator[Scenario]:
    for count in (2, 5, 8):
        yield row(f"1,200, fixed window, {count} processes, two minutes apart", 1_200, "processes",
                  style="fixed", processes=count, work=replace(CHAT, apart=120.0),
                  seconds=3_600)  # fmt: skip
    yield row("1,200, bucket of 5 s, 2 processes, two minutes apart", 1_200, "processes", burst=5.0,
              processes=2, work=replace(CHAT, apart=120.0), seconds=2_400)  # fmt: skip
    for count in (2, 5, 20):
        yield row(f"1,200, bucket of 5 s, {count} told processes", 1_200, "told processes",
                  burst=5.0, processes=count, told=True, seconds=2_400,
                  work=replace(CHAT, apart=30.0))  # fmt: skip
    yield row("900, bucket of 1 s, others in waves", 900, "waves", waves=Waves(300.0, 0.5))
    yield row("900, fixed window, others in waves", 900, "waves", style="fixed",
              waves=Waves(300.0, 0.5))  # fmt: skip


def _tokens() -> Iterator[Scenario]:
    heavy = Work(tokens=500.0, spread=1.3)
    yield row("60,000 tokens, bucket of 10 s, heavy tails", 60_000, "tokens", burst=10.0,
              tokens_per_minute=60_000.0, work=heavy)  # fmt: skip
    yield row("200,000 tokens, fixed window, heavy tails", 60_000, "tokens", style="fixed",
              tokens_per_minute=200_000.0, work=heavy)  # fmt: skip
    yield row("60,000 tokens, bucket of 1 s, estimates off", 60_000, "tokens",
              tokens_per_minute=60_000.0, work=Work(tokens=200.0, wrong_by=0.8))  # fmt: skip
    yield row("300 and 60,000 tokens, bucket of 1 s", 300, "tokens", tokens_per_minute=60_000.0,
              work=Work(tokens=200.0, spread=0.7))  # fmt: skip


def _changes() -> Iterator[Scenario]:
    for name, style, burst in (("bucket of 1 s", "bucket", 1.0), ("fixed window", "fixed", 1.0)):
        yield row(f"1,800, {name}, cut to a tenth", 1_800, "cut", style=style, burst=burst,
                  changes=((913.0, 0.1),))  # fmt: skip
        yield row(f"180, {name}, raised tenfold", 180, "raise", style=style, burst=burst,
                  changes=((913.0, 10.0),))  # fmt: skip
    yield row("10 in fixed windows, raised to 300", 10, "raise", style="fixed",
              changes=((1_200.0, 30.0),), seconds=3_600)  # fmt: skip
    yield row("900, bucket of 1 s, diurnal", 900, "waves", seconds=3_600,
              changes=tuple((400.0 * n, f) for n, f in
                            enumerate((1.0, 1.5, 2.0, 1.5, 1.0, 0.6, 0.4, 0.6, 1.0))))  # fmt: skip
    yield row("600, fixed window, idle moments", 600, "idle", style="fixed", hint="exact",
              work=replace(CHAT, idle=((0.5, 3.0), (300.0, 340.0), (700.0, 900.0))))  # fmt: skip
    yield row("600, bucket of 20 s, idle moments", 600, "idle", burst=20.0,
              work=replace(CHAT, idle=((0.5, 3.0), (300.0, 340.0), (700.0, 900.0))))  # fmt: skip


def _jobs() -> Iterator[Scenario]:
    for count in (100, 1_000, 5_000):
        yield row(f"{count:,} rows, no limit", 1e9, "job", seconds=300, network=QUICK,
                  work=replace(CHAT, rows=count, slots=64))  # fmt: skip
        yield row(f"{count:,} rows, 600 a minute", 600, "job", network=QUICK, burst=10.0,
                  work=replace(CHAT, rows=count, slots=64))  # fmt: skip


def _declared() -> Iterator[Scenario]:
    yield row("6,000 declared, 0.5 % noise", 6_300, "declared", declared=6_000.0, noise=0.005,
              seconds=600)  # fmt: skip
    yield row("6,000 declared, 0.5 % noise with Retry-After 1", 6_300, "declared",
              declared=6_000.0, noise=0.005, noise_hint=1.0, seconds=600)  # fmt: skip
    for lasts in (30, 120):
        yield row(f"600 declared, {lasts} s of 429s", 606, "declared", declared=600.0,
                  outages=(Outage(600.0, 600.0 + lasts),))  # fmt: skip
    yield row("900 declared, 600 kept, bucket of 1 s", 600, "declared", declared=900.0)
    yield row("900 declared, 600 kept, Retry-After always 60", 600, "declared", declared=900.0,
              hint=60.0)  # fmt: skip
    yield row("660 declared, 600 kept, fixed window", 600, "declared", declared=660.0,
              style="fixed")  # fmt: skip
    yield row("600 declared, 8 % noise", 700, "declared", declared=600.0, noise=0.08)
