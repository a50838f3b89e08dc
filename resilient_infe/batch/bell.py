"""Lets tasks wait until something has changed."""

from __future__ import annotations

from .. import aio
from ..core.queue import Waiter
from ..core.runtime import Runtime


class Bell:
    """Tasks that wait for the same change.

    State: one run.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Waiter] = []

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    async def wait(self, runtime: Runtime) -> None:
        """Wait until it rings."""
        waiter = Waiter(0)
        self._waiting.append(waiter)
        try:
            await runtime.park(waiter)
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def ring(self, most: int | None = None) -> None:
        """Wake those who wait, the first `most` of them if that is given."""
        woken, self._waiting = (
            (self._waiting, []) if most is None else (self._waiting[:most], self._waiting[most:])
        )
        for waiter in woken:
            aio.wake(waiter)
