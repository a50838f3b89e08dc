"""The limits of an allowance: a list of windows, of which a request needs all at once.

A window counts requests, all tokens, or those of the input or the output alone, over a minute, a
day or the period that the server states. There are three places for each dimension:

1. *main*: what is declared per minute, or what the server states over any period up to a day.
2. *short*: what the server states over less than the declared minute, such as 10 in 2 s. The minute
   is still kept beside it.
3. *day*: what is declared or stated per day.

A stated limit lowers a declared one, or is used if none is declared. `Allowance` adds the queue,
the gate and the reservations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ..core import bounds
from ..core.verdict import DAY, MINUTE, Dimension, Limit
from ..errors import ConfigurationError
from .change import Change
from .costs import ALL_TOKENS, DIMENSIONS, Costs
from .learning.learner import Learner
from .processes import Falls, Suspicion
from .reservation import Reservation
from .spent import charge
from .window import Window, per_minute, window_of
from .windows import Windows

LEAST: dict[Dimension, float] = {each: 1.0 if each == "requests" else 100.0 for each in DIMENSIONS}
"""A stated limit of fewer units per window is ignored."""

LEAST_SHARE = 0.01
"""A stated limit below this share of the declared one is ignored."""

Place: TypeAlias = Literal["main", "short", "day"]

NAMES: dict[str, tuple[Dimension, Place]] = {
    **{f"{each}_per_minute": (each, "main") for each in DIMENSIONS},
    **{f"{each}_per_day": (each, "day") for each in DIMENSIONS[: ALL_TOKENS + 1]},
}
"""The names of limits that can be declared."""


class Rates(Windows):
    """The windows and the learner of an allowance.

    Args:
        declared: the declared limits by their names, such as ``requests_per_minute``; each is above
            0, or None if it is not declared.
        burst: the seconds of the rate that can be sent at once, above 0.
        share: the part of each limit that this process may use, in (0, 1].
        shared: whether other senders use a learned limit too; see `Learner`.

    Attributes:
        falls: how often what the learner found fell.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = ("_declared", "_followed", "_places", "burst", "falls", "share")

    def __init__(
        self,
        declared: Mapping[str, float | None],
        burst: float,
        share: float,
        *,
        shared: bool = False,
    ) -> None:
        super().__init__(Learner(shared=shared))
        self.burst = burst
        self.share = share
        self._places: dict[tuple[Dimension, Place], Window] = {}
        self._declared: dict[tuple[Dimension, Place], float] = {}
        # The numbers of each limit that was followed last, with its window.
        self._followed: list[tuple[tuple[Any, ...], Window | None]] = []
        self.falls = Falls()
        for name, limit in declared.items():
            self.declare(name, limit, 0.0)

    def bucket(self, dimension: Dimension) -> Window | None:
        """Return the main window of a dimension; None if it has no limit."""
        if self._log:
            self.catch_up()
        return self._places.get((dimension, "main"))

    @property
    def requests(self) -> Window | None:
        """The main window of requests."""
        return self.bucket("requests")

    @property
    def tokens(self) -> Window | None:
        """The main window of all tokens."""
        return self.bucket("tokens")

    def reserved(self, tokens: float) -> float:
        """Return the tokens that are reserved for an estimate of all tokens."""
        window = self.tokens
        return tokens if window is None else tokens * window.ratio

    def ready_at(self, costs: Costs) -> float:
        """Return the loop time from which a request fits."""
        ready = self.learner.ready_at(self.reserved(costs[1]))
        if self.lease is not None:
            ready = max(ready, self.lease.ready_at())
        return max([ready, *(each.ready_for(costs[each.index]) for each in self.windows)])

    def oversized(self, costs: Costs) -> bool:
        """Whether a request is larger than a whole limit; see `Window.oversized`."""
        return any(each.oversized(costs[each.index]) for each in self.windows)

    def full_until(self, costs: Costs) -> float:
        """Return the loop time from which all days have room for a request."""
        ready = [each.ready_for(costs[each.index]) for each in self.windows if not each.paced]
        return max(ready, default=-math.inf)

    def ready_behind(self, queued: Costs, costs: Costs, now: float) -> float:
        """Return when one more request fits, behind `queued`: those in the queue, in all."""
        ready = self.learner.ready_behind(int(queued[0]), self.reserved(queued[1]), now)
        for each in self.windows:
            before, own = (part[each.index] * each.ratio for part in (queued, costs))
            ready = max(ready, each.ready_behind(before, own, now))
        return ready

    def request_behind(self, requests: int, now: float) -> float:
        """Return the loop time from which one request fits behind `requests` others."""
        if self.lease is not None:  # the share may be larger by then
            return self.lease.ready_at()
        paced = [each for each in self.windows if not each.index and each.paced]
        return max([each.ready_behind(requests, 1.0, now) for each in paced], default=-math.inf)

    def kept_since(self, since: float, costs: Costs, now: float) -> None:
        """Make up for the time in which a request could have been sent and was not."""
        since = max(since, self.ready_at(costs))
        for each in self.windows:
            each.kept_since(since, now)

    def rejected(
        self, taken: Reservation, now: float, hint: float, *, steep: bool
    ) -> list[Change | Suspicion]:
        """Report a 429 to the learner.

        Args:
            taken: the reservation of the rejected request.
            now: the loop time, in seconds.
            hint: the seconds that the server asks to wait; 0 if it does not.
            steep: whether the server said that the rate grew too fast.

        Returns:
            The change of the learned limit, if it changed, and that others may use it too.
        """
        old = self.learner.limit
        if steep:
            self.learner.slow_down(now)
        elif taken.ticket is None:
            self.learner.rejected_at_rest(taken.granted_at, taken.ordinal)
        elif self.learner.active:
            self.learner.rejected(now, taken.ticket, hint)
        found: list[Change | Suspicion | None] = [self.learner.news()]
        if not self.learner.shared:
            found.append(self.falls.note(old, self.learner.limit, now))
        return [each for each in found if each is not None]

    def full(self, now: float) -> bool:
        """Whether all buckets are full and the learner is idle, as in a new object."""
        return self.learner.idle(now) and all(each.untouched(now) for each in self.windows)

    def declare(self, name: str, limit: float | None, now: float) -> None:
        """Set a declared limit by its name; what was spent stays spent, as far as it is known."""
        if name not in NAMES:
            raise ConfigurationError(f"{name!r} is not a limit: give one of {', '.join(NAMES)}")
        if limit is None:
            return
        bounds.positive(limit, name)
        dimension, place = NAMES[name]
        self._declared[dimension, place] = limit
        self._followed = []
        known = self.windows
        self._set_limit(dimension, place, limit, DAY if place == "day" else MINUTE, now)
        if len(self.windows) > len(known):
            charge(self._places[dimension, place], known, self.learner, now)
        if place == "main" and dimension in ("requests", "tokens"):
            self.learner.bound(dimension, limit * self.share)
        elif place == "main":
            self.learner.stated("tokens")

    def declared(self, name: str) -> float | None:
        """Return a declared limit by its name; None if it is not declared."""
        return self._declared.get(NAMES[name])

    def are_as_expected(
        self, limits: Sequence[Limit], after: Costs, age: float, now: float
    ) -> bool:
        """Whether `stated.follow` would change nothing. This is so for most responses.

        There are three conditions: the limits are those that were followed last; at least one unit
        remains of each; and what remains on the server is at least the level of the bucket. For
        example, 90 remained when the server handled the request, 4 were granted since, and 2 s at
        10 a second have refilled 20: 106 remain, and the bucket holds 10.

        Args:
            limits: the limits that the response stated.
            after: what was granted after the request.
            age: the seconds since the request was granted.
            now: the loop time, in seconds.
        """
        if len(limits) != len(self._followed):
            return False
        for each, (numbers, bucket) in zip(limits, self._followed, strict=True):
            if (each.dimension, each.limit, each.window) != numbers:
                return False
            remaining = each.remaining
            if remaining is None or bucket is None:
                continue
            if not bucket.paced:
                return False
            left = remaining - after[bucket.index] + age * bucket.rate
            if not (remaining >= 1.0 and left >= bucket.level(now)):
                return False
        return True

    def are_far_away(self, limits: Sequence[Limit]) -> bool:
        """Whether limits are those that were followed last, and far more remains than is sent now.

        While room is lent, no more than half of a window was granted. So where more than that and
        the burst remains, `stated.follow` would change nothing.
        """
        followed = self._followed
        if self._lent_requests < 1.0 or len(limits) != len(followed):
            return False
        for each, (numbers, window) in zip(limits, followed, strict=True):
            if (each.dimension, each.limit, each.window) != numbers:
                return False
            if window is None or each.remaining is None or not window.paced:
                return False
            if each.remaining < window.half + window.burst:
                return False
        return True

    def note_followed(self, limits: Sequence[Limit]) -> None:
        """Store the limits that were just followed, for `are_as_expected`."""
        self._followed = [
            ((each.dimension, each.limit, each.window), self.window_for(each)) for each in limits
        ]

    def place_of(self, stated: Limit) -> Place:
        """Return which of the windows of its dimension a stated limit is about."""
        period = window_of(stated)
        if period >= DAY:
            return "day"
        declared = (stated.dimension, "main") in self._declared
        return "short" if declared and period < MINUTE else "main"

    def window_for(self, stated: Limit) -> Window | None:
        """Return the window that a stated limit is about, or None if there is none."""
        return self._places.get((stated.dimension, self.place_of(stated)))

    def adopt(self, stated: Limit, now: float) -> Change | None:
        """Use a limit that the server stated; a declared limit stays an upper bound.

        Returns the change of the rate; None if it is ignored or changes nothing.
        """
        if stated.limit is None or not self.is_plausible(stated):
            return None
        dimension, place = stated.dimension, self.place_of(stated)
        declared = self._declared.get((dimension, place))
        limit, period = stated.limit, window_of(stated)
        if declared is not None and place == "main":  # no minute may have more than is declared
            limit, period = min(declared, limit * MINUTE / period), MINUTE
        elif declared is not None:
            limit = min(declared, limit)
        window = self._places.get((dimension, place))
        old, new = per_minute(window), limit * self.share * (MINUTE / period)
        if old is not None and math.isclose(old, new, rel_tol=1e-9):
            return None
        self._set_limit(dimension, place, limit, period, now)
        if place == "day":  # it does not change the rate
            return None
        self.learner.stated("tokens" if dimension != "requests" else dimension)
        if place == "short" and new >= (per_minute(self.bucket(dimension)) or 0.0):
            return None  # the declared minute allows no more
        return Change(dimension, old, new)

    def forget(self, dimension: Dimension, place: Place, now: float) -> None:
        """Forget what was stated for a window, because the server states another one instead."""
        self.catch_up()
        key = dimension, place
        declared, window = self._declared.get(key), self._places.get(key)
        if declared is not None and window is not None:
            if window.limit * window.window != declared * self.share * window.period:
                window.resize(declared, now, MINUTE)
        elif self._places.pop(key, None) is not None:
            self._order()

    def is_plausible(self, stated: Limit) -> bool:
        """Whether a stated limit may be used.

        Two kinds may not: a limit over more than a day, and one so small that it would almost stop
        the partition. If the server does enforce it, its 429s will show that.
        """
        limit, window = stated.limit or 0.0, window_of(stated)
        if not (window <= DAY and LEAST[stated.dimension] <= limit < math.inf):
            return False
        declared = self._declared.get((stated.dimension, "day" if window >= DAY else "main"))
        per = DAY if window >= DAY else MINUTE
        return declared is None or limit / window >= LEAST_SHARE * declared / per

    def abandon(self) -> None:
        """Forget what is in flight, because its loop was closed."""
        for each in self.windows:
            each.abandon()

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self.learner.rebase()
        self.falls = Falls()
        if self.lease is not None:
            self.lease.rebase(seconds)
        for each in self.windows:
            each.rebase(seconds)

    def _set_limit(
        self, dimension: Dimension, place: Place, limit: float, period: float, now: float
    ) -> None:
        self.catch_up()
        window = self._places.get((dimension, place))
        if window is not None:
            window.resize(limit, now, period)
            return
        made = Window(limit, period, self.burst, dimension, self.share)
        self._places[dimension, place] = made
        self._order()
        if self.lease is not None:
            self.lease.divide((made,), now)

    def _order(self) -> None:
        self._windows = tuple(sorted(self._places.values(), key=lambda each: each.index))
        self.furthest = max((each.index for each in self._windows), default=-1)

    def __str__(self) -> str:
        """Return the limits in words."""
        parts = " and ".join(map(str, self.windows))
        if not parts:
            others = ", shared with others" if self.learner.shared else ""
            return f"no declared limit: learned, or as the server states it{others}"
        return parts + (f" (a share of {self.share:.3g})" if self.share < 1 else "")
