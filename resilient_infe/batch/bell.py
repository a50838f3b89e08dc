"""Lets tasks wait until something has changed."""

from __future__ import annotations

from .. import aio
from ..core.queue import Waiter
from ..core.runtime import Runtime


class Bell:
    """Tasks that wait for the same change.

    Attributes:
        waiting: of each task that waits, in their order; to be read alone.

    State: one run.
    """

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: list[Waiter] = []

    async def wait(self, runtime: Runtime) -> None:
        """Wait until it rings."""
        waiter = Waiter(0)
        self.waiting.append(waiter)
        try:
            await runtime.park(waiter)
        finally:
            if waiter in self.waiting:
                self.waiting.remove(waiter)

    def ring(self, most: int | None = None) -> None:
        """Wake those who wait, the first `most` of them if that is given."""
        woken, self.waiting = (
            (self.waiting, []) if most is None else (self.waiting[:most], self.waiting[most:])
        )
        for waiter in woken:
            aio.wake(waiter)
