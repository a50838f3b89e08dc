"""The pool of an httpx client: shared with the original, closed by either, used again."""

from __future__ import annotations

import asyncio
import weakref

import anyio
import openai
import pytest
from askers import httpx_and_httpx2
from fakes import Remember
from loopback import (
    ANSWER,
    ASK,
    ERROR,
    KEY,
    MESSAGES,
    RawServer,
    against,
    at_rest,
    collected,
    for_two,
    hang,
    in_turn,
    over_http,
    quick,
    response,
    served_by,
    soon,
    spent,
)

from resilient_infe import (
    ErrorClassifier,
    ExponentialBackoff,
    Kind,
    Retry,
    Stack,
    presets,
    wrap,
)

pytestmark = pytest.mark.network


@httpx_and_httpx2
def test_closing_either_closes_the_pool(library):
    """The pool is shared: closing the wrapped client closes the original's connections."""

    async def test(url):
        client = library.AsyncClient()
        await wrap(client, quick()).get(url)
        pool = client._transport._pool
        assert len(pool.connections) == 1
        await wrap(client, quick()).aclose()
        assert pool.connections == []
        async with wrap(library.AsyncClient(), quick()) as wrapped:
            await wrapped.get(url)
        assert wrapped.is_closed

    against(ANSWER, test)


@httpx_and_httpx2
def test_an_open_client_can_be_wrapped(library):
    """A client in its own block is wrapped and opened once more, and either block closes both."""

    async def test(url):
        async with library.AsyncClient() as client:
            async with wrap(client, quick()) as wrapped:
                assert (await wrapped.get(url)).status_code == 200
            assert client.is_closed
            assert client._transport._pool.connections == []

    against(ANSWER, test)


@httpx_and_httpx2
def test_a_closed_client_sends_nothing_more(library):
    """Once either is closed, both refuse, as a closed client does; nothing is opened again."""
    stack = quick()

    async def test(url):
        for closed_first in (0, 1):
            client = library.AsyncClient()
            both = client, wrap(client, stack)
            await both[closed_first].aclose()
            for each in both:
                with pytest.raises(RuntimeError, match=r"Cannot send a request, as .* closed"):
                    await each.get(url)
        assert wrap(client, stack).is_closed

    assert against(ANSWER, test).asked == []
    assert stack.statistics().calls == 0


@httpx_and_httpx2
def test_a_call_that_waits_sends_nothing_after_the_closing(library):
    """A retry that comes due when the client is closed is not sent; no connection is left."""
    retry, seen = Retry(3, backoff=ExponentialBackoff(0.05, jitter="none")), Remember()
    stack = Stack(retry, ErrorClassifier(), listeners=[seen])

    async def test(url):
        client = library.AsyncClient()
        async with anyio.create_task_group() as tasks:

            async def ask():
                with pytest.raises(RuntimeError, match=r"Cannot send a request, as .* closed"):
                    await wrap(client, stack).get(url)

            tasks.start_soon(ask)
            assert await soon(lambda: seen.named("retry.scheduled"))
            await client.aclose()
        assert client._transport._pool.connections == []

    assert len(against(ERROR, test).asked) == 1


class Counting:
    """A transport that has to be entered before it is left, once each; tells what is asked."""

    def __init__(self, library, told):
        self._answer, self._told = library.Response(200, json={}), told

    async def handle_async_request(self, request):
        """Answer."""
        return self._answer

    async def __aenter__(self):
        self._told.append("enter")
        return self

    async def __aexit__(self, *_):
        self._told.append("exit")

    async def aclose(self):
        """Tell it."""
        self._told.append("close")


