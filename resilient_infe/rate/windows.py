"""The windows of an allowance, and what they have yet to count.

To count a request, and to correct what it cost, takes more than half of the work of a call: each
window has its ledger, its bucket and what they show of the server. Most of that is needed only when
a limit is near, or when the server refuses. So what is granted and settled is written into a log,
and the windows count it, in its order and by its times, when they are next looked at. There are
three cases:

1. *Room was lent.* When all buckets were full and all windows less than half used, a part of that
   room was lent, which is certainly there. A request that fits into the rest of it is granted, and
   nothing is counted.
2. *None is lent, or too little.* The windows count the log, and say whether the request fits.
3. *Somebody looks*: at statistics, for a 429, for a limit that is stated. `Windows.windows` counts
   the log first, so that nobody sees old numbers.

The result is the same as if each were counted at once. It costs less, because the windows count
many in a row, and an interpreter does the same thing many times faster than many things in turn.
"""

from __future__ import annotations

import math
from operator import add
from typing import Any

from .costs import ALL_TOKENS, Costs
from .depth import PROOF
from .learning.learner import Learner
from .lease import Lease
from .reservation import Reservation
from .window import Window

MOST_LENT = 64.0
"""Requests for which room is lent at once."""

LONGEST_LOG = 128
"""Entries of the log: to count them takes half a millisecond."""

MARGIN = 2.0
"""Times the tokens that estimates were worth, for which room is lent: the log may show more."""

_GRANTED: Any = object()
"""What stands in the log in place of the real costs of a request: it was granted."""


