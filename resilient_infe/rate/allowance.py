"""The allowance: the requests and tokens that may be sent per minute, a queue, and a gate.

Every *attempt* makes a reservation before it is sent, and is settled to its real cost when it ends.
A request and its tokens are granted together or not at all. The oldest call is granted first, so
small requests cannot starve a large one. A large one may go into debt, so it does not block the
small ones for ever. One that is larger than the whole limit is granted alone, behind the others.
Calls with a priority or a tenant are granted in another order: see `line`.

Hints from the server close the shared gate (see `gate`). A 429 without a hint closes nothing: the
`Learner` finds out what it means for the limit. (A gate that doubled its time on every 429 without
a hint got stuck at 3 % of the limit.) A call that alone is refused stops nobody: see `refusals`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from ..core import bounds
from ..core.priority import TRICKLE
from ..core.queue import ORDINARY, Standing
from ..core.shared import Shared
from ..core.verdict import Dimension, Limit
from .change import Change
from .gate import Gate, GateClosed
from .line import Line
from .rates import Rates
from .refusals import MEMORY, Others
from .reservation import Reservation
from .snapshots import AllowanceStatistics, snapshot
from .stated import follow
from .window import LARGEST_COST, sane_cost

BURST = 'burst, in seconds of the rate or "window",'


class Allowance(Shared):
    """A rate limit on requests and on tokens, with a queue and a gate that all senders share.

    No window of a minute admits more than the limit, if estimates of tokens are right or too high
    (see `Window`). Without numbers the limit is learned; with numbers, 429s can only lower it.

    Args:
        requests_per_minute: the limit, above 0; None to use the limit that the server states, and
            to learn it if it states none.
        tokens_per_minute: the same for tokens.
        burst: the seconds of the rate that can be sent at once, above 0, or ``"window"`` for the
            whole limit. It begins at 2 s, grows with what the server lets in, and shrinks if it
            bears less; it never lowers the steady rate. The default of 1 keeps the sends even.
        share: the part of the limits that this process may use, in (0, 1]: ``1 / 20`` for 20
            replicas. The default of 1 is for a single process.
        max_waiting: the number of reservations that may wait, 0 or more; None, the default, for no
            bound. A retry may always wait. Each class has its own bound.
        trickle: the share guaranteed to each class that waits below another, from 0 to 1/3; 0.1.
        belief: the value of `belief` in an earlier run, so that the limit is known from the start.

    Raises:
        ConfigurationError: a value is out of range.

    Attributes:
        gate: holds all senders back while the server asks to wait.
        line: the waiting reservations.
        others: what was let in and refused of late.
        max_waiting: the argument of this name.

    State: shared by every `RateLimiter` that is given the object.
    """

    __slots__ = ("__weakref__", "_abandoned", "_ended", "_granted", "_granted_tokens", "_rates",
                 "_resized", "gate", "line", "max_waiting", "others")  # fmt: skip

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        burst: float | Literal["window"] = 1.0,
        share: float = 1.0,
        max_waiting: int | None = None,
        trickle: float = TRICKLE,
        belief: Mapping[str, Any] | None = None,
    ) -> None:
        bounds.share(share, "share (1/20 for 20 replicas)")
        seconds = math.inf if burst == "window" else bounds.positive(burst, BURST)
        self.max_waiting = max_waiting
        self._rates = Rates(requests_per_minute, tokens_per_minute, seconds, share, belief)
        self.gate = Gate()
        self.others = Others()
        self.line = Line(max_waiting, trickle)
        self._granted_tokens = 0.0
        self._granted = self._ended = self._abandoned = 0
        self._resized = False

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a token limit, or one may be learned: only then tokens matter."""
        return self._rates.tokens is not None or self._rates.learner.active

    def cost_of(self, tokens: float) -> float:
        """Return what a request of `tokens` costs its tenant, in requests."""
        return self._rates.cost_of(tokens * self._rates.calibration.ratio)

    @property
    def waiting(self) -> int:
        """The number of waiting reservations."""
        return self.line.queue.live

    def admits_within(self, seconds: float) -> float | None:
        """Return how many requests a full bucket admits in `seconds`; None without a limit."""
        bucket = self._rates.requests
        if bucket is None:
            return None
        later = bucket.limit + bucket.rate * max(0.0, seconds - bucket.period)
        return min(bucket.burst + bucket.rate * seconds, later)

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
        tokens = head.estimate * self._rates.calibration.ratio
        ready = max(self.gate.until, self._rates.ready_at(tokens))
        return max(ready, self._rates.even_at(tokens)) if self.line.waits_for_burst(head) else ready

    def in_use(self, _: float) -> bool:
        """Whether a reservation is open or queued, so that `Keyed` must not drop it."""
        return self.busy

    def idle(self, now: float) -> bool:
        """Whether nothing is lost if `Keyed` drops this object and makes a new one later."""
        unchanged = not (self.busy or self._resized) and now >= self.gate.ends
        return unchanged and self._rates.full(now)

    def take(
        self, now: float, tokens: float = 0.0, place: int | None = None, rank: int | None = None
    ) -> Reservation | None:
        """Return a granted reservation, or None if it would have to wait. See `reserve`.

        `rank` is the class of the call; None while no call has had a priority.
        """
        rates, line = self._rates, self.line
        if rank is not None:
            line.note(rank, now)
        if line.queue.live:
            return None
        if now < self.gate.until:
            line.since = now
            return None
        if not 0.0 <= tokens <= LARGEST_COST:
            tokens = sane_cost(tokens)
        likely = tokens * rates.calibration.ratio
        early = rank is not None and line.leaves_burst(rank) and now < rates.even_at(likely)
        if early or not rates.fits(likely, now):
            line.since = now
            return None
        reservation = Reservation(line.queue.youngest if place is None else place, tokens)
        self._grant(reservation, now)
        return reservation

    def reserve(
        self, now: float, tokens: float = 0.0, place: int | None = None, *, again: bool = False
    ) -> Reservation:
        """Return a reservation for one request: granted now by `take`, or queued by `join`.

        Args:
            now: the loop time, in seconds.
            tokens: the estimated cost, 0 or more; a cost above the burst goes into debt.
            place: the age of the call as a number, smaller is older; None for the end of the queue.
            again: whether the call was admitted before and comes back for a retry.

        Returns:
            A reservation. If it is not `granted`, `poll` grants it later. Once granted, end it with
            `settle` or `refund`.

        Raises:
            QueueFull: `max_waiting` reservations already wait, and this is not a retry.
        """
        return self.take(now, tokens, place) or self.join(tokens, place, again=again)

    def join(
        self,
        tokens: float = 0.0,
        place: int | None = None,
        *,
        again: bool = False,
        first_at: float = math.inf,
        standing: Standing = ORDINARY,
        behind: bool = False,
    ) -> Reservation:
        """Queue what `take` could not grant. See `reserve`, and `Line.push` for `first_at`.

        `standing` is its class and tenant; if `behind`, it waits for all others of its class.
        """
        if not 0.0 <= tokens <= LARGEST_COST:
            tokens = sane_cost(tokens)
        reservation = Reservation(self.line.queue.youngest if place is None else place, tokens)
        reservation.standing, reservation.behind = standing, behind
        reservation.cost = self.cost_of(tokens)
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
        ratio = self._rates.calibration.ratio
        waiting, queued = self.line.queue.live, self.line.tokens * ratio
        behind = self._rates.ready_behind(waiting, queued, tokens * ratio, now)
        return max(now, self.gate.until, behind)

    def poll(self, now: float) -> Iterator[Reservation]:
        """Grant the reservations that fit now, oldest call first, and yield each one."""
        rates, line, late = self._rates, self.line, False
        line.move_on(now)
        while (head := line.queue.head()) is not None and now >= self.gate.until:
            tokens = head.estimate * rates.calibration.ratio
            early = line.waits_for_burst(head) and now < rates.even_at(tokens)
            if early or not rates.fits(tokens, now):
                break
            if not late:
                late = True
                rates.kept_since(line.since, tokens, now)
            line.pop(head)
            self._grant(head, now)
            yield head

    def cancel(self, reservation: Reservation, now: float) -> None:
        """End a reservation whose caller stopped waiting; if it was granted, refund all of it."""
        if reservation.granted:
            self.refund(reservation, now, request=True)
        else:
            self.line.remove(reservation)

    def settle(self, reservation: Reservation, now: float, tokens: float | None = None) -> None:
        """End a reservation of a request that was sent.

        Args:
            reservation: the granted reservation; ending it a second time does nothing.
            now: the loop time, in seconds.
            tokens: the real cost; None or 0 to charge the estimate, or what was reserved if that
                is more. Requests without a usage, as after a timeout, are often the largest.
        """
        if not self._end(reservation):
            return
        rates = self._rates
        if reservation.ticket is not None:
            rates.learner.accepted(now, reservation.ticket, tokens)
        if tokens is None or not 0.0 < tokens < math.inf:
            tokens = max(reservation.estimate, reservation.tokens)
        elif reservation.tokens > rates.largest:
            rates.largest = reservation.tokens
        self._granted_tokens += tokens - reservation.tokens
        rates.settle(reservation, tokens, now)

    def refund(self, reservation: Reservation, now: float, *, request: bool) -> None:
        """End a reservation and put its tokens back.

        Args:
            reservation: the granted reservation; ending it a second time does nothing.
            now: the loop time, in seconds.
            request: whether to put the request back too; True only if it was never sent.
        """
        if not self._end(reservation):
            return
        self._granted_tokens -= reservation.tokens
        self._rates.refund_tokens(reservation, now)
        if request:
            self.gate.not_let_in(reservation.granted_at)
            self._rates.give_request_back(reservation, now)

    def let_in(self, reservation: Reservation, now: float) -> None:
        """Note that the server let a request in, while that matters: see `Others`."""
        self.gate.let_in(reservation.granted_at, now)
        self.others.note(reservation.granted_at, reservation.tokens, refused=False)

    def told_to_wait(
        self, reservation: Reservation, delay: float, now: float, reason: str
    ) -> GateClosed | None:
        """Note that the server asked for a wait; return that the gate closed, if it did."""
        self.others.watched_until = now + MEMORY
        closed = self.gate.refused(reservation.granted_at, now + delay, now, reason)
        return GateClosed(self.gate.left(now), reason) if closed else None

    def rejected(
        self, reservation: Reservation, now: float, hint: float = 0.0, *, steep: bool = False
    ) -> Change | None:
        """Report a 429 to the learner; return the change of its limit. See `Rates.rejected`."""
        return self._rates.rejected(reservation, now, hint, steep=steep)

    def refused(self, reservation: Reservation, now: float) -> bool:
        """Note a 429; return whether it only shows that the server bears a smaller burst."""
        return self._rates.refused(reservation, now)

    def oversized(self, tokens: float) -> bool:
        """Whether an estimate is more than the limit allows in a whole minute."""
        return self._rates.oversized(tokens * self._rates.calibration.ratio)

    def observe(
        self, limits: Iterable[Limit], reservation: Reservation, now: float
    ) -> list[Change | GateClosed]:
        """Apply the limits that a response stated, and return the changes. See `stated.follow`."""
        after: dict[Dimension, float] = {
            "requests": float(self._granted - reservation.ordinal),
            "tokens": max(0.0, self._granted_tokens - reservation.total_tokens),
        }
        return follow(
            limits, self._rates, self.gate, sent_at=reservation.granted_at, after=after, now=now
        )

    def resize(
        self,
        now: float,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        """Declare new limits while in use; None keeps a limit. Units taken stay taken.

        Raises:
            ConfigurationError: a value is not above 0.
        """
        self._resized = True
        if requests_per_minute is not None:
            self._rates.declare("requests", requests_per_minute, now)
        if tokens_per_minute is not None:
            self._rates.declare("tokens", tokens_per_minute, now)

    def believe(self, belief: Mapping[str, Any]) -> None:
        """Start from the value of `belief` in an earlier run.

        Raises:
            ConfigurationError: it is not such a value.
        """
        self._rates.learner.restore(belief)

    def belief(self) -> dict[str, Any] | None:
        """Return the learned limit in a form that JSON can hold; None while there is none."""
        return self._rates.learner.belief()

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
        self.line.rebase(seconds)

    def statistics(self, now: float) -> AllowanceStatistics:
        """Return a frozen snapshot."""
        return snapshot(self._rates, self.gate, self.line, now, self._granted - self._ended)

    def waits_for(self, now: float) -> str:
        """Return a short text on why a call has to wait now."""
        if now < self.gate.until:
            return self.gate.reason or "the gate is closed"
        return self._rates.learner.waits_for

    def _end(self, reservation: Reservation) -> bool:
        """End a reservation; False if it has ended before, or was abandoned."""
        ends = reservation.open and reservation.ordinal > self._abandoned
        reservation.open = False
        self._ended += ends
        return ends

    def _grant(self, reservation: Reservation, now: float) -> None:
        tokens = reservation.tokens = reservation.estimate * self._rates.calibration.ratio
        learner, gate = self._rates.learner, self.gate
        self._rates.take(reservation, now)
        reservation.ticket = learner.sent(now, tokens, gate.until) if learner.active else None
        if gate.watches:
            gate.sent(now)
        reservation.granted_at = now
        self._granted = reservation.ordinal = self._granted + 1
        self._granted_tokens = reservation.total_tokens = self._granted_tokens + tokens
        reservation.granted = reservation.open = True

    def __repr__(self) -> str:
        return f"<Allowance {self}, {self.line.queue.live} waiting>"

    def __str__(self) -> str:
        """Return the limits in words."""
        return str(self._rates)
