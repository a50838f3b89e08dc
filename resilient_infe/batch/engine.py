"""Carries rows to their results: so many workers, one journal, one that iterates.

Each worker takes a row, sends it, and puts its result into the outbox, through the journal where
there is one. Rows that were taken and not handed out are bounded, so a slow consumer holds up the
workers, and they the input. The engine runs in a task of its own, so that an iteration may be left
at any point.
"""

from __future__ import annotations

from typing import Any, Generic

import anyio

from .. import aio
from ..core.call import Call
from ..core.queue import Waiter
from ..errors import BatchError, Draining, JournalError, JournalWriteFailed
from .caller import Caller
from .journal import Journal
from .monitor import Monitor
from .outbox import Outbox
from .recorder import Recorder
from .result import Failure, Result, Row, Value
from .sample import Tally, sample_of
from .source import Source

POLL = 0.1
"""Seconds between two looks at what still waits, while a run stops."""

SAMPLES = 300
"""A run has hardly more samples than this for each doubling of its time: they get rarer."""

BELIEFS = 30.0
"""Seconds between two times that what was learned of limits is recorded."""

YIELD = 256
"""Rows without a result after which others are let run: to pass over a million takes its time."""

ROOM = 0.75
"""Workers that wait for room go on when so much of it is used, rather than one by one."""


class Lane:
    """One worker: whether it asks for a row, its call, and the scope that can cut it."""

    __slots__ = ("asks", "call", "scope")

    def __init__(self) -> None:
        """Start with nothing to do."""
        self.asks = False
        self.call: Call[Any] | None = None
        self.scope = anyio.CancelScope()

    def waits(self) -> bool:
        """Whether it waits for a row, or its call for something: nothing is lost if it is cut."""
        call = self.call
        if call is None:
            return self.asks
        # What is under way was sent as often as attempts were begun, and is not judged yet.
        return call.sends != call.attempt or call.verdict is not None


