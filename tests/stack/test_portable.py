"""A `Send` that pickles: one stack for a process, one transport for a loop, and a clean end."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
from functools import partial

import anyio
import anyio.lowlevel
import pytest
import workers

from resilient_infe import (
    Call,
    ConcurrencyLimiter,
    ErrorClassifier,
    InfeTransport,
    PortableSend,
    Send,
    Stack,
    errors,
    presets,
)
from resilient_infe.testing import InfeModel, InProcessInfe

MODES = [("spawn", 2), ("loops", 11)] + ([("fork", 4)] if hasattr(os, "fork") else [])
"""What the workers do, and how many transports they open for it."""

made = []
"""The transports that were made in this process."""


class Counted:
    """A transport that remembers whether it is open."""

    posts_bodies_to = "/chat/completions"

    def __init__(self):
        """Open it."""
        self.open = True
        made.append(self)

    async def __call__(self, payload):
        """Answer."""
        await anyio.lowlevel.checkpoint()
        return payload

    async def aclose(self):
        """Close it; trio would cancel what it ends."""
        await anyio.lowlevel.checkpoint()
        self.open = False


def bounded():
    """Return a stack."""
    return Stack(ConcurrencyLimiter(2), ErrorClassifier())


@pytest.fixture
def send():
    """Return one that has sent nothing yet."""
    made.clear()
    return PortableSend(bounded, Counted)


def copied(send):
    """Return what another task of an engine has of it."""
    return pickle.loads(pickle.dumps(send))


def test_copies_share_the_stack_of_their_process(send, backend):
    """Whatever is unpickled sends through one stack, and with one transport in each loop."""

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(copied(send), 1)
        return await copy.deepcopy(send)(2)

    assert anyio.run(main, backend=backend) == 2
    assert [transport.open for transport in made] == [False]
    assert send.stack is copied(send).stack
    assert send.stack.statistics().calls == 11
    assert anyio.run(send, 3, backend=backend) == 3
    assert [transport.open for transport in made] == [False, False]


def test_two_descriptions_have_two_stacks(send):
    """Only copies of one description share."""
    assert PortableSend(bounded, Counted).stack is not send.stack


def test_it_is_a_send(send):
    """Options and calls of one's own are taken as by any other."""

    async def main():
        call = Call(5)
        assert await send.run(call) == 5
        assert send.posts_bodies_to == "/chat/completions"
        return call.attempt, await send(
            6, partition="a", request_id="row-6", tags={"team": "evals"}
        )

    assert isinstance(send, Send)
    assert asyncio.run(main()) == (1, 6)


def test_nothing_is_made_before_the_first_call(send):
    """The program that only plans the work opens nothing."""
    copied(send)
    asyncio.run(send.aclose())
    assert made == []


def test_it_is_closed_by_hand(send, backend):
    """`aclose` closes what the loop has, twice does nothing, and a later call opens anew."""

    async def main():
        await send(1)
        await send.aclose()
        await send.aclose()
        assert [transport.open for transport in made] == [False]
        await send(2)
        return [transport.open for transport in made]

    assert anyio.run(main, backend=backend) == [False, True]
    assert not made[1].open


def test_a_loop_that_was_closed_alone_is_forgotten(send):
    """What `loop.close()` left behind is not kept, and the next loop has a transport."""
    for _ in range(3):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(send(1)) == 1
        loop.close()
    assert len(made) == 3
    assert asyncio.run(send(2)) == 2


def test_a_transport_that_fails_to_close_ends_nothing_else(send, backend):
    """What closing raises is dropped: the loop ends, and nobody could handle it."""

    class Broken(Counted):
        def close(self):
            raise OSError("broken")

        aclose = close

    assert anyio.run(PortableSend(bounded, Broken), 1, backend=backend) == 1


def test_a_transport_that_cannot_be_made_fails_its_call(send):
    """An exception of a function reaches the caller, and the next call tries again."""
    failing = [ValueError("no key"), None]

    def make():
        if error := failing.pop(0):
            raise error
        return Counted()

    send = PortableSend(bounded, make)

    async def main():
        with pytest.raises(ValueError, match="no key"):
            await send(1)
        return await send(2)

    assert asyncio.run(main()) == 2


@pytest.mark.parametrize(
    "transport",
    [
        partial(InfeTransport, "sk-secret"),
        partial(InfeTransport, api_key="sk-secret"),
        partial(partial(InfeTransport, api_key="sk-secret"), max_connections=4),
        partial(InfeTransport, headers={"Authorization": "Bearer sk-secret"}),
        partial(Counted, headers={"api-key": "sk-secret"}),
    ],
)
def test_a_key_is_not_pickled(transport):
    """A key that is given is refused, without quoting it."""
    with pytest.raises(errors.ConfigurationError, match="INFE_API_KEY in each worker") as refused:
        PortableSend(bounded, transport)
    assert "secret" not in str(refused.value)


def test_what_fetches_a_key_may_be_given():
    """A function that is pickled by its name holds no key."""
    send = PortableSend(bounded, partial(Counted, api_key=os.getcwd))
    assert pickle.loads(pickle.dumps(send)).stack is send.stack


def test_the_key_of_the_environment_is_read_where_it_is_used(monkeypatch):
    """Neither the pickle nor the repr has the key; a worker without one says so."""
    monkeypatch.setenv("INFE_API_KEY", "sk-secret")
    send = PortableSend(
        partial(presets.batch, requests_per_minute=600),
        partial(InfeTransport, api_key=None, base_url="http://127.0.0.1:9/v1"),
    )
    assert b"secret" not in pickle.dumps(send)
    assert repr(send) == "<PortableSend: batch around InfeTransport>"
    monkeypatch.delenv("INFE_API_KEY")
    with pytest.raises(errors.ConfigurationError, match="no API key"):
        asyncio.run(send({}))


@pytest.mark.parametrize(
    ("stack", "transport", "match"),
    [
        (bounded(), Counted, "stack must be a function that returns it"),
        (bounded, InProcessInfe(InfeModel()), "what such a function returns"),
        (bounded, Counted.__call__, "transport must be a function that returns it"),
        (None, Counted, "got NoneType"),
    ],
)
def test_what_makes_nothing_is_refused(stack, transport, match):
    """What such a function returns is not such a function."""
    with pytest.raises(errors.ConfigurationError, match=match):
        PortableSend(stack, transport)


def test_a_function_that_returns_no_stack_is_refused():
    """It is noticed at the first use."""
    with pytest.raises(errors.ConfigurationError, match="must return a Stack; got int"):
        _ = PortableSend(int, Counted).stack


@pytest.mark.parametrize(("mode", "opens"), MODES)
def test_a_process_ends_without_a_word(mode, opens, tmp_path):
    """Every transport that was opened is closed, in each process, and no warning is given."""
    lines = workers.ended(mode, tmp_path / "lines")
    opened = [line.removeprefix("opened") for line in lines if line.startswith("opened")]
    closed = [line.removeprefix("closed") for line in lines if line.startswith("closed")]
    assert len(opened) == opens
    assert opened == closed
