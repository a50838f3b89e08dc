"""Takes one call over the bridge: its layers run on the bridge's loop, its attempts at home.

Home is where the caller is: a thread without a loop, or a task of another loop. The call is at one
of both sides at any time, so it needs no lock. There are three kinds of message:

1. Home starts the layers on the bridge, in a copy of its context, and waits.
2. The bridge asks for an attempt. Home runs it in its own context, so that the client's own code
   sees what it sees without a stack, and posts how it ended.
3. The bridge reports how the call ended.

An attempt in a blocking thread cannot be cut. If a timer on the bridge ends the attempt, the bridge
waits until the client's own timeout has ended it (see `blocking`), and then goes on as cancelled.
If home goes away in between (a cancellation, a KeyboardInterrupt), the layers are cancelled, and
give back what they hold as for any call that is cancelled.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, Token, copy_context
from functools import partial
from typing import Any, NamedTuple, Protocol

from ..core.call import Call, Handler, Hold
from ..core.queue import Waiter
from ..core.runtime import Runtime, Timer
from ..core.watch import Disarmable
from ..errors import WrongLoopError
from .blocking import BlockingRuntime
from .bridge import bridge
from .current import current

Enter = Callable[[Call[Any]], Coroutine[Any, Any, Any]]


class Home(Protocol):
    """Where the caller is."""

    @property
    def runtime(self) -> Runtime:
        """The loop or thread."""
        ...

    @property
    def blocking(self) -> bool:
        """Whether it is a thread that cannot be cancelled."""
        ...

    def put(self, message: Any) -> None:
        """Hand over a message of the bridge."""
        ...

    async def receive(self) -> Any:
        """Wait for the next message."""
        ...


class ThreadHome:
    """A thread without a loop: `receive` blocks, and never suspends."""

    blocking: bool = True

    def __init__(self) -> None:
        self.runtime: Runtime = BlockingRuntime()
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, message: Any) -> None:
        """Hand over a message; any thread may."""
        self._messages.put(message)

    async def receive(self) -> Any:
        """Block until the next message; a KeyboardInterrupt ends the wait."""
        return self._messages.get()


class LoopHome:
    """A task of another event loop."""

    blocking: bool = False

    def __init__(self) -> None:
        self.runtime: Runtime = current()
        self._messages: deque[Any] = deque()
        self._waiter: Waiter | None = None

    def put(self, message: Any) -> None:
        """Hand over a message in the loop's own thread."""
        self.runtime.call_soon(partial(self._arrive, message))

    def _arrive(self, message: Any) -> None:
        self._messages.append(message)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and waiter.wake is not None:
            waiter.wake()

    async def receive(self) -> Any:
        """Wait for the next message."""
        while not self._messages:
            self._waiter = Waiter(0)
            await self.runtime.park(self._waiter)
        return self._messages.popleft()


class _Answer(NamedTuple):
    """How an attempt ended at home: `cut` if a timer at home ended it."""

    value: Any
    error: Exception | None
    cut: bool


class _Attempt:
    """One attempt that the bridge asks for. State: per attempt.

    Attributes:
        run: makes it.
        context: the variables that the layers have set around it.
        until: the instant, by home's clock, at which a timer of the layers ends it; None: none.
        answer: how it ended, or None.
        wakes: finished when there is an answer.
    """

    __slots__ = ("answer", "context", "run", "until", "wakes")

    def __init__(self, run: Enter, context: Context) -> None:
        self.run, self.context = run, context
        self.until: float | None = None
        self.answer: _Answer | None = None
        self.wakes: asyncio.Future[None] | None = None


class _HomesTimer:
    """The attempt's timer as home sees it, with its clock: only the bridge can disarm it."""

    def __init__(self, timer: Disarmable, shift: float) -> None:
        self._timer, self.when = timer, timer.when + shift
        self.here: Timer | None = None

    def disarm(self) -> None:
        """Let the timer never fire, here or on the bridge."""
        if self.here is not None:
            self.here.disarm()
        bridge().post(self._timer.disarm)


