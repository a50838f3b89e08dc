"""A rate in two dimensions: requests and tokens, taken together or not at all.

Also where stated limits come in: a server's headers may lower what was declared, or supply what was
not. Kept apart from `Allowance`, which adds the queue, the gate and the life of a reservation.
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
"""A server that states less per window is not believed."""

LEAST_SHARE = 0.01
"""Nor one that states less than this share of what was declared."""

LONGEST_WINDOW = 3_600.0
"""Seconds: what is stated over a longer window (a day's quota) is no rate to pace by."""

RESET_TRUSTED = 300.0
"""Seconds: a reset further off (a day's quota) is no reason to stand still."""


class Rates:
    """The buckets of an allowance.

    Args:
        requests_per_minute: what was declared, or None.
        tokens_per_minute: what was declared, or None.
        burst: seconds of the rate that may come at once.
        share: the part of every limit that is ours.
        belief: what was learned in an earlier run, or None.

    Attributes:
        learner: finds what is neither declared nor stated.
        requests, tokens: the buckets; None where no limit is kept.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = (
        "_declared",
        "_seen",
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
        """Start full."""
        self.burst = burst
        self.share = share
        self.requests: Bucket | None = None
        self.tokens: Metered | None = None
        self._declared: dict[Dimension, float | None] = {"requests": None, "tokens": None}
        self._seen: tuple[tuple[Any, ...], ...] = ()
        self.learner: Learner = Learner()
        self.declare("requests", requests_per_minute, 0.0)
        self.declare("tokens", tokens_per_minute, 0.0)
        if belief is not None:
            self.learner.restore(belief)

    def bucket(self, dimension: Dimension) -> Bucket | None:
        """Return the bucket of a dimension, or None when no limit is kept there."""
        return self.requests if dimension == "requests" else self.tokens

    def ready_at(self, tokens: float) -> float:
        """Return the instant from which one request of `tokens` fits."""
        ready = self.learner.ready_at(tokens)
        if self.requests is not None:
            ready = max(ready, self.requests.ready_at(1.0))
        return ready if self.tokens is None else max(ready, self.tokens.ready_at(tokens))

    def ready_behind(self, requests: int, queued: float, tokens: float, now: float) -> float:
        """Return the instant from which one of `tokens` fits, once so many others have."""
        ready = -math.inf
        if self.requests is not None:
            ready = self.requests.ready_behind(float(requests), 1.0, now)
        if self.tokens is not None:
            ready = max(ready, self.tokens.ready_behind(queued, tokens, now))
        return max(ready, self.learner.ready_behind(requests, queued, now))

    def request_behind(self, requests: int, now: float) -> float:
        """Return the instant from which one request fits, once so many others have."""
        return (
            -math.inf if self.requests is None else self.requests.ready_behind(requests, 1.0, now)
        )

    def take(self, tokens: float, now: float) -> bool:
        """Take one request of `tokens` if its `ready_at` has come; False takes nothing."""
        requests, spent, learner = self.requests, self.tokens, self.learner
        # Where a bucket is full, nothing need be worked out but what was spent lately.
        if requests is not None and now < requests.full_at and now < requests.ready_at(1.0):
            return False
        if (
            spent is not None
            and (now < spent.full_at or spent.ledger.total + tokens > spent.limit)
            and now < spent.ready_at(tokens)
        ):
            return False
        if learner.active and now < learner.ready_at(tokens):
            return False
        if requests is not None:
            requests.take(1.0, now)
        if spent is not None:
            spent.take(tokens, now)
        return True

    def give_request_back(self, taken: Reservation, now: float) -> None:
        """Give back a request that was never sent.

        What has come in since then is kept: a unit given back long after it was taken would be
        one too many in a later window.
        """
        if taken.ticket is not None:
            self.learner.unsent(taken.ticket)
        if self.requests is not None:
            left = 1.0 - (now - taken.granted_at) * self.requests.rate
            self.requests.give_back(max(0.0, left), taken.granted_at)

    def rejected(
        self, taken: Reservation, now: float, hint: float, *, steep: bool
    ) -> Change | None:
        """Take note of a 429; returns how what is believed of the limit changed by it.

        Args:
            taken: the reservation of the request that was rejected.
            now: the instant.
            hint: seconds that the server asks to wait, 0 if it does not.
            steep: whether it said that the rate grew too fast.
        """
        if steep:
            self.learner.slow_down(now)
        elif taken.ticket is None:
            self.learner.rejected_at_rest(taken.granted_at, taken.ordinal)
        elif self.learner.active:
            self.learner.rejected(now, taken.ticket, hint)
        return self.learner.news()

    def full(self, now: float) -> bool:
        """Whether nothing is spent."""
        buckets = (self.requests, self.tokens)
        return self.learner.idle(now) and all(b is None or b.untouched(now) for b in buckets)

    def declare(self, dimension: Dimension, per_minute: float | None, now: float) -> None:
        """Keep the limit that the user states, or none; what is spent stays spent."""
        if per_minute is not None:
            bounds.positive(per_minute, f"{dimension}_per_minute")
        self._declared[dimension] = per_minute
        self._seen = ()
        if per_minute is not None:
            self._keep(dimension, per_minute * self.share, MINUTE, now)
            self.learner.bound(dimension, per_minute * self.share)

    def are_as_expected(
        self, limits: Sequence[Limit], after: Mapping[Dimension, float], age: float, now: float
    ) -> bool:
        """Whether to follow these limits would change nothing: as most replies are.

        They are the limits of the last reply that was followed, and more remains of each than would
        be sent anyway. All else as for `stated.follow`.
        """
        if tuple([(each.dimension, each.limit, each.window) for each in limits]) != self._seen:
            return False
        for each in limits:
            remaining, bucket = each.remaining, self.bucket(each.dimension)
            if remaining is None or bucket is None:
                continue
            left = remaining - after[each.dimension] + age * bucket.rate
            if not (remaining >= 1.0 and left >= bucket.level(now)):
                return False
        return True

    def saw(self, limits: Sequence[Limit]) -> None:
        """Remember limits that were followed."""
        self._seen = tuple([(each.dimension, each.limit, each.window) for each in limits])

    def tightest(self, limits: Iterable[Limit]) -> dict[Dimension, Limit]:
        """Return of each dimension the stated limit that allows the least per second.

        One that spans a day, or that would all but stop the partition, is left out: it is no rate
        to pace by, and if it is meant the server's own answers will tell.
        """
        found: dict[Dimension, Limit] = {}
        for limit in limits:
            known = found.get(limit.dimension)
            if self._is_plausible(limit) and (known is None or _rate(limit) < _rate(known)):
                found[limit.dimension] = limit
        return found

    def adopt(self, stated: Limit, now: float) -> Change | None:
        """Follow a limit that the server states; a declared one is an upper bound."""
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
        self._keep(stated.dimension, limit * self.share, period, now)
        self.learner.stated(stated.dimension)
        return Change(stated.dimension, old, new)

    def _is_plausible(self, stated: Limit) -> bool:
        limit, window = stated.limit or 0.0, window_of(stated)
        declared = self._declared[stated.dimension]
        if not (window <= LONGEST_WINDOW and LEAST[stated.dimension] <= limit < math.inf):
            return False
        return declared is None or limit / window >= LEAST_SHARE * declared / MINUTE

    def window_reset(self, stated: Limit) -> float | None:
        """Return the seconds to stand still because nothing remains of a *window*, or None.

        A bucket that refills also tells a reset, the time until it is full again; it would be a
        waste to wait for that. It is known by its length: all that is missing, at the rate.
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
        """Hold no more than what the server says remains.

        Args:
            stated: what it said, as of when the request arrived.
            since: units granted after that request.
            age: seconds since it was granted, in which the server's allowance refilled too.
            now: the instant.
        """
        bucket, remaining = self.bucket(stated.dimension), stated.remaining
        if bucket is not None and remaining is not None and 0 <= remaining < math.inf:
            bucket.lower_to(remaining - since + age * bucket.rate, now)

    def rebase(self, seconds: float) -> None:
        """Move every stored instant by `seconds`."""
        self.learner.rebase()
        for bucket in (self.requests, self.tokens):
            if bucket is not None:
                bucket.rebase(seconds)

    def _keep(self, dimension: Dimension, limit: float, period: float, now: float) -> None:
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
        """Say the limits that are kept."""
        parts = [
            f"{per_minute(bucket):,.6g} {dimension} per minute"
            for dimension, bucket in (("requests", self.requests), ("tokens", self.tokens))
            if bucket is not None
        ]
        if not parts:
            return "no limit declared: learned, or as the server states it"
        return " and ".join(parts) + (f" (a share of {self.share:.3g})" if self.share < 1 else "")


def _rate(stated: Limit) -> float:
    return (stated.limit or 0.0) / window_of(stated)


def window_of(stated: Limit) -> float:
    """Return the window of a stated limit: a minute, where none is stated that makes sense."""
    window = stated.window
    return window if window is not None and 0 < window < math.inf else MINUTE


def per_minute(bucket: Bucket | None) -> float | None:
    """Return a bucket's limit as a rate per minute."""
    return None if bucket is None else bucket.limit / bucket.period * MINUTE
