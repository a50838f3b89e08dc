"""The layer that keeps calls below the rate limit, and stops them while the server asks to wait.

Why is it inside the concurrency limiter? The server counts requests when they are *sent*. Calls
that the rate limit admitted early, and that then wait for slots, would leave as a burst.

Why is each attempt charged? If only the first attempt were charged, retries would be free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

from ..aio import keep, keeper_of, pump, pump_soon, wall_time
from ..aio.partitioned import Partitioned
from ..core import bounds
from ..core.by_model import Rate, by_model, differs
from ..core.call import Call
from ..core.guard import Guard
from ..core.keyed import Keyed
from ..core.priority import TRICKLE, rank_of, standing_of
from ..core.runtime import Runtime
from ..core.verdict import SUCCESS, Usage
from ..errors import (
    SHORTEST_HINT,
    ConfigurationError,
    QueueFull,
    SlotTaken,
)
from ..events import RateTooLarge
from ..shared.shares import RedisShares
from .account import Account, account_of
from .allowance import Allowance
from .behind import BEHIND_SECONDS, LAST, behind_others, count_refusal, too_small_for
from .beliefs import ACCOUNT, Beliefs
from .costs import costs_of
from .estimate import TokenCount, estimate_tokens, expected_output
from .processes import parts
from .refusals import Refusals
from .reservation import Reservation
from .seat import join
from .settlement import learn, settle
from .snapshots import AllowanceStatistics
from .told import check_deadline, day_used_up, report, report_wait

Held: TypeAlias = tuple[Allowance, Reservation, int]
"""The allowance, the reservation in it, and the number of attempts the call had sent before."""


USUAL = {"follow_headers": True, "share": 1.0, "shared": False, "burst": 1.0, "trickle": TRICKLE}
"""The options of the allowances that a `RateLimiter` makes."""


class RateLimiter(Guard[Held]):
    """Sends no more than the rate limit allows, and nothing while the server asks to wait.

    Without numbers the limit is learned, and learned again when it changes.

    Args:
        allowance: an `Allowance` that all calls share, or a ``Keyed(lambda: Allowance(...))`` for
            one per partition; None to make a shared one from the numbers below.
        requests_per_minute: the limit, above 0; None to use the limit that the server states, and
            to learn it if it states none. A mapping from model to limit, as in
            ``{"infe-pulse": 1_200, "*": 60}``, makes an allowance for each partition; ``"*"`` is
            for each other model, whose limit is learned without it. So for each limit below.
        tokens_per_minute: the same for the tokens of input and output together.
        input_tokens_per_minute: the same for those of the input alone; None, the default, for none.
        output_tokens_per_minute: the same for those of the output, reasoning included.
        requests_per_day: the limit of any 24 hours, above 0, or None; see `DayUsedUp`.
        tokens_per_day: the same for tokens.
        cached_weight: what a token of the input that was read from the provider's cache counts, in
            [0, 1]; None, the default, to count it as the provider's usage does.
        follow_headers: whether to follow the limits that the server states; True by default.
        share: the part of the limits that this process, or all `processes` together, may use, in
            (0, 1]; 1 by default. It does not apply to a learned limit.
        processes: how many use the limits at once, from 1, the default. Above it, each keeps 1/n of
            what is declared or stated (of an `account` in a mapping too), and `shared` is True.
        shared: a `RedisShares`, which divides what is declared or stated among processes by need.
            Or whether others use a learned limit too, with this option: all grow and give way by
            one law, so that their parts become equal. False by default: that costs fewer 429s.
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
        DayUsedUp: raised by a call, if a limit of a day has no room for it.
        DeadlineExceeded: raised by a call, at once, if it cannot be sent before its deadline.

    Attributes:
        account: the limit over all partitions; None if there is none.
        shared: what divides the limits among processes; None if nothing does.

    State: in the `Allowance` of each partition, in the `Account`, and in the `RedisShares`.
    """

    def __init__(
        self,
        allowance: Allowance | Keyed[Allowance] | None = None,
        *,
        requests_per_minute: Rate = None,
        tokens_per_minute: Rate = None,
        input_tokens_per_minute: Rate = None,
        output_tokens_per_minute: Rate = None,
        requests_per_day: Rate = None,
        tokens_per_day: Rate = None,
        cached_weight: float | None = None,
        follow_headers: bool = True,
        share: float = 1.0,
        processes: int = 1,
        shared: bool | RedisShares = False,
        burst: float | Literal["window"] = 1.0,
        trickle: float = TRICKLE,
        max_hint: float = 300.0,
        estimate: Callable[[Any], float] = estimate_tokens,
        beliefs: Mapping[str, Mapping[str, Any]] | None = None,
        account: Account | Mapping[str, Any] | None = None,
    ) -> None:
        numbers: dict[str, Any] = {
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "input_tokens_per_minute": input_tokens_per_minute,
            "output_tokens_per_minute": output_tokens_per_minute,
            "requests_per_day": requests_per_day,
            "tokens_per_day": tokens_per_day,
            "cached_weight": cached_weight,
        }
        self.shared = shared if isinstance(shared, RedisShares) else None
        share, several = parts(share, processes, shared)
        options: dict[str, Any] = {
            "follow_headers": follow_headers,
            "share": share,
            "shared": several and (self.shared is None or allowance is None),
            "burst": burst,
            "trickle": trickle,
        }
        given = {name for name, each in numbers.items() if each is not None}
        if allowance is not None and (given or options != USUAL):
            raise ConfigurationError("RateLimiter takes an Allowance or the numbers, not both")
        if allowance is None:
            make = partial(Allowance, **options)
            allowance = by_model(make, numbers) if differs(numbers) else make(**numbers)
        self.allowances: Partitioned[Allowance] = Partitioned(
            allowance,
            Allowance,
            "RateLimiter",
            "Allowance(...) or Keyed(lambda: Allowance(...)); a number goes into "
            "requests_per_minute= or tokens_per_minute=",
        )
        self._max_hint = bounds.positive(max_hint, "max_hint, in seconds,")
        self._beliefs = Beliefs(beliefs)
        usual = {"trickle": trickle, "share": 1.0 / processes}
        self.account = account_of(account, cached_weight=cached_weight, **usual)
        self._estimate = estimate if estimate is estimate_tokens else TokenCount(estimate)

    def enter(self, call: Call[Any]) -> Held | None:
        """Reserve at once; return None if the call has to wait."""
        allowance = self.allowances.of(call)
        if self._beliefs.left:
            name = None if self.allowances.one is not None else call.partition
            self._beliefs.restore(name, allowance, self.account, call.runtime.now(), wall_time())
        account = self.account
        if self.shared is not None:
            join(self.shared, call, allowance, account, one=self.allowances.one is not None)
        if account is not None:
            keep(account, call.runtime)
            self._count_tokens(call, account.allowance)
        if call.tokens is None or allowance.splits_tokens:
            self._count_tokens(call, allowance)
        now = call.runtime.now()  # counting may have taken a while
        if call.deadline is not None and now >= call.deadline:
            return None
        if call.tenant is not None and allowance.counts_tokens:
            call.state.cost = allowance.cost_of(call.tokens or 0.0, call.state.output_tokens)
        rank = None
        if (
            call.priority is not None
            or allowance.line.ranked
            or (account is not None and account.allowance.line.ranked)
        ):
            rank = rank_of(call.priority)
        costs = costs_of(call.tokens or 0.0, call.state.output_tokens)
        if account is None:
            reservation = allowance.admit(costs, now, None, rank)
        else:
            reservation = account.admit(allowance, costs, now, None, rank)
        return None if reservation is None else (allowance, reservation, call.sends)

    async def wait(self, call: Call[Any]) -> Held:
        """Wait for a reservation, and cancel it if the caller stops waiting."""
        allowance = self.allowances.of(call)
        began, stalled = call.runtime.now(), None
        reservation = self._join(call, allowance, began)
        try:
            if self.account is None or allowance.line.queue.head() is reservation:
                self._pump(allowance)  # behind the head of its queue a call changes nothing
            if not (reservation.granted or reservation.gone):
                report_wait(call, allowance, self.account, self.shared)
                stalled = call.state.crowd
                if stalled is not None:
                    stalled.stall()
                await call.runtime.park(reservation)
            if not reservation.granted:
                raise day_used_up(call, allowance, reservation.full_until, wall_time())
        except BaseException:
            for each, taken in self._taken(allowance, reservation):
                each.cancel(taken, call.runtime.now())
            pump_soon(allowance if self.account is None else self.account)
            raise
        finally:
            if stalled is not None:
                stalled.move()
            call.state.waited("rate_limit", call.runtime.now() - began)
        if call.tokens is None and any(each.limits_tokens for each in self._limits(allowance)):
            # A limit of tokens is new: the call takes its place again, with its tokens counted.
            for each, taken in self._taken(allowance, reservation):
                each.cancel(taken, call.runtime.now())
            return self.enter(call) or await self.wait(call)
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
            report(call, allowance.observe(verdict.limits, reservation, now))
        if allowance.line.queue.live if self.account is None else self.account.waiting:
            self._pump(allowance)

    def resize(
        self, *, partition: str | None = None, account: bool = False, **limits: float | None
    ) -> None:
        """Declare new limits while in use.

        Args:
            partition: the name of the partition, which is made if it has had no call yet; None for
                the shared allowance, or for the calls without a partition.
            account: whether the limit over all partitions is meant; False by default.
            limits: the new limits, above 0, by their names above, such as ``requests_per_minute``;
                None to keep the present one.

        Raises:
            ConfigurationError: a value is not above 0, a name is not one of a limit, all partitions
                share the allowance, or there is no limit over all partitions.
            TooManyPartitions: the partition is new, and `Keyed` has no room for it.
        """
        if account and (self.account is None or partition is not None):
            raise ConfigurationError("resize(account=True) needs an account=, and no partition=")
        whole = self.account if account else None
        allowance = self.allowances.to_resize(partition) if whole is None else whole.allowance
        self.declare(allowance, **limits)

    def declare(self, allowance: Allowance, **limits: float | None) -> None:
        """Declare new limits of an allowance of this layer, and grant what fits now."""
        keeper = keeper_of(allowance)
        if keeper is None and self.account is not None:
            keeper = keeper_of(self.account)
        allowance.resize(0.0 if keeper is None else keeper.runtime.now(), **limits)
        if keeper is not None and not keeper.runtime.is_closed():
            self._pump(allowance)

    def beliefs(self) -> dict[str, dict[str, Any]]:
        """Return the learned limits and what was spent of a day, by partition, for JSON.

        Calls without a partition have the empty text as key, and an account has ``"*"``. Pass the
        value as ``beliefs=`` in the next run.
        """
        known: list[Any] = list(self.allowances.remembered())
        known += [] if self.account is None else [(ACCOUNT, self.account)]
        return self._beliefs.with_current((name, _belief_of(each)) for name, each in known)

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

    def _limits(self, allowance: Allowance) -> tuple[Allowance, ...]:
        return (allowance,) if self.account is None else (allowance, self.account.allowance)

    def _pump(self, allowance: Allowance) -> None:
        """Grant what fits now; with an account, of all partitions."""
        pump(allowance if self.account is None else self.account)

    def _settle_stream(
        self, runtime: Runtime, allowance: Allowance, reservation: Reservation, usage: Usage | None
    ) -> None:
        for each, taken in self._taken(allowance, reservation):
            each.settle(taken, runtime.now(), usage)
        self._pump(allowance)

    def _count_tokens(self, call: Call[Any], allowance: Allowance) -> None:
        if not allowance.counts_tokens:
            return
        body = call.payload if call.body is None else call.body()
        if call.tokens is None:
            call.tokens = self._estimate(body)
        if allowance.splits_tokens and call.state.output_tokens is None:
            call.state.output_tokens = expected_output(body)

    def _learn(
        self, call: Call[Any], allowance: Allowance, reservation: Reservation, now: float
    ) -> None:
        """Apply a failure, or a success of a time in which others were refused."""
        verdict = call.verdict
        if verdict is not None:
            own = count_refusal(call, self._limits(allowance), reservation, verdict, now)
            report(call, learn(allowance, reservation, verdict, now, self._max_hint, own))

    def _join(self, call: Call[Any], allowance: Allowance, now: float) -> Reservation:
        if call.deadline is not None:
            check_deadline(call, call.deadline, allowance, self.account, now)
        costs, state = costs_of(call.tokens or 0.0, call.state.output_tokens), call.state
        for each in self._limits(allowance):
            if (until := each.days_full_until(costs)) > now:
                raise day_used_up(call, each, until, wall_time())
        too_small = too_small_for(costs, self._limits(allowance))
        parked = isinstance(own := state.refusals, Refusals) and own.parked
        state.behind = parked or too_small is not None
        if too_small is not None:
            if call.emit is not None and state.let_pass < 0:
                tokens, reason = call.tokens or 0.0, f"more than the limit, {too_small}"
                call.emit(RateTooLarge(call.request_id, call.partition, tokens, reason))
            if state.let_pass != call.sends:
                state.let_pass, state.place = call.sends, behind_others(allowance)
                if state.requeues:  # it must not keep a slot from others while it waits
                    raise call.refuse(SlotTaken("larger than the whole limit: it waits for others"))
        account, standing = self.account, standing_of(call.priority, call.tenant)
        if account is not None:
            account.await_in(allowance, standing)
        # The ages of calls are those of all partitions, so only the time bounds how long it waits.
        place, first_at = (LAST, now + BEHIND_SECONDS) if state.behind else (state.place, math.inf)
        try:
            return allowance.enqueue(
                costs,
                place,
                again=state.readmitted,
                first_at=first_at,
                standing=standing,
                behind=state.behind,
            )
        except QueueFull as full:
            # The queue has room when its head is granted.
            full.retry_after = max(SHORTEST_HINT, (allowance.due or now) - now)
            raise call.refuse(full) from None


def _belief_of(limit: Allowance | Account) -> dict[str, Any] | None:
    keeper = keeper_of(limit)
    now = None if keeper is None else keeper.runtime.now()
    return limit.belief(now, wall_time())
