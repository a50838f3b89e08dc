"""The allowance: the requests and tokens that may be sent, a queue, and a gate.

Every *attempt* makes a reservation before it is sent, and is settled to its real cost when it ends.
A request and its tokens are granted together or not at all. The oldest call is granted first, so
small requests cannot starve a large one. A large one may go into debt, so it does not block the
small ones for ever. One that is larger than the whole limit is granted alone, behind the others.
Calls with a priority or a tenant are granted in another order: see `line`.

Hints from the server close the shared gate (see `gate`). A 429 without a hint closes nothing: the
`Learner` finds out what it means. A call that alone is refused stops nobody: see `refusals`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from ..core import bounds
from ..core.priority import TRICKLE
from ..core.queue import ORDINARY, Standing
from ..core.verdict import Limit, Usage
from .change import Change
from .costs import Costs, costs_of, costs_of_usage
from .gate import Gate, GateClosed
from .limited import Limited
from .line import Line, even_at
from .periods import PAUSE, Periods
from .processes import parts
from .rates import NAMES, Rates
from .refusals import Others
from .reservation import Reservation
from .snapshots import AllowanceStatistics, snapshot
from .stated import follow

BURST = 'burst, in seconds of the rate or "window",'


class Allowance(Limited):
    """A rate limit on requests and on tokens, with a queue and a gate that all senders share.

    No window of a minute, or of a day, admits more than the limit, if estimates of tokens are right
    or too high (see `Window`). Without numbers the limit of a minute is learned; with numbers, 429s
    can only lower it.

    Args:
        requests_per_minute: the limit, above 0; None to use the limit that the server states, and
            to learn it if it states none.
        tokens_per_minute: the same for the tokens of input and output together.
        input_tokens_per_minute: the same for those of the input alone; None, the default, for none.
        output_tokens_per_minute: the same for those of the output, reasoning included.
        requests_per_day: the limit of any 24 hours, above 0, or None; see `DayUsedUp`.
        tokens_per_day: the same for tokens.
        cached_weight: what a token of the input that was read from the provider's cache counts, in
            [0, 1]; None, the default, to count it as the provider's usage does.
        follow_headers: whether to follow the limits that the server states; True by default.
        burst: the seconds of the rate that can be sent at once, above 0, or ``"window"`` for the
            whole limit. It begins at 2 s, grows with what the server lets in, and shrinks if it
            bears less; it never lowers the steady rate. The default of 1 keeps the sends even.
        share: the part of the limits that this process may use, in (0, 1]: ``1 / 20`` for 20
            replicas. The default of 1 is for a single process.
        shared: whether others use a learned limit too; False by default. See `RateLimiter`.
        max_waiting: the number of reservations that may wait, 0 or more; None, the default, for no
            bound. A retry may always wait. Each class has its own bound.
        trickle: the share guaranteed to each class that waits below another, from 0 to 1/3; 0.1.
        belief: the value of `belief` in an earlier run, so that the limit is known from the start.

    Raises:
        ConfigurationError: a value is out of range.

    Attributes:
        gate: holds all senders back while the server asks to wait.
        line: the waiting reservations.
        max_waiting: the argument of this name.

    State: shared by every `RateLimiter` that is given the object.
    """

    __slots__ = ("__weakref__", "_abandoned", "_cached_weight", "_ended", "_granted",
                 "_looks_at", "_periods", "max_waiting")  # fmt: skip

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        input_tokens_per_minute: float | None = None,
        output_tokens_per_minute: float | None = None,
        requests_per_day: float | None = None,
        tokens_per_day: float | None = None,
        cached_weight: float | None = None,
        follow_headers: bool = True,
        burst: float | Literal["window"] = 1.0,
        share: float = 1.0,
        shared: bool = False,
        max_waiting: int | None = None,
        trickle: float = TRICKLE,
        belief: Mapping[str, Any] | None = None,
    ) -> None:
        share, shared = parts(share, 1, shared)
        seconds = math.inf if burst == "window" else bounds.positive(burst, BURST)
        if cached_weight is not None:
            bounds.between(cached_weight, 0, 1, "cached_weight")
        self.max_waiting = max_waiting
        limits = (requests_per_minute, tokens_per_minute, input_tokens_per_minute,
                  output_tokens_per_minute, requests_per_day, tokens_per_day)  # fmt: skip
        declared = dict(zip(NAMES, limits, strict=True))
        self._rates = Rates(declared, seconds, share, shared=shared)
        self._cached_weight = cached_weight
        self._periods = Periods() if follow_headers else None
        self._looks_at = -math.inf
        self.gate = Gate()
        self.others = Others()
        self.line = Line(max_waiting, trickle)
        self._granted = self._ended = self._abandoned = 0
        self._resized = False
        if belief is not None:
            self.believe(belief)

    @property
    def waiting(self) -> int:
        """The number of waiting reservations."""
        return self.line.queue.live

    @property
    def busy(self) -> bool:
        """Whether a reservation is open or waiting. Then only the current loop may use this."""
        return self._granted > self._ended or self.line.queue.live > 0

    @property
    def due(self) -> float | None:
        """The loop time at which `poll` grants the next reservation; None if none waits."""
        head = self.line.queue.head()
        if head is None:
            return None
        return self.due_of(head.costs, owed=not self.line.waits_for_burst(head))

    def due_of(self, costs: Costs, *, owed: bool) -> float:
        """Return when a request has room; unless `owed`, beside the burst."""
        ready = max(self.gate.until, self._rates.ready_at(costs))
        return ready if owed else max(ready, even_at(self._rates, costs))

    def in_use(self, _: float) -> bool:
        """Whether a reservation is open or queued, so that `Keyed` must not drop it."""
        return self.busy

    def idle(self, now: float) -> bool:
        """Whether nothing is lost if `Keyed` drops this object and makes a new one later."""
        unchanged = not (self.busy or self._resized) and now >= self.gate.ends
        return unchanged and self._rates.full(now)

    def take(
        self,
        now: float,
        tokens: float = 0.0,
        place: int | None = None,
        output: float | None = None,
    ) -> Reservation | None:
        """Return a granted reservation, or None if it would have to wait. See `reserve`."""
        return self.admit(costs_of(tokens, output), now, place)

    def admit(
        self, costs: Costs, now: float, place: int | None = None, rank: int | None = None
    ) -> Reservation | None:
        """Do what `take` does, for a request of these costs and of the class `rank`.

        `rank` is None while no call has had a priority.
        """
        rates, line, early = self._rates, self.line, False
        if rank is not None:
            line.note(rank, now)
            early = line.leaves_burst(rank) and now < even_at(rates, costs)
        if line.queue.live:
            return None
        if early or now < self.gate.until or not rates.fits(costs, now):
            line.since = now
            return None
        reservation = Reservation(line.queue.youngest if place is None else place, costs)
        self._grant(reservation, now)
        return reservation

    def reserve(
        self,
        now: float,
        tokens: float = 0.0,
        place: int | None = None,
        *,
        output: float | None = None,
        again: bool = False,
    ) -> Reservation:
        """Return a reservation for one request: granted now by `take`, or queued by `join`.

        Args:
            now: the loop time, in seconds.
            tokens: the estimated cost, 0 or more; a cost above the burst goes into debt.
            place: the age of the call as a number, smaller is older; None for the end of the queue.
            output: the part of `tokens` that is output; None if it is not known.
            again: whether the call was admitted before and comes back for a retry.

        Returns:
            A reservation. If it is not `granted`, `poll` grants it later. Once granted, end it with
            `settle` or `refund`.

        Raises:
            QueueFull: `max_waiting` reservations already wait, and this is not a retry.
        """
        taken = self.take(now, tokens, place, output)
        return taken or self.join(tokens, place, output, again=again)

    def join(
        self,
        tokens: float = 0.0,
        place: int | None = None,
        output: float | None = None,
        *,
        again: bool = False,
    ) -> Reservation:
        """Queue what `take` could not grant. See `reserve`."""
        return self.enqueue(costs_of(tokens, output), place, again=again)

    def enqueue(
        self,
        costs: Costs,
        place: int | None = None,
        *,
        again: bool = False,
        first_at: float = math.inf,
        standing: Standing = ORDINARY,
        behind: bool = False,
    ) -> Reservation:
        """Queue a request of these costs. See `reserve`, and `Line.push` for `first_at`.

        `standing` is its class and tenant; if `behind`, it waits for all others of its class.
        """
        reservation = Reservation(self.line.queue.youngest if place is None else place, costs)
        reservation.standing, reservation.behind, reservation.untried = standing, behind, not again
        reservation.cost = (self.line.price or self.cost_for_tenant)(costs)
        self.line.push(reservation, again=again, first_at=first_at)
        return reservation

    def not_before(self, now: float, standing: Standing = ORDINARY) -> float:
        """Return a loop time before which one more call of this standing is not granted.

        Tokens do not count, because part of an estimate in flight or in the queue may come back.
        """
        ahead = self.line.queue.before(standing)
        return max(now, self.gate.until, self._rates.request_behind(ahead, now))

    def earliest(self, now: float, tokens: float = 0.0) -> float:
        """Return when one more call, behind the queue, is granted if all estimates are right."""
        behind = self._rates.ready_behind(self.line.queued, costs_of(tokens, None), now)
        return max(now, self.gate.until, behind)

    def poll(self, now: float) -> Iterator[Reservation]:
        """Grant the reservations that fit now, oldest call first, and yield each one.

        One for which a day has no room is yielded too, and is `gone` then.
        """
        rates, line, late = self._rates, self.line, False
        line.move_on(now)
        while (head := line.queue.head()) is not None and now >= self.gate.until:
            early = line.waits_for_burst(head) and now < even_at(rates, head.costs)
            if early or not rates.fits(head.costs, now):
                if not self.turn_away(head, rates.full_until(head.costs), now):
                    break
            else:
                self.grant(head, now, late=not late)
                late = True
            yield head

    def grant(self, waiting: Reservation, now: float, *, late: bool = True) -> None:
        """Grant the next one of a class, which fits; `late` if it is the first of these."""
        if late:
            self._rates.kept_since(self.line.since, waiting.costs, now)
        self.line.pop(waiting)
        self._grant(waiting, now)

    def turn_away(self, head: Reservation, until: float, now: float) -> bool:
        """End the first waiting reservation, if a day has no room for it before `until`."""
        if until <= now:
            return False
        head.full_until = until
        self.line.remove(head)
        return True

    def cancel(self, reservation: Reservation, now: float) -> None:
        """End a reservation whose caller stopped waiting; if it was granted, refund all of it."""
        if reservation.granted:
            self.refund(reservation, now, request=True)
        else:
            self.line.remove(reservation)

    def settle(
        self, reservation: Reservation, now: float, tokens: float | Usage | None = None
    ) -> None:
        """End a reservation of a request that was sent.

        Args:
            reservation: the granted reservation; ending it a second time does nothing.
            now: the loop time, in seconds.
            tokens: the real cost, as a usage or a number of tokens; None or 0 to charge the
                estimate, or what was reserved if that is more. Requests without a usage, as after a
                timeout, are often the largest.
        """
        if not self._end(reservation):
            return
        rates: Rates = self._rates
        real: Costs | None = None
        if isinstance(tokens, Usage):
            real = costs_of_usage(tokens, self._cached_weight)
        elif tokens is not None:
            real = 1.0, tokens, tokens, tokens
        if real is not None and not 0.0 < real[1] < math.inf:
            real = None
        if reservation.ticket is not None:
            rates.learner.accepted(now, reservation.ticket, None if real is None else real[1])
        rates.settle(reservation, real, now)

    def refund(self, reservation: Reservation, now: float, *, request: bool) -> None:
        """End a reservation and put its tokens back.

        Args:
            reservation: the granted reservation; ending it a second time does nothing.
            now: the loop time, in seconds.
            request: whether to put the request back too; True only if it was never sent.
        """
        if not self._end(reservation):
            return
        self._rates.give_back(reservation, now, sent=not request)
        if request:
            self.gate.not_let_in(reservation.granted_at)

    def observe(
        self,
        limits: Iterable[Limit],
        reservation: Reservation,
        now: float,
        *,
        refused: bool = False,
    ) -> list[Change | GateClosed]:
        """Apply the limits that a response stated; return the changes. See `stated.follow`."""
        if self._periods is None:
            return []
        limits = tuple(limits)
        if now < self._looks_at and not refused and self._rates.are_far_away(limits):
            return []
        self._looks_at = now + PAUSE
        self._rates.catch_up()
        tokens = max(0.0, self._rates.granted_tokens - reservation.total_tokens)
        return follow(
            self._periods.read(limits, self._rates, now, refused=refused),
            self._rates,
            self.gate,
            sent_at=reservation.granted_at,
            after=(float(self._granted - reservation.ordinal), tokens, tokens, tokens),
            now=now,
        )

    def abandon(self) -> None:
        """End all reservations at their estimates and forget who waits: their loop was closed."""
        self.line.clear()
        self._ended = self._abandoned = self._granted
        self._rates.abandon()

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self._rates.rebase(seconds)
        self.gate.rebase(seconds)
        self.others = Others()
        if self._periods is not None:
            self._periods.rebase()
            self._looks_at = -math.inf
        self.line.rebase(seconds)

    def statistics(self, now: float) -> AllowanceStatistics:
        """Return a frozen snapshot."""
        return snapshot(self._rates, self.gate, self.line, now, self._granted - self._ended)

    def _end(self, reservation: Reservation) -> bool:
        """End a reservation; False if it has ended before, or was abandoned."""
        if not reservation.open or reservation.ordinal <= self._abandoned:
            return False
        reservation.open = False
        self._ended += 1
        return True

    def _grant(self, reservation: Reservation, now: float) -> None:
        rates, gate = self._rates, self.gate
        rates.take(reservation, now)
        if rates.learner.active:
            rates.catch_up()
            reservation.ticket = rates.learner.sent(now, reservation.tokens, gate.until)
        if gate.watches:
            gate.sent(now)
        reservation.granted_at = now
        self._granted = reservation.ordinal = self._granted + 1
        reservation.granted = reservation.open = True

    def __repr__(self) -> str:
        return f"<Allowance {self}, {self.line.queue.live} waiting>"
