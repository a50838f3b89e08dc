"""Sends a second attempt when the first has not begun to answer; the first answer counts.

A few answers come very late because one machine of many is stuck. Another attempt probably meets
another machine. (Lognormal times to the first token and 2 % stalls of 20 to 60 s: the p99 falls
from 41 s to 3 s, for 5 % more attempts.)

Why inside Retry? A hedge is no retry: nothing has failed. `Retry` sees one outcome of both.

Why outside the limiters and the breaker? So that the second attempt has a slot, a reservation and a
permit of its own. It never waits for them: ``call.state.spare`` makes each guard refuse it where
another call would wait, and the breaker if its circuit is not closed. So at a full limit there are
no hedges, and no call waits behind one.

Who runs where? The first attempt runs in the caller's task, as without this layer, and the second
one in a task of its own. There are five endings:

1. The first attempt answers: the second one, if there is one, is cancelled.
2. The second one answers first: the first one is cut off, and the call takes over the second one's
   reply, verdict and hold.
3. The first one fails for good: so would the second one, which is cancelled.
4. The first one fails and may be tried again while the second one is under way: that one decides,
   and if it fails too, the first one's failure is passed on.
5. The caller goes away: both are cancelled.

What loses is cancelled like any call: its slot and its permit come back at once, nothing is counted
for or against the server, and what it may have cost stays spent.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from ..aio import wake
from ..aio.partitioned import Partitioned
from ..core.call import Call, Handler
from ..core.given import Given
from ..core.keyed import Keyed
from ..core.queue import Waiter
from ..core.runtime import Alarm, Timer
from ..core.verdict import SUCCESS, Kind, Usage
from ..errors import Refused
from ..events import HedgeSent, HedgeWon
from .hedging import HedgeBudget, HedgeStatistics, Hedging

LONGEST_UNWINDING = 0.1
"""Seconds that a call with a result waits for the end of its cancelled second attempt. It usually
takes one round of the loop; code that swallows its cancellation must not hold the result up.
"""


class Hedge(Given):
    """Sends a second attempt when the first has not brought its first chunk in time.

    Args:
        after: seconds from the send of an attempt, above 0; or a quantile of the times that
            attempts took lately, from ``"p50"`` to ``"p99.9"``. The default of ``"p95"`` sends at
            most one in twenty twice. A quantile is for streams alone, whose time is that to the
            first chunk: the time of a whole answer is its length. Seconds are for both.
        budget: second attempts per attempt, in (0, 1]; 0.05, the share that ``"p95"`` needs. Ten
            can be saved up.

    Raises:
        ConfigurationError: a value is out of its range.

    There is no second attempt while its place has to be waited for: a slot, room in the rate limit,
    an open gate, a closed circuit. Nor for a body that cannot be sent twice at once, nor beyond the
    ``max_attempts`` of a call.

    State: the delay is that of a partition, in a `Hedging`; the budget is that of the layer.
    """

    def __init__(self, after: float | str = "p95", budget: float = 0.05) -> None:
        self.after, self.budget = after, HedgeBudget(budget)
        self.partitions: Partitioned[Hedging] = Partitioned(
            Keyed(partial(Hedging, after, self.budget)), Hedging, "Hedge", "a Hedging"
        )

    async def __call__(self, call: Call[Any], call_next: Handler[Any, Any]) -> Any:
        """Run the attempt, and a second one if it is late."""
        return await _Race(call, call_next, self.partitions.of(call)).run()

    def statistics(self, _: float) -> dict[str | None, HedgeStatistics]:
        """Return a snapshot per partition."""
        return {partition: each.statistics() for partition, each in self.partitions.items()}

    def describe(self) -> str:
        """Return as text when it sends a second attempt."""
        learned = isinstance(self.after, str)
        when = f"the {self.after} of a stream's first chunk" if learned else f"{self.after:g} s"
        return f"a second attempt after {when}; {self.budget.share:.3g} per attempt at most"


class _Race:
    """One attempt, and perhaps a second one beside it. State: per attempt of a call."""

    __slots__ = ("_alarm", "_before", "_begun", "_call", "_call_next", "_cancel", "_context",
                 "_ended_at", "_hedging", "_known_ids", "_over", "_result", "_running", "_sent_at",
                 "_streams", "_timer", "_twin", "_twin_sent_at", "_waiter", "_won")  # fmt: skip

    def __init__(self, call: Call[Any], call_next: Handler[Any, Any], hedging: Hedging) -> None:
        self._call, self._call_next, self._hedging = call, call_next, hedging
        self._before = call.state.on_send
        self._sent_at: float | None = None
        self._ended_at: float | None = None
        self._twin_sent_at = 0.0
        self._alarm: Alarm | None = None
        self._context: Context | None = None
        self._timer: Timer | None = None
        self._twin: Call[Any] | None = None
        self._cancel: Callable[[], None] | None = None
        self._waiter: Waiter | None = None
        self._result: Any = None
        self._running = self._begun = self._won = self._over = self._streams = False
        self._known_ids = 0

    async def run(self) -> Any:
        """Return the first answer of the two, or pass on the failure of the first attempt."""
        call = self._call
        call.state.on_send = self._on_send
        timer = self._timer = call.runtime.cut_off_by_hand()
        result: Any = None
        error: BaseException | None = None
        lost = False
        try:
            result = await self._call_next(call)
        except BaseException as raised:
            error, lost = raised, timer.made(raised)
        else:
            timer.stop()
        try:
            self._end(lost)
            if error is not None and not lost and not isinstance(error, Exception):
                raise error  # the caller went away
            failed = error is not None or not _succeeded(call)
            if failed and self._running and (call.verdict is None or call.verdict.retryable):
                await self._ended(result, call.runtime.cut_off_by_hand())
            if failed and self._won:
                return self._second()
            await self._unwound(result)
            if error is not None:
                raise error
            return result
        finally:
            self._call_off()
            del error  # a frame that refers to what it raises is a cycle

    async def _unwound(self, result: Any) -> None:
        """Cancel the second attempt, and wait until it has given back what it holds."""
        self._call_off()
        if not self._begun or not self._running:
            return
        await self._ended(result, self._call.runtime.cut_off_after(LONGEST_UNWINDING))

    async def _ended(self, result: Any, timer: Timer) -> None:
        """Wait for the end of the second attempt; if cancelled, close the result of the first."""
        self._waiter = Waiter(0)
        try:
            with timer:
                await self._call.runtime.park(self._waiter)
        except BaseException:
            _discard(self._call, result)
            raise

    def _second(self) -> Any:
        """Let the call take over the outcome of the second attempt, and return its result."""
        call, twin, result = self._call, self._twin, self._result
        assert twin is not None
        self._won, self._result = False, None
        if call.hold is not None:
            call.hold.close()  # of the first attempt, which failed
        call.adopt(twin)
        self._hedging.won += 1
        if call.emit is not None and call.emit.routine:
            took = call.runtime.now() - self._twin_sent_at
            call.emit(HedgeWon(call.request_id, call.partition, twin.attempt, took))
        if twin.hold is not None:
            twin.hold.on_close(self._follow)
        else:
            self._follow()
        return result

    def _follow(self, _: Usage | None = None) -> None:
        """Note on the call how the stream of the second attempt ended, and its time."""
        call, twin, ended = self._call, self._twin, self._ended_at
        assert twin is not None
        assert ended is not None
        call.verdict = twin.verdict
        # Both were under way from the second one's send to the first one's end.
        call.state.sent_for += max(0.0, twin.state.sent_for - (ended - self._twin_sent_at))

    def _on_send(self, call: Call[Any]) -> None:
        """Set the alarm: the first attempt is sent now."""
        self._streams = self._hedging.latencies is not None and _asks_stream(call)
        if self._before is not None:
            self._before(call)
        now = self._sent_at = call.runtime.now()
        self._hedging.budget.deposit()
        delay = self._hedging.delay
        if delay is not None:
            self._context = copy_context()  # an alarm of trio does not run in the caller's
            self._alarm = call.runtime.alarm(self._ring)
            self._alarm.set(now + delay)

    def _ring(self, _: float) -> None:
        """Start the second attempt, if there may be one."""
        call, hedging = self._call, self._hedging
        if self._ended_at is not None or not self._may_hedge():
            return
        if not hedging.budget.has_room:
            hedging.skipped += 1
            return
        twin = self._twin = call.twin()
        twin.state.on_send = self._on_second_send
        self._known_ids = len(twin.server_request_ids)
        assert self._context is not None
        self._running = True
        try:
            self._cancel = self._context.run(call.runtime.start, self._run_second)
        except RuntimeError:  # the loop is about to end, and starts no task
            self._running = False

    def _may_hedge(self) -> bool:
        call = self._call
        most = call.state.max_attempts
        if call.state.passage is not None:
            return False  # where it comes from, one attempt runs at a time
        if not call.replayable or call.state.single or (most is not None and call.sends >= most):
            return False
        return self._hedging.latencies is None or self._streams or call.state.streams

    def _on_second_send(self, twin: Call[Any]) -> None:
        call = self._call
        if self._ended_at is not None or not self._hedging.withdraw():
            raise twin.refuse(Refused("a second attempt is not needed, or the budget is empty"))
        call.sends += 1
        now = self._twin_sent_at = call.runtime.now()
        if call.emit is not None and call.emit.routine and self._sent_at is not None:
            delay = now - self._sent_at
            call.emit(HedgeSent(call.request_id, call.partition, twin.attempt, delay))

    async def _run_second(self) -> None:
        """Run the second attempt, in a task of its own."""
        twin, call = self._twin, self._call
        assert twin is not None
        if self._over:
            return
        self._begun = True
        try:
            result = await self._call_next(twin)
        except Refused:
            self._hedging.skipped += 1
        except Exception:  # noqa: S110  # the classifier has reported it; the first one decides
            pass
        else:
            if _succeeded(twin) and not self._over:
                self._won, self._result = True, result
            else:
                _discard(twin, result)
        finally:
            self._running, twin.state.on_send = False, None
            call.server_request_ids += twin.server_request_ids[self._known_ids :]
            if self._waiter is not None:
                wake(self._waiter)
            elif self._won and self._timer is not None:
                self._timer.ring()

    def _end(self, lost: bool) -> None:
        """Note that the first attempt has ended, and learn from its time."""
        call, hedging = self._call, self._hedging
        now = self._ended_at = call.runtime.now()
        if self._alarm is not None:
            self._alarm.set(None)
            self._alarm = None  # it refers to this
        if self._sent_at is None:
            call.state.on_send = self._before  # nothing was sent
            return
        kind = None if call.verdict is None else call.verdict.kind
        tells = lost or kind is None or kind is SUCCESS or kind is Kind.TIMEOUT
        if hedging.latencies is not None and tells and (self._streams or call.state.streams):
            hedging.latencies.record(now - self._sent_at, now)

    def _call_off(self) -> None:
        """Cancel the second attempt if it is under way, and drop an answer that nobody takes."""
        self._over = True
        cancel, self._cancel = self._cancel, None
        if self._running and cancel is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                cancel()
        if self._won and self._twin is not None:
            self._won = False
            _discard(self._twin, self._result)
        self._result = self._timer = None


def _succeeded(call: Call[Any]) -> bool:
    return call.verdict is None or call.verdict.kind is SUCCESS


def _asks_stream(call: Call[Any]) -> bool:
    """Whether the request asks for a stream."""
    asks = getattr(call.body, "asks_stream", None)
    if asks is not None:
        return bool(asks())
    body = call.payload if call.body is None else call.body()
    return isinstance(body, Mapping) and body.get("stream") is True


def _discard(call: Call[Any], result: Any) -> None:
    """Close a result that nobody takes."""
    if call.hold is not None:
        call.hold.close()
    close = getattr(result, "aclose", None)
    if inspect.iscoroutinefunction(close):
        call.runtime.spawn(close)
