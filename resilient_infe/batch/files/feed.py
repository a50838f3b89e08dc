"""An iterator that may block, read in a thread: whoever writes into a pipe may take their time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, Self, TypeVar

from ... import aio
from ...core.queue import Waiter

T = TypeVar("T")

AHEAD = 256
"""Items that are read ahead of who iterates."""


class Feed(Generic[T]):
    """An async iterator over a plain one, which is read in a thread of its own.

    The thread is a daemon: one that waits in a read cannot be ended, and must not keep the process.

    Args:
        items: asked in the thread alone.

    State: the items that were read ahead.
    """

    def __init__(self, items: Iterator[T]) -> None:
        """Start to read, from inside the event loop."""
        self._items = items
        self._call_soon = aio.current().call_soon
        self._read: deque[T] = deque()
        self._room = threading.Semaphore(AHEAD)
        self._waiter = Waiter(0)
        self._given = 0
        self._over = False
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    def __aiter__(self) -> Self:
        """Return self."""
        return self

    async def __anext__(self) -> T:
        """Return the next item.

        Raises:
            BaseException: what the iterator raised.
        """
        while not self._read:
            if self._over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._waiter = Waiter(0)
            await aio.current().park(self._waiter)
        self._room.release()
        self._given += 1
        if not self._given % AHEAD:  # whoever passes over many items lets others run as well
            await aio.current().sleep_until(0.0)
        return self._read.popleft()

    def _run(self) -> None:
        try:
            for item in self._items:
                self._room.acquire()
                self._tell(partial(self._read.append, item))
        except Exception as error:  # told to whoever iterates
            self._error = error
        self._tell(self._end)

    def _end(self) -> None:
        self._over = True

    def _tell(self, news: Callable[[], None]) -> None:
        def heard() -> None:
            news()
            aio.wake(self._waiter)

        self._call_soon(heard)
