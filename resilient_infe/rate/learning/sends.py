"""What was sent and not refused: the evidence that every hypothesis is judged by."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise

KEPT = 16_384
"""Entries that are kept. Beyond that every second of the older half goes: sums stay exact."""

RECENT = 200
"""Requests over which the mean and the spread of their costs are taken."""

STEPS = 24
"""Instants at which a bucket's level is followed: more did not change which kind is found."""


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


class Sums:
    """Running sums over time. State: inside the `Sends` that owns it."""

    __slots__ = ("at", "requests", "tokens")

    def __init__(self) -> None:
        self.at: list[float] = [-math.inf]
        self.requests: list[float] = [0.0]
        self.tokens: list[float] = [0.0]

    def add(self, at: float, cost: float) -> None:
        """Add one; those that are later than it, which are few, are summed anew."""
        if at >= self.at[-1]:
            self.at.append(at)
            self.requests.append(self.requests[-1] + 1.0)
            self.tokens.append(self.tokens[-1] + cost)
            if len(self.at) > KEPT:
                self._thin()
            return
        place = len(self.at)
        while self.at[place - 1] > at:
            place -= 1
        self.at.insert(place, at)
        for sums, units in ((self.requests, 1.0), (self.tokens, cost)):
            sums.insert(place, sums[place - 1] + units)
            for later in range(place + 1, len(sums)):
                sums[later] += units

    def _thin(self) -> None:
        half = KEPT // 2
        for column in (self.at, self.requests, self.tokens):
            column[1:half] = column[1:half:2]

    def column(self, dimension: int) -> list[float]:
        """Return the sums of a dimension."""
        return self.tokens if dimension else self.requests

    def between(self, since: float, until: float, dimension: int) -> float:
        """Return the sum after `since`, up to `until`."""
        sums, at = self.column(dimension), self.at
        return sums[bisect_right(at, until) - 1] - sums[max(0, bisect_right(at, since) - 1)]


class Sends:
    """When requests were sent, less those that were refused.

    What passed in a time is the difference of two running sums of all that was sent, less the same
    of what was refused. So a refusal rewrites nothing, and thinned sums stay exact.

    Attributes:
        started: when the first was sent; None before.
        dimension: 0 to count requests, 1 to count tokens.
        scale: the tokens that count as one unit; so both dimensions have units of a request.

    State: inside the `Record` that owns it.
    """

    __slots__ = ("_refused", "_sent", "dimension", "scale", "started")

    def __init__(self) -> None:
        self._sent, self._refused = Sums(), Sums()
        self.started: float | None = None
        self.dimension = 0
        self.scale = 1.0

    def add(self, now: float, cost: float) -> None:
        """Note a request."""
        self._sent.add(now, cost)
        if self.started is None:
            self.started = now

    def take_off(self, at: float, cost: float) -> None:
        """Forget a request that was refused."""
        self._refused.add(at, cost)

    def count(self, since: float, until: float) -> float:
        """Return how many requests passed after `since`, up to `until`."""
        return self._sent.between(since, until, 0) - self._refused.between(since, until, 0)

    def units(self, since: float, until: float, dimension: int | None = None) -> float:
        """Return the units of a dimension that passed after `since`, up to `until`."""
        dimension = self.dimension if dimension is None else dimension
        found = self._sent.between(since, until, dimension)
        found -= self._refused.between(since, until, dimension)
        return found / self.scale if dimension else found

    def instants(self, since: float, until: float, most: int) -> list[float]:
        """Return about `most` instants of sending in a time, evenly chosen, the last among them."""
        at = self._sent.at
        first, last = bisect_right(at, since), bisect_left(at, until)
        return at[first:last][:: -max(1, (last - first) // most)][::-1]

    def steps(self, since: float, until: float, dimension: int) -> list[tuple[float, float]]:
        """Return ``(instant, units since the last)`` for about `STEPS` instants of a time."""
        at, refused = self._sent.at, self._refused
        sums, less = self._sent.column(dimension), refused.column(dimension)
        first, last = bisect_right(at, since), bisect_left(at, until)
        every, scale = max(1, (last - first) // STEPS), self.scale if dimension else 1.0
        steps, before = [], sums[first - 1] - less[bisect_right(refused.at, since) - 1]
        for place in range(last - 1, first - 1, -every)[::-1]:
            total = sums[place] - less[bisect_right(refused.at, at[place]) - 1]
            steps.append((at[place], (total - before) / scale))
            before = total
        return steps

    def costs(self) -> list[float]:
        """Return the tokens of each of the last requests."""
        return [after - before for before, after in pairwise(self._sent.tokens[-RECENT - 1 :])]

    def when_left(self, units: float) -> float:
        """Return when the request was sent with which the last `units` requests began."""
        sums, at = self._sent.requests, self._sent.at
        refused = 0.0
        while sums[-1] >= units + refused:
            place = bisect_right(sums, sums[-1] - units - refused)
            if place == len(at):
                break
            more = self._refused.between(math.nextafter(at[place], -math.inf), math.inf, 0)
            if more <= refused:
                return at[place]
            refused = more
        return -math.inf


class Span:
    """What passed between two exhausted moments, in one dimension.

    Attributes:
        sends: what was sent.
        since, until: the moments.
        dimension: 0 for requests, 1 for tokens.
        steps: ``(instant, units since the last)`` for about `STEPS` instants between.
    """

    __slots__ = ("dimension", "sends", "since", "steps", "until")

    def __init__(self, sends: Sends, since: float, until: float, dimension: int) -> None:
        self.sends, self.since, self.until, self.dimension = sends, since, until, dimension
        self.steps = sends.steps(since, until, dimension)
