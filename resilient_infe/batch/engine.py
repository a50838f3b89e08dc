"""Carries rows to their results: so many workers, one journal, one that iterates.

Each worker takes a row, sends it, and puts its result into the outbox, through the journal where
there is one. Rows that were taken and not handed out are bounded, so a slow consumer holds up the
workers, and they the input. The engine runs in a task of its own, so that an iteration may be left
at any point.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Generic

import anyio

from .. import aio
from ..call import Call
from ..errors import Draining, JournalError, JournalWriteFailed, RowError
from ..policies.queue import Waiter
from .caller import Caller
from .journal import Journal
from .monitor import Monitor
from .outbox import Outbox
from .result import Failure, Result, Row, Value
from .sample import Tally, sample_of
from .source import Source
from .table import FAILED, OFFSET, PERMANENT, TAKEN, key_of

POLL = 0.1
"""Seconds between two looks at what still waits, while a run stops."""

SAMPLES = 300
"""A run has hardly more samples than this for each doubling of its time: they get rarer."""

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
        self._journal = journal
        self._owned = owned
        self._retry_failed = retry_failed
        self._replay = replay
        self._held = 0  # rows that were taken, or are about to be, and not handed out
        self._unsafe = 0  # results that are on their way to the disk
        self._idle: list[Waiter] = []
        self._consumer = Waiter(0)
        self._stopping = False
        self._reason: BaseException | None = None
        self._halting = anyio.Event()
        self._lanes = [Lane() for _ in range(in_memory)]
        self._cancel = _nothing

    def start(self) -> None:
        """Begin, from inside the event loop."""
        self._runtime = aio.current()
        if self._journal is not None:
            self._journal.start(self._break)
        self._started = self._runtime.now()
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
            self._consumer = Waiter(0)
            await self._runtime.park(self._consumer)

    def stop(self, reason: BaseException | None = None) -> None:
        """Take no more rows, finish what is under way, cut what waits; `reason` is raised then."""
        if self._stopping:
            return
        self._stopping = True
        self._reason = reason
        self._halting.set()
        self._wake_idle(len(self._idle))

    def cancel(self) -> None:
        """End at once; what is under way is sent again next time."""
        self._stopping = True
        self._cancel()

    def cancel_soon(self) -> None:
        """End at once, from a finaliser in whatever thread."""
        if not self.over:
            self._runtime.call_soon(self.cancel)

    async def ended(self) -> None:
        """Wait until nothing of the run is left."""
        while not self.over:
            self._consumer = Waiter(0)
            await self._runtime.park(self._consumer)

    async def _main(self) -> None:
        try:
            async with anyio.create_task_group() as around:
                around.start_soon(self._cut_what_waits)
                around.start_soon(self._take_samples)
                async with anyio.create_task_group() as workers:
                    for lane in self._lanes:
                        workers.start_soon(self._work, lane)
                while self._unsafe and not isinstance(self._reason, JournalWriteFailed):
                    await self._runtime.sleep_until(self._runtime.now() + POLL / 100)
                around.cancel_scope.cancel()
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
            if not await self._carry(lane, index, row):
                self._drop(index)
        except BaseException as error:
            self._drop(index)
            if isinstance(error, Draining):  # its owner drains the stack: the run stops with it
                self.stop()
                return
            raise

    async def _carry(self, lane: Lane, index: int, row: Row) -> bool:
        """Bring a row to its result; False where there is none to hand out."""
        row_id = self._caller.id_of(row, index)
        call = self._caller.call_of(row, row_id)
        digest = None
        if self._journal is not None:
            digest = self._caller.digest_of(call)
            word = self._journal.table.mark(key_of(row_id), TAKEN)
            if word & TAKEN:
                raise RowError(f"row {index + 1} has the id of another row: {row_id!r}")
            if word & OFFSET and (not word & FAILED or not self._sends_again(word)):
                self.tally.replayed += 1
                if self._replay:
                    self._hand_out(self._journal.result(word, index, row, digest))
                return self._replay
        if isinstance(call, Failure):
            result: Result[Row, Value] = Result(index, row_id, row, failure=call)
        else:
            lane.call = call
            try:
                result = await self._caller.send(call, index, row_id, row)
            finally:
                lane.call = None
        self._unsafe += 1
        if self._journal is None:
            self._recorded(result)
        else:
            self._journal.put(result, digest, partial(self._recorded, result))
        return True

    def _sends_again(self, word: int) -> bool:
        return self._retry_failed or not word & PERMANENT

    def _count(self, result: Result[Row, Value]) -> None:
        tally = self.tally
        if result.failure is None:
            tally.ok += 1
        else:
            tally.failed += 1
        tally.attempts += result.attempts
        if result.usage is not None:
            tally.prompt_tokens += result.usage.prompt_tokens
            tally.completion_tokens += result.usage.completion_tokens

    def _recorded(self, result: Result[Row, Value]) -> None:
        """Count and hand out what is safe by now."""
        self._unsafe -= 1
        self._count(result)
        self._hand_out(result)

    def _hand_out(self, result: Result[Row, Value]) -> None:
        self._outbox.put(result)
        aio.wake(self._consumer)

    def _drop(self, index: int) -> None:
        if index >= 0:
            self._outbox.skip(index)
            aio.wake(self._consumer)
        self._let_go()

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
        while self._journal is not None:
            now = self._runtime.now()
            pause = max(1.0, (now - self._started) / SAMPLES)
            await self._runtime.sleep_until(now + pause)
            self._sample(self._journal)

    def _sample(self, journal: Journal) -> None:
        statistics = None if self.stack is None else self.stack.statistics()
        events = [] if self.monitor is None else self.monitor.take_events()
        try:
            for event in events:
                journal.tell("event", **event)
            journal.tell("sample", **sample_of(self.tally, statistics, self.monitor))
        except JournalError as error:
            self.stop(error)

    def _break(self, error: JournalWriteFailed) -> None:
        """End the run, since what it does cannot be recorded any more."""
        self.stop()
        self._reason = error
        for lane in self._lanes:
            lane.scope.cancel()
        self._unsafe = 0

    def _finish(self) -> None:
        if self._journal is not None:
            try:
                self._sample(self._journal)
                beliefs = {} if self.stack is None else self.stack.beliefs()
                why = "finished" if not self._stopping else "stopped"
                why = why if self._reason is None else type(self._reason).__name__
                said = None if self._reason is None else str(self._reason)
                self._journal.stop(why=why, said=said, beliefs=beliefs, **vars_of(self.tally))
            except JournalError as error:
                self._reason = self._reason or error
            if self._owned:
                self._journal.close()
        self.over = True
        aio.wake(self._consumer)


def vars_of(tally: Tally) -> dict[str, int]:
    """Return a tally as plain fields."""
    names = ("taken", "ok", "failed", "replayed", "attempts", "prompt_tokens", "completion_tokens")
    return {name: getattr(tally, name) for name in names}


def _nothing() -> None:
    pass
