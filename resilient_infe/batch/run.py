"""Very many rows through one stack, as an iteration: the front of the batch floor."""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sized
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Never,
    Self,
    TypeAlias,
    TypeVar,
    Unpack,
    overload,
)

import anyio

from .. import aio
from ..core import bounds
from ..core.priority import Priority, standing_of
from ..errors import ConfigurationError
from ..events import ConfiguredLimit
from ..stack.configure import Limits
from .arguments import Options
from .caller import Caller, Hooks
from .engine import Engine
from .phases import Phase
from .prices import Price
from .progress import Gauge, Progress
from .reader import reader_for
from .result import Result, Row, Value
from .sample import Failures, Tally
from .showing import Shower, Shows
from .source import Source
from .spending import Spending
from .steering import State
from .store import Journal

Reply = TypeVar("Reply")

Kept: TypeAlias = str | os.PathLike[str] | Journal

IN_MEMORY = 256
"""Rows between the input and whoever iterates: enough for the presets' 64 slots, with as many again
that back off, and some results that are being looked at."""

CLEAN_UP = 5.0
"""Seconds that leaving a run early waits for what is under way to be let go."""


@overload
def run_batch(
    rows: Iterable[Row] | AsyncIterable[Row],
    send: Callable[[Any], Awaitable[Reply]],
    *,
    record: None = None,
    journal: None = None,
    **options: Unpack[Options[Row]],
) -> BatchRun[Row, Reply]: ...


@overload
def run_batch(
    rows: Iterable[Row] | AsyncIterable[Row],
    send: Callable[[Any], Awaitable[Reply]],
    *,
    record: Callable[[Reply], Value],
    journal: Kept | None = None,
    **options: Unpack[Options[Row]],
) -> BatchRun[Row, Value]: ...


@overload  # what a journal keeps of a reply is read back from JSON
def run_batch(
    rows: Iterable[Row] | AsyncIterable[Row],
    send: Callable[[Any], Awaitable[Any]],
    *,
    record: None = None,
    journal: Kept | None,
    **options: Unpack[Options[Row]],
) -> BatchRun[Row, Any]: ...


