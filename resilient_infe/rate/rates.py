"""Rate limits in two dimensions: one request and its tokens are taken together or not at all.

The limits that a server states are applied here too: they lower a declared limit, or are used if
none is declared. `Allowance` adds the queue, the gate and the reservations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core import bounds
from ..core.verdict import MINUTE, Dimension, Limit
from .bucket import Bucket
from .change import Change
from .learning.learner import Learner
from .metered import Metered
from .reservation import Reservation

LEAST: dict[Dimension, float] = {"requests": 1.0, "tokens": 100.0}
"""A stated limit of fewer units per window is ignored."""

LEAST_SHARE = 0.01
"""A stated limit below this share of the declared one is ignored."""

LONGEST_WINDOW = 3_600.0
"""Seconds; a limit over a longer window, such as a daily quota, is ignored as a rate."""

RESET_TRUSTED = 300.0
"""Seconds; a reset that is further away, as for a daily quota, does not close the gate."""


class Rates:
    """The buckets and the learner of an allowance.

    Args:
        requests_per_minute: the declared limit, above 0; None if none is declared.
        tokens_per_minute: the declared limit, above 0; None if none is declared.
        burst: the seconds of the rate that can be sent at once, above 0.
        share: the part of each limit that this process may use, in (0, 1].
        belief: the limit learned in an earlier run, as `Learner.belief` returned it, or None.

    Attributes:
        learner: finds a limit that is neither declared nor stated.
        requests, tokens: the buckets; None for a dimension without a limit.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = (
        "_declared",
        "_followed",
        "_largest",
        "burst",
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
        self.requests: Bucket | None = None
        self.tokens: Metered | None = None
        self._declared: dict[Dimension, float | None] = {"requests": None, "tokens": None}
        self._followed: tuple[tuple[Any, ...], ...] = ()
        self._largest = 0.0  # tokens of the largest request that the server let in
        self.learner: Learner = Learner()
        self.declare("requests", requests_per_minute, 0.0)
        self.declare("tokens", tokens_per_minute, 0.0)
        if belief is not None:
            self.learner.restore(belief)

    def bucket(self, dimension: Dimension) -> Bucket | None:
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
        return self.tokens.empty_at() if self.oversized(tokens) else self.tokens.ready_at(tokens)

    def oversized(self, tokens: float) -> bool:
        """Whether `tokens` are more than the whole limit, which all processes share.

        It is sent when nothing was spent for a whole window. Once the server has let one in, the
        estimate or the limit is wrong, and others of at most its size are treated as usual.
        """
        metered = self.tokens
        return metered is not None and tokens > max(metered.limit / self.share, self._largest)

    def let_in(self, tokens: float) -> None:
        """Note that the server let in a request of `tokens`."""
        if tokens > self._largest:
            self._largest = tokens

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

    def take(self, tokens: float, now: float) -> bool:
        """Take one request of `tokens` if its `ready_at` has come; if not, take nothing.

        Returns:
            Whether the request was taken.
        """
        requests, metered, learner = self.requests, self.tokens, self.learner
        # The first test of each `if` is cheap and fails if the bucket is full (and the ledger has
        # room), which is the usual case. Only otherwise is `ready_at` computed.
        if requests is not None and now < requests.full_at and now < requests.ready_at(1.0):
            return False
        if (
            metered is not None
            and (now < metered.full_at or metered.ledger.total + tokens > metered.limit)
            and now < self._tokens_ready_at(tokens)
        ):
            return False
        if learner.active and now < learner.ready_at(tokens):
            return False
        if requests is not None:
            requests.take(1.0, now)
        if metered is not None:
            metered.take(tokens, now)
        return True

    def give_request_back(self, taken: Reservation, now: float) -> None:
        """Put back a request that was never sent, minus what has refilled since it was taken.

        For example, at 0.4 requests a second, 1 - 0.4 = 0.6 of a request is put back after 1 s, and
        nothing after 2.5 s. A whole request put back late would be one too many in a later window.
        """
        if taken.ticket is not None:
            self.learner.unsent(taken.ticket)
        if self.requests is not None:
            left = 1.0 - (now - taken.granted_at) * self.requests.rate
            self.requests.give_back(max(0.0, left), taken.granted_at)

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

    def tightest(self, limits: Iterable[Limit]) -> dict[Dimension, Limit]:
        """Return, for each dimension, the stated limit that allows the fewest units per second.

        Two kinds are left out: a limit over more than `LONGEST_WINDOW`, such as a daily quota, and
        one so small that it would almost stop the partition. If the server does enforce it, its
        429s will show that.
        """
        found: dict[Dimension, Limit] = {}
        for limit in limits:
            known = found.get(limit.dimension)
            if self._is_plausible(limit) and (known is None or _rate(limit) < _rate(known)):
                found[limit.dimension] = limit
        return found

    def adopt(self, stated: Limit, now: float) -> Change | None:
        """Use a limit that the server stated; a declared limit stays an upper bound.

        Returns:
            The change of the limit; None if it is ignored or changes nothing.
        """
        declared = self._declared[stated.dimension]
        if stated.limit is None or not self._is_plausible(stated):
            return None
        limit, period = stated.limit, window_of(stated)
        if declared is not None and limit / period >= declared / MINUTE:
            limit, period = declared, MINUTE
        old = per_minute(self.bucket(stated.dimension))
        new = limit * self.share / period * MINUTE
        if old is not None and math.isclose(old, new, rel_tol=1e-9):
            return None
        self._set_limit(stated.dimension, limit * self.share, period, now)
        self.learner.stated(stated.dimension)
        return Change(stated.dimension, old, new)

    def _is_plausible(self, stated: Limit) -> bool:
        limit, window = stated.limit or 0.0, window_of(stated)
        declared = self._declared[stated.dimension]
        if not (window <= LONGEST_WINDOW and LEAST[stated.dimension] <= limit < math.inf):
            return False
        return declared is None or limit / window >= LEAST_SHARE * declared / MINUTE

    def window_reset(self, stated: Limit) -> float | None:
        """Return the seconds to close the gate because a fixed window is used up, or None.

        There are three cases. The examples have a limit of 600 a minute:

        1. A unit remains, or the reset is missing or too far away: None.
        2. The server counts in a token bucket. Its reset is the time until the bucket is full, but
           the next unit comes much sooner, so the gate stays open: None. The length of the reset
           shows this: the time to refill the whole limit, 600 / 10 a second = 60 s, within 10 %.
        3. The reset is another one, such as 12 s, or the response does not state the limit. Then
           the server counts in a fixed window, and the gate closes until it ends, for 12 s.

        A window that is used up just after its start looks like case 2: 429s then slow the sends.
        """
        bucket = self.bucket(stated.dimension)
        remaining, reset, limit = stated.remaining, stated.reset, stated.limit
        if bucket is None or remaining is None or not 0 <= remaining < 1:
            return None
        if reset is None or not 0 < reset <= RESET_TRUSTED:
            return None
        if limit is not None and limit > 0:
            until_full = limit * bucket.period * self.share / bucket.limit
            if math.isclose(reset, until_full, rel_tol=0.1):
                return None
        return reset

    def hold_to_remaining(self, stated: Limit, since: float, age: float, now: float) -> None:
        """Lower the bucket to what remains on the server.

        Args:
            stated: the limit, with what remained when the server handled the request.
            since: the units granted after that request.
            age: the seconds since that request was granted; the server has refilled since then too.
            now: the loop time, in seconds.
        """
        bucket, remaining = self.bucket(stated.dimension), stated.remaining
        if bucket is not None and remaining is not None and 0 <= remaining < math.inf:
            bucket.lower_to(remaining - since + age * bucket.rate, now)

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self.learner.rebase()
        for bucket in (self.requests, self.tokens):
            if bucket is not None:
                bucket.rebase(seconds)

    def _set_limit(self, dimension: Dimension, limit: float, period: float, now: float) -> None:
        bucket = self.bucket(dimension)
        if bucket is not None and bucket.window == period:
            bucket.resize(limit, now, limit / period * self.burst)
            return
        burst = limit / period * self.burst
        replacement: Bucket
        if dimension == "requests":
            replacement = self.requests = Bucket(limit, period, burst)
        else:
            replacement = self.tokens = Metered(limit, period, burst)
        if bucket is not None:
            replacement.lower_to(bucket.level(now), now)

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


def _rate(stated: Limit) -> float:
    return (stated.limit or 0.0) / window_of(stated)


def window_of(stated: Limit) -> float:
    """Return the window of a stated limit in seconds; a minute if none usable is stated."""
    window = stated.window
    return window if window is not None and 0 < window < math.inf else MINUTE


def per_minute(bucket: Bucket | None) -> float | None:
    """Return a bucket's limit as a rate per minute."""
    return None if bucket is None else bucket.limit / bucket.period * MINUTE
