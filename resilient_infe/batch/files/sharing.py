"""A job whose limits are divided among all runs that name the same Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from ...adapters.http.masking import printable
from ...events import Event, SharesLost, SharesRestored
from ...shared import RedisShares
from .options import JobOptions

GOODBYE = 2.0
"""Seconds that a run which ends takes at most to give its shares up."""


def shares_of(options: JobOptions) -> RedisShares | None:
    """Return what divides the limits of a job; None if nothing does.

    Raises:
        ConfigurationError: the extra ``[redis]`` is missing, or the URL cannot be used.
    """
    return None if options.shared is None else RedisShares(options.shared, options.shared_name)


@asynccontextmanager
async def sharing(shares: RedisShares | None) -> AsyncIterator[None]:
    """Have shares while the block runs; they are given up at its end, a cancelled one's too.

    Raises:
        ConfigurationError: Redis does not answer when the block begins.
    """
    if shares is None:
        yield
        return
    try:
        await shares.reach()
        yield
    finally:
        with anyio.move_on_after(GOODBYE, shield=True):
            await shares.leave()


class Told:
    """A listener that says when Redis stops answering, and when it answers again.

    Args:
        say: is told.

    State: the limits of which it was said, so that many models do not repeat it.
    """

    routine = False

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._lost = say, set[str | None]()

    def __call__(self, event: Event) -> None:
        """Say what happened."""
        if isinstance(event, SharesLost):
            if not self._lost:
                self._say(f"Redis does not answer: {printable(event.reason)}")
            self._lost.add(event.partition)
        elif isinstance(event, SharesRestored):
            self._lost.discard(event.partition)
            if not self._lost:
                self._say(f"Redis answers again, after {event.seconds:.0f} s")


def told(shares: RedisShares | None, say: Callable[[str], None]) -> list[Told]:
    """Return what listens to the stack of a job for its user; nothing if nothing is shared."""
    return [] if shares is None else [Told(say)]
