"""Corrects estimates of tokens by what requests really cost.

A reservation holds its estimate until the request is settled. If estimates are 2.5 times too high
and an answer takes 8 s, that holds a fifth of a minute's limit back for nothing. So an estimate is
multiplied by the ratio of real to estimated tokens, as seen of late, before it is reserved.

The ratio is a mean, and single requests differ from it. What counts is the sum over the requests in
flight. Its variance is that of a single ratio, times

- the sum of the squares of their estimates, because each one differs,
- plus the square of the sum of their estimates over the number of requests that the mean is taken
  of, because the mean itself may be off, and then it is off for all of them.

Three standard deviations are held back from the window while they are in flight. That delays
nothing unless the window is nearly full.
"""

from __future__ import annotations

import math

MEMORY = 0.99
"""What is left of the weight of a request with each one that follows: about 100 count."""

PRIOR = 4.0
"""The estimates are taken to be right until so many requests have shown otherwise."""

MARGIN = 3.0
"""Standard deviations of the sum that are held back."""


class Calibration:
    """The ratio of real to estimated tokens, weighted by the estimates, and its spread.

    Attributes:
        ratio: real over estimated tokens; 1 before the first request.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = (
        "_count",
        "_estimated",
        "_open",
        "_open_squares",
        "_real",
        "_spread",
        "_squares",
        "ratio",
    )

    def __init__(self) -> None:
        self.ratio = 1.0
        self._count = PRIOR
        self._estimated = self._real = self._squares = 0.0  # sums over the last requests
        self._open = self._open_squares = 0.0  # sums over those in flight, of their estimates

    def began(self, estimate: float) -> None:
        """Note that a request was sent."""
        self._open += estimate
        self._open_squares += estimate * estimate

    def ended(self, estimate: float) -> None:
        """Note that a request is no longer in flight, of which the cost is not known."""
        self._open -= estimate
        self._open_squares -= estimate * estimate

    def settled(self, estimate: float, real: float) -> None:
        """Note that a request has ended, and what it really cost.

        Args:
            estimate: its estimate in tokens.
            real: its tokens as the server counted them.
        """
        self._open -= estimate
        self._open_squares -= estimate * estimate
        if estimate < 1.0:  # such a request is free, and says nothing of others
            return
        if not self._estimated:
            self._estimated = self._real = PRIOR * estimate
        off = real - self.ratio * estimate
        self._count = MEMORY * self._count + 1.0
        self._squares = MEMORY * self._squares + off * off / estimate
        self._estimated = estimated = MEMORY * self._estimated + estimate
        self._real = MEMORY * self._real + real
        self.ratio = self._real / estimated

    def held_back(self) -> float:
        """Return the tokens that those in flight may cost above what is reserved for them."""
        if not self._squares or self._open < 1.0:
            return 0.0
        squares = max(0.0, self._open_squares) + self._open * self._open / self._count
        likely = MARGIN * math.sqrt(self._squares / self._estimated * squares)
        # Estimates that are too high on average are taken to be bounds.
        return likely if self.ratio > 1.0 else min(likely, self._open * (1.0 - self.ratio))

    def abandon(self) -> None:
        """Forget what is in flight, because its loop was closed."""
        self._open = self._open_squares = 0.0
