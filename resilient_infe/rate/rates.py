"""Rate limits in two dimensions: one request and its tokens are taken together or not at all.

The limits that a server states are applied here too: they lower a declared limit, or are used if
none is declared. `Allowance` adds the queue, the gate and the reservations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..core import bounds
from ..core.verdict import MINUTE, Dimension, Limit
from .calibration import Calibration
from .change import Change
from .depth import PROOF
from .learning.learner import Learner
from .reservation import Reservation
from .window import Window

LEAST: dict[Dimension, float] = {"requests": 1.0, "tokens": 100.0}
"""A stated limit of fewer units per window is ignored."""

LEAST_SHARE = 0.01
"""A stated limit below this share of the declared one is ignored."""

LONGEST_WINDOW = 3_600.0
"""Seconds; a limit over a longer window, such as a daily quota, is ignored as a rate."""


class Rates:
    """The buckets and the learner of an allowance.

    Args:
        requests_per_minute: the declared limit, above 0; None if none is declared.
        tokens_per_minute: the declared limit, above 0; None if none is declared.
        burst: the seconds of the rate that can be sent at once, above 0.
        share: the part of each limit that this process may use, in (0, 1].
        belief: the limit learned in an earlier run, as `Learner.belief` returned it, or None.

    Attributes:
        calibration: corrects estimates of tokens, while there is a limit of tokens.
        largest: the tokens of the largest request that the server let in.
        learner: finds a limit that is neither declared nor stated.
        requests, tokens: the buckets; None for a dimension without a limit.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = (
        "_declared",
        "_followed",
        "burst",
        "calibration",
        "largest",
        "learner",
        "requests",
        "share",
        "tokens",
    )

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        burst: float,
        share: float,
        belief: Mapping[str, Any] | None = None,
    ) -> None:
        self.burst = burst
        self.share = share
        self.requests: Window | None = None
        self.tokens: Window | None = None
        self._declared: dict[Dimension, float | None] = {"requests": None, "tokens": None}
        self._followed: tuple[tuple[Any, ...], ...] = ()
        self.largest = 0.0
        self.calibration = Calibration()
        self.learner: Learner = Learner()
        self.declare("requests", requests_per_minute, 0.0)
        self.declare("tokens", tokens_per_minute, 0.0)
        if belief is not None:
            self.learner.restore(belief)

    def bucket(self, dimension: Dimension) -> Window | None:
        """Return the bucket of a dimension; None if it has no limit."""
        return self.requests if dimension == "requests" else self.tokens

    def ready_at(self, tokens: float) -> float:
        """Return the loop time from which one request of `tokens` fits."""
        ready = self.learner.ready_at(tokens)
        if self.requests is not None:
            ready = max(ready, self.requests.ready_at(1.0))
        return ready if self.tokens is None else max(ready, self._tokens_ready_at(tokens))

    def _tokens_ready_at(self, tokens: float) -> float:
        assert self.tokens is not None
        metered, ledger = self.tokens, self.tokens.ledger
        metered.held_back = self.calibration.held_back(ledger, metered.limit)
        return metered.empty_at() if self.oversized(tokens) else metered.ready_at(tokens)

    def oversized(self, tokens: float) -> bool:
        """Whether `tokens` are more than the whole limit, which all processes share.

        It is sent when nothing was spent for a whole window. Once the server has let one in, the
        estimate or the limit is wrong, and others of at most its size are treated as usual.
        """
        metered = self.tokens
        return metered is not None and tokens > max(metered.limit / self.share, self.largest)

    def ready_behind(self, requests: int, queued: float, tokens: float, now: float) -> float:
        """Return the loop time from which one more request fits, behind those in the queue.

        Args:
            requests: the number of requests in the queue.
            queued: the tokens of the requests in the queue.
            tokens: the tokens of the request itself.
            now: the loop time, in seconds.
        """
        ready = -math.inf
        if self.requests is not None:
            ready = self.requests.ready_behind(float(requests), 1.0, now)
        if self.tokens is not None:
            ready = max(ready, self.tokens.ready_behind(queued, tokens, now))
        return max(ready, self.learner.ready_behind(requests, queued, now))

    def request_behind(self, requests: int, now: float) -> float:
        """Return the loop time from which one request fits behind `requests` others."""
        return (
            -math.inf if self.requests is None else self.requests.ready_behind(requests, 1.0, now)
        )

    def fits(self, tokens: float, now: float) -> bool:
        """Whether one request of `tokens` may be sent now."""
        requests, metered, learner = self.requests, self.tokens, self.learner
        # The first test of each `if` is cheap and fails if the bucket is full and the window has
        # room, which is usual at a low load. Only otherwise is `ready_at` computed.
        if (
            requests is not None
            and (now < requests.full_at or requests.ledger.total + 1.0 > requests.limit)
            and now < requests.ready_at(1.0)
        ):
            return False
        if (
            metered is not None
            and (now < metered.full_at or metered.reaches(tokens))
            and now < self._tokens_ready_at(tokens)
        ):
            return False
        return not learner.active or now >= learner.ready_at(tokens)

    def even_at(self, tokens: float) -> float:
        """Return the loop time from which one request of `tokens` leaves the burst to others.

        Only windows of up to a minute count: a day's is not refilled while anybody waits.
        """
        requests, metered, ready = self.requests, self.tokens, -math.inf
        if requests is not None and requests.period <= MINUTE:
            ready = requests.even_at(1.0)
        if metered is not None and metered.period <= MINUTE:
            ready = max(ready, metered.even_at(tokens))
        return ready

    def cost_of(self, tokens: float) -> float:
        """Return what one request of `tokens` costs, in requests: of its parts, the scarcer one."""
        requests, metered = self.requests, self.tokens
        if metered is None:
            return 1.0
        if requests is None:
            return max(1.0, tokens)
        scarcity = requests.limit / requests.period * metered.period / metered.limit
        return max(1.0, tokens * scarcity)

    def take(self, taken: Reservation, now: float) -> None:
        """Take one request and its tokens."""
        if self.requests is not None:
            taken.in_requests = self.requests.take(1.0, now)
        if self.tokens is not None:
            taken.in_tokens = self.tokens.take(taken.tokens, now)
            self.tokens.ledger.began(taken.in_tokens[1], taken.estimate, taken.tokens)

    def settle(self, taken: Reservation, tokens: float, now: float) -> None:
        """End a request that was sent and not refused.

        Args:
            taken: the reservation.
            tokens: its real cost, or what counts as it.
            now: the loop time, in seconds.
        """
        if taken.in_requests is not None:
            window, _, ahead = taken.in_requests
            window.let_in_at = now
            if ahead > PROOF:  # else it proves nothing
                window.passed(1.0, ahead, now)
        if taken.in_tokens is not None:
            window, part, ahead = taken.in_tokens
            window.let_in_at = now
            if ahead > PROOF:
                window.passed(taken.tokens, ahead, now)
            window.correct(tokens - taken.tokens, part, now)
            window.ledger.ended(part, taken.estimate, taken.tokens)
            self.calibration.settled(taken.estimate, tokens)

    def refund_tokens(self, taken: Reservation, now: float) -> None:
        """Put back the tokens of a request that was refused, or never sent."""
        if taken.in_tokens is not None:
            window, part, _ = taken.in_tokens
            window.correct(-taken.tokens, part, now)
            window.ledger.ended(part, taken.estimate, taken.tokens)

    def give_request_back(self, taken: Reservation, now: float) -> None:
        """Put back a request that was never sent."""
        if taken.ticket is not None:
            self.learner.unsent(taken.ticket)
        if taken.in_requests is not None:
            window, part, _ = taken.in_requests
            window.correct(-1.0, part, now)

    def refused(self, taken: Reservation, now: float) -> bool:
        """Note a 429; return whether a burst explains it, which then becomes smaller.

        Of requests and tokens, it is taken to concern what was further ahead of an even pace.
        """
        requests, tokens = taken.in_requests, taken.in_tokens
        if requests is not None:
            requests[0].uncount(1.0)
        if requests is not None and (tokens is None or requests[1].ahead > tokens[1].ahead):
            window, part, _ = requests
            return window.refused(1.0, part, now)
        if tokens is not None:
            window, part, _ = tokens
            return window.refused(taken.tokens, part, now)
        return False

    def kept_since(self, since: float, tokens: float, now: float) -> None:
        """Make up for the time in which a request of `tokens` could have been sent and was not."""
        since = max(since, self.ready_at(tokens))
        for window in (self.requests, self.tokens):
            if window is not None:
                window.kept_since(since, now)

    def rejected(
        self, taken: Reservation, now: float, hint: float, *, steep: bool
    ) -> Change | None:
        """Report a 429 to the learner.

        Args:
            taken: the reservation of the rejected request.
            now: the loop time, in seconds.
            hint: the seconds that the server asks to wait; 0 if it does not.
            steep: whether the server said that the rate grew too fast.

        Returns:
            The change of the learned limit; None if it did not change.
        """
        if steep:
            self.learner.slow_down(now)
        elif taken.ticket is None:
            self.learner.rejected_at_rest(taken.granted_at, taken.ordinal)
        elif self.learner.active:
            self.learner.rejected(now, taken.ticket, hint)
        return self.learner.news()

    def full(self, now: float) -> bool:
        """Whether all buckets are full and the learner is idle, as in a new object."""
        buckets = (self.requests, self.tokens)
        return self.learner.idle(now) and all(b is None or b.untouched(now) for b in buckets)

    def declare(self, dimension: Dimension, per_minute: float | None, now: float) -> None:
        """Set the declared limit of a dimension, or None for none; units taken stay taken."""
        if per_minute is not None:
            bounds.positive(per_minute, f"{dimension}_per_minute")
        self._declared[dimension] = per_minute
        self._followed = ()
        if per_minute is not None:
            self._set_limit(dimension, per_minute * self.share, MINUTE, now)
            self.learner.bound(dimension, per_minute * self.share)

    def are_as_expected(
        self, limits: Sequence[Limit], after: Mapping[Dimension, float], age: float, now: float
    ) -> bool:
        """Whether `stated.follow` would change nothing. This is so for most responses.

        There are three conditions, one for each step that is then skipped:

        1. The limits are those of the last response that was followed, so `adopt` has nothing to
           change.
        2. At least one unit remains of each, so `window_reset` closes no gate.
        3. What remains on the server is at least the level of the bucket, so `hold_to_remaining`
           has nothing to lower. For example, 90 remained when the server handled the request, 4
           were granted since, and 2 s at 9.8 a second have refilled 19.6: at least 105.6 remain,
           and the bucket holds 10.

        Args:
            limits: the limits that the response stated.
            after: the units of each dimension that were granted after the request.
            age: the seconds since the request was granted.
            now: the loop time, in seconds.
        """
        if tuple([(each.dimension, each.limit, each.window) for each in limits]) != self._followed:
            return False
        for each in limits:
            remaining, bucket = each.remaining, self.bucket(each.dimension)
            if remaining is None or bucket is None:
                continue
            left = remaining - after[each.dimension] + age * bucket.rate
            if not (remaining >= 1.0 and left >= bucket.level(now)):
                return False
        return True

    def note_followed(self, limits: Sequence[Limit]) -> None:
        """Store the limits that were just followed, for `are_as_expected`."""
        self._followed = tuple([(each.dimension, each.limit, each.window) for each in limits])

    def adopt(self, stated: Limit, now: float) -> Change | None:
        """Use a limit that the server stated; a declared limit stays an upper bound.

        Returns:
            The change of the limit; None if it is ignored or changes nothing.
        """
        declared = self._declared[stated.dimension]
        if stated.limit is None or not self.is_plausible(stated):
            return None
        limit, period = stated.limit, window_of(stated)
        if declared is not None and limit / period >= declared / MINUTE:
            limit, period = declared, MINUTE
        elif declared is not None and period > MINUTE:  # no minute may have more than is declared
            limit, period = limit * MINUTE / period, MINUTE
        old = per_minute(self.bucket(stated.dimension))
        new = limit * self.share / period * MINUTE
        if old is not None and math.isclose(old, new, rel_tol=1e-9):
            return None
        self._set_limit(stated.dimension, limit * self.share, period, now)
        self.learner.stated(stated.dimension)
        return Change(stated.dimension, old, new)

    def is_plausible(self, stated: Limit) -> bool:
        """Whether a stated limit may be used as a rate.

        Two kinds may not: a limit over more than `LONGEST_WINDOW`, such as a daily quota, and one
        so small that it would almost stop the partition. If the server does enforce it, its 429s
        will show that.
        """
        limit, window = stated.limit or 0.0, window_of(stated)
        declared = self._declared[stated.dimension]
        if not (window <= LONGEST_WINDOW and LEAST[stated.dimension] <= limit < math.inf):
            return False
        return declared is None or limit / window >= LEAST_SHARE * declared / MINUTE

    def abandon(self) -> None:
        """Forget what is in flight, because its loop was closed."""
        if self.tokens is not None:
            self.tokens.ledger.abandon()

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self.learner.rebase()
        for bucket in (self.requests, self.tokens):
            if bucket is not None:
                bucket.rebase(seconds)

    def _set_limit(self, dimension: Dimension, limit: float, period: float, now: float) -> None:
        bucket = self.bucket(dimension)
        if bucket is not None:
            bucket.resize(limit, now, period)
        elif dimension == "requests":
            self.requests = Window(limit, period, self.burst)
        else:
            self.tokens = Window(limit, period, self.burst)

    def __str__(self) -> str:
        """Return the limits in words."""
        parts = [
            f"{per_minute(bucket):,.6g} {dimension} per minute"
            for dimension, bucket in (("requests", self.requests), ("tokens", self.tokens))
            if bucket is not None
        ]
        if not parts:
            return "no declared limit: learned, or as the server states it"
        return " and ".join(parts) + (f" (a share of {self.share:.3g})" if self.share < 1 else "")


def window_of(stated: Limit) -> float:
    """Return the window of a stated limit in seconds; a minute if none usable is stated."""
    window = stated.window
    return window if window is not None and 0 < window < math.inf else MINUTE


def per_minute(bucket: Window | None) -> float | None:
    """Return a bucket's limit as a rate per minute."""
    return None if bucket is None else bucket.limit / bucket.period * MINUTE
