"""The allowance: the requests and tokens that may be sent per minute, a queue, and a gate.

Every *attempt* makes a reservation before it is sent, and is settled to its real cost when it ends.
A request and its tokens are granted together or not at all. The oldest call is granted first, so
small requests cannot starve a large one. A large one may go into debt, so it does not block the
small ones for ever. One that is larger than the whole limit is granted alone, behind the others.

Hints from the server close the shared gate (see `gate`). A 429 without a hint closes nothing: the
`Learner` finds out what it means for the limit. (A gate that doubled its time on every 429 without
a hint got stuck at 3 % of the limit.) A call that alone is refused stops nobody: see `refusals`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from ..core import bounds
from ..core.queue import WaitQueue
from ..core.shared import Shared
from ..core.verdict import Dimension, Limit
from ..errors import QueueFull
from .change import Change
from .gate import Gate, GateClosed
from .rates import Rates
from .refusals import MEMORY, Others
from .reservation import Reservation
from .snapshots import AllowanceStatistics, snapshot
from .stated import follow
from .window import LARGEST_COST, sane_cost

_FOREVER = math.inf

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
            bound. A retry may always wait.
        belief: the value of `belief` in an earlier run, so that the limit is known from the start.

    Raises:
        ConfigurationError: a value is out of range.

    Attributes:
        gate: holds all senders back while the server asks to wait.
        others: what was let in and refused of late.
        queue: the waiting reservations, those of the oldest calls first.
        max_waiting: the argument of this name.

    State: shared by every `RateLimiter` that is given the object.
    """

    __slots__ = ("__weakref__", "_abandoned", "_aside", "_ended", "_granted",
                 "_granted_tokens", "_queued_tokens", "_rates", "_resized", "_waiting_since",
                 "gate", "max_waiting", "others", "queue")  # fmt: skip

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        burst: float | Literal["window"] = 1.0,
        share: float = 1.0,
        max_waiting: int | None = None,
        belief: Mapping[str, Any] | None = None,
    ) -> None:
        bounds.share(share, "share (1/20 for 20 replicas)")
        seconds = math.inf if burst == "window" else bounds.positive(burst, BURST)
        if max_waiting is not None:
            bounds.whole(max_waiting, 0, "max_waiting")
        self.max_waiting = max_waiting
        self._rates = Rates(requests_per_minute, tokens_per_minute, seconds, share, belief)
        self.gate = Gate()
        self.others = Others()
        self.queue: WaitQueue[Reservation] = WaitQueue()
        # The waiting ones that stand before all others from a time on, the earliest first.
        self._aside: deque[tuple[float, Reservation]] = deque()
        self._queued_tokens = self._granted_tokens = 0.0
        self._granted = self._ended = self._abandoned = 0
        self._waiting_since = _FOREVER  # when a call first had to wait, of those that wait now
        self._resized = False

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a token limit, or one may be learned: only then tokens matter."""
        return self._rates.tokens is not None or self._rates.learner.active

    @property
    def waiting(self) -> int:
        """The number of waiting reservations."""
        return self.queue.live

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
        return self._granted > self._ended or self.queue.live > 0

    @property
    def due(self) -> float | None:
        """The loop time at which `poll` grants the next reservation; None if none waits."""
        head = self.queue.head()
        return None if head is None else self._ready_at(head.estimate)

    def in_use(self, _: float) -> bool:
        """Whether a reservation is open or queued, so that `Keyed` must not drop it."""
        return self.busy

    def idle(self, now: float) -> bool:
        """Whether nothing is lost if `Keyed` drops this object and makes a new one later."""
        unchanged = not (self.busy or self._resized) and now >= self.gate.ends
        return unchanged and self._rates.full(now)

    def take(self, now: float, tokens: float = 0.0, place: int | None = None) -> Reservation | None:
        """Return a granted reservation, or None if it would have to wait. See `reserve`."""
        rates = self._rates
        if self.queue.live:
            return None
        if now < self.gate.until:
            self._waiting_since = now
            return None
        if not 0.0 <= tokens <= LARGEST_COST:
            tokens = sane_cost(tokens)
        if not rates.fits(tokens * self._rates.calibration.ratio, now):
            self._waiting_since = now
            return None
        reservation = Reservation(self.queue.youngest if place is None else place, tokens)
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
    ) -> Reservation:
        """Queue what `take` could not grant; from the time `first_at` on, before all others."""
        queue = self.queue
        if not 0.0 <= tokens <= LARGEST_COST:
            tokens = sane_cost(tokens)
        if self.max_waiting is not None and queue.live >= self.max_waiting and not again:
            raise QueueFull(
                f"{queue.live} calls already wait for the rate limit (max_waiting="
                f"{self.max_waiting}): send fewer calls at once, or raise max_waiting"
            )
        reservation = Reservation(queue.youngest if place is None else place, tokens)
        queue.push(reservation)
        if first_at < math.inf:
            self._aside.append((first_at, reservation))
        self._queued_tokens += tokens
        return reservation

    def not_before(self, now: float) -> float:
        """Return a loop time before which one more call, behind the queue, is not granted.

        Tokens do not count, because part of an estimate in flight or in the queue may come back.
        """
        return max(now, self.gate.until, self._rates.request_behind(self.queue.live, now))

    def earliest(self, now: float, tokens: float = 0.0) -> float:
        """Return when one more call, behind the queue, is granted if all estimates are right."""
        ratio = self._rates.calibration.ratio
        behind = self._rates.ready_behind(
            self.queue.live, self._queued_tokens * ratio, tokens * ratio, now
        )
        return max(now, self.gate.until, behind)

    def poll(self, now: float) -> Iterator[Reservation]:
        """Grant the reservations that fit now, oldest call first, and yield each one."""
        rates, late = self._rates, False
        while self._aside and now >= self._aside[0][0]:
            self.queue.hasten(self._aside.popleft()[1])
        while (head := self.queue.head()) is not None and now >= self.gate.until:
            tokens = head.estimate * self._rates.calibration.ratio
            if not rates.fits(tokens, now):
                break
            if not late:
                late = True
                rates.kept_since(self._waiting_since, tokens, now)
            self.queue.pop()
            self._queued_tokens -= head.estimate
            self._grant(head, now)
            yield head

    def cancel(self, reservation: Reservation, now: float) -> None:
        """End a reservation whose caller stopped waiting; if it was granted, refund all of it."""
        if reservation.granted:
            self.refund(reservation, now, request=True)
        elif not reservation.gone:
            self.queue.remove(reservation)
            self._queued_tokens -= reservation.estimate

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
        if tokens is None or not 0.0 < tokens < _FOREVER:
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
        self.queue.clear()
        self._aside.clear()
        self._queued_tokens = 0.0
        self._ended = self._abandoned = self._granted
        self._rates.abandon()

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self._rates.rebase(seconds)
        self.gate.rebase(seconds)
        self.others = Others()
        self._waiting_since += seconds

    def statistics(self, now: float) -> AllowanceStatistics:
        """Return a frozen snapshot."""
        waiting, outstanding = self.queue.live, self._granted - self._ended
        return snapshot(self._rates, self.gate, now, waiting=waiting, outstanding=outstanding)

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

    def _ready_at(self, tokens: float) -> float:
        ready = self._rates.ready_at(tokens * self._rates.calibration.ratio)
        return max(self.gate.until, ready)

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
        return f"<Allowance {self}, {self.queue.live} waiting>"

    def __str__(self) -> str:
        """Return the limits in words."""
        return str(self._rates)
