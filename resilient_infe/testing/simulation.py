"""Simulates a stack, a workload and a server in virtual time: what would this configuration do?"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from .. import aio
from ..adapters.infe.stream import InfeStream
from ..core.call import Call
from ..stack import Stack
from ..telemetry.log import LOGGER_NAME
from .model import ModelReply
from .record import Attempted, Called, Record
from .scenario import Scenario, Weather
from .shell import InProcessInfe
from .virtual import Backend, run_virtually
from .workload import Rows, Traffic, Workload

UNFINISHED = "unfinished"
"""The error of a call that had not ended when the simulation was over."""


def simulate(
    stack: Stack | Callable[[], Stack],
    workload: Workload,
    scenario: Scenario | None = None,
    *,
    longest: float = 3_600.0,
    backend: Backend = "asyncio",
    seed: int = 0,
) -> Record:
    """Send a workload through a stack to a simulated server, and return what happened.

    It takes the time of the stack's own work alone, some 50 us for a call. Under asyncio the same
    arguments give the same record. Under trio, events of the same instant come in any order. What
    the stack logs without structlog being configured is not written.

    Args:
        stack: a stack that was not used before, or a function that makes one; a stack keeps what it
            has learned, so give the function to simulate more than once.
        workload: what is sent: `Traffic` or `Rows`.
        scenario: the server, and what happens to it; by default it has no limits and no faults.
        longest: virtual seconds after which the calls that have not ended are cancelled, above 0;
            3,600.
        backend: ``"asyncio"`` (the default) or ``"trio"``.
        seed: of all that is drawn: arrivals, answers, faults, backoff; 0.

    Raises:
        DeadlockError: every call waits for another.
        LivelockError: the time does not change, because something spins.
    """
    made = stack if isinstance(stack, Stack) else stack()
    run = _Simulation(made, workload, Scenario() if scenario is None else scenario, seed)
    kept, log = random.getstate(), logging.getLogger(LOGGER_NAME)
    was_disabled, log.disabled = log.disabled, True  # its times would be those of no real clock
    random.seed(seed)  # the stack draws its backoff from here
    try:
        return run_virtually(lambda: run.record(longest), backend, seed=seed)
    finally:
        random.setstate(kept)
        log.disabled = was_disabled


class _SimulatedInfe(InProcessInfe):
    """The stand-in in the weather of a scenario; it notes every attempt."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        super().__init__(scenario.model(seed))
        self._weather = Weather(scenario, self.model, seed)
        self._begun: list[tuple[int, float]] = []
        self._ended: dict[int, tuple[float, int]] = {}

    def attempts(self, seconds: float) -> tuple[Attempted, ...]:
        """Return every attempt; what has not ended at `seconds` ends then."""
        return tuple(
            Attempted(number, at, *self._ended.get(place, (seconds, 0)))
            for place, (number, at) in enumerate(self._begun)
        )

    async def _reply(self, call: Call[Any], payload: Mapping[str, Any]) -> ModelReply:
        runtime = aio.current()
        now, place, status = runtime.now(), len(self._begun), 0
        self._weather.advance(now)
        self._begun.append((int(str(call.request_id)), now))
        try:
            reply = await super()._reply(call, payload)
            status = 0 if reply.broken else reply.status
        finally:
            self._ended[place] = (runtime.now(), status)
        return reply

    async def open_stream(self, call: Call[Mapping[str, Any]]) -> InfeStream:
        """Open a stream, and note when it is closed."""
        place = len(self._begun)
        stream = await super().open_stream(call)
        status = self._ended.pop(place)[1]
        runtime, hold = call.runtime, call.hold
        if hold is not None:
            hold.on_close(lambda _: self._ended.update({place: (runtime.now(), status)}))
        return stream


class _Simulation:
    """One simulation: the calls of a workload, each noted when it has ended."""

    def __init__(self, stack: Stack, workload: Workload, scenario: Scenario, seed: int) -> None:
        self._stack, self._workload = stack, workload
        self._server = _SimulatedInfe(scenario, seed)
        self._drawn = random.Random(f"workload {seed}")
        self._send: Any = stack.around(self._server.stream if workload.streams else self._server)
        self._calls: list[Called] = []

    async def record(self, longest: float) -> Record:
        """Run it to its end."""
        workload = self._workload
        with anyio.move_on_after(longest):
            async with anyio.create_task_group() as tasks:
                if isinstance(workload, Rows):
                    rows = iter(range(workload.number))
                    for _ in range(min(workload.workers, workload.number)):
                        tasks.start_soon(self._work, rows)
                else:
                    await self._arrive(workload, tasks.start_soon)
        seconds = aio.current().now()
        return Record(
            tuple(self._calls),
            self._server.attempts(seconds),
            seconds,
            self._server.model.books,
            self._stack.statistics(),
        )

    async def _arrive(self, traffic: Traffic, start: Callable[..., object]) -> None:
        runtime = aio.current()
        for number, at in enumerate(traffic.arrivals(random.Random(self._drawn.random()))):
            await runtime.sleep_until(at)
            start(self._call, number)

    async def _work(self, rows: Any) -> None:
        for number in rows:
            await self._call(number)

    async def _call(self, number: int) -> None:
        workload, now = self._workload, aio.current().now
        error: str | None = UNFINISHED
        start = now()
        try:
            request, options = workload.request(number, self._drawn), workload.options
            sent = self._send(request, request_id=str(number), **options(number, self._drawn))
            if workload.streams:
                async for _ in await sent:
                    pass
            else:
                await sent
        except Exception as failure:
            error = type(failure).__name__
        else:
            error = None
        finally:
            self._calls.append(Called(number, start, now(), error))
