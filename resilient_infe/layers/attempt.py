"""The layers that guard an attempt, in one coroutine where nothing is unusual.

Each of them can be read, used and tested by itself; but a coroutine costs as much as what most of
them do in it, and nearly every attempt finds a free slot, room under the limit and a closed
circuit. So where the five stand next to each other, a stack tries to take all of it at once. If one
says no, what was taken is given back in the same instant and the call goes through the layers one
by one, to wait or to be refused there. And what does not end as a plain success is ended by the
layers' own methods. ADR 0007 has the figures.

Most calls are over with their first attempt. So where Retry, or Deadline and Retry, stand right
outside of the five, that attempt does without them: there is nothing to try again, and a deadline
that is further away than the attempt's own bound needs no timer. What it comes to, if it is no
success, is theirs to go on from.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from ..aio import Timer
from ..call import Call, Handler, Layer
from ..errors import AttemptTimedOut
from ..policies.allowance import Allowance
from ..policies.circuit import Circuit, Permit
from ..policies.reservation import Grant, Reservation
from ..policies.slots import Slots
from ..verdict import SUCCESS
from .breaker import CircuitBreaker
from .classifier import ErrorClassifier
from .concurrency import ConcurrencyLimiter
from .deadline import Deadline
from .rate import RateLimiter
from .retry import Outcome, Retry
from .timeout import AttemptTimeout

P = TypeVar("P")
R = TypeVar("R")


class Guards(NamedTuple):
    """The layers of an attempt, outermost first."""

    limiter: ConcurrencyLimiter
    rate: RateLimiter
    breaker: CircuitBreaker
    classifier: ErrorClassifier
    timeout: AttemptTimeout


Taken: TypeAlias = tuple[Slots, Allowance, Grant, Circuit, Permit]
"""What an attempt holds until it ends: of each policy what it took of it."""

Policies: TypeAlias = tuple[Slots, Circuit, Allowance]
"""What an attempt takes something of, in this order."""


class Around(NamedTuple):
    """The layers right outside of those of an attempt, for a call's first one to do without."""

    deadline: Deadline | None
    retry: Retry


def _give_back(slots: Slots, circuit: Circuit, permit: Permit | None) -> None:
    if permit is not None:
        circuit.drop(permit)
    slots.release()  # nobody waits for it, or it had not been free


class _Nowhere:
    """Stands for a policy that only its layer can find: one to be made, or to be told a belief."""

    home = None


_NOWHERE: Any = _Nowhere()
_NOTHING: Any = None


_KINDS = (ConcurrencyLimiter, RateLimiter, CircuitBreaker, ErrorClassifier, AttemptTimeout)


def guards_at(layers: Sequence[Layer[Any, Any]], start: int) -> Guards | None:
    """Return the five that stand from `start` on in a stack, or None if it is not they.

    A class derived from one of them may do something else, so it is not taken for it.
    """
    found = layers[start : start + len(_KINDS)]
    if tuple(type(layer) for layer in found) != _KINDS:
        return None
    return Guards(*cast("tuple[Any, ...]", found))


def around_at(layers: Sequence[Layer[Any, Any]], end: int) -> Around | None:
    """Return what ends in front of `end` in a stack and an attempt that begins there can replace.

    A deadline that is nearer than an attempt's timeout is what cuts the attempt, so it stays.
    """
    retry: Any = layers[end - 1] if end else None
    if type(retry) is not Retry:
        return None
    deadline: Any = layers[end - 2] if end > 1 else None
    timeout: Any = layers[end + len(_KINDS) - 1]
    if type(deadline) is not Deadline or (deadline.seconds or math.inf) <= timeout.seconds:
        deadline = None
    return Around(deadline, retry)


