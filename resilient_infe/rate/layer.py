"""Keeps below the server's limit, and stops everyone when the server says so.

Why inside the concurrency limiter? The server counts *send* time; permission that is taken early
and then waits for a slot goes out as a burst. Why once per attempt? A limiter taken once per call
lets retries through for free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from ..aio import keeper_of, pump
from ..aio.partitioned import Partitioned
from ..core import bounds
from ..core.call import Call
from ..core.guard import Guard
from ..core.keyed import Keyed
from ..core.runtime import Runtime
from ..core.verdict import SUCCESS, Usage
from ..errors import ConfigurationError, DeadlineExceeded, QueueFull
from ..events import Event, RateGateClosed, RateLimitChanged, RateWaiting
from .allowance import Allowance
from .change import Change
from .estimate import TokenCount, estimate_tokens
from .gate import GateClosed
from .reservation import Reservation
from .settlement import learn, settle
from .snapshots import AllowanceStatistics

Held: TypeAlias = tuple[Allowance, Reservation, int]
"""An attempt's reservation, whose it is, and how many attempts had been sent before."""


class RateLimiter(Guard[Held]):
    """Sends no more than the limit, and nothing at all while the server asked to wait.

    Args:
        allowance: a shared `Allowance`, or a ``Keyed(lambda: Allowance(...))`` for one per
            partition; None makes one from the numbers below.
        requests_per_minute: the declared limit, above 0; None for what the server states.
        tokens_per_minute: likewise for tokens.
        share: the part of the limits that is ours, in (0, 1]; ``1 / 20`` for 20 replicas. What is
            learned is what is left to us, whatever the share.
        burst: seconds of the rate that may go out at once, in (0, 30]; 1.
        max_hint: seconds; a longer hint shuts the gate for only so long; 300.
        estimate: the tokens of a request, for calls that do not say; by default the characters
            of its body over four and the output it asks for. It is given the decoded body, or the
            arguments of a wrapped function by name; where it fails the default is taken.
        beliefs: what `beliefs` gave in an earlier run, so that no limit is learned anew.

    Without numbers the limit is learned, and found again when it moves.

    Raises:
        ConfigurationError: both an allowance and numbers, or a value out of its range.
        QueueFull: from a call, when the `Allowance` bounds its queue and it is full.
        DeadlineExceeded: from a call, at once, when it cannot be sent before its deadline.

    State: in the `Allowance`.
    """

    def __init__(
        self,
        allowance: Allowance | Keyed[Allowance] | None = None,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        share: float = 1.0,
        burst: float = 1.0,
        max_hint: float = 300.0,
        estimate: Callable[[Any], float] = estimate_tokens,
        beliefs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Make the allowance if only its numbers are given."""
        numbers = (requests_per_minute, tokens_per_minute, share, burst) != (None, None, 1.0, 1.0)
        if allowance is not None and numbers:
            raise ConfigurationError("give RateLimiter an Allowance or the numbers, not both")
        if allowance is None:
            allowance = Allowance(requests_per_minute, tokens_per_minute, share=share, burst=burst)
        self.allowances: Partitioned[Allowance] = Partitioned(
            allowance,
            Allowance,
            "RateLimiter",
            "Allowance(...) or Keyed(lambda: Allowance(...)); a number goes into "
            "requests_per_minute= or tokens_per_minute=",
        )
        self._max_hint = bounds.positive(max_hint, "max_hint, in seconds,")
        self._beliefs = _checked(beliefs)
        if self.allowances.one is not None:
            self._remember("", self.allowances.one)
        self._estimate = estimate if estimate is estimate_tokens else TokenCount(estimate)

    def enter(self, call: Call[Any]) -> Held | None:
        """Reserve, if that is possible at once."""
        allowance = self.allowances.of(call)
        if self._beliefs and self.allowances.one is None:
            self._remember(call.partition or "", allowance)
        if call.tokens is None and allowance.counts_tokens:
            call.tokens = self._estimate(call.payload if call.body is None else call.body())
        now = call.runtime.now()
        if call.deadline is not None and now >= call.deadline:
            return None
        reservation = allowance.take(now, call.tokens or 0.0)
        return None if reservation is None else (allowance, reservation, call.sends)

    async def wait(self, call: Call[Any]) -> Held:
        """Wait for a reservation; the place of a caller that leaves comes back."""
        allowance = self.allowances.of(call)
        reservation = self._join(call, allowance, call.runtime.now())
        try:
            if call.emit is not None and call.emit.routine:
                self._tell_waiting(call, allowance)
            pump(allowance)
            if not reservation.granted:
                await call.runtime.park(reservation)
        except BaseException:
            allowance.cancel(reservation, call.runtime.now())
            pump(allowance)
            raise
        return allowance, reservation, call.sends

    def leave(self, call: Call[Any], held: Held, _: Any, error: BaseException | None) -> None:
        """Settle, now or when the stream that came is closed, and learn from what was said."""
        allowance, reservation, sends = held
        verdict, now = call.verdict, call.runtime.now()
        if call.hold is None or error is not None:
            unsent = error is not None and call.sends == sends
            settle(allowance, reservation, verdict, now, unsent=unsent)
        else:
            call.hold.on_close(partial(_settle_stream, call.runtime, allowance, reservation))
        if verdict is not None and (verdict.kind is not SUCCESS or verdict.limits):
            for news in learn(allowance, reservation, verdict, now, self._max_hint):
                if call.emit is not None:
                    call.emit(_event(call, news))
        if allowance.queue.live:
            pump(allowance)

    def resize(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        partition: str | None = None,
    ) -> None:
        """Declare other limits for a partition (for the shared allowance by default) while in use.

        Raises:
            ConfigurationError: a value is not above 0.
            KeyError: no call of that partition has come by yet.
        """
        allowance = dict(self.allowances.items())[partition]
        keeper = keeper_of(allowance)
        now = 0.0 if keeper is None else keeper.runtime.now()
        allowance.resize(
            now, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
        )
        if keeper is not None:
            keeper.pump()

    def beliefs(self) -> dict[str, dict[str, Any]]:
        """Return what was learned, by partition, as a value that JSON can hold.

        The partition of calls that have none is the empty text. Give it back as ``beliefs=``.
        """
        told = {name or "": each.belief() for name, each in self.allowances.items()}
        return {**self._beliefs, **{name: each for name, each in told.items() if each is not None}}

    def statistics(self, now: float) -> dict[str | None, AllowanceStatistics]:
        """Return a snapshot per partition."""
        return {partition: each.statistics(now) for partition, each in self.allowances.items()}

    def describe(self) -> str:
        """Say the limits."""
        return f"{self.allowances.sample()}{self.allowances.describe()}"

    def _remember(self, name: str, allowance: Allowance) -> None:
        belief = self._beliefs.pop(name, None)
        if belief is not None and allowance.belief() is None:
            allowance.believe(belief)

    def _join(self, call: Call[Any], allowance: Allowance, now: float) -> Reservation:
        if call.deadline is not None:
            self._check_deadline(call, call.deadline, allowance, now)
        try:
            return allowance.join(call.tokens or 0.0, call.state.place, again=call.state.readmitted)
        except QueueFull as full:
            raise call.refuse(full) from None

    def _check_deadline(
        self, call: Call[Any], deadline: float, allowance: Allowance, now: float
    ) -> None:
        # A retry does not queue at the end, so only the gate is certain to hold it up.
        again = call.state.readmitted
        earliest = max(now, allowance.gate_until if again else allowance.not_before(now))
        if now >= deadline or earliest > deadline:
            refusal = DeadlineExceeded(
                f"{allowance.waits_for(now)}: this call could be sent in {earliest - now:.3g} s at "
                f"the earliest, and {max(0.0, deadline - now):.3g} s remain of its deadline",
                retry_after=(earliest - now) or None,
            )
            raise call.refuse(refusal)

    def _tell_waiting(self, call: Call[Any], allowance: Allowance) -> None:
        assert call.emit is not None
        now = call.runtime.now()
        delay = max(0.0, (allowance.due or now) - now)
        reason = allowance.waits_for(now)
        call.emit(RateWaiting(call.request_id, call.partition, delay, reason, allowance.waiting))


def _checked(beliefs: Mapping[str, Mapping[str, Any]] | None) -> dict[str, dict[str, Any]]:
    """Return a copy of what was kept; what is no belief is told now, not at some later call."""
    if beliefs is not None and not isinstance(beliefs, Mapping):
        raise ConfigurationError("beliefs= takes what RateLimiter.beliefs() gave, by partition")
    for belief in (beliefs or {}).values():
        Allowance(belief=belief)
    return {str(name): dict(belief) for name, belief in (beliefs or {}).items()}


def _settle_stream(
    runtime: Runtime, allowance: Allowance, reservation: Reservation, usage: Usage | None
) -> None:
    tokens = None if usage is None else usage.total_tokens
    allowance.settle(reservation, runtime.now(), tokens)
    pump(allowance)


def _event(call: Call[Any], news: GateClosed | Change) -> Event:
    if isinstance(news, GateClosed):
        return RateGateClosed(call.request_id, call.partition, news.delay, news.reason)
    return RateLimitChanged(call.partition, news.dimension, news.old, news.new, news.reason)