@httpx_and_httpx2
def test_transports_of_ones_own_are_closed_once(library):
    """Those of a wrapped client are entered and left, or closed, as without the stack."""
    first, second, closed = [], [], []

    async def main():
        mounts = {"https://": Counting(library, second)}
        client = library.AsyncClient(transport=Counting(library, first), mounts=mounts)
        async with wrap(client, quick()) as wrapped:
            await wrapped.get("http://x/")
        assert client.is_closed
        other = wrap(library.AsyncClient(transport=Counting(library, closed)), quick())
        await other.aclose()

    asyncio.run(main())
    assert (first, second, closed) == (["enter", "exit"], ["enter", "exit"], ["close"])


@httpx_and_httpx2
def test_closing_again_closes_nothing_again(library):
    """Closed twice, by the original and by copies of it, a transport is closed once, as bare."""
    order = []

    async def main():
        for names in (("client", "one"), ("one", "client"), ("one", "two"), ("one", "one")):
            told = []
            mounts = {"https://": Counting(library, told)}
            client = library.AsyncClient(transport=Counting(library, told), mounts=mounts)
            each = {"client": client, "one": wrap(client, quick()), "two": wrap(client, quick())}
            for name in names:
                await each[name].aclose()
            order.append(told)

    asyncio.run(main())
    assert order == [["close"] * 2] * 4


@httpx_and_httpx2
def test_a_transport_is_left_as_often_as_it_was_entered(library):
    """Who closes inside of the block, as without the stack, takes nothing from the block's end."""
    told, original = [], []

    async def main():
        client = library.AsyncClient(transport=Counting(library, original))
        async with client:
            await client.aclose()
        client = library.AsyncClient(transport=Counting(library, told))
        async with wrap(client, quick()):
            await client.aclose()

    asyncio.run(main())
    assert told == original == ["enter", "close", "exit"]


@httpx_and_httpx2
@pytest.mark.parametrize("closer", [0, 1, 2], ids=["original", "copy", "other copy"])
def test_who_closes_a_client_is_no_fault_of_the_server(library, closer):
    """Calls that a closing cuts short are cancelled: no circuit opens for the stack's others.

    Nor do those that were not sent spend the limits.
    """
    stack = for_two()
    server, raised = RawServer(hang), []

    async def test(url):
        client = library.AsyncClient()
        each = client, wrap(client, stack), wrap(client, stack)
        async with library.AsyncClient() as other, anyio.create_task_group() as tasks:

            async def ask():
                with pytest.raises(Exception) as caught:  # noqa: PT011  # the library's own
                    await each[1].get(url)
                raised.append(caught.value)

            for _ in range(8):
                tasks.start_soon(ask)
            assert await soon(lambda: len(server.asked) == 2)
            await each[closer].aclose()
            server.answer = ANSWER
            assert (await wrap(other, stack).get(url)).status_code == 200

    served_by(server, test)
    assert (len(raised), len(server.asked)) == (8, 3)
    told = stack.statistics()
    assert told.outcomes == {Kind.CANCELLED: 8, Kind.OK: 1}
    assert spent(stack) == 3


@httpx_and_httpx2
def test_a_class_of_ones_own_closes_once(library):
    """What a derived client does when it is closed happens once, on the wrapped one."""
    told = []

    class Mine(library.AsyncClient):
        async def aclose(self):
            told.append("mine")
            await super().aclose()

    async def main():
        client = Mine()
        await wrap(client, quick()).aclose()
        assert client.is_closed

    asyncio.run(main())
    assert told == ["mine"]


def test_an_sdks_client_is_closed_with_the_wrapped_one():
    """`close` of the wrapped SDK client closes the original too."""

    async def test(url):
        client = openai.AsyncOpenAI(api_key=KEY, base_url=url)
        async with wrap(client, quick()) as wrapped:
            await wrapped.chat.completions.create(**ASK)
        assert client.is_closed()

    assert len(against(ANSWER, test).asked) == 1


