"""Tries again if the verdict says that another attempt may help.

Why outside the limiters and the breaker? So that every attempt passes them: each is limited, and
each is counted. And a call that backs off holds no slot. Why a budget in addition to
``max_attempts``? See `retry.budget`.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from typing import Any

from ..aio import keep
from ..core import bounds
from ..core.call import Call
from ..core.guard import Repeater
from ..core.verdict import Kind, Verdict
from ..errors import QueueFull
from ..events import RetryScheduled, RetryStopped
from ..telemetry.note import add_note
from .backoff import ExponentialBackoff
from .budget import RetryBudget
from .schedule import KindRule, Progress, RetrySchedule, Stop

trying_again: ContextVar[bool] = ContextVar("resilient_infe_retry", default=False)
"""Whether the running code is inside the second or a later attempt of a `Retry`. A `Retry` inside
it would multiply the attempts.
"""

is_trying_again = trying_again.get
"""Returns the value of `trying_again`."""


REFUSED_ALONE = "others are let in, and this call is not"
"""The reason of a delay after a 429 that seems to be about one call."""


class Tries:
    """The retries of one call. State: per call.

    Attributes:
        progress: what the schedule has counted.
        token: resets `trying_again`; None before the second attempt.
    """

    __slots__ = ("progress", "token")

    def __init__(self) -> None:
        self.progress = Progress()
        self.token: Token[bool] | None = None


class Retry(Repeater[Tries]):
    """Tries again, as the API's reference asks for each kind of error.

    Args:
        max_attempts: attempts in all, including the first, from 1; 6, which waits out about half a
            minute.
        backoff: the delays of kinds without delays of their own; 1 s, 2 s, 4 s ... up to 60 s, with
            full jitter.
        rules: per `Kind`, what differs from the reference's table; None for a kind means never
            retry.
        budget: a shared limit on retries, or None for no limit; None, because a rate limiter limits
            them already. Inside a stack with a `RateLimiter`, a 429 costs no budget.
        max_hint: seconds; if the server asks to wait longer, the call ends instead; 300.
        wait_out_refusals: whether to wait if the stack itself refuses and says for how long (an
            open circuit, for example); False. True is for batches, where waiting is better than
            failing.
        uniform: returns a random number in [0, 1); `random.random`. Another function makes a test
            repeatable.

    Raises:
        ConfigurationError: a value is out of its range.

    The last result or exception is passed on unchanged; an exception gets a note on the attempts.

    State: per call, except for the budget.
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

    def enter(self, call: Call[Any]) -> None:
        """Prepare the call for its first attempt, and hold nothing: most calls need no retry."""
        call.state.requeues = True
        if self.budget is not None:
            call.state.on_send = self._deposit
        if call.verdict is not None:
            _clear_last_attempt(call)

    def begin(self, _: Call[Any]) -> Tries:
        """Start to count the retries of a call, at its first failure."""
        return Tries()

    def leave(self, _: Call[Any], held: Tries, __: Any, ___: BaseException | None) -> None:
        """Reset `trying_again`: code that runs after this call is not inside a retry."""
        token, held.token = held.token, None
        if token is not None:
            with contextlib.suppress(ValueError):  # set in another context, which has ended
                trying_again.reset(token)

    async def pause(self, call: Call[Any], held: Tries, until: float) -> None:
        """Sleep until the next attempt, and remove the last one's results from the call."""
        began = call.runtime.now()
        try:
            sleep = call.state.sleep
            await (call.runtime.sleep_until(until) if sleep is None else sleep(call, until))
        finally:
            call.state.waited("backoff", call.runtime.now() - began)
        if call.verdict is None or call.verdict.error != QueueFull.__name__:
            call.state.readmitted = True  # a full queue has not let it in yet
        _clear_last_attempt(call)
        if held.token is None:
            held.token = trying_again.set(True)

    def describe(self) -> str:
        """Return the limits as text."""
        budget = f"; {self.budget.ratio:.0%} budget" if self.budget is not None else ""
        waits = "; waits out refusals" if self.schedule.wait_out_refusals else ""
        return (
            f"up to {self.schedule.max_attempts} attempts, {self.schedule.backoff}{budget}{waits}"
        )

    def again(self, call: Call[Any], held: Tries, error: Exception | None) -> float | None:
        """Return the instant of the next attempt, or None if there is none."""
        verdict = call.verdict
        if verdict is None:
            return None
        now = call.runtime.now()
        probe, call.state.probes = call.state.probes, False
        decision = self.schedule.decide(
            verdict, held.progress, now, call.deadline, self._uniform(), probe=probe
        )
        if not isinstance(decision, Stop):
            decision = _final(call, verdict) or self._veto(call, verdict, now) or decision
        if isinstance(decision, Stop):
            call.state.asked_too_long = decision.asked_too_long
            self._give_up(call, verdict, error, decision.reason)
            return None
        if call.hold is not None:
            call.hold.close()
        if call.emit is not None:
            call.emit(
                RetryScheduled(
                    call.request_id,
                    call.partition,
                    call.sends + 1,
                    verdict.kind,
                    verdict.status,
                    verdict.code,
                    verdict.error,
                    decision.delay,
                    verdict.retry_after,
                    _reason_of_delay(call, verdict),
                )
            )
        return now + decision.delay

    def _veto(self, call: Call[Any], verdict: Verdict, now: float) -> Stop | None:
        if verdict.kind is Kind.REFUSED:
            return None  # nothing was sent: the body is unread, and a retry costs no budget
        most = call.state.max_attempts
        if most is not None and call.sends >= most:
            return Stop(f"the call asked for at most {most} attempt{'s' if most > 1 else ''}")
        if not call.replayable:
            return Stop("the request's body can be read only once, so it cannot be sent again")
        if self.budget is None or _costs_nothing(call, verdict):
            return None
        if not self._budget(call).withdraw(now):
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
        call.state.gave_up = reason
        if error is not None and call.sends:
            add_note(error, call, verdict.advice)
        if reason is not None and call.emit is not None:
            call.emit(
                RetryStopped(call.request_id, call.partition, call.attempt, verdict.kind, reason)
            )


def _final(call: Call[Any], verdict: Verdict) -> Stop | None:
    refusals = call.state.refusals
    if verdict.kind is not Kind.RATE_LIMITED or refusals is None or refusals.final is None:
        return None
    return Stop(refusals.final)


def _costs_nothing(call: Call[Any], verdict: Verdict) -> bool:
    """Whether a retry costs no budget: that is for the time when the server is not well."""
    if verdict.kind is Kind.RATE_LIMITED:
        return call.state.refusals is not None  # a rate limiter bounds what is sent again
    return verdict.kind is Kind.MALFORMED


def _reason_of_delay(call: Call[Any], verdict: Verdict) -> str:
    if verdict.kind is Kind.MALFORMED:
        return "the answer is not of the asked form"
    if verdict.kind is Kind.REFUSED:
        return f"the stack refused it ({verdict.error})"
    refusals = call.state.refusals
    if verdict.kind is Kind.RATE_LIMITED and refusals is not None and refusals.suspect:
        return REFUSED_ALONE
    return "backoff" if verdict.retry_after is None else "the server asked for it"


def _clear_last_attempt(call: Call[Any]) -> None:
    """Make the call ready for another attempt: remove what the last one left on it."""
    call.attempt = call.sends + 1
    call.verdict = call.reply = call.hold = None
