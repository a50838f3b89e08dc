"""Holds back what a run would send, while it is paused."""

from __future__ import annotations

from ..core.runtime import Runtime
from .bell import Bell


class Brake:
    """Says whether a run is paused, and lets rows that wait between two attempts go on after it.

    Attributes:
        on: whether nothing more is sent.

    State: one run.
    """

    __slots__ = ("_bell", "on")

    def __init__(self) -> None:
        self.on = False
        self._bell = Bell()

    def release(self) -> None:
        """Let rows be sent again."""
        self.on = False
        self._bell.ring()

    async def wait(self, runtime: Runtime) -> None:
        """Wait until nothing is held back."""
        while self.on:
            await self._bell.wait(runtime)
