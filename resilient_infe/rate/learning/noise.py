"""Random 429s, told from a limit by a likelihood test on rejections.

Two explanations compete for each request: only *noise* refuses, a small share at random; or a
*limit* is reached, which refuses a quarter or more. The logarithm of their likelihood ratio is
summed, and begins anew at 0 where noise explains all so far (a CUSUM test). A 429 adds
log(0.25 / 0.002) = 4.8; each request that passes takes off 0.29.

The share of noise is measured where the pace is surely low.
"""

from __future__ import annotations

import math

from .sends import Ticket
from .tuning import Tuning

PRIOR_HITS, PRIOR_OF = 0.5, 250.0
"""What is imagined to begin with: as much noise as most servers have."""

KEPT = 0.9995
"""Per request: the noise is that of about the last 2,000."""

MOST_CHANCE = 0.03
"""The share up to which 429s are taken for chance after the fact: where others use the limit too,
it looks alike."""

PENDING = 12
"""Requests for which a 429 leaves a doubt that a limit is reached."""


QUESTIONS = 2
"""Requests that go at once after a lone 429. One may pass: what it lacked may be there by then."""


class Noise:
    """The share of random 429s, and the doubt that the latest ones were not random.

    Attributes:
        group: the 429s since the doubt began.
        quiet: requests that only noise would refuse, and that are not reckoned with yet.

    State: inside the `Search` that owns it.
    """

    __slots__ = ("_hits", "_of", "_sum", "_tuning", "group", "quiet")

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._hits, self._of = PRIOR_HITS, PRIOR_OF
        self.quiet = 0
        self.clear()

    @property
    def share(self) -> float:
        """The share of requests that are refused at random."""
        if self.quiet:
            kept = KEPT**self.quiet
            self._of = self._of * kept + (1.0 - kept) / (1.0 - KEPT)
            self._hits *= kept
            self.quiet = 0
        return self._hits / self._of

    @property
    def excess(self) -> float:
        """The same above what is always reckoned with."""
        return max(0.0, self.share - self._tuning.noise_least)

    def clear(self) -> None:
        """Begin to doubt anew."""
        self._sum = 0.0
        self.group: list[Ticket] = []

    def hit(self) -> None:
        """Count one that was refused."""
        self._hits += 1.0

    def was_chance(self, number: int) -> None:
        """Count 429s that were taken for a limit which more was sent than soon after."""
        self._hits = max(self._hits, min(self._hits + number, MOST_CHANCE * self._of))

    def was_none(self) -> None:
        """Take back the hits of a group that was a limit after all."""
        self._hits = max(PRIOR_HITS, self._hits - sum(each.quiet for each in self.group))

    def doubt(self, refused: Ticket) -> float:
        """Add a 429; return how much more likely a limit is than noise, as a logarithm."""
        tuning = self._tuning
        noise = min(max(self.share, tuning.noise_least), tuning.noise_most)
        limit = max(tuning.limit_refuses, min(0.6, 3.0 * noise))
        passed = refused.number - self.group[-1].number - 1 if self.group else 0
        self._sum += max(passed, 0) * math.log((1.0 - limit) / (1.0 - noise))
        if self._sum <= 0.0:
            self._sum, self.group = 0.0, []
        self.group.append(refused)
        self._sum += math.log(limit / noise)
        return self._sum

    def is_pending(self, number: int) -> bool:
        """Whether there was a 429 a few requests ago that is not explained yet."""
        return bool(self.group) and number - self.group[-1].number <= PENDING


class Doubt:
    """Two requests that are sent at once after a lone 429. State: inside the `Seeker`."""

    def __init__(self) -> None:
        self._asked: list[Ticket] = []
        self._waits_for: list[Ticket] = []

    def ask(self, ticket: Ticket) -> bool:
        """Note a request; return whether another is to go at once."""
        if len(self._asked) < QUESTIONS:
            self._asked.append(ticket)
            self._waits_for.append(ticket)
        return len(self._asked) < QUESTIONS

    def passed(self, ticket: Ticket) -> bool:
        """Note that a request was let in; return whether all of them were."""
        if ticket in self._waits_for:
            self._waits_for.remove(ticket)
        return len(self._asked) == QUESTIONS and not self._waits_for

    def silent(self, now: float, usual: float) -> bool:
        """Whether a 429 of the last of them would be here by now."""
        return len(self._asked) == QUESTIONS and now - self._asked[-1].at > max(0.3, usual)
