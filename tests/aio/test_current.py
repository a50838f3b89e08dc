"""Which loop a call runs on: found anew wherever the last one may not be it any more."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import warnings
import weakref

import pytest

from resilient_infe import Call, Stack
from resilient_infe.aio import current


def loop_of_a_call(stack):
    """Return a coroutine that tells which loop a call of this stack takes for its own."""
    seen = []

    async def transport(call):
        seen.append(call.runtime.loop)

    send = stack.handler(transport)

    async def ask():
        await send(Call("x"))
        return seen.pop()

    return ask


def test_a_stack_in_two_threads_finds_the_loop_of_each():
    """Also while the other thread's loop is in the middle of a task."""
    ask = loop_of_a_call(Stack(strict=False))
    inside, done, found = threading.Event(), threading.Event(), []

    async def elsewhere():
        found.append(await ask() is asyncio.get_running_loop())
        inside.set()
        done.wait(10)

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    inside.wait(10)

    async def here():
        found.append(await ask() is asyncio.get_running_loop())

    asyncio.run(here())
    done.set()
    thread.join()
    assert found == [True, True]


def test_a_loop_that_moves_to_another_thread_is_left_there():
    """The thread that it ran in first goes on with its next loop."""
    ask, loop = loop_of_a_call(Stack(strict=False)), asyncio.new_event_loop()
    assert loop.run_until_complete(ask()) is loop
    inside, done = threading.Event(), threading.Event()

    async def elsewhere():
        await ask()
        inside.set()
        done.wait(10)

    thread = threading.Thread(target=loop.run_until_complete, args=(elsewhere(),))
    thread.start()
    inside.wait(10)

    async def here():
        return await ask() is asyncio.get_running_loop()

    assert asyncio.run(here())
    done.set()
    thread.join()
    loop.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_forked_inside_of_a_task_uses_its_own_loop():
    """Its parent's loop seems to run a task in it, and does not run at all."""
    ask = loop_of_a_call(Stack(strict=False))

    async def mine():
        return await ask() is asyncio.get_running_loop()

    async def main():
        assert await mine()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            child = os.fork()
        if child:
            return child
        with contextlib.suppress(BaseException):
            os._exit(0 if asyncio.run(mine()) else 1)
        return os._exit(2)

    assert os.waitpid(asyncio.run(main()), 0)[1] == 0


def test_a_runtime_ends_with_its_thread():
    """A loop that nobody closed is not kept for the whole process."""
    loop, found = asyncio.new_event_loop(), []

    async def here():
        return weakref.ref(current())

    thread = threading.Thread(target=lambda: found.append(loop.run_until_complete(here())))
    thread.start()
    thread.join()
    gc.collect()
    assert found[0]() is None
    loop.close()
