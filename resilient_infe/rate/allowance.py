"""How much may be sent per minute, in requests and in tokens together.

Every *attempt* reserves before it is sent and is settled by what it really cost. Both dimensions
are admitted at once or not at all, first come first served by the call's age: a big request is not
starved by small ones, and as it may go into debt it does not block them for ever either.

A server's hint closes the shared gate. A bare 429 closes nothing; what it tells of the limit is the
`Learner`'s to find out (a gate that doubled on every bare 429 froze at 3 % of the limit).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..core import bounds
from ..core.queue import WaitQueue
from ..core.verdict import Dimension, Limit
from ..errors import ConfigurationError, QueueFull
from .bucket import LARGEST_COST, sane_cost
from .change import Change
from .gate import Gate, GateClosed
from .rates import Rates
from .reservation import Reservation
from .snapshots import AllowanceStatistics, snapshot
from .stated import follow

_FOREVER = math.inf

LONGEST_BURST = 30.0
"""Seconds: half a minute, where half of the limit could come at once."""


class Allowance:
    """Requests and tokens per minute, a queue, and the shared gate.

    Never more than the limit is admitted in any window of a minute, but for the debt of at most
    one request that is larger than the token burst (see `Bucket` for the rule and its source).

    Args:
        requests_per_minute: above 0, or None for no limit until the server states one.
        tokens_per_minute: above 0, or None likewise.
        burst: seconds of the rate that can be sent at once, above 0 and up to 30; 1 keeps the
            sends even, and every second of it is taken off the steady rate.
        share: the part of the limit that is ours, in (0, 1]: ``1 / 20`` for 20 replicas.
        max_waiting: how many may wait (a retry always may), or None for any number.
        belief: what `belief` gave in an earlier run, so that the limit is not learned anew.

    Without numbers the limit is learned; with them the server's 429s only lower it.

    Raises:
        ConfigurationError: a value is out of its range.

    Attributes:
        queue: who waits, oldest call first.

    State: shared by every `RateLimiter` that is given the object.
    """

    __slots__ = ("__weakref__", "_abandoned", "_ended", "_gate", "_granted", "_granted_tokens",
                 "_queued_tokens", "_rates", "max_waiting", "queue")  # fmt: skip

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        burst: float = 1.0,
        share: float = 1.0,
        max_waiting: int | None = None,
        belief: Mapping[str, Any] | None = None,
    ) -> None:
        """Start with full buckets and an open gate."""
        bounds.share(share, "share (1/20 for 20 replicas)")
        if bounds.positive(burst, "burst, in seconds of the rate,") > LONGEST_BURST:
            raise ConfigurationError(f"burst is at most {LONGEST_BURST:g} s; got {burst}")
        if max_waiting is not None:
            bounds.whole(max_waiting, 0, "max_waiting")
        self.max_waiting = max_waiting
        self._rates = Rates(requests_per_minute, tokens_per_minute, burst, share, belief)
        self._gate = Gate()
        self.queue: WaitQueue[Reservation] = WaitQueue()
        self._queued_tokens = 0.0
        self._granted = 0
        self._ended = 0
        self._abandoned = 0
        self._granted_tokens = 0.0

    @property
    def counts_tokens(self) -> bool:
        """Whether a token limit is kept or learned, so that a call's tokens matter."""
        return self._rates.tokens is not None or self._rates.learner.active

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self.queue.live

    def admits_within(self, seconds: float) -> float | None:
        """Return how many requests fit into so many seconds from a full start, or None for any."""
        bucket = self._rates.requests
        return None if bucket is None else bucket.burst + bucket.rate * seconds

    @property
    def gate_until(self) -> float:
        """The instant at which the gate opens; in the past when it is open."""
        return self._gate.until

    @property
    def busy(self) -> bool:
        """Whether a reservation is open or waited for, so that only its own loop may use it."""
        return self._granted > self._ended or self.queue.live > 0

    @property
    def due(self) -> float | None:
        """The instant at which `poll` will grant the next waiter, or None when nobody waits."""
        head = self.queue.head()
        return None if head is None else self._ready_at(head.tokens)

    def idle(self, now: float) -> bool:
        """Whether it is as good as new, so that `Keyed` may drop it."""
        return not self.busy and now >= self._gate.until and self._rates.full(now)

    def take(self, now: float, tokens: float = 0.0, place: int | None = None) -> Reservation | None:
        """Reserve if that is possible at once; None takes nothing. All else as by `reserve`."""
        rates = self._rates
        if self.queue.live or now < self._gate.until:
            return None
        if not 0.0 <= tokens <= LARGEST_COST:
            tokens = sane_cost(tokens)
        if not rates.take(tokens, now):
            return None
        reservation = Reservation(self.queue.youngest if place is None else place, tokens)
        self._grant(reservation, now)
        return reservation

    def reserve(
        self, now: float, tokens: float = 0.0, place: int | None = None, *, again: bool = False
    ) -> Reservation:
        """Ask for leave to send one request now: `take` it, or join the queue.

        Args:
            now: the instant.
            tokens: its estimated cost, from 0; a cost above the burst goes into debt.
            place: the age of the call (smaller is older), or None for the end of the queue.
            again: whether the call has been let in before, and now comes back for a retry.

        Returns:
            One that waits for `poll` if not `granted`; a granted one ends in `settle` or `refund`.

        Raises:
            QueueFull: `max_waiting` reservations wait already, and this one is the call's first.
        """
        return self.take(now, tokens, place) or self.join(tokens, place, again=again)

    def join(
        self, tokens: float = 0.0, place: int | None = None, *, again: bool = False
    ) -> Reservation:
        """Queue a reservation that `take` could not grant at once. Arguments as for `reserve`."""
        queue = self.queue
        if not 0.0 <= tokens <= LARGEST_COST:
            tokens = sane_cost(tokens)
        if self.max_waiting is not None and queue.live >= self.max_waiting and not again:
            raise QueueFull(
                f"{queue.live} calls wait for the rate limit already (max_waiting="
                f"{self.max_waiting}): send fewer at once, or raise max_waiting"
            )
        reservation = Reservation(queue.youngest if place is None else place, tokens)
        queue.push(reservation)
        self._queued_tokens += tokens
        return reservation

    def not_before(self, now: float) -> float:
        """Return an instant before which one more call is certainly not granted, the queue first.

        Tokens do not count: an estimate in flight or in the queue may yet come back.
        """
        return max(now, self._gate.until, self._rates.request_behind(self.queue.live, now))

    def earliest(self, now: float, tokens: float = 0.0) -> float:
        """Return when one more call will be granted if every estimate is right, the queue first."""
        behind = self._rates.ready_behind(self.queue.live, self._queued_tokens, tokens, now)
        return max(now, self._gate.until, behind)

    def poll(self, now: float) -> Iterator[Reservation]:
        """Grant all whose turn has come, oldest first, and yield them."""
        while (head := self.queue.head()) is not None and now >= self._gate.until:
            if not self._rates.take(head.tokens, now):
                break
            self.queue.pop()
            self._queued_tokens -= head.tokens
            self._grant(head, now)
            yield head

    def cancel(self, reservation: Reservation, now: float) -> None:
        """Stop waiting; one that was just granted was not sent, so all of it comes back."""
        if reservation.granted:
            self.refund(reservation, now, request=True)
        elif not reservation.gone:
            self.queue.remove(reservation)
            self._queued_tokens -= reservation.tokens

    def settle(self, reservation: Reservation, now: float, tokens: float | None = None) -> None:
        """End a reservation of a request that was sent.

        Args:
            reservation: what `reserve` returned; ending it twice does nothing.
            now: the instant.
            tokens: what it really cost, or None to leave it at the estimate.
        """
        if not self._end(reservation):
            return
        if reservation.ticket is not None:
            self._rates.learner.accepted(now, reservation.ticket, tokens)
        if tokens is None or not 0.0 <= tokens < _FOREVER:
            return
        extra = tokens - reservation.tokens
        self._granted_tokens += extra
        if self._rates.tokens is not None:
            self._rates.tokens.correct(extra, reservation.granted_at, now)

    def refund(self, reservation: Reservation, now: float, *, request: bool) -> None:
        """End a reservation and give its tokens back.

        Args:
            reservation: what `reserve` returned; ending it twice does nothing.
            now: the instant.
            request: whether the request comes back too: only when it was never sent.
        """
        if not self._end(reservation):
            return
        self._granted_tokens -= reservation.tokens
        if self._rates.tokens is not None:
            self._rates.tokens.correct(-reservation.tokens, reservation.granted_at, now)
        if request:
            self._rates.give_request_back(reservation, now)

    def close_gate(self, reservation: Reservation, until: float, now: float, reason: str) -> bool:
        """Stop all senders until an instant, as the server asked; True if it closed by this.

        A request sent before the last correction tells nothing new and is ignored.
        """
        return self._gate.close(until, reservation.granted_at, now, reason)

    def rejected(
        self, reservation: Reservation, now: float, hint: float = 0.0, *, steep: bool = False
    ) -> Change | None:
        """Take note of a 429; returns how what is believed changed by it: see `Rates.rejected`."""
        return self._rates.rejected(reservation, now, hint, steep=steep)

    def observe(
        self, limits: Iterable[Limit], reservation: Reservation, now: float
    ) -> list[Change | GateClosed]:
        """Follow the limits that a response stated; returns what changed by it."""
        after: dict[Dimension, float] = {
            "requests": float(self._granted - reservation.ordinal),
            "tokens": max(0.0, self._granted_tokens - reservation.total_tokens),
        }
        return follow(
            limits, self._rates, self._gate, sent_at=reservation.granted_at, after=after, now=now
        )

    def resize(
        self,
        now: float,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        """Declare other limits while in use; None leaves one as it is, what is spent stays spent.

        Raises:
            ConfigurationError: a value is not above 0.
        """
        if requests_per_minute is not None:
            self._rates.declare("requests", requests_per_minute, now)
        if tokens_per_minute is not None:
            self._rates.declare("tokens", tokens_per_minute, now)

    def believe(self, belief: Mapping[str, Any]) -> None:
        """Go on from what `belief` gave in an earlier run; a `ConfigurationError` if it is none."""
        self._rates.learner.restore(belief)

    def belief(self) -> dict[str, Any] | None:
        """Return what was learned, as a value that JSON can hold, or None while nothing was."""
        return self._rates.learner.belief()

    def abandon(self) -> None:
        """End all reservations at their estimates and forget who waits: their loop was closed."""
        self.queue.clear()
        self._queued_tokens = 0.0
        self._ended = self._abandoned = self._granted

    def rebase(self, seconds: float) -> None:
        """Move every stored instant by `seconds`, to follow another clock."""
        self._rates.rebase(seconds)
        self._gate.rebase(seconds)

    def statistics(self, now: float) -> AllowanceStatistics:
        """Return a frozen snapshot."""
        waiting, outstanding = self.queue.live, self._granted - self._ended
        return snapshot(self._rates, self._gate, now, waiting=waiting, outstanding=outstanding)

    def waits_for(self, now: float) -> str:
        """Say in a few words why a call would wait now."""
        if now < self._gate.until:
            return self._gate.reason or "the gate is closed"
        return self._rates.learner.waits_for

    def _end(self, reservation: Reservation) -> bool:
        """End a reservation; False if it has ended before, or was abandoned."""
        ends = reservation.open and reservation.ordinal > self._abandoned
        reservation.open = False
        self._ended += ends
        return ends

    def _ready_at(self, tokens: float) -> float:
        return max(self._gate.until, self._rates.ready_at(tokens))

    def _grant(self, reservation: Reservation, now: float) -> None:
        tokens = reservation.tokens
        learner = self._rates.learner
        reservation.ticket = learner.sent(now, tokens) if learner.active else None
        reservation.granted_at = now
        self._granted = reservation.ordinal = self._granted + 1
        self._granted_tokens = reservation.total_tokens = self._granted_tokens + tokens
        reservation.granted = reservation.open = True

    def __repr__(self) -> str:
        """Show the limits and the queue."""
        return f"<Allowance {self}, {self.queue.live} waiting>"

    def __str__(self) -> str:
        """Say the limits that are kept."""
        return str(self._rates)
