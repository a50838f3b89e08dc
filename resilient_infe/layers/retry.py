"""Tries again, when the verdict says that it may help.

Why outside the limiters and the breaker? Every attempt is judged, and every attempt pays. Why a
budget and not only ``max_attempts``? See `policies.budget`. No slot is held while a call backs off.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

from ..aio import keep
from ..call import Call, Handler
from ..policies import bounds
from ..policies.backoff import ExponentialBackoff
from ..policies.budget import RetryBudget
from ..policies.schedule import KindRule, Progress, RetrySchedule, Stop
from ..verdict import SUCCESS, Kind, Verdict
from .note import add_note

P = TypeVar("P")
R = TypeVar("R")


class Outcome:
    """What an attempt came to that was no success: what it raised, or else what it returned.

    It is handed on once and then empty: a frame that keeps what it raises is garbage that only a
    collection finds. State: per attempt.
    """

    __slots__ = ("_error", "_result")

    def __init__(self, error: Exception | None = None, result: object = None) -> None:
        """Keep both."""
        self._error = error
        self._result = result

    def take(self) -> tuple[Exception | None, object]:
        """Hand both over."""
        both = self._error, self._result
        self._error = self._result = None
        return both


def _raise_again(error: Exception) -> NoReturn:
    """Raise what was raised before, with the context that it had then."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
        del error, context


class Retry:
    """Makes up to so many attempts, as the API's reference asks for each kind of error.

    Args:
        max_attempts: attempts in all, the first included, from 1; 6 waits out about half a minute.
        backoff: the delays of kinds without their own; 1 s, 2 s, 4 s ... up to 60 s, full jitter.
        rules: per `Kind`, what differs from the reference's table; None for a kind means never.
        budget: a shared bound on retries, or None for none (a rate limiter bounds them already).
        max_hint: seconds; a server's hint over it ends the call instead of holding it; 300.
        wait_out_refusals: whether to wait when the stack itself refuses and says how long (an open
            circuit); for batches, where waiting beats failing.
        uniform: draws from [0, 1); to make a test repeatable.

    Raises:
        ConfigurationError: a value is out of its range.

    The last result or exception passes through unchanged, an exception with a note of the attempts.

    State: per call, but for the budget.
    """

    def __init__(
        self,
        max_attempts: int = 6,
        backoff: ExponentialBackoff | None = None,
        *,
        rules: Mapping[Kind, KindRule | None] | None = None,
        budget: RetryBudget | None = None,
        max_hint: float = 300.0,
        wait_out_refusals: bool = False,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """Gather the rules into a schedule."""
        self.schedule = RetrySchedule(
            max_attempts,
            ExponentialBackoff() if backoff is None else backoff,
            dict(rules or {}),
            max_hint,
            wait_out_refusals,
        )
        if budget is not None:
            bounds.instance(budget, RetryBudget, "budget", "RetryBudget(...) or None")
        self.budget = budget
        self._uniform = uniform

    async def __call__(self, call: Call[P], call_next: Handler[P, R]) -> R:
        """Attempt until the outcome is final."""
        if self.budget is not None:
            call.on_send = partial(self._deposit, call)
        if call.verdict is not None:
            _forget(call)
        try:
            result = await call_next(call)
        except Exception as error:
            outcome = Outcome(error)
        else:
            verdict = call.verdict
            if verdict is None or verdict.kind is SUCCESS:
                return result
            outcome = Outcome(result=result)
        return await self._go_on(call, call_next, outcome)

    def describe(self) -> str:
        """Say the bounds."""
        budget = f"; {self.budget.ratio:.0%} budget" if self.budget is not None else ""
        waits = "; waits out refusals" if self.schedule.wait_out_refusals else ""
        return (
            f"up to {self.schedule.max_attempts} attempts, {self.schedule.backoff}{budget}{waits}"
        )

    async def _go_on(self, call: Call[P], call_next: Handler[P, R], outcome: Outcome) -> R:
        """Go on from an attempt that was no success: `call_next` makes the further ones."""
        error, result = outcome.take()
        progress = Progress()
        try:
            while await self._again(call, progress, error):
                _forget(call)
                try:
                    error, result = None, await call_next(call)
                except Exception as raised:
                    error = raised
                else:
                    if call.verdict is None or call.verdict.kind is SUCCESS:
                        break
            if error is not None:
                _raise_again(error)
            return cast("R", result)
        finally:
            del error

    async def _again(
        self, call: Call[Any], progress: Progress, error: BaseException | None
    ) -> bool:
        """Sleep until the next attempt and return True, or return False where there is none."""
        verdict = call.verdict
        if verdict is None:
            return False
        now = call.runtime.now()
        probe, call.probe = call.probe, False
        decision = self.schedule.decide(
            verdict, progress, now, call.deadline, self._uniform(), probe=probe
        )
        if not isinstance(decision, Stop):
            decision = self._veto(call, verdict, now) or decision
        if isinstance(decision, Stop):
            self._give_up(call, verdict, error, decision.reason)
            return False
        if call.hold is not None:
            call.hold.close()
        if call.emit is not None:
            from ..events import RetryScheduled

            call.emit(
                RetryScheduled(
                    call.request_id,
                    call.partition,
                    call.sends + 1,
                    verdict.kind,
                    decision.delay,
                    verdict.retry_after,
                )
            )
        await call.runtime.sleep_until(now + decision.delay)
        call.again = True
        return True

    def _veto(self, call: Call[Any], verdict: Verdict, now: float) -> Stop | None:
        if verdict.kind is Kind.REFUSED:
            return None  # nothing was sent: neither the budget nor the body is concerned
        if not call.replayable:
            return Stop("the request's body can be read only once, so it cannot be sent again")
        if self.budget is not None and not self._budget(call).withdraw(now):
            return Stop("the retry budget is empty: too many calls fail at once")
        return None

    def _deposit(self, call: Call[Any]) -> None:
        self._budget(call).deposit(call.runtime.now())

    def _budget(self, call: Call[Any]) -> RetryBudget:
        budget = self.budget
        assert budget is not None
        keep(budget, call.runtime)
        return budget

    def _give_up(
        self, call: Call[Any], verdict: Verdict, error: BaseException | None, reason: str | None
    ) -> None:
        call.gave_up = reason
        if error is not None and call.sends:
            add_note(error, call, verdict.advice)
        if reason is not None and call.emit is not None:
            from ..events import RetryStopped

            call.emit(
                RetryStopped(call.request_id, call.partition, call.attempt, verdict.kind, reason)
            )


def _forget(call: Call[Any]) -> None:
    """Make the call ready for another attempt: what the last one left does not count any more."""
    call.attempt = call.sends + 1
    call.verdict = call.reply = call.hold = None
