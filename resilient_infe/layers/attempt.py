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
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from ..call import Call, Handler, Layer
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


Taken: TypeAlias = tuple[Slots, Allowance, Reservation, Circuit, Permit]
"""What an attempt holds until it ends: of each policy what it took of it."""

Policies: TypeAlias = tuple[Slots, Circuit, Allowance]
"""What an attempt takes something of, in this order."""


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


class GuardedAttempt:
    """Does what the five layers do for an attempt that need not wait.

    Args:
        guards: the layers, which own the policies, and end what does not end as usual.
        apart: the same layers one by one, around the same transport: for all other attempts.

    State: none of its own.
    """

    __slots__ = ("_apart", "_classifier", "_estimate", "_guards", "_policies", "_timeout")

    def __init__(self, guards: Guards, apart: Handler[Any, Any]) -> None:
        """Look up once what all attempts need."""
        limiter, rate, breaker, classifier, timeout = self._guards = guards
        self._apart = apart
        self._estimate = rate._estimate
        self._classifier = classifier
        self._timeout = timeout
        one = limiter._one, breaker._one, rate._one
        self._policies = None if None in one else cast("Policies", one)

    async def __call__(  # noqa: C901, PLR0912  # to be one function is what it is for
        self, call: Call[P], call_next: Handler[P, R]
    ) -> R:
        """Take all at once, call on, give all back; or leave it to the layers."""
        slots, circuit, allowance = self._policies or self._find(call.partition)
        runtime, now = call.runtime, 0.0
        result: R = _NOTHING  # type checkers do not see that what is late was raised
        reservation = permit = None
        if slots.home is circuit.home is allowance.home is runtime and slots.take():
            try:
                tokens, clock = call.tokens, runtime.now
                if tokens is None and allowance.counts_tokens:
                    count, body = self._estimate, call.body
                    tokens = call.tokens = count(call.payload if body is None else body())
                now = clock()
                if call.deadline is None or now < call.deadline:
                    permit = circuit.admit_closed()
                    if permit is not None:
                        reservation = allowance.take(now, tokens or 0.0)
            finally:
                if reservation is None:
                    _give_back(slots, circuit, permit)
        if reservation is None or permit is None:
            apart = self._apart
            return cast("R", await apart(call))
        try:
            call.sends += 1
            if call.on_send is not None:
                call.on_send()
                call.on_send = None
            late, timer = None, runtime.cut_off_after(self._timeout.seconds, now)
            try:
                try:
                    result = await call_next(call)
                except BaseException as error:
                    if not timer.made(error):
                        raise
                    late = self._timeout._error(call)
                else:
                    timer.stop()
                if late is not None:
                    raise late
            except BaseException as error:
                self._classifier._judge_error(call, error, now)
                raise
            verdict = self._classifier._judge(call, result, now)
        except BaseException:
            self._end(call, (slots, allowance, reservation, circuit, permit), failed=True)
            raise
        if verdict.kind is SUCCESS and call.hold is None:
            self._succeed(call, slots, allowance, reservation, circuit, permit)
        else:
            self._end(call, (slots, allowance, reservation, circuit, permit))
        return result

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
        reservation: Reservation,
        circuit: Circuit,
        permit: Permit,
    ) -> None:
        try:
            verdict, clock = call.verdict, call.runtime.now
            now = clock()
            if not circuit.succeed(permit, now):
                self._guards.breaker._end(call, circuit, permit)
            if verdict is None or verdict.limits:
                self._guards.rate._settle(call, allowance, reservation, unsent=False)
            else:
                usage = verdict.usage
                allowance.settle(reservation, now, None if usage is None else usage.total_tokens)
                if allowance.queue.live:
                    allowance.keeper.pump()
        finally:
            freed = slots.release()
            if freed is not None and freed.wake is not None:
                freed.wake()

    def _end(self, call: Call[Any], taken: Taken, *, failed: bool = False) -> None:
        slots, allowance, reservation, circuit, permit = taken
        limiter, rate, breaker = self._guards[:3]
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
