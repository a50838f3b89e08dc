"""The layer that keeps calls below the rate limit, and stops them while the server asks to wait.

Why is it inside the concurrency limiter? The server counts requests when they are *sent*. Calls
that the rate limit admitted early, and that then wait for slots, would leave as a burst.

Why is each attempt charged? If only the first attempt were charged, retries would be free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

from ..aio import keep, keeper_of, pump, pump_soon
from ..aio.partitioned import Partitioned
from ..core import bounds
from ..core.by_model import Rate, by_model, differs
from ..core.call import Call
from ..core.guard import Guard
from ..core.keyed import Keyed
from ..core.priority import TRICKLE, rank_of, standing_of
from ..core.queue import ages
from ..core.rejection import is_refusal, too_large
from ..core.runtime import Runtime
from ..core.verdict import SUCCESS, Usage, Verdict
from ..errors import SHORTEST_HINT, ConfigurationError, DeadlineExceeded, QueueFull, SlotTaken
from ..events import Event, RateGateClosed, RateLimitChanged, RateTooLarge, RateWaiting
from .account import Account, account_of
from .allowance import Allowance
from .change import Change
from .estimate import TokenCount, estimate_tokens
from .gate import GateClosed
from .refusals import Refusals
from .reservation import Reservation
from .settlement import learn, settle
from .snapshots import AllowanceStatistics

Held: TypeAlias = tuple[Allowance, Reservation, int]
"""The allowance, the reservation in it, and the number of attempts the call had sent before."""


BEHIND_SECONDS = 300.0
"""A request that waits for all others waits for what the limit admits in so long, at most; and in
the queue of the limit no longer than that.

