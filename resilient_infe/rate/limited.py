"""What an allowance knows of its limits, without its queue and its reservations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.shared import Shared
from ..core.verdict import MINUTE
from .change import Change
from .costs import ALL_TOKENS, Costs, costs_of
from .days import DAYS, checked_days, restore, spent_of
from .gate import WITNESSES, Gate, GateClosed
from .lease import Lease
from .line import Line, cost_for_tenant
from .processes import Suspicion
from .rates import Rates
from .refusals import MEMORY, Others
from .reservation import Reservation
from .window import Window

DRAINED_IN = 0.5
"""Seconds in which a process would send what waits, if it had the whole limit: with what it sends,
this is its need."""


class Limited(Shared):
    """The limits of an `Allowance`.

    Attributes:
        gate: holds all senders back while the server asks to wait.
        others: what was let in and refused of late.
        line: the waiting reservations.

    State: the limits, the learner and the gate.
    """

    __slots__ = ("_rates", "_resized", "gate", "line", "others")

    _granted: int
    _rates: Rates
    _resized: bool
    gate: Gate
    others: Others
    line: Line

    @property
    def limits_tokens(self) -> bool:
        """Whether there is a limit on tokens."""
        return self._rates.furthest > 0

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a token limit, or one may be learned: only then tokens matter."""
        rates = self._rates
        return rates.furthest > 0 or rates.learner.active

    @property
    def splits_tokens(self) -> bool:
        """Whether there is a limit on the tokens of the input or the output alone."""
        return self._rates.furthest > ALL_TOKENS

    def admits_within(self, seconds: float) -> float | None:
        """Return how many requests a full bucket admits in `seconds`; None without a limit."""
        bucket = self._rates.requests
        if bucket is None:
            return None
        later = bucket.limit + bucket.rate * max(0.0, seconds - bucket.period)
        return min(bucket.burst + bucket.rate * seconds, later)

    def cost_of(self, tokens: float, output: float | None = None) -> float:
        """Return what a request costs its tenant, in requests."""
        return self.cost_for_tenant(costs_of(tokens, output))

    def cost_for_tenant(self, costs: Costs) -> float:
        """Do what `cost_of` does, for a request of these costs."""
        return cost_for_tenant(self._rates, costs)

    def refills_in(self, costs: Costs) -> float:
        """Return the seconds in which the limits of up to a minute refill what a request costs."""
        windows = (each for each in self._rates.windows if each.period <= MINUTE)
        return max((costs[each.index] * each.ratio / each.rate for each in windows), default=0.0)

    def oversized(self, costs: Costs) -> bool:
        """Whether an estimate is more than the limit allows in a whole minute."""
        return self._rates.oversized(costs)

    def full_until(self, tokens: float = 0.0, output: float | None = None) -> float:
        """Return when a day's limit has room for a request; in the past if it has it now."""
        return self.days_full_until(costs_of(tokens, output))

    def days_full_until(self, costs: Costs) -> float:
        """Do what `full_until` does, for a request of these costs."""
        return self._rates.full_until(costs)

    def let_in(self, reservation: Reservation, now: float) -> None:
        """Note that the server let a request in, while that matters: see `Others`."""
        self._rates.catch_up()
        self.gate.let_in(reservation.granted_at, now)
        self.others.note(reservation.granted_at, reservation.tokens, refused=False)
        self.line.note_let_in(reservation)

    def told_to_wait(
        self, reservation: Reservation, delay: float, now: float, reason: str
    ) -> GateClosed | None:
        """Note that the server asked for a wait; return that the gate closed, if it did."""
        self.others.watched_until = now + MEMORY
        closed = self.gate.refused(reservation.granted_at, now + delay, now, reason)
        return GateClosed(self.gate.left(now), reason) if closed else None

    def rejected(
        self, reservation: Reservation, now: float, hint: float = 0.0, *, steep: bool = False
    ) -> list[Change | Suspicion]:
        """Report a 429 to the learner; return what changed by it. See `Rates.rejected`."""
        return self._rates.rejected(reservation, now, hint, steep=steep)

    def uncount(self, reservation: Reservation) -> None:
        """Note that the server has refused a request, and so has not counted it."""
        self._rates.uncount(reservation)

    @property
    def asks(self) -> bool:
        """Whether the server lets nothing in just now, so that single calls ask it."""
        stopped = self.gate.asks or self._rates.learner.stopped
        return stopped and self.others.in_a_row >= WITNESSES

    def says_nothing(self, reservation: Reservation) -> None:
        """Note a 429 that is about the request, so that another asks in its place."""
        if reservation.ticket is not None:
            self._rates.learner.unsent(reservation.ticket)

    def refused(self, reservation: Reservation, now: float) -> bool:
        """Note a 429; return whether it only shows that the server bears a smaller burst."""
        return self._rates.refused(reservation, now)

    def needs(self, queued: Costs, seconds: float, now: float) -> tuple[float, float]:
        """Return what waits and what was sent of late, each per second as a part of the limit.

        Both are those of the scarcest limit of up to a minute; 0 without one.

        Args:
            queued: the costs of what waits.
            seconds: over how many what was sent is counted.
            now: the loop time, in seconds.
        """
        scarcest = 0.0, 0.0
        for each in self._rates.windows:
            if each.period <= MINUTE:
                second = each.period / each.limit
                waits = queued[each.index] * each.ratio / DRAINED_IN
                sent = each.ledger.within(now - seconds, now) / seconds
                scarcest = max(scarcest, (waits * second, sent * second), key=sum)
        return scarcest

    @property
    def granted(self) -> tuple[int, float]:
        """What was granted so far: the requests, and their tokens, by real cost where known."""
        self._rates.catch_up()
        return self._granted, self._rates.granted_tokens

    @property
    def days(self) -> list[Window]:
        """The limits of a day."""
        return [each for each in self._rates.windows if not each.paced]

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit that is declared or stated."""
        return bool(self._rates.windows)

    def use(self, lease: Lease | None, now: float) -> None:
        """Use a share of the limits, which other processes use too; None to use all of them."""
        self._rates.use(lease, now)

    def resize(self, now: float, **limits: float | None) -> None:
        """Declare new limits while in use; units taken stay taken.

        Args:
            now: the loop time, in seconds.
            limits: by the names of the constructor, such as ``tokens_per_day``; None keeps a limit.

        Raises:
            ConfigurationError: a value is not above 0, or a name is not one of a limit.
        """
        self._resized = True
        for name, limit in limits.items():
            self._rates.declare(name, limit, now)

    def declared(self, limit: str) -> float | None:
        """Return a declared limit by its name, of all processes; None if it is not declared."""
        return self._rates.declared(limit)

    def declare(self, limit: str, value: float, now: float) -> None:
        """Declare another limit, by its name."""
        self.resize(now, **{limit: value})

    def believe(
        self, belief: Mapping[str, Any], now: float | None = None, wall: float = 0.0
    ) -> None:
        """Start from the value of `belief` in an earlier run.

        Args:
            belief: the value.
            now: the loop time, in seconds; None leaves out what was spent of a day.
            wall: seconds since 1970 at that time.

        Raises:
            ConfigurationError: it is not such a value.
        """
        days = checked_days(belief)
        if days is None or "dimension" in belief:
            self._rates.learner.restore(belief)
        if now is not None and days is not None:
            restore(self._rates.windows, days, now, wall)

    def belief(self, now: float | None = None, wall: float = 0.0) -> dict[str, Any] | None:
        """Return what is known of the limits in a form that JSON can hold; None for nothing.

        Args:
            now: the loop time, in seconds; None leaves out what was spent of a day.
            wall: seconds since 1970 at that time.
        """
        known = self._rates.learner.belief() or {}
        days = {} if now is None else spent_of(self._rates.windows, now, wall)
        return {**known, **({DAYS: days} if days else {})} or None

    def waits_for(self, now: float) -> str:
        """Return a short text on why a call has to wait now."""
        if now < self.gate.until:
            return self.gate.reason or "the gate is closed"
        return self._rates.learner.waits_for

    def __str__(self) -> str:
        """Return the limits in words."""
        return str(self._rates)
