"""What was sent and not refused: the evidence that every hypothesis is judged by."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

KEPT = 16_384
"""Entries that are kept. Beyond that every second of the older half goes: sums stay exact."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One request as the learner knows it.

    Attributes:
        at: the loop time at which it was sent, in seconds.
        cost: its tokens, as they were estimated.
        number: how many were sent before it.
        pace: requests per second that were aimed at.
        looking: whether more was tried than is believed to pass.
        quiet: whether it was far below the belief, so that only noise refuses it.
        noted_in: where it is noted; a ticket of an earlier belief is ignored.
    """

    at: float
    cost: float
    number: int
    pace: float
    looking: bool
    quiet: bool
    noted_in: Sends


class Sends:
    """When requests were sent, with running sums of requests and tokens.

    A sum over a time is the difference of two running sums, whatever was thinned out between.

    Attributes:
        started: when the first was sent; None before.
        dimension: 0 to count requests, 1 to count tokens.
        scale: the tokens that count as one unit; so both dimensions have units of a request.

    State: inside the `Search` that owns it.
    """

    __slots__ = ("_at", "_sums", "dimension", "scale", "started")

    def __init__(self) -> None:
        self._at: list[float] = [-math.inf]
        self._sums: tuple[list[float], list[float]] = ([0.0], [0.0])
        self.started: float | None = None
        self.dimension = 0
        self.scale = 1.0

    def add(self, now: float, cost: float) -> None:
        """Note a request."""
        requests, tokens = self._sums
        self._at.append(now)
        requests.append(requests[-1] + 1.0)
        tokens.append(tokens[-1] + cost)
        if self.started is None:
            self.started = now
        if len(self._at) > KEPT:
            half = KEPT // 2
            for column in (self._at, requests, tokens):
                column[1:half] = column[1:half:2]

    def take_off(self, at: float, cost: float) -> None:
        """Forget a request that was refused."""
        place = bisect_left(self._at, at)
        if place == len(self._at) or self._at[place] != at:
            return  # thinned out
        for column, units in zip(self._sums, (1.0, cost), strict=True):
            del column[place]
            column[place:] = [each - units for each in column[place:]]
        del self._at[place]

    def count(self, since: float, until: float) -> float:
        """Return how many requests were sent after `since`, up to `until`."""
        sums, at = self._sums[0], self._at
        return sums[bisect_right(at, until) - 1] - sums[max(0, bisect_right(at, since) - 1)]

    def units(self, since: float, until: float, dimension: int | None = None) -> float:
        """Return the units of a dimension sent after `since`, up to `until`."""
        dimension = self.dimension if dimension is None else dimension
        sums, at = self._sums[dimension], self._at
        found = sums[bisect_right(at, until) - 1] - sums[max(0, bisect_right(at, since) - 1)]
        return found / self.scale if dimension else found

    def instants(self, since: float, until: float, most: int) -> list[float]:
        """Return about `most` instants of sending in a time, evenly chosen."""
        first, last = bisect_right(self._at, since), bisect_left(self._at, until)
        return self._at[first : last : max(1, (last - first) // most)]

    def steps(
        self, since: float, until: float, dimension: int, most: int
    ) -> list[tuple[float, float]]:
        """Return ``(instant, units since the last)`` for about `most` instants of a time."""
        at, sums = self._at, self._sums[dimension]
        first, last = bisect_right(at, since), bisect_left(at, until)
        scale = self.scale if dimension else 1.0
        stride = max(1, (last - first) // most)
        places = range(last - 1, first - 1, -stride)
        ends = [*reversed(places)]
        before = sums[first - 1] if first else 0.0
        found = []
        for place in ends:
            found.append((at[place], (sums[place] - before) / scale))
            before = sums[place]
        return found

    def when_left(self, units: float) -> float:
        """Return when the request was sent with which the last `units` requests began."""
        sums = self._sums[0]
        place = bisect_right(sums, sums[-1] - units)
        return self._at[place] if place < len(self._at) and sums[-1] >= units else -math.inf
