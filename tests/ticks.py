"""Cancel at a tick: in one round of the event loop, whatever all tasks are doing then."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import sniffio


@contextmanager
def at_tick(number, act):
    """Call a function at the beginning of a round of the loop, counted from 1; then no more."""
    if sniffio.current_async_library() == "trio":
        with _of_trio(number, act):
            yield
    else:
        with _of_asyncio(number, act):
            yield


@contextmanager
def _of_asyncio(number, act):
    loop = asyncio.get_running_loop()
    left, usual = [number], loop._run_once

    def round_of_the_loop():
        left[0] -= 1
        if left[0] == 0:
            act()
        usual()

    loop._run_once = round_of_the_loop
    try:
        yield
    finally:
        loop._run_once = usual


@contextmanager
def _of_trio(number, act):
    import trio

    class Rounds(trio.abc.Instrument):
        left = number

        def after_io_wait(self, timeout):
            self.left -= 1
            if self.left == 0:
                act()

    rounds = Rounds()
    trio.lowlevel.add_instrument(rounds)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(rounds)


async def ticked(coroutine, at, cancel):
    """Await a coroutine, and cancel in the `at`-th round of the loop from now on."""
    with at_tick(at, cancel):
        return await coroutine
