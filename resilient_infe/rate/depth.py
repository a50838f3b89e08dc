"""How far ahead of an even pace a server lets requests come.

A limit of 600 a minute may be a window, in which 600 may come at once; or a token bucket of one
second, which lets 10 come at once and then one each 0.1 s. Nobody says which. To send evenly is
safe with both, and makes a person wait for nothing at half of the load. So the burst begins small
and follows the evidence:

1. *It grows with what passes.* A request that was 3 s ahead of an even pace and was let in shows
   that a burst of 3 s is safe. The next burst is at most twice as large: each try risks little.
2. *It shrinks by a 429* of a request that was further ahead than any that passed within ten
   minutes. The server's bucket held what passed of the burst, so that is the new burst. A 429 of a
   request that was less far ahead says nothing here: it is chance, or the limit is lower. Nor does
   one if nothing at all is let in: even the smallest bucket lets one in.
3. *It is tried again by time*, after ten minutes; after each try that fails, twice as late, up to
   an hour.

Requests that were sent within one slice of the ledger may arrive in any order. So it is judged by
the one that was furthest ahead, and each that is refused takes its part off that.

All of it is in seconds of the rate, so it holds for requests and tokens alike.
"""

from __future__ import annotations

import math

from .ledger import Slice

AT_FIRST = 2.0
"""Seconds of the rate that may be sent at once before anything has passed; or two requests."""

GROWTH = 2.0
"""The burst is at most this many times what has passed."""

PROOF = 0.1
"""Seconds: a request that was less far ahead of an even pace, apart from itself, proves nothing. A
bucket lets even a request in that is larger than itself, if it is full."""

MARGIN = 0.95
"""Of what passed, the part that is used: sends are squeezed together on their way."""

REMEMBERED = 600.0
"""Seconds for which what passed is evidence, at least."""

FIRST_TRY, LAST_TRY = 600.0, 3_600.0
"""Seconds until a larger burst is tried again, at first and at most."""

STEP = 30.0
"""Seconds between two steps of a try, each of which doubles the burst."""


class Depth:
    """The burst that a server was seen to bear, in seconds of the rate.

    Args:
        wanted: the seconds of the rate that may be sent at once, above 0, if the server bears it.
        unit: the seconds of the rate that one unit takes, above 0: no burst is smaller.
        ramped: whether it begins small; else all that is wanted may be sent from the start.

    Attributes:
        burst: the seconds of the rate that may be sent at once now.
        shallow: whether the server was seen to bear less than `wanted`.
        wanted: the argument of this name, at least one unit.
        try_at: the loop time from which `try_more` tries a larger burst.

    State: inside the `Window` that owns it.
    """

    __slots__ = ("_before", "_gap", "_passed", "_passed_before", "_tries", "_turns_at", "_unit",
                 "burst", "shallow", "try_at", "wanted")  # fmt: skip

    def __init__(self, wanted: float, unit: float, *, ramped: bool = True) -> None:
        self._unit = unit
        self.wanted = max(unit, wanted)
        self.burst = min(self.wanted, max(AT_FIRST, 2 * unit)) if ramped else self.wanted
        self.shallow = False
        self._passed = self._passed_before = 0.0  # the furthest ahead, since the turn and before it
        self._turns_at = -math.inf
        self._before: tuple[Slice, float, bool] | None = None  # what a slice's 429s have changed
        self.try_at, self._gap, self._tries = math.inf, FIRST_TRY, False

    @property
    def proven(self) -> float:
        """The furthest ahead of an even pace that was let in of late, in seconds."""
        return max(self._passed, self._passed_before)

    def allow(self, cost: float) -> None:
        """Make the burst large enough for two requests of `cost` seconds of the rate."""
        if not self.shallow:
            self._raise_to(2 * cost)

    def passed(self, ahead: float, cost: float, now: float, *, doubt: float = 0.0) -> None:
        """Note that a request was let in.

        Args:
            ahead: how many seconds it was ahead of an even pace when it was sent.
            cost: its cost in seconds of the rate.
            now: the loop time, in seconds.
            doubt: by how many seconds less it may have been ahead, because estimates of what was
                sent before it vary. It is tried what that bears, but it is no proof.
        """
        if ahead - cost <= PROOF:
            return
        self._turn(now)
        if ahead - doubt > self._passed:
            self._passed = ahead - doubt
        if not self.shallow:
            self._raise_to(GROWTH * ahead + cost)

    def refused(self, cost: float, part: Slice, now: float, *, alive: bool) -> bool:
        """Note a 429; return whether it shows that the server bears less than was thought.

        Args:
            cost: the cost of the request in seconds of the rate.
            part: the slice of the ledger in which it was sent.
            now: the loop time, in seconds.
            alive: whether something was let in of late.
        """
        # There are four cases in which it shows nothing:
        # 1. As much has passed. Then 429s come by chance here, and one that has lowered the burst
        #    may have been chance too: it is tried again soon.
        # 2. All that was sent in the slice is refused, and nothing else was let in of late. What
        #    the first of these 429s seemed to show was wrong.
        # 3. It came after a rest, when any bucket lets one request in.
        # 4. The burst is as small as it can be.
        self._turn(now)
        ahead, before = part.ahead, part.ahead - cost
        part.ahead = before
        part.sent -= 1
        if ahead <= self.proven:
            if self.shallow:
                self.try_at = min(self.try_at, now + STEP)
            return False
        if part.sent <= 0 and not alive:
            if self._before is not None and self._before[0] is part:
                _, self.burst, self.shallow = self._before
                self.try_at = now if self.shallow else math.inf
            return False
        if before <= -cost / 2:
            return False
        lower = max(self._unit, min(self.burst, MARGIN * before))
        if lower >= self.burst and (self.shallow or lower > self._unit):
            return False
        self._lower_to(lower, part, now)
        return True

    def try_more(self, now: float) -> None:
        """Try a larger burst: twice as large, or by one unit."""
        self._tries = True
        self._raise_to(max(2 * self.burst, self.burst + self._unit))
        self.shallow = self.burst < self.wanted
        self.try_at = now + STEP if self.shallow else math.inf

    def resize(self, wanted: float, unit: float) -> None:
        """Follow a new limit: what was seen, in seconds of the rate, stays."""
        self._unit = unit
        self.wanted = max(unit, wanted)
        self.burst = min(self.wanted, max(self.burst, unit))

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instants, because the clock has changed."""
        self._turns_at += seconds
        self.try_at += seconds

    def _raise_to(self, burst: float) -> None:
        self.burst = max(self.burst, min(self.wanted, burst))

    def _lower_to(self, burst: float, part: Slice, now: float) -> None:
        if self._before is None or self._before[0] is not part:
            self._before = part, self.burst, self.shallow
        if self._tries:
            self._gap = min(LAST_TRY, 2 * self._gap)
        self.burst, self.shallow, self._tries = burst, True, False
        self.try_at = now + self._gap

    def _turn(self, now: float) -> None:
        if now >= self._turns_at:
            recent = now < self._turns_at + REMEMBERED
            self._passed_before, self._passed = (self._passed if recent else 0.0), 0.0
            self._turns_at = now + REMEMBERED
