"""Corrects estimates of tokens by what requests really cost.

A reservation holds its estimate until the request is settled. If estimates are 2.5 times too high
and an answer takes 8 s, that holds a fifth of a minute's limit back for nothing. So an estimate is
multiplied by the ratio of real to estimated tokens, as seen of late, before it is reserved.

The ratio is a mean, and single requests differ from it. What counts is the sum over the requests in
flight. Its variance is that of a single ratio, times

- the sum of the squares of their estimates, because each one differs,
- plus the square of the sum of their estimates over the number of requests that the mean is taken
  of, because the mean itself may be off, and then it is off for all of them. They are weighted by
  their estimates: if one of them was as large as all others together, they count as four at most.

Three standard deviations are held back from the window while they are in flight. That delays
nothing unless the window is nearly full.
"""

from __future__ import annotations

import math

from .costs import LARGEST_COST
from .ledger import Ledger

MEMORY = 0.99
"""What is left of the weight of a request with each one that follows: about 100 count."""

FADED_SQUARE = MEMORY * MEMORY
"""The same of a weight's square."""

PRIOR = 4.0
"""Requests for which the estimates seem right at the start, so that one result changes little."""

MOST = 30.0
"""Times the expected cost: a request counts as no more than this. If a server once stated a usage
of a billion by mistake, a single request a minute would be sent for hours."""

KNOWN_BY = 12.0
"""Requests, those of `PRIOR` included, after which it is known how much estimates vary."""

MARGIN = 3.0
"""Standard deviations of the sum that are held back."""

MOST_HELD_BACK = 0.999
"""The share of the limit that is held back at most, where estimates are bounds."""


class Calibration:
    """The ratio of real to estimated tokens, weighted by the estimates, and its spread.

    Attributes:
        ratio: real over estimated tokens; 1 before the first request.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = ("_estimated", "_variance", "_weights", "ratio")

    def __init__(self) -> None:
        self.ratio, self._variance = 1.0, 0.0
        # Sums over the last requests: of their estimates, and of the squares of these.
        self._estimated = self._weights = 0.0

    def settled(self, estimate: float, real: float) -> float:
        """Note that a request has ended, and what it really cost; return the ratio.

        Args:
            estimate: its estimate in tokens.
            real: its tokens as the server counted them.
        """
        if estimate < 1.0:  # such a request is free, and says nothing of others
            return self.ratio
        ratio, square, seen = self.ratio, estimate * estimate, real / estimate
        if not self._estimated:
            self._estimated, self._weights = PRIOR * estimate, PRIOR * square
        if seen > MOST:
            seen = min(seen, MOST * max(1.0, ratio), LARGEST_COST)
        # The mean and the variance of a sample that is weighted by the estimates, where what came
        # before has faded. Each moves by the share that this request has of all weights.
        self._estimated = estimated = MEMORY * self._estimated + estimate
        self._weights = FADED_SQUARE * self._weights + square
        off, share = seen - ratio, estimate / estimated
        self._variance += share * (off * off - self._variance)
        self.ratio = ratio = ratio + share * off
        return ratio

    def deviation(self, estimate: float) -> float:
        """Return the standard deviation of the real cost of one request."""
        return estimate * math.sqrt(self._variance)

    @property
    def doubt(self) -> float:
        """Two standard deviations of a single request, as a share of what it should cost."""
        if self._estimated * self._estimated < KNOWN_BY * self._weights or not self.ratio:
            return 1.0
        return 2.0 * self.deviation(1.0) / self.ratio

    def held_back(self, ledger: Ledger, limit: float) -> float:
        """Return the tokens that those in flight may cost above what is reserved for them.

        Args:
            ledger: where they are noted.
            limit: the limit on all tokens; some of it is always left.
        """
        reserved, estimated, squares = ledger.in_flight()
        if not self._variance or estimated < 1.0:
            return 0.0
        share = estimated / self._estimated
        squares = max(0.0, squares) + share * share * self._weights
        likely = MARGIN * math.sqrt(self._variance * squares)
        cost, most = self.ratio * estimated + likely, limit / 2
        if self.ratio <= 1.0:  # estimates that are too high on average are taken to be bounds
            cost, most = min(cost, estimated), MOST_HELD_BACK * limit
        return max(0.0, min(cost - reserved, most))