class Windows:
    """The windows of an allowance, and the log of what they have yet to count.

    Args:
        learner: finds a limit of a minute that is neither declared nor stated.

    Attributes:
        furthest: the place in `DIMENSIONS` of the last that is limited; -1 if none is.
        learner: the argument of this name.
        lease: the share that is used while other processes use the limits too; None without them.
        passed: what the server let in, in the order of `DIMENSIONS`; None until limits are stated.
        granted_tokens: the tokens of all that were granted, at their real cost where it is known.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = ("_lent_requests", "_lent_tokens", "_log", "_windows", "furthest",
                 "granted_tokens", "learner", "lease", "passed")  # fmt: skip

    def __init__(self, learner: Learner) -> None:
        self._windows: tuple[Window, ...] = ()
        # Each request that was granted or settled, when, and what it really cost.
        self._log: list[tuple[Reservation, float, Costs | None]] = []
        self._lent_requests = self._lent_tokens = 0.0
        self.furthest = -1
        self.learner = learner
        self.lease: Lease | None = None
        self.passed: list[float] | None = None
        self.granted_tokens = 0.0

    @property
    def windows(self) -> tuple[Window, ...]:
        """The limits that are kept, in the order of `DIMENSIONS`; all of the log is counted."""
        if self._log:
            self.catch_up()
        return self._windows

    def use(self, lease: Lease | None, now: float) -> None:
        """Use a share of the limits, which other processes use too; None to use all of them."""
        self.catch_up()
        self.lease = lease
        if lease is not None:
            lease.divide(self._windows, now)

    def fits(self, costs: Costs, now: float) -> bool:
        """Whether a request may be sent now."""
        if self.lease is not None and self.lease.is_over(now):
            return False
        if costs[1] <= self._lent_tokens and self._lent_requests >= 1.0:
            return True
        is_calm = self.furthest <= ALL_TOKENS and self.lease is None
        for each in self.windows:
            # The first test fails if the bucket is full and the window at most half used, which is
            # usual at a low load. Only otherwise is the exact time computed.
            ledger, estimate = each.ledger, costs[each.index]
            used = ledger.total + ledger.open + ledger.newest.open + estimate * each.ratio
            if now < each.full_at or used > each.half:
                is_calm = False
                if now < each.ready_for(estimate):
                    return False
        if self.learner.active:
            tokens = next((each for each in self._windows if each.index == ALL_TOKENS), None)
            reserved = costs[1] if tokens is None else costs[1] * tokens.ratio
            return now >= self.learner.ready_at(reserved)
        if is_calm:
            self._lend()
        return True

    def take(self, taken: Reservation, now: float) -> None:
        """Take a request from all windows."""
        self._log.append((taken, now, _GRANTED))
        self._lent_requests -= 1.0
        self._lent_tokens -= taken.costs[1]

    def settle(self, taken: Reservation, real: Costs | None, now: float) -> None:
        """End a request that was sent and not refused.

        Args:
            taken: the reservation.
            real: what it really cost; None to charge the estimates.
            now: the loop time, in seconds.
        """
        self._log.append((taken, now, real))
        if real is not None and real[1] > taken.costs[1]:
            self._lent_tokens -= real[1] - taken.costs[1]
        if len(self._log) >= LONGEST_LOG:  # many end while none is granted
            self.catch_up()

    def give_back(self, taken: Reservation, now: float, *, sent: bool) -> None:
        """End a request that was refused or never sent: its tokens come back.

        Args:
            taken: the reservation.
            now: the loop time, in seconds.
            sent: whether it was sent. If not, the request comes back too.
        """
        self.catch_up()
        self.granted_tokens -= taken.tokens
        for each in taken.taken:
            each[0].give_back(each, now, sent=sent)
        if not sent and taken.ticket is not None:
            self.learner.unsent(taken.ticket)

    def uncount(self, taken: Reservation) -> None:
        """Note that the server has refused a request, and so has not counted it."""
        self.catch_up()
        for window, _, _, cost, *_ in taken.taken:
            if not window.index:
                window.uncount(cost)

    def refused(self, taken: Reservation, now: float) -> bool:
        """Note a 429; return whether a burst explains it, which then becomes smaller.

        Of several windows, it is taken to concern the one that was furthest ahead of an even pace.
        """
        self.catch_up()
        furthest = None
        for each in taken.taken:
            window, part, *_ = each
            if window.paced and (furthest is None or part.ahead >= furthest[1].ahead):
                furthest = each
        return furthest is not None and furthest[0].refused(furthest[3], furthest[1], now)

    def catch_up(self) -> None:
        """Count all that was granted and settled. What was lent is due."""
        log, self._log = self._log, []
        self._lent_requests = self._lent_tokens = 0.0
        for taken, now, real in log:
            if real is _GRANTED:
                self._count(taken, now)
            else:
                self._correct(taken, real, now)

    def _lend(self) -> None:
        requests, tokens = MOST_LENT, math.inf
        for each in self._windows:
            ledger = each.ledger
            used = ledger.total + ledger.open + ledger.newest.open
            room = min(each.half - used, each.burst)
            if each.index:  # what is in flight is used by its estimate too
                tokens = min(tokens, room / (1.0 + MARGIN * each.ratio))
            else:
                requests = min(requests, room)
        self._lent_requests, self._lent_tokens = requests, tokens

    def _count(self, taken: Reservation, now: float) -> None:
        costs = taken.costs
        taken.taken = took = []
        for each in self._windows:
            part = each.take(costs[each.index], now)
            took.append(part)
            if each.index == ALL_TOKENS:
                taken.tokens = part[3]
        self.granted_tokens = taken.total_tokens = self.granted_tokens + taken.tokens

    def _correct(self, taken: Reservation, real: Costs | None, now: float) -> None:
        for each in taken.taken:
            window, ahead = each[0], each[2]
            window.let_in_at = now
            if window.index:
                window.settle(each, None if real is None else real[window.index], now)
            elif (ahead := ahead - window.uncounted) > PROOF:  # else it proves nothing
                window.passed(each[3], ahead, now)
        charged = max(taken.estimate, taken.tokens) if real is None else real[1]
        self.granted_tokens += charged - taken.tokens
        if self.passed is not None:
            self.passed = list(map(add, self.passed, real or taken.costs))
