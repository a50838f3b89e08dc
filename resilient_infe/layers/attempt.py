"""The five layers that guard an attempt, in one coroutine where nothing is unusual.

Each of them can be read, used and tested by itself; but a coroutine costs as much as what most of
them do in it, and nearly every attempt finds a free slot, room under the limit and a closed
circuit. So where the five stand next to each other, a stack tries to take all of it at once. If one
says no, what was taken is given back in the same instant and the call goes through the layers one
by one, to wait or to be refused there. And what does not end as a plain success is ended by the
layers' own methods. ADR 0007 has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar, cast

from ..call import Call, Handler, Layer
from ..errors import AttemptTimedOut
from ..policies.allowance import Allowance
from ..policies.circuit import Circuit, Permit
from ..policies.reservation import Reservation
from ..policies.slots import Slots
from ..verdict import SUCCESS
from .breaker import CircuitBreaker
from .classifier import ErrorClassifier
from .concurrency import ConcurrencyLimiter
from .rate import RateLimiter
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


class Policies(NamedTuple):
    """What an attempt takes something of, in this order."""

    slots: Slots
    circuit: Circuit
    allowance: Allowance


class Taken(NamedTuple):
    """What an attempt holds until it ends, and of whom."""

    slots: Slots
    permit: Permit
    circuit: Circuit
    reservation: Reservation
    allowance: Allowance


def _give_back(slots: Slots, circuit: Circuit, permit: Permit | None) -> None:
    if permit is not None:
        circuit.drop(permit)
    slots.release()  # nobody waits for it, or it had not been free


def _taken(
    slots: Slots,
    permit: Permit | None,
    circuit: Circuit,
    reservation: Reservation,
    allowance: Allowance,
) -> Taken:
    assert permit is not None  # where there is a reservation
    return Taken(slots, permit, circuit, reservation, allowance)


class _Nowhere:
    """Stands for a policy that is to be made, or bound to the loop, by its layer."""

    home = None


_NOWHERE: Any = _Nowhere()


_KINDS = (ConcurrencyLimiter, RateLimiter, CircuitBreaker, ErrorClassifier, AttemptTimeout)


def guards_at(layers: Sequence[Layer[Any, Any]], start: int) -> Guards | None:
    """Return the five that stand from `start` on in a stack, or None if it is not they.

    A class derived from one of them may do something else, so it is not taken for it.
    """
    found = layers[start : start + len(_KINDS)]
    if tuple(type(layer) for layer in found) != _KINDS:
        return None
    return Guards(*cast("tuple[Any, ...]", found))


class GuardedAttempt:
    """Does what the five layers do for an attempt that need not wait.

    Args:
        guards: the layers, which own the policies, and end what does not end as usual.
        apart: the same layers one by one, around the same transport: for all other attempts.

    State: none of its own.
    """

    __slots__ = ("_apart", "_estimate", "_guards", "_judge", "_policies", "_timeout")

    def __init__(self, guards: Guards, apart: Handler[Any, Any]) -> None:
        """Look up once what all attempts need."""
        limiter, rate, breaker, classifier, timeout = self._guards = guards
        self._apart = apart
        self._estimate = rate._estimate
        self._judge = classifier._judge
        self._timeout = timeout
        one = limiter._one, breaker._one, rate._one
        self._policies = None if None in one else Policies(*cast("tuple[Any, ...]", one))

    async def __call__(  # noqa: C901, PLR0912  # to be one function is what it is for
        self, call: Call[P], call_next: Handler[P, R]
    ) -> R:
        """Take all at once, call on, give all back; or leave it to the layers."""
        slots, circuit, allowance = self._policies or self._find(call.partition)
        runtime, clock = call.runtime, call.runtime.now
        now = clock()
        timer = reservation = permit = None
        if slots.home is runtime and circuit.home is runtime and allowance.home is runtime:
            tokens, deadline = call.tokens, call.deadline
            if tokens is None and allowance.counts_tokens:
                estimate = self._estimate
                tokens = call.tokens = estimate(call.payload if call.body is None else call.body())
            if (deadline is None or now < deadline) and slots.take():
                permit = circuit.admit_closed()
                if permit is not None:
                    reservation = allowance.take(now, tokens or 0.0)
                if reservation is None:
                    _give_back(slots, circuit, permit)
        if reservation is None:
            apart = self._apart
            return cast("R", await apart(call))
        try:
            call.sends += 1
            if call.on_send is not None:
                call.on_send()
                call.on_send = None
            timer = runtime.cut_off_after(self._timeout.seconds, now)
            result = await call_next(call)
            judge = self._judge
            verdict = judge(call, result, now)
        except BaseException as error:
            if timer is None or not timer.made(error):
                self._fail(call, error, _taken(slots, permit, circuit, reservation, allowance))
                raise
        else:
            timer.stop()
            now = clock()
            if verdict.kind is SUCCESS and call.hold is None and circuit.succeed(permit, now):
                if verdict.limits:
                    self._guards.rate._settle(call, allowance, reservation, unsent=False)
                else:
                    usage = verdict.usage
                    cost = None if usage is None else usage.total_tokens
                    allowance.settle(reservation, now, cost)
                    if allowance.queue.live:
                        allowance.keeper.pump()
                freed = slots.release()
                if freed is not None and freed.wake is not None:
                    freed.wake()
            else:
                self._end(call, _taken(slots, permit, circuit, reservation, allowance))
            return result
        raise self._time_out(call, _taken(slots, permit, circuit, reservation, allowance))

    def _find(self, partition: str | None) -> Policies:
        """Return the policies of a partition; of those that are new, or to be bound, none is."""
        limiter, rate, breaker = self._guards[:3]
        return Policies(
            limiter._one or limiter._known(partition) or _NOWHERE,
            breaker._one or breaker._known(partition) or _NOWHERE,
            rate._one or rate._known(partition) or _NOWHERE,
        )

    def _time_out(self, call: Call[Any], taken: Taken) -> AttemptTimedOut:
        error = self._timeout._error(call)
        self._fail(call, error, taken)
        return error

    def _end(self, call: Call[Any], taken: Taken) -> None:
        limiter, rate, breaker = self._guards[:3]
        try:
            breaker._end(call, taken.circuit, taken.permit)
        finally:
            try:
                rate._end(call, taken.allowance, taken.reservation)
            finally:
                limiter._end(call, taken.slots)

    def _fail(self, call: Call[Any], error: BaseException, taken: Taken) -> None:
        limiter, rate, breaker, classifier, _ = self._guards
        try:
            classifier._judge_error(call, error, taken.reservation.granted_at)
        finally:
            try:
                breaker._end(call, taken.circuit, taken.permit)
            finally:
                try:
                    rate._settle(call, taken.allowance, taken.reservation, unsent=False)
                finally:
                    limiter._fail(call, taken.slots)
