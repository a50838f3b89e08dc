"""Which period a stated limit has, where the server does not say.

Most limits are per minute, so a limit without a period is taken to be. But a proxy may state 10
and a reset of 2 s, and mean 300 a minute. And a server may state a limit that it does not keep.
There are six cases, in this order:

1. The server lets more than twice as much pass within the period as it states. (A fixed window and
   a full bucket let up to twice the limit pass.) Then the limit is not believed, unless its period
   is not stated and resets show a shorter one.
2. The period is stated: it is believed.
3. Each reset is the time in which a bucket of a minute refills what was used: a minute.
4. Nothing remains, and the reset is over two minutes away: no minute takes so long. It is a period
   of that length, up to a day.
5. The reset is less than 20 s away. A minute that ends so soon is unlikely, so the period is the
   longest reset that was stated with this limit, once nothing remains. Until then the limit is not
   followed: the next response tells. (If nothing remains from the start, the gate shuts.) The same
   holds if all resets of a minute were short.
6. Otherwise it is a minute.

The reset cannot be longer than the period, whether the server counts in a window or in a bucket.
So if case 5 was wrong, because a minute's window was about to end, the next reset says so. A server
may count in a sliding window and state when the next unit comes. So if requests are refused, and no
more passed in a minute than is stated, it is a minute for ten minutes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..core.verdict import DAY, MINUTE, Limit
from .costs import DIMENSIONS
from .rates import Rates

TWICE = 2.1
"""Times the limit that pass within its period, above which the server does not keep it."""

SOON = 20.0
"""Seconds: a reset that comes sooner is hardly one of a minute's window."""

SHORT = 45.0
"""Seconds: if no reset of a whole minute was longer, the period is shorter than a minute."""

LONG = 120.0
"""Seconds: a reset that is further away is not one of a minute, although a request may have gone
into debt."""

SETTLED = 600.0
"""Seconds for which a minute is a minute, once a shorter period was refuted."""

LEAST = 1.0
"""Seconds: the shortest period that a reset can show."""

MANY = 10
"""Resets of a whole minute that show a shorter period, if they all are short."""

MOST_READINGS = 16
"""Limits without a period of which resets are remembered."""

PAUSE = 0.25
"""Seconds between two notes of what has passed."""


@dataclass(slots=True)
class Reading:
    """What is known of a limit that does not state its period.

    Attributes:
        since: the loop time at which it was first stated.
        longest: the longest reset that was stated with it, in seconds.
        seen: how many were.
        refills: whether each reset was the time in which a bucket refills what was used.
        minute_until: the loop time until which its period is a minute in any case.
    """

    since: float
    longest: float = 0.0
    seen: int = 0
    refills: bool = True
    minute_until: float = -math.inf


class Periods:
    """Reads stated limits by what was accepted of late. State: inside the `Allowance`."""

    __slots__ = ("_passed", "_readings")

    def __init__(self) -> None:
        self._readings: dict[tuple[str, float], Reading] = {}
        # What was accepted in all: when, requests, tokens, tokens of the input and of the output.
        self._passed: deque[tuple[float, ...]] = deque()

    def read(
        self, limits: Iterable[Limit], rates: Rates, now: float, *, refused: bool
    ) -> tuple[Limit, ...]:
        """Return the limits with their periods; one that is not believed without its number.

        Args:
            limits: the limits that a response stated.
            rates: what has passed so far.
            now: the loop time, in seconds.
            refused: whether the response is a 429.
        """
        limits = tuple(limits)
        if limits:
            self._note(rates, now)
        return tuple([self._read(each, rates, now, refused=refused) for each in limits])

    def rebase(self) -> None:
        """Forget what was measured by another clock."""
        self._passed.clear()
        self._readings.clear()

    def _read(self, stated: Limit, rates: Rates, now: float, *, refused: bool) -> Limit:
        if stated.limit is None:
            return stated
        window = stated.window
        if window is None:
            window = self._period(stated, rates, now, refused=refused)
        if window is None or (not refused and self._exceeds(stated, rates, window, now)):
            return replace(stated, limit=None)
        return stated if window in (stated.window, MINUTE) else replace(stated, window=window)

    def _period(self, stated: Limit, rates: Rates, now: float, *, refused: bool) -> float | None:
        """Return the period of a limit that does not state it; None not to follow it."""
        limit, remaining, reset = stated.limit, stated.remaining, stated.reset
        assert limit is not None
        key = stated.dimension, limit
        reading = self._readings.get(key)
        if reading is None:
            if len(self._readings) >= MOST_READINGS:  # a server that states a new limit each time
                self._readings.clear()
            reading = self._readings[key] = Reading(now)
        if not reset:
            return MINUTE
        until_full = -math.inf if remaining is None else (1.0 - remaining / limit) * MINUTE
        reading.refills &= abs(reset - until_full) <= max(0.1 * until_full, 1.0)
        if reading.refills:
            return MINUTE
        nothing_left = refused if remaining is None else remaining < 1
        if nothing_left and reset > LONG:
            return min(reset, DAY)
        if reset > LONG:
            return MINUTE
        reading.longest = max(reading.longest, reset)
        reading.seen += 1
        return self._shorter(reading, stated, rates, now, refused=refused)

    def _shorter(
        self, reading: Reading, stated: Limit, rates: Rates, now: float, *, refused: bool
    ) -> float | None:
        longest, limit = reading.longest, stated.limit or 0.0
        over = now >= reading.since + MINUTE
        proven = self._exceeds(stated, rates, MINUTE, now)
        if longest >= SHORT and not proven:
            return MINUTE
        if refused and over and self._passed_within(stated, rates, MINUTE, now) <= 1.1 * limit:
            reading.minute_until = now + SETTLED
        if now < reading.minute_until and not proven:
            return MINUTE
        remaining = stated.remaining
        known = remaining is None or refused or (remaining < 1 and reading.seen > 1)
        if proven or (known and longest < SOON) or (over and reading.seen >= MANY):
            return max(LEAST, longest)
        return None if longest < SOON else MINUTE

    def _exceeds(self, stated: Limit, rates: Rates, period: float, now: float) -> bool:
        most = TWICE * (stated.limit or 0.0) + 1.0
        if self._passed_within(stated, rates, MINUTE, now) <= most:  # no shorter period had more
            return False
        return period >= MINUTE or self._passed_within(stated, rates, period, now) > most

    def _passed_within(self, stated: Limit, rates: Rates, period: float, now: float) -> float:
        """Return how much of what a limit counts was accepted within its period, at least."""
        passed, index = self._passed, DIMENSIONS.index(stated.dimension)
        if not passed or rates.passed is None:
            return 0.0
        before: tuple[float, ...] | None = passed[0]
        if period < MINUTE or passed[0][0] < now - MINUTE:
            before = next((each for each in passed if each[0] >= now - period), None)
        return 0.0 if before is None else rates.passed[index] - before[1 + index]

    def _note(self, rates: Rates, now: float) -> None:
        passed = self._passed
        if rates.passed is None:
            rates.passed = [0.0] * len(DIMENSIONS)
        if passed and now < passed[-1][0] + PAUSE:
            return
        passed.append((now, *rates.passed))
        while passed[0][0] < now - MINUTE:
            passed.popleft()
