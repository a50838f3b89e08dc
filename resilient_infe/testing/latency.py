"""How long the simulated server takes to begin an answer: always the same, spread, or stuck."""

from __future__ import annotations

import random
from typing import NamedTuple


class Stuck(NamedTuple):
    """Replies that take much longer than the others, as of a machine that is stuck.

    Attributes:
        share: of the replies, in [0, 1].
        shortest: seconds before the reply.
        longest: the same; the seconds are drawn evenly between the two.
    """

    share: float
    shortest: float
    longest: float


def drawn_latency(drawn: random.Random, median: float, spread: float, stuck: Stuck | None) -> float:
    """Return the seconds before one reply. Nothing is drawn where nothing varies.

    Args:
        drawn: the random source.
        median: seconds.
        spread: the standard deviation of the logarithm of the seconds: with 0.6, one reply in
            twenty takes over 2.7 times the median.
        stuck: the replies that take much longer; None for none.
    """
    if stuck is not None and drawn.random() < stuck.share:
        return drawn.uniform(stuck.shortest, stuck.longest)
    return median * drawn.lognormvariate(0.0, spread) if spread else median
