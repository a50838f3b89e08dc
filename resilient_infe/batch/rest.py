"""Rows that the server refuses with 429 give up their lanes until their next attempt.

A lane that waits in the retries of one row does nothing else. If a server refuses 255 rows each
time and a run has 256 lanes, the other rows would get one lane for hours. So a refused row *rests*:
another lane starts in its place, with a new row. A row at rest goes on in one of three cases, and
never before its backoff is over:

1. Lanes are idle, because there are no new rows for them.
2. Few rows rest, and a row has passed since this one began to rest. This is the usual case.
3. Many rows rest. Then one of them goes after every 20 rows that pass, so that together they take
   5 % of the limit: enough to see whether the server refuses them always.

After ten minutes a row goes on in any case, so that no row rests for ever. A row with a deadline
does not rest: it would be given up without another attempt, and it keeps its lane no longer anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import anyio

from ..core.call import Call
from ..core.verdict import Kind
from .bell import Bell
from .lane import Lanes
from .trial import Trials

FEW = 0.125
"""Rows at rest, as a share of the lanes, up to which each goes on when its backoff is over."""

MOST = 4
"""Rows at rest at most, as a multiple of the lanes: they are kept in memory."""

TURN = 20
"""Rows that pass for each row at rest that goes on, while many rest."""

LONGEST = 600.0
"""Seconds after its backoff at which a row goes on whatever the others do. It is under the time for
which the rate limiter remembers how the others fared."""


class Rests:
    """Lets rows rest, and decides when each goes on.

    Args:
        lanes: of the run.
        trials: of its partitions.
        idle: returns whether there are lanes without anything to do.
        lend: takes 1 where a row begins to rest, and -1 where it goes on.

    State: one run.
    """

    __slots__ = (
        "_bell",
        "_idle",
        "_lanes",
        "_lend",
        "_number",
        "_passed",
        "_places",
        "_trials",
        "_turns",
    )  # fmt: skip

    def __init__(
        self,
        lanes: Lanes,
        trials: Trials,
        *,
        idle: Callable[[], bool],
        lend: Callable[[int], None],
    ) -> None:
        self._lanes = lanes
        self._trials = trials
        self._idle = idle
        self._lend = lend
        self._number = 0  # rows at rest
        self._passed = 0  # rows that have passed
        self._turns = 0  # the same, when it was last a row's turn
        self._bell = Bell()  # for rows at rest whose backoff is over
        # The partitions and places of rows that were refused since one passed.
        self._places: deque[tuple[str | None, int]] = deque(maxlen=lanes.number)

    def watch(self, call: Call[Any]) -> None:
        """Let a call rest when it is refused.

        While the server asks to wait and nothing passes, a new row takes the place of a refused one
        in the queue. The limiter asks with one call at a time then, and would ask with all that are
        refused first.
        """
        call.state.sleep = self._sleep
        if self._places and self._places[0][0] == call.partition:
            call.state.place = self._places.popleft()[1]

    def note_passed(self) -> None:
        """Note that a row has passed."""
        self._passed += 1
        self._places.clear()
        if self._bell.waiting:
            if self._few:
                self._bell.ring()
            elif self._takes_turn():
                self._bell.ring(1)

    def note_idle(self) -> None:
        """Note that a lane may have nothing to do."""
        if self._bell.waiting and self._idle():
            self._bell.ring()

    async def _sleep(self, call: Call[Any], until: float) -> None:
        # A partition that is held waits for those under way: retries would hold up the decision.
        self._lanes.cut_if_held(self._trials.of(call.partition))
        refused = call.verdict is not None and call.verdict.kind is Kind.RATE_LIMITED
        lanes = self._lanes
        full = lanes.number == 1 or self._number >= lanes.number * MOST
        rests = refused and call.deadline is None and not full
        if not rests or self._idle():
            await call.runtime.sleep_until(until)
            await lanes.brake.wait(call.runtime)
            return
        if call.verdict is not None and call.verdict.retry_after is not None:
            self._places.append((call.partition, call.state.place))
        self._number += 1
        self._lend(1)
        if len(lanes) < lanes.number + self._number:
            lanes.add()
        try:
            await self._rest(call, until)
        finally:
            self._number -= 1
            self._lend(-1)

    async def _rest(self, call: Call[Any], until: float) -> None:
        before = self._passed
        await call.runtime.sleep_until(until)
        goes = self._idle() or (self._few and self._passed > before) or self._takes_turn()
        if not goes:
            with anyio.move_on_after(LONGEST):
                await self._bell.wait(call.runtime)
        await self._lanes.brake.wait(call.runtime)

    @property
    def _few(self) -> bool:
        return self._number <= max(1, self._lanes.number * FEW)

    def _takes_turn(self) -> bool:
        due = self._passed - self._turns >= TURN
        if due:
            self._turns = self._passed
        return due
