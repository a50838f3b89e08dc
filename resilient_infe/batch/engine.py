"""Carries rows to their results: so many workers, one journal, one that iterates.

Each worker takes a row, sends it, and puts its result into the outbox, by way of the journal. Rows
that were taken and not handed out are bounded, so a slow consumer holds up the workers and the
input. The engine is a task of its own, so that an iteration may be left at any point.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Generic

import anyio

from .. import aio
from ..core.call import Call
from ..errors import BatchError, Draining, JournalError, JournalWriteFailed
from .bell import Bell
from .caller import Caller
from .lane import Lane, Lanes, Taken, Withdrawn
from .outbox import Outbox
from .phases import TRANSITIONS, Phase, Trigger
from .recorder import LENT, MOST_LENT, Recorder
from .rest import Rests
from .result import Failure, Result, Row, Value
from .sample import Failures, Tally
from .sampler import Sampler
from .source import Source
from .steering import Steering
from .store import Journal
from .trial import MOST_PUT_OFF, MOST_SKIPPED, PATIENCE, Trial, Trials

POLL = 0.1
"""Seconds between two looks at what still waits, while a run stops."""

YIELD = 256
"""Rows without a result after which others are let run: to pass over a million takes its time."""

ROOM = 0.75
"""Workers that wait for room go on when so much of it is used, rather than one by one."""


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
        keep_going: whether not to pause for failures that every row would meet.

    State: one run; its `phase`, and in `tally` and `failures` what came of its rows so far.
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
        keep_going: bool,
    ) -> None:
        self.phase = Phase.NEW
        self.tally = Tally()
        self.failures = Failures()
        self.stack, self.monitor, self.spending = caller.stack, caller.monitor, caller.spending
        self._source, self._caller = source, caller
        self._outbox: Outbox[Row, Value] = Outbox(ordered=ordered)
        self._recorder = Recorder(
            journal,
            owned=owned,
            retry_failed=retry_failed,
            safe=self._count_and_hand_out,
            most_lent=min(in_memory * LENT, MOST_LENT),
        )
        self._sampler = Sampler(self._recorder, self.tally, self.stack, caller.monitor)
        self._replay = replay
        self._trials = Trials(again=self._recorder.paused, keep_going=keep_going)
        self._put_off: deque[Taken[Row]] = deque()  # rows that failed before a pause: sent last
        self._held = 0  # rows that were taken, or are about to be, and not handed out
        self._passed = 0  # rows in a row of which there was nothing to hand out
        self._room = Bell()  # for lanes that wait until results are taken
        self._admission = Bell()  # for lanes whose row may not be sent yet
        self._news = Bell()  # for tasks that wait for a result or for the end
        self._turns = Bell()  # for a task that waits for another phase
        self._reason: BaseException | None = None
        self._lanes = Lanes(in_memory)
        self._rests = Rests(self._lanes, self._trials, idle=self._is_idle, lend=self._let_go)
        self.steering = Steering(self.stack, self._lanes, self._admission, self._sampler, self.stop)
        self._cancel: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin, from inside the event loop."""
        self._runtime = aio.current()
        self._recorder.start(self._break, self.spending)
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
            if self.phase is Phase.OVER:
                reason, self._reason = self._reason, None
                if reason is not None:
                    raise reason
                return None
            await self._news.wait(self._runtime)

    def stop(self, reason: BaseException | None = None) -> None:
        """Take no more rows, finish what is under way, cut what waits; `reason` is raised then."""
        self._reason = self._reason or reason
        if self._turn(Trigger.STOPPED):
            self._lanes.end()  # at once, before any of them is granted what it waits for

    def cancel(self) -> None:
        """End at once; what is under way is sent again next time."""
        self._turn(Trigger.CANCELLED)
        self._cancel()

    def cancel_soon(self) -> None:
        """End at once, from a finaliser in whatever thread."""
        if self.phase is not Phase.OVER:
            self._runtime.call_soon(self.cancel)

    async def ended(self) -> None:
        """Wait until nothing of the run is left."""
        while self.phase is not Phase.OVER:
            await self._news.wait(self._runtime)

    def _turn(self, trigger: Trigger) -> bool:
        """Change the phase, if that is what a trigger does in this one."""
        after = TRANSITIONS.get((self.phase, trigger))
        if after is None:
            return False
        try:
            if after is Phase.OVER:
                self._close_books()
        finally:
            self.phase = after
            for bell in (self._turns, self._room, self._news):
                bell.ring()
        return True

    async def _main(self) -> None:
        if not self._turn(Trigger.BEGUN):
            return  # it was over before
        try:
            async with anyio.create_task_group() as around:
                around.start_soon(self._cut_what_waits)
                around.start_soon(self._sampler.run, self.stop)
                async with anyio.create_task_group() as workers:
                    self._lanes.start(workers, self._work)
                self._close_trials()
                await self._recorder.settle(self._runtime)
                around.cancel_scope.cancel()
        except Exception as error:  # of our own making
            self._reason = self._reason or error
        finally:
            self._turn(Trigger.ALL_ENDED)

    async def _work(self, lane: Lane) -> None:
        try:
            while not self._is_over_for(lane):
                with lane.scope, contextlib.suppress(Withdrawn):
                    while not self._is_over_for(lane):
                        await self._take_one(lane)
                if not lane.cut:
                    break
                lane.renew()
            self._rests.note_idle()
            self._room.ring()  # there may be more lanes than places that become free
            if lane.row is not None:  # it was cut, and the run stops
                self._drop(lane)
        except Exception as error:  # the input, or the journal: told to who iterates
            self.stop(error)

    def _is_over_for(self, lane: Lane) -> bool:
        if self.phase is Phase.ENDING:
            return lane.row is None and not self._put_off
        return self.phase is not Phase.RUNNING

    async def _take_one(self, lane: Lane) -> None:
        if lane.row is None and self._places >= self._lanes.number and not self._sends_late():
            await self._room.wait(self._runtime)
            return
        handed_out = False
        try:
            found = lane.row or await self._take(lane)
            if isinstance(found, bool):
                handed_out = found
            else:
                lane.row = found
                handed_out = await self._send(lane, found)
        except Draining:  # its owner drains the stack: the run stops with it
            self.stop()
        except BaseException:
            if not lane.cut:
                self._drop(lane)
            raise
        if handed_out:
            lane.index, lane.row = -1, None
            self._passed = 0
            return
        self._drop(lane)
        self._passed += 1
        if self._passed > MOST_SKIPPED and self._trials.all_paused:
            self.stop()
        if not self._passed % YIELD:  # nothing waits here, and others want to run
            await self._runtime.sleep_until(self._runtime.now())

    async def _take(self, lane: Lane) -> Taken[Row] | bool:
        """Return a row to send; or bring one to its end, and return whether it was handed out."""
        late = self._put_off.popleft() if self._sends_late() else None
        self._held += 1
        if late is not None:
            lane.index = late.index
            return late
        found = self._source.ready() or await self._wait_for_row(lane)
        if found is None:
            if self._source.over:
                self._turn(Trigger.INPUT_OVER)
            return False
        lane.index, row = index, _ = found
        self.tally.taken += 1
        row_id = self._caller.id_of(row, index)
        call = self._caller.call_of(row, row_id)
        digest = self._caller.digest_of(call) if self._recorder.records else None
        earlier = self._recorder.earlier(row_id, index, row, digest)
        if earlier is not None:
            if earlier.ok and isinstance(call, Call):
                self._trials.note_passed(call.partition)
            self.tally.count_replayed(earlier)
            if self._replay:
                self._hand_out(earlier)
            return self._replay
        if isinstance(call, Failure):
            self._recorder.put(Result(index, row_id, row, failure=call), digest)
            return True
        return Taken(index, row, row_id, digest, call)

    async def _wait_for_row(self, lane: Lane) -> tuple[int, Row] | None:
        with lane.asking():
            self._rests.note_idle()
            if not self._trials.all_paused:
                return await self._source.next()
            with anyio.move_on_after(PATIENCE):
                return await self._source.next()
            self.stop()
            return None

    async def _send(self, lane: Lane, taken: Taken[Row]) -> bool:
        """Bring a row to its result; False where there is none to hand out."""
        trial = self._trials.of(taken.call.partition)
        if self._puts_off(trial, taken):
            self._put_off.append(taken)
            lane.index, lane.row = -1, None
            return False
        waits = self._lanes.brake.on or not trial.admits()
        if (waits and not await self._is_admitted(lane, trial)) or self._is_used_up():
            return False
        number = trial.begin()
        lane.trial = trial
        self._rests.watch(taken.call)
        try:
            result = await self._caller.send(taken, self._runtime.now)
        except BaseException:
            lane.trial = None  # what it has sent is over, and must not be cut once more
            taken.renew()
            trial.cut()
            self._heed(trial)
            raise
        lane.trial = None
        self._is_used_up()
        stands = trial.end(number, result, taken.digest)
        self._recorder.put(result, taken.digest, stands=stands)
        self._let_go(0)  # while the disk is waited for, another row may have the place
        self._heed(trial)
        return True

    def _is_used_up(self) -> bool:
        """Whether the run has spent what it may: then it stops."""
        if (pause := self.spending.used_up()) is not None:
            self.stop(pause)
        return pause is not None

    def _is_idle(self) -> bool:
        full = self._outbox.is_blocked and len(self._room.waiting) >= self._lanes.number / 2
        return self.phase is not Phase.RUNNING or self._lanes.ask or full

    def _sends_late(self) -> bool:
        """Whether it is the turn of a row that was put off."""
        if not self._put_off:
            return False
        asks = self._trials.of(self._put_off[0].call.partition).asks
        return self.phase is Phase.ENDING or not asks or self._places >= self._lanes.number

    def _puts_off(self, trial: Trial, taken: Taken[Row]) -> bool:
        """Whether others should be asked with, after a pause: this row has failed before."""
        late = self.phase is Phase.ENDING or self._places > self._lanes.number
        if not trial.asks or late or len(self._put_off) >= MOST_PUT_OFF:
            return False
        return self._recorder.has_failed(taken.row_id)

    async def _is_admitted(self, lane: Lane, trial: Trial) -> bool:
        """Wait until a row of a partition may be sent; False if it is left for another run."""
        while (self._lanes.brake.on or not trial.admits()) and trial.state != "paused":
            with lane.asking():
                await self._admission.wait(self._runtime)
        return trial.state != "paused"

    def _heed(self, trial: Trial) -> None:
        """Act on what a result says of its whole partition."""
        for result, digest in trial.settled():
            self._recorder.put_anew(result, digest)
        if trial.has_turned():
            self._lanes.cut_if_held(trial)
            self._admission.ring()

    def _count_and_hand_out(self, result: Result[Row, Value]) -> None:
        self.tally.count(result)
        self.failures.count(result)
        self._sampler.ended(result.id)
        self._hand_out(result)
        if result.ok:
            self._rests.note_passed()

    def _hand_out(self, result: Result[Row, Value]) -> None:
        self._outbox.put(result)
        self._rests.note_idle()
        self._news.ring()

    def _drop(self, lane: Lane) -> None:
        index, lane.index, lane.row = lane.index, -1, None
        if index >= 0:
            self._outbox.skip(index)
            self._news.ring()
        self._let_go()

    @property
    def _places(self) -> int:  # that are in use: some rows that wait for the disk lend theirs
        return self._held - self._recorder.lent

    def _let_go(self, places: int = 1) -> None:
        self._held -= places
        if self._room.waiting and self._places <= self._lanes.number * ROOM:
            self._room.ring(self._lanes.number - self._places)

    def _close_trials(self) -> None:
        """Decide, with no row under way, whether the run is paused."""
        for late in self._put_off:  # left for another run
            self._outbox.skip(late.index)
        if self._source.over:
            for result, digest in self._trials.close():
                self._recorder.put_anew(result, digest)
        self._reason = self._reason or self._trials.pause()

    async def _cut_what_waits(self) -> None:
        """Once the run stops, cut whatever is not under way."""
        while True:
            while self.phase is not Phase.STOPPING:
                await self._turns.wait(self._runtime)
            self._lanes.end()
            await self._runtime.sleep_until(self._runtime.now() + POLL)

    def _break(self, error: JournalWriteFailed) -> None:
        """End the run, since what it does cannot be recorded any more."""
        self.stop(error)
        self._lanes.cancel()

    def _close_books(self) -> None:
        """Record how the run ended: the last thing that it does, however it ends."""
        if self.phase is Phase.RUNNING:
            self._reason = self._reason or BatchError("it was ended from outside: run it again")
        try:
            self._sampler.take(self._runtime.now())
            beliefs = {} if self.stack is None else self.stack.beliefs()
            why = "finished" if self.phase is Phase.ENDING else "stopped"
            paused = self._trials.paused
            self._recorder.finish(self.tally, why, self._reason, beliefs=beliefs, paused=paused)
        except JournalError as error:
            self._reason = self._reason or error