class Passage:
    """One call on its way over the bridge. State: per call.

    Args:
        call: the call.
        home: where its attempts run.
    """

    __slots__ = (
        "_began",
        "_bridge",
        "_context",
        "_gone",
        "_hold",
        "_home",
        "_task",
        "call",
        "outcome",
    )

    def __init__(self, call: Call[Any], home: Home) -> None:
        self.call, self._home = call, home
        self._bridge = bridge()
        self._context = copy_context()
        self._task: asyncio.Task[None] | None = None
        self._hold: Hold | None = None
        self._began = self._gone = False
        self.outcome: tuple[Any, BaseException | None] | None = None

    async def take(self, enter: Enter) -> Any:
        """Run the layers on the bridge and the attempts here; return the result, or raise."""
        if self._bridge.runs_here():
            raise WrongLoopError(
                "a layer or a listener of a stack that threads share made a blocking call: it "
                "would wait for itself. Make the call from a thread of its own"
            )
        self._bridge.post(partial(self._start, enter))
        try:
            while (message := await self._home.receive()) is not None:
                answer = await self._attempt(message)
                self._bridge.post(partial(self._answered, message, answer))
        except BaseException:
            self._bridge.post(self._cancel)
            while self._home.blocking and await self._home.receive() is not None:
                pass
            raise
        self.call.state.passage = None
        assert self.outcome is not None
        value, error = self.outcome
        self.outcome = None
        try:
            if error is not None:
                raise error
        finally:
            del error  # a frame that refers to what it raises is a cycle
        return value

    async def attempt(self, run: Enter) -> Any:
        """Have an attempt made at home; for the innermost of the layers, on the bridge."""
        call, here = self.call, self.call.runtime
        message = _Attempt(run, copy_context())
        timer = call.state.timer
        self._move(self._home.runtime)
        shown = None if timer is None else _HomesTimer(timer, self._home.runtime.now() - here.now())
        call.state.timer = shown
        message.until = _first(None if shown is None else shown.when, call.deadline)
        self._home.put(message)
        cancelled = await self._wait_for(message)
        self._move(here)
        call.state.timer = timer
        answer, message.answer = message.answer, None
        if answer is not None:
            self._relay(here)
        try:
            if cancelled is not None or answer is None:
                raise cancelled or asyncio.CancelledError
            if answer.cut:  # the timer of the layers, which is due too, says what it was
                await asyncio.sleep(1.0)
                raise TimeoutError("the attempt was cut")
            if answer.error is not None:
                raise answer.error
            return answer.value
        finally:
            del cancelled, answer  # a frame that refers to what it raises is a cycle

    async def _wait_for(self, message: _Attempt) -> asyncio.CancelledError | None:
        """Wait for the answer, or until home has gone; return a cancellation in between."""
        cancelled = None
        while message.answer is None and not self._gone:
            message.wakes = self._bridge.loop.create_future()
            try:
                await message.wakes
            except asyncio.CancelledError as error:
                cancelled = error
        return cancelled

    def _start(self, enter: Enter) -> None:
        self._bridge.calls += 1
        # A context can be entered only once at a time, and code at home may still be in its own.
        self._task = self._bridge.loop.create_task(self._run(enter), context=self._context.copy())

    async def _run(self, enter: Enter) -> None:
        call = self.call
        try:
            if not self._gone:
                self._began = True
                self.outcome = await enter(call), None
        except BaseException as error:
            self.outcome = None, error
        if not self._gone:
            self._move(self._home.runtime)
            if self._hold is not None and call.hold is not None:
                call.hold = self._hold
        self._bridge.calls -= 1
        self._home.put(None)

    def _cancel(self) -> None:
        self._gone = True
        if self._task is not None and self._began:  # else it ends as soon as it begins
            self._task.cancel()

    async def _attempt(self, message: _Attempt) -> _Answer:
        """Make an attempt, with the variables that the layers have set."""
        tokens: list[Token[Any]] = [
            variable.set(value)
            for variable, value in message.context.items()
            if self._context.get(variable, self) is not value
        ]
        try:
            return await self._bounded(message)
        except Exception as error:
            return _Answer(None, error, cut=False)
        finally:
            for token in reversed(tokens):
                token.var.reset(token)

    async def _bounded(self, message: _Attempt) -> _Answer:
        if message.until is None:
            return _Answer(await message.run(self.call), None, cut=False)
        timer = self.call.state.timer
        with self._home.runtime.cut_off_at(message.until) as cut:
            if isinstance(timer, _HomesTimer):
                timer.here = cut
            return _Answer(await message.run(self.call), None, cut=False)
        return _Answer(None, None, cut=True)  # the timer has swallowed its own cancellation

    def _answered(self, message: _Attempt, answer: _Answer) -> None:
        message.answer = answer
        if message.wakes is not None and not message.wakes.done():
            message.wakes.set_result(None)

    def _move(self, to: Runtime) -> None:
        """Let the call be at one side, whose clock may differ."""
        call = self.call
        before = call.runtime
        shift = 0.0 if before is to else to.now() - before.now()
        call.runtime = to
        if abs(shift) > SAME_CLOCK:
            call.started += shift
            call.deadline = None if call.deadline is None else call.deadline + shift

    def _relay(self, here: Runtime) -> None:
        """Put a hold on the call that is closed on the bridge when home closes its own."""
        call, held = self.call, self.call.hold
        if held is None:
            self._hold = None
            return
        relayed = Hold()

        def close(usage: Any) -> None:
            home, call.runtime = call.runtime, here
            try:
                relayed.close(usage)
            finally:
                call.runtime = home

        post, home_soon = self._bridge.post, self._home.runtime.call_soon
        held.on_close(lambda usage: post(partial(close, usage)))
        relayed.on_close(lambda _: None if held.closed else home_soon(held.close))
        call.hold, self._hold = relayed, held


SAME_CLOCK = 0.001
"""Seconds. Two readings of one clock, one after the other, differ by less."""


def _first(*instants: float | None) -> float | None:
    return min((each for each in instants if each is not None), default=None)


async def carry(call: Call[Any], enter: Enter, *, blocking: bool = False) -> Any:
    """Run a call's layers on the bridge and its attempts here; return its result.

    Args:
        call: the call, not yet entered.
        enter: enters it into its stack.
        blocking: whether this is code without a loop, which `drive` runs.

    Raises:
        WrongLoopError: blocking code runs on the bridge itself.
    """
    if bridge().runs_here() and not blocking:
        return await enter(call)
    home: Home = ThreadHome() if blocking else LoopHome()
    passage = call.state.passage = Passage(call, home)
    return await passage.take(enter)


def from_home(inner: Handler[Any, Any]) -> Handler[Any, Any]:
    """Return a handler that runs `inner` where the call came from, seen by the call's watch."""

    def over_the_bridge(call: Call[Any]) -> Coroutine[Any, Any, Any]:
        passage = call.state.passage
        return inner(call) if passage is None else passage.attempt(inner)

    def attempt(call: Call[Any]) -> Coroutine[Any, Any, Any]:
        state = call.state
        send = inner if state.passage is None else over_the_bridge
        return send(call) if state.watch is None else state.watch.attempt(call, send)

    return attempt