class Engine(Generic[Row, Value]):
    """What is behind a `BatchRun`.

    Args:
        source: of the rows.
        caller: sends one.
        ordered: whether results come in the order of the rows.
        in_memory: rows at most between the input and the consumer.
        journal: where results are recorded, or None.
        owned: whether to close it at the end.
        retry_failed: whether to send what failed for good before.
        replay: whether to hand out what earlier runs recorded.

    State: one run.
    """

    def __init__(
        self,
        source: Source[Row],
        caller: Caller[Row, Value],
        *,
        ordered: bool,
        in_memory: int,
        journal: Journal | None,
        owned: bool,
        retry_failed: bool,
        replay: bool,
    ) -> None:
        """Nothing is taken yet."""
        self.tally = Tally()
        self.over = False
        self.stack = caller.stack
        listeners = () if self.stack is None else self.stack.listeners
        self.monitor = next((each for each in listeners if isinstance(each, Monitor)), None)
        self._source = source
        self._caller = caller
        self._outbox: Outbox[Row, Value] = Outbox(ordered=ordered)
        self._in_memory = in_memory
        self._recorder = Recorder(
            journal, owned=owned, retry_failed=retry_failed, safe=self._count_and_hand_out
        )
        self._replay = replay
        self._held = 0  # rows that were taken, or are about to be, and not handed out
        self._passed = 0  # rows in a row of which there was nothing to hand out
        self._idle: list[Waiter] = []
        self._parked: list[Waiter] = []  # whoever waits for a result, or for the end
        self._began = self._stopping = self._broken = False
        self._reason: BaseException | None = None
        self._halting = anyio.Event()
        self._lanes = [Lane() for _ in range(in_memory)]
        self._cancel = _nothing

    def start(self) -> None:
        """Begin, from inside the event loop."""
        self._runtime = aio.current()
        self._recorder.start(self._break)
        self._started = self._believed = self._runtime.now()
        self._cancel = self._runtime.start(self._main)

    async def next(self) -> Result[Row, Value] | None:
        """Return the next result, or None at the end.

        Raises:
            BaseException: why the run ended early, once all results before that were handed out.
        """
        while True:
            result = self._outbox.take()
            if result is not None:
                self._let_go()
                return result
            if self.over:
                reason, self._reason = self._reason, None
                if reason is not None:
                    raise reason
                return None
            await self._news()

    def stop(self, reason: BaseException | None = None) -> None:
        """Take no more rows, finish what is under way, cut what waits; `reason` is raised then."""
        self._reason = self._reason or reason
        if not self._stopping:
            self._stopping = True
            self._halting.set()
            self._wake_idle(len(self._idle))

    def cancel(self) -> None:
        """End at once; what is under way is sent again next time."""
        self._stopping = True
        self._cancel()
        if not self._began:  # and so it never will: a task that was cancelled before its first step
            self._began = True
            self._finish()

    def cancel_soon(self) -> None:
        """End at once, from a finaliser in whatever thread."""
        if not self.over:
            self._runtime.call_soon(self.cancel)

    async def ended(self) -> None:
        """Wait until nothing of the run is left."""
        while not self.over:
            await self._news()

    async def _news(self) -> None:
        waiter = Waiter(0)
        self._parked.append(waiter)
        try:
            await self._runtime.park(waiter)
        finally:
            if waiter in self._parked:
                self._parked.remove(waiter)

    async def _main(self) -> None:
        if self._began:
            return
        self._began = True
        try:
            async with anyio.create_task_group() as around:
                around.start_soon(self._cut_what_waits)
                around.start_soon(self._take_samples)
                async with anyio.create_task_group() as workers:
                    for lane in self._lanes:
                        workers.start_soon(self._work, lane)
                while self._recorder.unsafe and not self._broken:
                    await self._runtime.sleep_until(self._runtime.now() + POLL / 100)
                around.cancel_scope.cancel()
        except Exception as error:  # of our own making; told to who iterates, like all else
            self._reason = self._reason or error
        finally:
            self._finish()

    async def _work(self, lane: Lane) -> None:
        with lane.scope:
            try:
                while not self._stopping and not self._source.over:
                    if self._held >= self._in_memory:
                        await self._wait_for_room()
                    else:
                        await self._take_one(lane)
            except Exception as error:  # the input, or the journal: told to who iterates
                self.stop(error)

    async def _take_one(self, lane: Lane) -> None:
        self._held += 1
        index = -1
        try:
            taken = self._source.ready()
            if taken is None:
                lane.asks = True
                taken = await self._source.next()
                lane.asks = False
            if taken is None:
                self._let_go()
                return
            index, row = taken
            self.tally.taken += 1
            if await self._carry(lane, index, row):
                self._passed = 0
                return
        except Draining:  # its owner drains the stack: the run stops with it
            self.stop()
        except BaseException:
            self._drop(index)
            raise
        self._drop(index)
        self._passed += 1
        if not self._passed % YIELD:  # nothing waits here, and others want to run
            await self._runtime.sleep_until(self._runtime.now())

    async def _carry(self, lane: Lane, index: int, row: Row) -> bool:
        """Bring a row to its result; False where there is none to hand out."""
        caller = self._caller
        row_id = caller.id_of(row, index)
        call = caller.call_of(row, row_id)
        digest = caller.digest_of(call) if self._recorder.records else None
        earlier = self._recorder.earlier(row_id, index, row, digest)
        if earlier is not None:
            self.tally.replayed += 1
            if self._replay:
                self._hand_out(earlier)
            return self._replay
        if isinstance(call, Failure):
            result: Result[Row, Value] = Result(index, row_id, row, failure=call)
        else:
            lane.call = call
            try:
                result = await caller.send(call, index, row_id, row)
            finally:
                lane.call = None
        self._recorder.put(result, digest)
        return True

    def _count_and_hand_out(self, result: Result[Row, Value]) -> None:
        """Count and hand out what is safe by now."""
        self.tally.count(result)
        self._hand_out(result)

    def _hand_out(self, result: Result[Row, Value]) -> None:
        self._outbox.put(result)
        self._wake_parked()

    def _drop(self, index: int) -> None:
        if index >= 0:
            self._outbox.skip(index)
            self._wake_parked()
        self._let_go()

    def _wake_parked(self) -> None:
        parked, self._parked = self._parked, []
        for waiter in parked:
            aio.wake(waiter)

    def _let_go(self) -> None:
        self._held -= 1
        if self._idle and self._held <= self._in_memory * ROOM:
            self._wake_idle(self._in_memory - self._held)

    def _wake_idle(self, most: int) -> None:
        woken, self._idle = self._idle[:most], self._idle[most:]
        for waiter in woken:
            aio.wake(waiter)

    async def _wait_for_room(self) -> None:
        waiter = Waiter(0)
        self._idle.append(waiter)
        await self._runtime.park(waiter)

    async def _cut_what_waits(self) -> None:
        """Once the run stops, cut whatever is not under way."""
        await self._halting.wait()
        while True:
            for lane in self._lanes:
                if lane.waits():
                    lane.scope.cancel()
            await self._runtime.sleep_until(self._runtime.now() + POLL)

    async def _take_samples(self) -> None:
        while self._recorder.records:
            now = self._runtime.now()
            pause = max(1.0, (now - self._started) / SAMPLES)
            await self._runtime.sleep_until(now + pause)
            try:
                self._sample()
            except JournalError as error:
                self.stop(error)

    def _sample(self) -> None:
        if not self._recorder.records:
            return
        statistics = None if self.stack is None else self.stack.statistics()
        events = [] if self.monitor is None else self.monitor.take_events()
        sample = sample_of(self.tally, statistics, self.monitor)
        now = self._runtime.now()
        if self.stack is not None and now >= self._believed + BELIEFS:  # for a run that is killed
            self._believed = now
            sample["beliefs"] = self.stack.beliefs()
        self._recorder.tell(sample, events)

    def _break(self, error: JournalWriteFailed) -> None:
        """End the run, since what it does cannot be recorded any more."""
        self.stop(error)
        self._broken = True
        for lane in self._lanes:
            lane.scope.cancel()

    def _finish(self) -> None:
        """Close the books: the last thing that a run does, however it ends."""
        if not (self._stopping or self._source.over or self._reason):
            self._reason = BatchError("the run was ended from outside; run the same again")
        try:
            self._sample()
            beliefs = {} if self.stack is None else self.stack.beliefs()
            why = "stopped" if self._stopping else "finished"
            why = why if self._reason is None else type(self._reason).__name__
            said = None if self._reason is None else str(self._reason)
            self._recorder.finish(self.tally, why=why, said=said, beliefs=beliefs)
        except JournalError as error:
            self._reason = self._reason or error
        finally:
            self.over = True
            self._wake_parked()


def _nothing() -> None:
    pass
