"""What was sent before a limit was declared, for a limit that is declared while in use.

There are three cases:

1. Another limit is kept. Its ledger knows how many requests were sent in each slice.
2. None is kept, and the limit is being learned. The learner knows the requests, and their tokens as
   they were estimated.
3. Tokens were not counted at all. Then the new limit counts from now on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .costs import ALL_TOKENS
from .learning.learner import Learner
from .window import Window

STEPS = 60
"""Parts of a period in which what the learner knows is charged."""


def charge(window: Window, others: Iterable[Window], learner: Learner, now: float) -> None:
    """Charge a window that was just made with what the period before has sent.

    Args:
        window: the window.
        others: those that were kept before.
        learner: of the same allowance.
        now: the loop time, in seconds.
    """
    for at, units in _sent(window, others, learner, now):
        if units > 0.0:
            window.ledger.add(units, at)


def _sent(
    window: Window, others: Iterable[Window], learner: Learner, now: float
) -> Iterator[tuple[float, float]]:
    longest = max(others, key=lambda each: each.period, default=None)
    if longest is not None and not window.index:
        yield from longest.ledger.sends(now)
    elif learner.active and window.index <= ALL_TOKENS:
        step = window.period / STEPS
        for part in range(STEPS, 0, -1):
            since = now - part * step
            yield since + step, learner.passed(since, since + step, window.index)
