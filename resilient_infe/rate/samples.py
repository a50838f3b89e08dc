"""From where in the queue the next call comes, while a server refuses one after the other.

The calls at the head of a queue may be refused for what they are: the first hundred rows of a file
may be malformed. In the order of the queue every question to the server would be one of them, and a
hundred questions take an hour. So a question is also asked with a *sample*: a call from anywhere in
the queue that was not tried before. There are three cases:

1. Three calls in a row are refused, and the server is asked with single calls. The next is a
   sample.
2. It is let in. Then the head is tried again. If that is refused, 2 samples follow, then 4, then 8,
   and after each of these runs the head is tried. Once it is let in, all go in their order again.
3. It is refused. Then the head asks next, and then a sample from elsewhere.

So an honest call is passed by one other in a stop, and by none after it. Rows at the head that are
always refused become 1 in 9 of all that is sent, and each gets its turn. What they meet between
others that are let in says nothing of the limit: those others do.
"""

from __future__ import annotations

import math

LONGEST_RUN = 8
"""Samples in a row. With 4, rows at the head are a fifth of what is sent. With 64, fifty of them at
the head of 1,500 were not known as refused when the others were done, and ended hours later."""

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
"""The step from a sample that is refused to the next: it spreads them evenly over the queue."""


class Samples:
    """Where the next call comes from.

    Attributes:
        left: how many samples come next; 0 if the head is next.
        part: where in the queue they stand, in [0, 1]: first at its end, far from the head.

    State: inside the `Line` that owns it.
    """

    __slots__ = ("_run", "_since", "left", "part")

    def __init__(self) -> None:
        self.left = self._run = 0
        self._since = -math.inf  # what was sent before tells nothing of the last change
        self.part = 1.0

    def refused(self, sent_at: float, now: float, *, sample: bool, asks: bool) -> None:
        """Note a refusal.

        Args:
            sent_at: the loop time at which the call was sent.
            now: the loop time, in seconds.
            sample: whether it was a sample.
            asks: whether nothing is let in, so that single calls ask.
        """
        if sent_at < self._since:
            return
        if sample:
            self.left, self._run = 0, min(self._run, 1)
            self.part = (self.part + GOLDEN) % 1.0
        elif self._run or asks:
            self.left = self._run = min(2 * self._run, LONGEST_RUN) or 1
        else:
            return
        self._since = now

    def is_trial(self, sent_at: float, *, sample: bool) -> bool:
        """Whether a call that is refused was the head, tried after samples were let in."""
        return self._run > 1 and not sample and sent_at >= self._since

    def let_in(self, sent_at: float, *, sample: bool) -> None:
        """Note that a call was let in: if it was the head, all go in their order."""
        if not sample and sent_at >= self._since:
            self.left = self._run = 0

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instant, because the clock has changed."""
        self._since += seconds