def run_batch(
    rows: Iterable[Row] | AsyncIterable[Row],
    send: Callable[[Any], Awaitable[Any]],
    *,
    request: Callable[[Row], Any] | None = None,
    record: Callable[[Any], Value] | None = None,
    row_id: Callable[[Row], str] | None = None,
    partition: Callable[[Any], str | None] | None = None,
    model: str | None = None,
    ordered: bool = False,
    in_memory: int = IN_MEMORY,
    deadline: float | None = None,
    priority: Priority = "batch",
    tenant: str | None = None,
    price: Price | None = None,
    max_cost: float | None = None,
    max_tokens: int | None = None,
    journal: Kept | None = None,
    settings: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    replay: bool = True,
    keep_going: bool = False,
    progress: Shows | None = None,
) -> BatchRun[Row, Value]:
    """Send every row, and hand out what comes of each to an ``async for``.

    A row that fails is a `Result` with a `Failure`, and the others go on. What every other row
    would meet too (a wrong model, a key that is not accepted, no credits left) pauses the rows of
    its partition: when the first 20 fail alike, or 50 in a row later. Those of other partitions
    come to their end, and then the iteration ends with `BatchPaused`.

    Args:
        rows: any iterable or async iterable, of unknown length if need be. A plain one is asked
            inside the event loop, so it should not take long over a row.
        send: what ``stack.around(transport)`` returned, or any async function of one payload, which
            is called as it is.
        request: makes the payload of a row. By default the row is the payload; for a stack around
            `InfeTransport` it may also be a text, ``{"prompt": ...}`` or a line of OpenAI's Batch,
            as in a file.
        record: makes the value of a reply; by default the reply is the value. With a journal the
            value is handed out as it reads back from JSON, so that a first run and one that goes on
            hand out the same: a tuple is a list, an SDK's object a dict.
        row_id: a row's id, a text that no other row has; by default its ``custom_id``, or
            ``row-1``, ``row-2`` ... by its place.
        partition: the limit, circuit and slots that a payload belongs to; by default its ``model``.
        model: for rows that name none, where there is no `request`.
        ordered: hand out results in the order of the rows.
        in_memory: rows at most between the input and the consumer, from 1; keep it above the
            stack's concurrency, which it bounds as well; 256. Of the rows that the server refuses
            with 429, up to four times as many wait in memory besides. With a journal,
            up to four times as many results, 256 at most, are on their way to the disk.
        deadline: seconds for each call, waits included, above 0; None for none.
        priority: the class of the rows where other calls share the stack: "batch" lets those of
            the classes "interactive" and "normal" go first. A batch alone is as fast in any class.
        tenant: the name of the one that the rows are for; the tenants of a class get equal shares.
        price: what a call costs in dollars, by its model and its usage: `per_million` (given
            prices), `listed` (a public list), or a function of your own; None, where cost is not
            told.
        max_cost: dollars that all runs of the journal may spend together, above 0; then the batch
            pauses. What is in flight comes on top. None for no bound.
        max_tokens: the same for tokens of input and output together, as the server charges them.
        journal: the path of a file that records every result, so that the same call goes on where
            it was interrupted; values must then have a form in JSON. None records nothing.
        settings: what must be the same for the journal to be gone on with, small and JSON, such as
            the prompt's version.
        retry_failed: send rows again that failed for good in an earlier run (a bad request, say).
            What failed otherwise is always sent again.
        replay: hand out what earlier runs recorded too, so that the loop sees every row.
        keep_going: never pause, however many rows fail alike.
        progress: shows how far the run is, twice a second and at its end: ``"rich"`` or ``"tqdm"``
            (each is another package), a ``rich.progress.Progress`` or a bar of tqdm that you made,
            or a function that takes a `Progress`. None shows nothing.

    Raises:
        ConfigurationError: an argument cannot work.
        JournalError: while iterating: the journal cannot be used; what was recorded is safe.
        RowError: while iterating: two rows have the same id (seen only with a journal).
        BatchPaused: while iterating, after all results so far.

    State: one run, which starts with the iteration. Leave it early with ``async with``, `stop` or
    `aclose`; a run that is dropped is cancelled.
    """
    bounds.whole(in_memory, 1, "in_memory")
    if deadline is not None:
        bounds.positive(deadline, "deadline, in seconds,")
    standing_of(priority, tenant)  # an unknown class raises
    for hook in (request, record, row_id, partition):
        if hook is not None and not callable(hook):
            raise ConfigurationError(f"{hook!r} is no hook: give a function, not async")
    reader = reader_for(send, request, model)
    hooks = Hooks(reader, record, row_id, partition, deadline, priority, tenant)
    spending = Spending(price, max_cost, max_tokens)
    wall = journal.wall if isinstance(journal, Journal) else aio.wall_time
    caller: Caller[Row, Value] = Caller(
        send, hooks, encode=journal is not None, spending=spending, wall=wall
    )
    source = Source(rows)

    def engine(opened: Journal | None, owned: bool) -> Engine[Row, Value]:
        return Engine(
            source,
            caller,
            ordered=ordered,
            in_memory=in_memory,
            journal=opened,
            owned=owned,
            retry_failed=retry_failed,
            replay=replay,
            keep_going=keep_going,
        )

    total = len(rows) if isinstance(rows, Sized) else None
    return BatchRun(engine, journal, settings, spending, total, progress)