Then it is the oldest. If it is larger than the whole limit, the others wait until a window of a
minute is empty. So they lose a sixth of their time to such requests at most."""

BEHIND_CALLS = 1_000
"""The same in calls, if no limit of requests is known."""


class RateLimiter(Guard[Held]):
    """Sends no more than the rate limit allows, and nothing while the server asks to wait.

    Without numbers the limit is learned, and learned again when it changes.

    Args:
        allowance: an `Allowance` that all calls share, or a ``Keyed(lambda: Allowance(...))`` for
            one per partition; None to make a shared one from the numbers below.
        requests_per_minute: the limit, above 0; None to use the limit that the server states, and
            to learn it if it states none. A mapping from model to limit, as in
            ``{"infe-pulse": 1_200, "*": 60}``, makes an allowance for each partition; ``"*"`` is
            for each other model, whose limit is learned without it.
        tokens_per_minute: the same for tokens.
        share: the part of the limits that this process may use, in (0, 1]: ``1 / 20`` for 20
            replicas; 1 by default. It does not apply to a learned limit, which already is the part
            that the others leave.
        burst: the seconds of the rate that can be sent at once, above 0, or ``"window"`` for the
            whole limit; the default of 1 keeps the sends even. See `Allowance`.
        trickle: the share that each class below the highest that waits is guaranteed, from 0 to
            1/3; 0.1 by default, so that a batch ends.
        max_hint: the longest time that a hint closes the gate, in seconds, above 0; a longer hint
            is cut to it. The default of 300 is that of `Retry`.
        estimate: a function that returns the tokens of a request, for calls without ``tokens``. It
            takes the decoded body, or the arguments of a wrapped function by name. By default, and
            if it fails: the characters of the body divided by four, plus the output it asks for.
        beliefs: the value of `beliefs` in an earlier run, so that limits are known from the start.
        account: a limit over all partitions, besides those above: an `Account`, which may be
            shared, or its arguments, such as ``{"requests_per_minute": 2_000}``; None, the default,
            if there is none.

    Raises:
        ConfigurationError: both an allowance and numbers are given, or a value is out of range.
        QueueFull: raised by a call, if the queue of the `Allowance` is full.
        DeadlineExceeded: raised by a call, at once, if it cannot be sent before its deadline.

    Attributes:
        account: the limit over all partitions; None if there is none.

    State: in the `Allowance` of each partition, and in the `Account`.
    """

    def __init__(
        self,
        allowance: Allowance | Keyed[Allowance] | None = None,
        *,
        requests_per_minute: Rate = None,
        tokens_per_minute: Rate = None,
        share: float = 1.0,
        burst: float | Literal["window"] = 1.0,
        trickle: float = TRICKLE,
        max_hint: float = 300.0,
        estimate: Callable[[Any], float] = estimate_tokens,
        beliefs: Mapping[str, Mapping[str, Any]] | None = None,
        account: Account | Mapping[str, float] | None = None,
    ) -> None:
        numbers = (requests_per_minute, tokens_per_minute, share, burst, trickle)
        if allowance is not None and numbers != (None, None, 1.0, 1.0, TRICKLE):
            raise ConfigurationError("RateLimiter takes an Allowance or the numbers, not both")
        if allowance is None:
            limits = {
                "requests_per_minute": requests_per_minute,
                "tokens_per_minute": tokens_per_minute,
            }

            def make(**given: Any) -> Allowance:
                return Allowance(share=share, burst=burst, trickle=trickle, **given)

            allowance = by_model(make, limits) if differs(limits) else make(**limits)
        self.allowances: Partitioned[Allowance] = Partitioned(
            allowance,
            Allowance,
            "RateLimiter",
            "Allowance(...) or Keyed(lambda: Allowance(...)); a number goes into "
            "requests_per_minute= or tokens_per_minute=",
        )
        self._max_hint = bounds.positive(max_hint, "max_hint, in seconds,")
        self._beliefs = _checked_beliefs(beliefs)
        if self.allowances.one is not None:
            self._restore_belief("", self.allowances.one)
        self.account = account_of(account)
        self._estimate = estimate if estimate is estimate_tokens else TokenCount(estimate)

    def enter(self, call: Call[Any]) -> Held | None:
        """Reserve at once; return None if the call has to wait."""
        allowance = self.allowances.of(call)
        if self._beliefs and self.allowances.one is None:
            self._restore_belief(call.partition or "", allowance)
        account = self.account
        if account is not None:
            keep(account, call.runtime)
        if call.tokens is None and (
            allowance.counts_tokens or (account is not None and account.allowance.counts_tokens)
        ):
            call.tokens = self._estimate(call.payload if call.body is None else call.body())
        now = call.runtime.now()
        if call.deadline is not None and now >= call.deadline:
            return None
        if call.tenant is not None and allowance.counts_tokens:
            call.state.cost = allowance.cost_of(call.tokens or 0.0)
        rank = None
        if call.priority is not None or allowance.line.ranked:
            rank = rank_of(call.priority)
        if account is None:
            reservation = allowance.take(now, call.tokens or 0.0, None, rank)
        else:
            reservation = account.take(allowance, now, call.tokens or 0.0, None, rank)
        return None if reservation is None else (allowance, reservation, call.sends)

    async def wait(self, call: Call[Any]) -> Held:
        """Wait for a reservation, and cancel it if the caller stops waiting."""
        allowance = self.allowances.of(call)
        began, stalled = call.runtime.now(), None
        reservation = self._join(call, allowance, began)
        try:
            if self.account is None or allowance.line.queue.head() is reservation:
                self._pump(allowance)  # behind the head of its queue a call changes nothing
            if not reservation.granted:
                if call.emit is not None and call.emit.routine:
                    self._emit_waiting(call, allowance)
                stalled = call.state.crowd
                if stalled is not None:
                    stalled.stall()
                await call.runtime.park(reservation)
        except BaseException:
            for each, taken in self._taken(allowance, reservation):
                each.cancel(taken, call.runtime.now())
            pump_soon(allowance if self.account is None else self.account)
            raise
        finally:
            if stalled is not None:
                stalled.move()
            call.state.waited("rate_limit", call.runtime.now() - began)
        return allowance, reservation, call.sends

    def leave(self, call: Call[Any], held: Held, _: Any, error: BaseException | None) -> None:
        """Settle, now or when the call's stream is closed; apply the hint and the limits stated."""
        allowance, reservation, sends = held
        verdict, now = call.verdict, call.runtime.now()
        failed = verdict is not None and verdict.kind is not SUCCESS
        if call.hold is None or error is not None or failed:
            unsent = error is not None and call.sends == sends
            settle(allowance, reservation, verdict, now, unsent=unsent)
            if self.account is not None:
                outer = self.account.pop(reservation)
                if outer is not None:
                    settle(self.account.allowance, outer, verdict, now, unsent=unsent)
        else:
            call.hold.on_close(partial(self._settle_stream, call.runtime, allowance, reservation))
        if failed or now < allowance.others.watched_until:
            self._learn(call, allowance, reservation, now)
        elif verdict is not None and verdict.limits:
            _report(call, allowance.observe(verdict.limits, reservation, now))
        if allowance.line.queue.live if self.account is None else self.account.waiting:
            self._pump(allowance)

    def resize(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        partition: str | None = None,
    ) -> None:
        """Declare new limits while in use.

        Args:
            requests_per_minute: the new limit, above 0; None to keep the present one.
            tokens_per_minute: the same for tokens.
            partition: the name of the partition, which is made if it has had no call yet; None for
                the shared allowance, or for the calls without a partition.

        Raises:
            ConfigurationError: a value is not above 0, or all partitions share the allowance.
            TooManyPartitions: the partition is new, and `Keyed` has no room for it.
        """
        allowance = self.allowances.to_resize(partition)
        keeper = keeper_of(allowance)
        now = 0.0 if keeper is None else keeper.runtime.now()
        allowance.resize(
            now, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
        )
        if keeper is not None:
            self._pump(allowance)

    def beliefs(self) -> dict[str, dict[str, Any]]:
        """Return the learned limits by partition, in a form that JSON can hold.

        Calls without a partition have the empty text as key. Pass the value as ``beliefs=`` in the
        next run.
        """
        current = {name or "": each.belief() for name, each in self.allowances.remembered()}
        learned = {name: belief for name, belief in current.items() if belief is not None}
        return {**self._beliefs, **learned}

    def statistics(self, now: float) -> dict[str | None, AllowanceStatistics]:
        """Return a snapshot for each partition."""
        return {partition: each.statistics(now) for partition, each in self.allowances.items()}

    def describe(self) -> str:
        """Return the limits in words."""
        account = "" if self.account is None else f"; the account: {self.account}"
        return f"{self.allowances.describe()}{account}"

    def _taken(
        self, allowance: Allowance, reservation: Reservation
    ) -> tuple[tuple[Allowance, Reservation], ...]:
        """Return each limit that an attempt took from, with what it took."""
        own = allowance, reservation
        outer = None if self.account is None else self.account.pop(reservation)
        if self.account is None or outer is None:
            return (own,)
        return own, (self.account.allowance, outer)

    def _too_small(self, allowance: Allowance, tokens: float) -> Allowance | None:
        """Return a limit that allows less in a whole minute than one request costs, or None."""
        if allowance.oversized(tokens):
            return allowance
        outer = None if self.account is None else self.account.allowance
        return outer if outer is not None and outer.oversized(tokens) else None

    def _pump(self, allowance: Allowance) -> None:
        """Grant what fits now; with an account, of all partitions."""
        if self.account is None:
            pump(allowance)
        else:
            pump(self.account)

    def _settle_stream(
        self,
        runtime: Runtime,
        allowance: Allowance,
        reservation: Reservation,
        usage: Usage | None,
    ) -> None:
        tokens = None if usage is None else usage.total_tokens
        for each, taken in self._taken(allowance, reservation):
            each.settle(taken, runtime.now(), tokens)
        self._pump(allowance)

    def _restore_belief(self, name: str, allowance: Allowance) -> None:
        belief = self._beliefs.pop(name, None)
        if belief is not None and allowance.belief() is None:
            allowance.believe(belief)

    def _learn(
        self, call: Call[Any], allowance: Allowance, reservation: Reservation, now: float
    ) -> None:
        """Apply a failure, or a success of a time in which others were refused."""
        verdict = call.verdict
        if verdict is not None:
            own = self._count_refusal(call, allowance, reservation, verdict, now)
            _report(call, learn(allowance, reservation, verdict, now, self._max_hint, own))

    def _count_refusal(
        self,
        call: Call[Any],
        allowance: Allowance,
        reservation: Reservation,
        verdict: Verdict,
        now: float,
    ) -> Refusals | None:
        """Note a 429 of the call, and let it wait behind the others from its second one on."""
        if not is_refusal(verdict):
            return None
        state, tokens = call.state, reservation.tokens
        own = state.refusals
        if not isinstance(own, Refusals):
            own = state.refusals = Refusals()
        own.add(reservation.granted_at, tokens, now, allowance.others)
        reason = too_large(verdict)
        too_small = self._too_small(allowance, tokens)
        if reason is None and too_small is not None:
            reason = (
                f"estimated at {tokens:,.0f} tokens, which is more than the limit of a whole "
                f"minute ({too_small}), and refused when nothing else was sent"
            )
        if reason is not None:
            own.final, own.for_good = reason, True
        if own.parked:
            state.place, state.behind = _behind_others(allowance), True
        elif own.times > 1:
            state.place = next(ages)
        return own

    def _join(self, call: Call[Any], allowance: Allowance, now: float) -> Reservation:
        if call.deadline is not None:
            self._check_deadline(call, call.deadline, allowance, now)
        first_at = math.inf
        too_small = self._too_small(allowance, call.tokens or 0.0)
        if too_small is not None:
            first_at = now + BEHIND_SECONDS
            if call.emit is not None and call.state.let_pass < 0:
                tokens, reason = call.tokens or 0.0, f"more than the limit, {too_small}"
                call.emit(RateTooLarge(call.request_id, call.partition, tokens, reason))
            if call.state.let_pass != call.sends:
                call.state.let_pass = call.sends
                call.state.place, call.state.behind = _behind_others(allowance), True
                if call.state.requeues:  # it must not keep a slot from others while it waits
                    raise call.refuse(SlotTaken("larger than the whole limit: it waits for others"))
        state = call.state
        if self.account is not None:
            self.account.await_in(allowance)
        try:
            return allowance.join(
                call.tokens or 0.0,
                state.place,
                again=state.readmitted,
                first_at=first_at,
                standing=standing_of(call.priority, call.tenant),
                behind=state.behind,
            )
        except QueueFull as full:
            # The queue has room when its head is granted.
            full.retry_after = max(SHORTEST_HINT, (allowance.due or now) - now)
            raise call.refuse(full) from None

    def _check_deadline(
        self, call: Call[Any], deadline: float, allowance: Allowance, now: float
    ) -> None:
        # A retry joins ahead of younger calls, so only the gate is certain to delay it.
        again = call.state.readmitted
        standing = standing_of(call.priority, call.tenant)
        earliest = max(now, allowance.gate.until if again else allowance.not_before(now, standing))
        if self.account is not None and not again:
            earliest = max(earliest, self.account.allowance.not_before(now, standing))
        if now >= deadline or earliest >= deadline:
            refusal = DeadlineExceeded(
                f"{allowance.waits_for(now)}: this call could be sent in {earliest - now:.3g} s at "
                f"the earliest, but its deadline is in {max(0.0, deadline - now):.3g} s",
                retry_after=(earliest - now) or None,
            )
            raise call.refuse(refusal)

    def _emit_waiting(self, call: Call[Any], allowance: Allowance) -> None:
        assert call.emit is not None
        now, account, due = call.runtime.now(), self.account, allowance.due or 0.0
        scope, reason = None, allowance.waits_for(now)
        if account is not None and account.is_awaited and due <= now:
            scope, reason, due = "account", "the limit of the account", account.due or now
        call.emit(
            RateWaiting(
                call.request_id,
                call.partition,
                max(0.0, due - now),
                reason,
                allowance.waiting,
                scope,
                call.priority,
            )
        )


def _behind_others(allowance: Allowance) -> int:
    """Return a place behind all calls so far and those of the next five minutes."""
    return next(ages) + int(allowance.admits_within(BEHIND_SECONDS) or BEHIND_CALLS)


def _checked_beliefs(beliefs: Mapping[str, Mapping[str, Any]] | None) -> dict[str, dict[str, Any]]:
    """Return a copy; an invalid belief raises now, not at the first call of its partition."""
    if beliefs is not None and not isinstance(beliefs, Mapping):
        raise ConfigurationError("beliefs must be the value of RateLimiter.beliefs(), by partition")
    for belief in (beliefs or {}).values():
        Allowance(belief=belief)
    return {str(name): dict(belief) for name, belief in (beliefs or {}).items()}


def _report(call: Call[Any], changes: Iterable[GateClosed | Change]) -> None:
    for change in changes:
        if call.emit is not None:
            call.emit(_event(call, change))


def _event(call: Call[Any], change: GateClosed | Change) -> Event:
    if isinstance(change, GateClosed):
        return RateGateClosed(call.request_id, call.partition, change.delay, change.reason)
    return RateLimitChanged(call.partition, change.dimension, change.old, change.new, change.reason)
