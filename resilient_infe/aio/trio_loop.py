"""The `Runtime` for trio, built on trio's own functions; imported only if trio is running."""

from __future__ import annotations

import contextlib
import contextvars
import math
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import trio

from ..core.queue import Waiter
from ..core.runtime import Alarm, Clock
from .runtime import LONGEST_CLEAN_UP, clamp

_thread = threading.local()


def current_runtime() -> TrioRuntime:
    """Return the runtime of the running trio loop.

    Raises:
        RuntimeError: neither asyncio nor trio is running here.
    """
    try:
        token = trio.lowlevel.current_trio_token()
    except RuntimeError:
        raise RuntimeError(
            "no event loop runs here: await this inside asyncio.run, trio.run or anyio.run"
        ) from None
    kept: TrioRuntime | None = getattr(_thread, "runtime", None)
    if kept is None or kept.token is not token:
        kept = _thread.runtime = TrioRuntime(token)
    return kept


class TrioRuntime:
    """A trio event loop."""

    __slots__ = ("loop", "now", "thread", "token")

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.loop = self.token = token
        self.thread = None  # look the run up each time: `current_runtime` compares its token
        self.now: Clock = trio.lowlevel.current_clock().current_time  # also works after the run

    async def park(self, waiter: Waiter) -> None:
        """Park the current task until `waiter.wake` is called."""
        task = trio.lowlevel.current_task()
        parked = True

        def resume() -> None:
            nonlocal parked
            if parked:
                parked = False
                trio.lowlevel.reschedule(task)

        def abort(_: Any) -> trio.lowlevel.Abort:
            nonlocal parked
            parked = False
            return trio.lowlevel.Abort.SUCCEEDED

        waiter.wake = resume
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def checkpoint(self) -> None:
        """Let trio run its other tasks once."""
        await trio.lowlevel.checkpoint()

    async def sleep_until(self, when: float) -> None:
        """Sleep until an instant, which is clamped first."""
        await trio.sleep_until(clamp(when, self.now()))

    def cut_off_after(self, seconds: float, now: float | None = None) -> _Scope:
        """Start a cancel scope as the timer; trio already keeps all deadlines in one heap."""
        now = self.now() if now is None else now
        return _Scope(clamp(now + seconds, now))

    def cut_off_at(self, when: float) -> _Scope:
        """Start a cancel scope as the timer."""
        return _Scope(clamp(when, self.now()))

    def cut_off_by_hand(self) -> _Scope:
        """Start a cancel scope without a deadline."""
        return _Scope(math.inf)

    def spawn(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        """Run the clean-up in a system task."""

        async def bounded() -> None:
            with trio.move_on_after(LONGEST_CLEAN_UP), contextlib.suppress(Exception):
                await clean_up()

        if not self.is_over():
            self.token.run_sync_soon(_spawn, bounded)

    def start(self, main: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Run `main` in a system task."""
        scope = trio.CancelScope()

        async def running() -> None:
            with scope:
                await main()

        trio.lowlevel.spawn_system_task(running, context=contextvars.copy_context())
        return scope.cancel

    def alarm(self, callback: Callable[[float], None]) -> Alarm:
        """Return an alarm that runs a system task while it is set."""
        return _TrioAlarm(self, callback)

    def is_cancelled(self) -> bool:
        """Return True: trio raises `Cancelled` only in the task that is cancelled."""
        return True

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run the callback in the loop; run it here if the run has ended and runs nothing."""
        try:
            self.token.run_sync_soon(callback)
        except trio.RunFinishedError:
            callback()

    def is_over(self) -> bool:
        """Whether the run has finished."""
        try:
            self.token.run_sync_soon(_nothing)
        except trio.RunFinishedError:
            return True
        return False

    def is_closed(self) -> bool:
        """Whether the run has finished: a trio run never continues."""
        return self.is_over()


def _nothing() -> None:
    pass


def _spawn(run: Callable[[], Awaitable[None]]) -> None:
    """Start a system task, or do nothing: at the very end of a run trio accepts no new one."""
    with contextlib.suppress(RuntimeError):
        trio.lowlevel.spawn_system_task(run)


class _Scope:
    """A timer made of a trio cancel scope."""

    __slots__ = ("_scope", "when")

    def __init__(self, deadline: float) -> None:
        self.when = deadline
        self._scope = trio.CancelScope(deadline=deadline)
        self._scope.__enter__()

    def stop(self) -> None:
        self._scope.__exit__(None, None, None)

    def ring(self) -> None:
        self._scope.cancel()

    def disarm(self) -> None:
        self._scope.deadline = math.inf

    def made(self, error: BaseException) -> bool:
        return bool(self._scope.__exit__(type(error), error, error.__traceback__))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        return bool(self._scope.__exit__(kind, error, at))


class _TrioAlarm:
    """An alarm made of one system task, which sleeps in a cancel scope until the instant.

    `_when` is the instant, or None if the alarm is off. The task looks at it whenever it is awake,
    so `set` only has to store it. Then there are four cases:

    1. The task sleeps (`_scope` is not None): move the scope's deadline. If the alarm was switched
       off, move it to now: the task wakes, finds no instant, and ends.
    2. No task runs and an instant was set: start one.
    3. The task runs but is not asleep: it has not started yet, or it is inside the callback. It
       will look at `_when` before it sleeps.
    4. No task runs and the alarm was switched off: there is nothing to do.
    """

    __slots__ = ("_callback", "_running", "_runtime", "_scope", "_when")

    def __init__(self, runtime: TrioRuntime, callback: Callable[[float], None]) -> None:
        self._runtime = runtime
        self._callback = callback
        self._when: float | None = None
        self._scope: trio.CancelScope | None = None
        self._running = False

    def set(self, when: float | None) -> None:
        if when == self._when:
            return
        self._when = when
        if self._scope is not None:
            self._scope.deadline = self._runtime.now() if when is None else self._clamped(when)
        elif when is not None and not self._running:
            self._running = True
            _spawn(self._run)

    def _clamped(self, when: float) -> float:
        return clamp(when, self._runtime.now())

    def _reached(self) -> float | None:
        """Return the instant if it is reached, else None.

        A task may wake before the instant: it was moved or switched off, or it was clamped.
        """
        return self._when if self._when is not None and self._when <= self._runtime.now() else None

    async def _run(self) -> None:
        try:
            while self._when is not None:
                with trio.CancelScope(deadline=self._clamped(self._when)) as self._scope:
                    await trio.sleep_forever()
                self._scope = None
                when = self._reached()
                if when is not None:
                    self._when = None
                    self._callback(when)
        finally:
            self._scope = None
            self._running = False
