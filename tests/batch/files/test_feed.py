"""An iterator that is read in a thread."""

from __future__ import annotations

import threading

import anyio
import pytest

from resilient_infe.batch.files.feed import AHEAD, Feed


def test_everything_comes_in_order(backend):
    """All items come, in order, and no more are read ahead than there is room for."""
    read = []

    def items():
        for number in range(3 * AHEAD):
            read.append(number)
            yield number

    async def main():
        seen, ahead = [], 0
        async for item in Feed(items()):
            seen.append(item)
            ahead = max(ahead, len(read) - len(seen))
        return seen, ahead

    seen, ahead = anyio.run(main, backend=backend)
    assert seen == list(range(3 * AHEAD))
    assert ahead <= AHEAD + 1


def test_what_the_iterator_raises(backend):
    """An error comes after the items before it."""

    def items():
        yield 1
        raise LookupError("broken off")

    async def main():
        feed = Feed(items())
        assert await anext(feed) == 1
        with pytest.raises(LookupError, match="broken off"):
            await anext(feed)

    anyio.run(main, backend=backend)


def test_waiting_for_an_item_can_be_cut(backend):
    """Whoever waits for an item that does not come can be cancelled, and the item is not lost."""
    written = threading.Event()

    def items():
        written.wait(10)
        yield "late"

    async def main():
        feed = Feed(items())
        with anyio.move_on_after(0.01) as scope:
            await anext(feed)
        assert scope.cancelled_caught
        written.set()
        assert await anext(feed) == "late"

    anyio.run(main, backend=backend)
