"""What was sent, and what of it was rejected: the evidence that every stage judges by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...core.verdict import MINUTE
from ..ledger import Ledger

WINDOW = MINUTE
"""Seconds; every known provider states its limits per minute."""

FIRST_ANSWER, SLOWEST_ANSWER = 0.2, 5.0
"""Seconds that a rejection is taken to need before one has come, and at most."""

SMOOTHING = 0.1
"""How much of the latest value goes into a running mean."""


DECAY = 0.999
"""Per request: what is counted is that of about the last thousand."""

MANY, MUCH = 15.0, 30.0
"""So many rejections below the measured limit are no chance; and so many are no noise at all."""

DOUBTFUL, TEST_EVERY = 0.01, 5_000.0
"""Above so much noise it is tested, and once in so many requests: a test costs some hundred."""

LONE, SURE, SILENT = 7.0, 8.0, 0.2
"""Lone rejections of the last thousand that make one wonder; how many noise should have brought
while it was quiet; and below what part of that it was none."""

CLOSE, BURSTS, BURSTS_TIMES = 3, 0.2, 3.0
"""Two within so many requests are a burst; and what share of the rejections must be in one, and how
many times what chance would do, before others are at work."""

IN_FLIGHT, ANSWER_TIMES = 0.2, 2.5
"""Of what was rejected: so much may be on its way, to be rejected too. And what was sent within so
many times that an answer needs is no measure at all."""

QUIET_DECAY = 0.999
"""Per request: the noise is that of about the last thousand."""

QUIET_PRIOR = 50.0
"""Requests without noise that are imagined to begin with."""


@dataclass(slots=True, eq=False)
class Sent:
    """One request on its way.

    Attributes:
        at: when it was sent.
        cost: what it takes of the limit, in units.
        before: units that were sent before it, from the beginning.
        number: how many requests were.
        pace: units per second that were aimed at.
        looking: whether that was a look upwards.
        quiet: whether it was far below what is known to pass, so that only noise rejects it.
        rejected_by_then: units rejected up to and with it; set once it is rejected.
    """

    at: float
    cost: float
    before: float
    number: int
    pace: float
    looking: bool
    quiet: bool
    rejected_by_then: float = 0.0


@dataclass(frozen=True, slots=True)
class Measure:
    """What was accepted between two rejections; `rate` is the limit, if both found it used up.

    At a rejection the server's allowance is empty. So between two of them it accepted what came in:
    the limit is units over seconds whatever the burst is, to within one request.
    """

    units: float
    seconds: float
    unit: float
    rejected: float = 0.0
    answer_time: float = 0.0

    @property
    def rate(self) -> float:
        """Units per second, at the middle of the error of one request."""
        return (self.units + self.unit / 2) / max(self.seconds, 1e-3)

    @property
    def nothing(self) -> bool:
        """Whether nothing was accepted, but for what may be rejected yet."""
        if self.seconds < ANSWER_TIMES * self.answer_time:
            return True
        return self.units < self.unit / 2 or self.units < IN_FLIGHT * self.rejected

    @property
    def sends(self) -> float:
        """How many requests were accepted; the relative error is one over it."""
        return self.units / self.unit


class Trail:
    """The sends of one dimension.

    Attributes:
        started: when the first was sent, or None.
        unit: the mean cost of a request.
        anchor: the rejection that `measure` measures from, or None.
        answer_time: seconds that a rejection takes, on the average.
        hint: seconds that the last rejection asked to wait, 0 if it did not.
        idle_at: when there was last no work for a while.

    State: inside the `Finder` that owns it.
    """

    __slots__ = (
        "_close",
        "_hushed",
        "_hushed_rejected",
        "_last_unlooked",
        "_quiet",
        "_quiet_rejected",
        "_rejected",
        "_test_from",
        "_unlooked",
        "anchor",
        "answer_time",
        "hint",
        "idle_at",
        "ledger",
        "number",
        "started",
        "total",
        "unit",
    )

    def __init__(self) -> None:
        """Start with nothing sent."""
        self.started: float | None = None
        self.number = 0
        self.total = 0.0
        self.unit = 1.0
        self.ledger = Ledger(WINDOW)
        self.anchor: Sent | None = None
        self.answer_time = FIRST_ANSWER
        self.hint = 0.0
        self.idle_at = -math.inf
        self._rejected = 0.0
        self._quiet = QUIET_PRIOR
        self._quiet_rejected = 0.0
        self._unlooked = self._close = self._test_from = 0.0
        self._hushed = self._hushed_rejected = 0.0
        self._last_unlooked = -math.inf

    def add(self, now: float, cost: float, pace: float, *, looking: bool, quiet: bool) -> Sent:
        """Note a request that is sent now."""
        if self.started is None:
            self.started, self.unit = now, cost
        sent = Sent(now, cost, self.total, self.number, pace, looking, quiet)
        self.number += 1
        if quiet:
            self._hushed += 1.0
            self._quiet = self._quiet * QUIET_DECAY + 1.0
            self._quiet_rejected *= QUIET_DECAY
        self.total += cost
        self._unlooked *= DECAY
        self._close *= DECAY
        self.unit += SMOOTHING * (cost - self.unit)
        self.ledger.add(cost, now)
        return sent

    def take_off(self, sent: Sent, now: float) -> None:
        """Note that it was rejected."""
        took = min(now - sent.at, SLOWEST_ANSWER)
        self.answer_time += SMOOTHING * (took - self.answer_time)
        self.ledger.correct(-sent.cost, sent.at)
        self._rejected += sent.cost
        if not sent.looking:
            self._unlooked += 1.0
            self._close += sent.number - self._last_unlooked <= CLOSE
            self._last_unlooked = sent.number
        if sent.quiet:
            self._hushed_rejected += 1.0
            self._quiet_rejected += 1.0
        sent.rejected_by_then = self._rejected
        if self.anchor is not None and sent.at < self.anchor.at:  # it is of before the anchor
            self.anchor.rejected_by_then += sent.cost

    def idle(self, now: float) -> None:
        """Note that there was no work: a bucket may have spilled since the anchor."""
        self.anchor = None
        self.idle_at = now

    def forget(self, sent: Sent) -> None:
        """Take off a request that was never sent."""
        self.ledger.correct(-sent.cost, sent.at)
        self._rejected += sent.cost

    @property
    def wonders(self) -> bool:
        """Whether there are so many lone rejections that it matters what they are."""
        return self._unlooked > LONE and self.number >= self._test_from

    def hush_tells(self) -> bool:
        """Whether it was quiet whenever one kept far below the limit, so that others are there.

        Each quiet stretch is too short for others to take what is left to them, and for noise to
        show; so they are counted together until one of the two must have shown.
        """
        expected = self._hushed * self._unlooked * (1.0 - DECAY)
        if expected < SURE or not self.wonders:
            return False
        silent = self._hushed_rejected <= expected * SILENT
        self._hushed = self._hushed_rejected = 0.0
        if not silent:
            self.noise_tested(self.number)
        return silent

    @property
    def is_shared(self) -> bool:
        """Whether rejections come in bursts though one keeps below what one measured.

        Noise falls on any request; where others empty the server's allowance, it stays empty for a
        while. A limit that fell is measured anew after a few, so only many tell.
        """
        expected = CLOSE * self._unlooked * (1.0 - DECAY)
        often = max(BURSTS, BURSTS_TIMES * expected)
        bursts = self._unlooked > MANY and self._close > often * self._unlooked
        return bursts or self._unlooked > MUCH

    @property
    def doubtful(self) -> bool:
        """Whether there is so much noise that one should see whether it is any."""
        surely = self._quiet_rejected - 2.0 * math.sqrt(self._quiet_rejected)
        return surely > DOUBTFUL * self._quiet and self.number >= self._test_from

    def noise_tested(self, number: int) -> None:
        """Note that it is, so that it is not tested again soon."""
        self._test_from = number + TEST_EVERY

    @property
    def noise(self) -> float:
        """The share of requests rejected while nothing was to be expected, for no reason we see."""
        return self._quiet_rejected / self._quiet

    def measure(self, sent: Sent, since: Sent | None = None) -> Measure | None:
        """Return what was accepted between a rejection (the anchor by default) and another."""
        first = self.anchor if since is None else since
        if first is None or sent.at <= first.at:
            return None
        rejected = sent.rejected_by_then - sent.cost - first.rejected_by_then
        units = sent.before - first.before - first.cost - rejected
        seconds = sent.at - first.at
        return Measure(max(0.0, units), seconds, self.unit, rejected, self.answer_time)

    def beyond_anchor(self, now: float) -> Measure | None:
        """Return what was sent and not rejected since the anchor."""
        first = self.anchor
        if first is None:
            return None
        rejected = self._rejected - first.rejected_by_then
        units = self.total - first.before - first.cost - rejected
        return Measure(max(0.0, units), now - first.at, self.unit)

    def accepted_within(self, start: float, end: float) -> float:
        """Return the units that were sent between two instants of the last minute and accepted."""
        return self.ledger.within(start, end)