@httpx_and_httpx2
def test_an_upgraded_connection_is_the_callers(library):
    """After a 101 the caller speaks over the connection as without the stack; it is a success."""
    stack = quick()

    async def upgrade(_, writer):
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
        )
        writer.write(b"hello")
        await writer.drain()

    async def test(url):
        async with library.AsyncClient() as client:
            upgrading = {"connection": "upgrade", "upgrade": "x"}
            async with wrap(client, stack).stream("GET", url, headers=upgrading) as answer:
                assert answer.status_code == 101
                stream = answer.extensions["network_stream"]
                assert await stream.read(5, timeout=5.0) == b"hello"

    against(upgrade, test)
    assert stack.statistics().outcomes == {Kind.OK: 1}
    assert at_rest(stack)


@httpx_and_httpx2
def test_connections_are_used_again(library):
    """Answers and errors are read, so that retries and later calls open no new connection."""

    async def test(url):
        async with library.AsyncClient() as client:
            wrapped = wrap(client, quick())
            for _ in range(3):
                await wrapped.post(f"{url}/x", json=ASK)

    server = against(in_turn(ERROR, ERROR, ANSWER), test)
    assert (len(server.asked), server.connections) == (5, 1)


@httpx_and_httpx2
@pytest.mark.parametrize("most", [None, 1])
def test_a_large_error_does_not_stop_the_pool(library, most):
    """Three megabytes of error before each retry, with a pool of one: no deadlock, and readable."""
    big = response(500, b"x" * 3_000_000, "text/plain")
    limits = library.Limits(max_connections=most)

    async def test(url):
        async with library.AsyncClient(limits=limits, timeout=5.0) as client:
            answer = await wrap(client, quick()).post(f"{url}/x", json=ASK)
            assert len(answer.content) == 3_000_000
            assert (await wrap(client, quick(max_attempts=1)).get(url)).status_code == 500

    assert len(against(big, test).asked) == 4


@httpx_and_httpx2
def test_a_large_error_that_is_dropped_unread_comes_home(library):
    """An open error response, dropped without being read or closed, is closed when collected."""
    stack = presets.service(max_attempts=1)

    async def test(url):
        async with library.AsyncClient() as client:
            wrapped = wrap(client, stack)
            answer = await wrapped.send(wrapped.build_request("GET", url), stream=True)
            assert stack.statistics().in_flight == 1
            del answer
            assert await collected(lambda: at_rest(stack))
            connections = client._transport._pool.connections
            assert await collected(lambda: not any(each.is_idle() for each in connections))

    against(response(500, b"x" * 3_000_000, "text/plain"), test)


def test_a_wrapper_that_is_dropped_leaves_the_original_alone():
    """Forgetting a wrapped SDK client closes no connection of the pool that the original uses."""

    async def test(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            wrapped = wrap(client, quick())
            await wrapped.chat.completions.create(**ASK)
            dropped = weakref.ref(wrapped)
            del wrapped
            assert await collected(lambda: dropped() is None)
            await collected(lambda: False, rounds=2)
            await client.chat.completions.create(**ASK)

    assert against(ANSWER, test).connections == 1


@httpx_and_httpx2
def test_the_original_may_be_forgotten(library):
    """`wrap(Client(...), stack)` works although nobody keeps the original."""

    async def test(url):
        sdk = wrap(openai.AsyncOpenAI(api_key=KEY, base_url=url), quick())
        bare = wrap(library.AsyncClient(), quick())
        assert not await collected(lambda: sdk._client.is_closed, rounds=2)
        await sdk.chat.completions.create(model="infe-pulse", messages=MESSAGES)
        await bare.get(f"{url}/models")
        await sdk.close()
        await bare.aclose()

    assert over_http(test).books.answered == 1


def test_closing_either_sdk_client_closes_the_pool():
    """The wrapped client shares the pool: closing it, or leaving `async with`, closes both."""

    async def test(url):
        client = openai.AsyncOpenAI(api_key=KEY, base_url=url)
        async with wrap(client, quick()) as wrapped:
            await wrapped.chat.completions.create(**ASK)
        assert wrapped.is_closed()
        assert client._client._transport._pool.connections == []

    over_http(test)