class GuardedAttempt:
    """Does what the layers of an attempt do, where it need not wait.

    Args:
        guards: the layers, which own the policies, and end what does not end as usual.
        apart: the same layers, `around` too, around the same transport: for all other attempts.
        around: the layers that a call's first attempt does without.
        again: makes the further attempts of a call, for those layers.

    State: none of its own.
    """

    __slots__ = (
        "_again",
        "_apart",
        "_bound",
        "_classifier",
        "_deadline",
        "_deposits",
        "_estimate",
        "_guards",
        "_policies",
        "_retry",
        "_timeout",
    )

    def __init__(
        self,
        guards: Guards,
        apart: Handler[Any, Any],
        around: Around | None = None,
        again: Handler[Any, Any] | None = None,
    ) -> None:
        """Look up once what all attempts need."""
        limiter, rate, breaker, classifier, timeout = self._guards = guards
        self._apart = apart
        self._estimate = rate._estimate
        self._classifier = classifier
        self._timeout = timeout
        one = limiter._one, breaker._one, rate._one
        self._policies = None if None in one else cast("Policies", one)
        self._deadline = None if around is None else around.deadline
        self._retry = None if around is None else around.retry
        self._again = again
        self._bound = 0.0 if self._deadline is None else timeout.seconds
        self._deposits = self._retry is not None and self._retry.budget is not None

    async def __call__(self, call: Call[P], call_next: Handler[P, R]) -> R:  # noqa: C901, PLR0912
        """Take all at once, call on, give all back; or leave it to the layers."""
        slots, circuit, allowance = self._policies or self._find(call.partition)
        runtime, clock = call.runtime, call.runtime.now
        entered = now = clock()
        grant = permit = late = timer = None
        here = slots.home is circuit.home is allowance.home is runtime
        if here and call.verdict is None and slots.take():
            try:
                tokens = call.tokens
                if tokens is None and allowance.counts_tokens:
                    count, body = self._estimate, call.body
                    tokens = call.tokens = count(call.payload if body is None else body())
                    now = clock()
                if call.deadline is None or now + self._bound < call.deadline:
                    permit = circuit.admit_closed()
                    if permit is not None:
                        grant = allowance.take(now, tokens or 0.0)
            finally:
                if grant is None:
                    _give_back(slots, circuit, permit)
        if grant is None or permit is None:
            return cast("R", await self._apart(call))
        result: R = _NOTHING  # type checkers do not see that what is late was raised
        try:
            timer = self._begin(call, entered, now)
            try:
                result = await call_next(call)
                timer.stop()
            except BaseException as error:
                late = self._late(call, timer, error, now)
                if late is None:
                    raise
            if late is not None:
                raise late
            verdict = self._classifier._judge(call, result, now)
        except BaseException as error:
            late = None  # a frame that keeps what it raises is garbage for the collector alone
            self._end(call, (slots, allowance, grant, circuit, permit), failed=True)
            over = timer is not None and timer.passed(error)
            if self._retry is None or not (over or isinstance(error, Exception)):
                raise
            outcome = None if over else Outcome(cast("Exception", error))
        else:
            if verdict.kind is SUCCESS and call.hold is None:
                self._succeed(call, slots, allowance, grant, circuit, permit)
                return result
            self._end(call, (slots, allowance, grant, circuit, permit))
            if self._retry is None or verdict.kind is SUCCESS:
                return result
            outcome = Outcome(result=result)
        return cast("R", await self._go_on(call, self._retry, outcome))

    def _begin(self, call: Call[Any], entered: float, now: float) -> Timer:
        """Note that the attempt is sent, and start the timer that cuts it."""
        call.sends += 1
        if self._deposits or call.on_send is not None:
            self._tell_sent(call)
        timer = call.runtime.cut_off_after(self._timeout.seconds, now)
        deadline = self._deadline
        if deadline is not None:
            if call.deadline is None and deadline.seconds is not None:
                call.deadline = entered + deadline.seconds
            timer.last = call.deadline
        return timer

    def _tell_sent(self, call: Call[Any]) -> None:
        if self._deposits and self._retry is not None:
            self._retry._deposit(call)  # in the place of what somebody else had set, as Retry does
        elif call.on_send is not None:
            call.on_send()
        call.on_send = None

    def _late(
        self, call: Call[Any], timer: Timer, error: BaseException, now: float
    ) -> AttemptTimedOut | None:
        """End the timer and judge what was raised; return what is raised in its place, if any."""
        judged, late = error, None
        try:
            if timer.made(error):
                judged = late = self._timeout._error(call)
        except BaseException as raised:
            judged = raised
            raise
        finally:
            self._classifier._judge_error(call, judged, now)
        return late

    async def _go_on(self, call: Call[P], retry: Retry, outcome: Outcome | None) -> Any:
        """Let the layers around go on from an attempt that was no success; None was the deadline's.

        What has come is kept, even if it came too late for anything to come after it.
        """
        deadline, again = self._deadline, self._again
        assert again is not None
        if outcome is None:
            assert deadline is not None
            raise deadline._error(call)

        def rest(call: Call[P]) -> Coroutine[Any, Any, Any]:
            return retry._go_on(call, again, outcome)

        if deadline is None or call.deadline is None or call.runtime.now() >= call.deadline:
            return await rest(call)
        return await deadline(call, rest)

    def _find(self, partition: str | None) -> Policies:
        """Return the policies of a partition, or a stand-in for one that its layer has to find."""
        limiter, rate, breaker, _, _ = self._guards
        slots, circuits, allowances = limiter._known, breaker._known, rate._known
        return (
            limiter._one or slots(partition) or _NOWHERE,
            breaker._one or circuits(partition) or _NOWHERE,
            rate._one or allowances(partition) or _NOWHERE,
        )

    def _succeed(
        self,
        call: Call[Any],
        slots: Slots,
        allowance: Allowance,
        grant: Grant,
        circuit: Circuit,
        permit: Permit,
    ) -> None:
        try:
            verdict, clock = call.verdict, call.runtime.now
            now = clock()
            if not circuit.succeed(permit, now):
                self._guards.breaker._end(call, circuit, permit)
            if verdict is None or verdict.limits:
                rate, reservation = self._guards.rate, Reservation.of(grant)
                rate._settle(call, allowance, reservation, unsent=False)
            else:
                usage = verdict.usage
                allowance.settle_grant(grant, now, None if usage is None else usage.total_tokens)
                if allowance.queue.live:
                    allowance.keeper.pump()
        finally:
            freed = slots.release()
            if freed is not None and freed.wake is not None:
                freed.wake()

    def _end(self, call: Call[Any], taken: Taken, *, failed: bool = False) -> None:
        slots, allowance, grant, circuit, permit = taken
        limiter, rate, breaker = self._guards[:3]
        reservation = Reservation.of(grant)
        try:
            breaker._end(call, circuit, permit)
        finally:
            try:
                if failed:
                    rate._settle(call, allowance, reservation, unsent=False)
                else:
                    rate._end(call, allowance, reservation)
            finally:
                (limiter._fail if failed else limiter._end)(call, slots)
