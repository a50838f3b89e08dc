"""Virtual time: hours of a stack in milliseconds, on asyncio and on trio, the same in every run.

Under asyncio, this is a loop whose clock jumps to the next timer as soon as no task is ready. Under
trio, it is trio's own `MockClock`. If no task is ready and no timer is set, no task can ever go on:
that raises `DeadlockError` instead of waiting.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import anyio

R = TypeVar("R")

Backend = Literal["asyncio", "trio"]

LIVELOCK_TICKS = 50_000
"""Rounds of the loop without a change of time after which the run is given up."""

FOREVER = 1e7
"""Virtual seconds after which a run on trio is given up, because a deadlock is not seen there."""


class DeadlockError(RuntimeError):
    """Every task waits, and no timer is set that could wake one."""


class LivelockError(RuntimeError):
    """The loop runs round after round, but the time does not change."""


class _JumpingSelector:
    """A selector that never waits: it moves the loop's clock instead."""

    def __init__(self, loop: VirtualLoop, inner: selectors.BaseSelector) -> None:
        self._loop = loop
        self._inner = inner

    def select(self, timeout: float | None = None) -> Any:
        ready = self._inner.select(0)
        if ready or timeout == 0:
            self._loop.tick()
            return ready
        self._loop.jump()
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time."""

    def __init__(self) -> None:
        self._virtual = 0.0
        self._still = 0
        super().__init__()
        self._selector: Any = _JumpingSelector(self, self._selector)

    def time(self) -> float:
        """Return the virtual time, which starts at 0."""
        return self._virtual

    def tick(self) -> None:
        """Count a round of the loop in which the time did not change."""
        self._still += 1
        if self._still > LIVELOCK_TICKS:
            self._still = 0
            raise LivelockError(f"time stands still at {self._virtual} s")

    def jump(self) -> None:
        """Move the clock to the next timer."""
        scheduled: Any = getattr(self, "_scheduled", ())
        if not scheduled:
            raise DeadlockError("every task waits, and no timer is set")
        self._still = 0
        self._virtual = max(self._virtual, scheduled[0].when())

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        """Raise an error: a thread does not run in virtual time."""
        raise RuntimeError(f"no threads in virtual time: {func} {args} {executor}")


def run_virtually(
    function: Callable[[], Awaitable[R]], backend: Backend = "asyncio", *, seed: int = 0
) -> R:
    """Run an async function to its end in virtual time, and return its result.

    Args:
        function: an async function without arguments.
        backend: ``"asyncio"`` (the default) or ``"trio"``.
        seed: the seed of trio's scheduler, which runs tasks in random order; 0.

    Raises:
        DeadlockError: every task waits, and no timer is set.
        LivelockError: under asyncio, the time did not change for 50,000 rounds of the loop.
    """
    if backend == "asyncio":
        return anyio.run(function, backend="asyncio", backend_options={"loop_factory": VirtualLoop})
    import trio  # an optional package
    import trio._core._run as scheduler
    import trio.testing

    scheduler._r.seed(seed)  # noqa: SLF001  # trio offers no other way
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def bounded() -> R:
        with anyio.move_on_after(FOREVER):
            return await function()
        raise DeadlockError("every task waits, and no timer is set")

    return anyio.run(bounded, backend="trio", backend_options={"clock": clock})