class BatchRun(Generic[Row, Value]):
    """A batch under way: iterate over it with ``async for``.

    Made by `run_batch`. State: one run.

    Attributes:
        gauge: how many rows there are in all, ``gauge.rows``: set it where `run_batch` cannot know.
        spending: what it has spent (``spending.now``), and what earlier runs had (``.before``).
    """

    def __init__(
        self,
        engine: Callable[[Journal | None, bool], Engine[Row, Value]],
        journal: str | os.PathLike[str] | Journal | None,
        settings: Mapping[str, Any] | None,
        spending: Spending,
        rows: int | None = None,
        shows: Shows | None = None,
    ) -> None:
        """Nothing is opened before the first result is asked for."""
        self._make = engine
        self._given = journal
        self._settings = settings
        self._engine: Engine[Row, Value] | None = None
        self._stopped = self._paused = False
        self.spending = spending
        self.gauge = Gauge(rows)
        self._shower = None if shows is None else Shower(shows)

    @property
    def tally(self) -> Tally:
        """What the run has done so far."""
        return Tally() if self._engine is None else self._engine.tally

    def progress(self) -> Progress:
        """Return how far it is; from inside the event loop."""
        if self._engine is None:
            return self.gauge.read(0.0, Tally(), None, None)
        return _look(self._engine, self.gauge)

    @property
    def failures(self) -> Failures:
        """The failures of the run so far, counted by what they have in common."""
        return Failures() if self._engine is None else self._engine.failures

    def stop(self) -> None:
        """Take no more rows; what was sent comes to its end, what waits is left for the next run.

        The iteration then ends by itself.
        """
        self._stopped = self.gauge.stopping = True
        if self._engine is not None:
            self._engine.stop()

    def pause(self) -> None:
        """Send no row from now on, until `resume`; what is being sent comes to its end.

        A row whose attempt fails meanwhile has its next one after `resume`.
        """
        self._paused = True
        if self._engine is not None and self._engine.phase is not Phase.OVER:
            self._engine.steering.pause()
        self.gauge.paused = self.state == "paused"

    def resume(self) -> None:
        """Send rows again, after `pause`."""
        self._paused = self.gauge.paused = False
        if self._engine is not None and self._engine.phase is not Phase.OVER:
            self._engine.steering.resume()

    def drain(self) -> None:
        """End as `stop` does; then the iteration raises `BatchPaused`, as what is left goes on."""
        if self._engine is None:
            self._stopped = True
        elif self._engine.phase is not Phase.OVER:
            self._engine.steering.drain()
        self.gauge.stopping, self.gauge.paused = True, False

    def configure(
        self, *, model: str | None = None, **limits: Unpack[Limits]
    ) -> tuple[ConfiguredLimit, ...]:
        """Change limits of the run's stack, and record it; return those that are others now.

        Besides what `Stack.configure` does, more rows are taken into memory if `concurrency` needs
        that: `in_memory` becomes twice as much, up to 8,192.

        Args:
            model: as for `Stack.configure`.
            limits: as there.

        Raises:
            ConfigurationError: they cannot be changed, the run has not begun or has ended, or
                `send` is not of a stack.
        """
        engine = self._engine
        if engine is None or engine.phase is Phase.OVER:
            raise ConfigurationError(
                "the run is not under way: change the limits of its stack, by stack.configure(...)"
            )
        return engine.steering.configure(model, **limits)

    @property
    def state(self) -> State:
        """Whether it sends, is paused, or comes to its end."""
        if self._engine is None:
            return "draining" if self._stopped else "paused" if self._paused else "running"
        return "draining" if self._stopped else self._engine.steering.state

    async def aclose(self) -> None:
        """End at once: what is under way is cancelled, and left for the next run."""
        engine = self._engine
        self._stopped = True
        if engine is None:
            return
        engine.cancel()
        with anyio.move_on_after(CLEAN_UP, shield=True):
            await engine.ended()
        self._close()

    def __aiter__(self) -> Self:
        """Return self."""
        return self

    if not TYPE_CHECKING:  # to a type checker it has no such method

        def __iter__(self) -> Never:
            """Say how it is iterated over."""
            raise TypeError("a batch is iterated over with `async for`, inside an async def")

    async def __anext__(self) -> Result[Row, Value]:
        """Return the next result."""
        engine = self._engine
        if engine is None:
            if self._stopped:
                raise StopAsyncIteration
            engine = self._begin()
        try:
            result = await engine.next()
        except BaseException:
            if engine.phase is not Phase.OVER:  # whoever iterates is cancelled
                engine.cancel()
            self._close()
            raise
        if result is None:
            self._close()
            raise StopAsyncIteration
        return result

    async def __aenter__(self) -> Self:
        """Return self."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End, at once if that has not happened."""
        await self.aclose()

    def _begin(self) -> Engine[Row, Value]:
        from ..version import __version__

        given = self._given
        if given is None or isinstance(given, Journal):
            engine = self._make(given, False)
        else:
            engine = self._make(Journal(given, self._settings, library=__version__), True)
        self._engine = engine
        engine.start()
        if self._paused:
            engine.steering.pause()
        weakref.finalize(self, engine.cancel_soon).atexit = False
        self.gauge.begin(aio.current().now())
        if self._shower is not None:
            # Neither refers to this object: a run that is dropped is cancelled.
            look = partial(_look, engine, self.gauge)
            aio.current().start(partial(self._shower.run, look, lambda: engine.phase is Phase.OVER))
        return engine

    def _close(self) -> None:
        if self._shower is not None:
            self._shower.close()


def _look(engine: Engine[Any, Any], gauge: Gauge) -> Progress:
    return gauge.read(
        aio.current().now(),
        engine.tally,
        None if engine.stack is None else engine.stack.statistics(),
        engine.monitor,
        failures=engine.failures,
        spending=engine.spending,
    )
