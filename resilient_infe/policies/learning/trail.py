"""What was sent, and what of it was rejected: the evidence that every stage judges by."""

from __future__ import annotations

from dataclasses import dataclass

from ..ledger import Ledger

WINDOW = 60.0
"""Seconds; every known provider states its limits per minute."""

FIRST_ANSWER = 0.2
"""Seconds that a rejection is taken to need before one has come."""

SMOOTHING = 0.1
"""How much of the latest value goes into a running mean."""


IN_FLIGHT, ANSWER_TIMES = 0.2, 2.5
"""Of what was rejected: so much may be on its way, to be rejected too. And what was sent within so
many times that an answer needs is no measure at all."""

QUIET_DECAY = 0.999
"""Per request: the noise is that of about the last thousand."""

QUIET_PRIOR = 50.0
"""Requests without noise that are imagined to begin with."""

NOISE_TIMES = 2.5
"""So many times the usual noise is needed on top before rejections mean something."""


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

    State: inside the `Finder` that owns it.
    """

    __slots__ = (
        "_quiet",
        "_quiet_rejected",
        "_rejected",
        "anchor",
        "answer_time",
        "hint",
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
        self._rejected = 0.0
        self._quiet = QUIET_PRIOR
        self._quiet_rejected = 0.0

    def add(self, now: float, cost: float, pace: float, *, looking: bool, quiet: bool) -> Sent:
        """Note a request that is sent now."""
        if self.started is None:
            self.started, self.unit = now, cost
        sent = Sent(now, cost, self.total, self.number, pace, looking, quiet)
        self.number += 1
        if quiet:
            self._quiet = self._quiet * QUIET_DECAY + 1.0
            self._quiet_rejected *= QUIET_DECAY
        self.total += cost
        self.unit += SMOOTHING * (cost - self.unit)
        self.ledger.add(cost, now)
        return sent

    def take_off(self, sent: Sent, now: float) -> None:
        """Note that it was rejected."""
        self.answer_time += SMOOTHING * (now - sent.at - self.answer_time)
        self.ledger.correct(-sent.cost, sent.at)
        self._rejected += sent.cost
        if sent.quiet:
            self._quiet_rejected += 1.0
        sent.rejected_by_then = self._rejected
        if self.anchor is not None and sent.at < self.anchor.at:  # it is of before the anchor
            self.anchor.rejected_by_then += sent.cost

    def forget(self, sent: Sent) -> None:
        """Take off a request that was never sent."""
        self.ledger.correct(-sent.cost, sent.at)
        self._rejected += sent.cost

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


class Suspicion:
    """Rejections that nothing explains yet: noise, or the first signs of another limit.

    A server whose limit fell rejects many of those that follow; one that answers a request in two
    hundred with 429 for no reason does not. So a rejection counts when others stand close to it.

    Args:
        needed: so many rejections
        among: among so many requests are no chance.
    """

    __slots__ = ("_among", "_needed", "_recent")

    def __init__(self, needed: int, among: int) -> None:
        """Suspect nothing."""
        self._needed, self._among = needed, among
        self._recent: list[Sent] = []

    @property
    def first(self) -> Sent:
        """The first of those that stand together."""
        return self._recent[0]

    def add(self, sent: Sent, noise: float = 0.0) -> bool:
        """Note a rejection; True if enough stand together, those expected of noise left out."""
        self._recent.append(sent)
        while abs(sent.number - self._recent[0].number) > self._among:
            self._recent.pop(0)
        return len(self._recent) >= self._needed + round(NOISE_TIMES * noise * self._among)

    def pending(self, number: int) -> bool:
        """Whether one is near enough that another would matter."""
        return bool(self._recent) and number - self._recent[-1].number <= self._among
