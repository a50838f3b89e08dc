"""A wrapped SDK client is the client that was wrapped: its class, attributes, signatures, parts."""

from __future__ import annotations

import gc
import inspect
import weakref

import anyio
import anyio.lowlevel
import httpx2
import openai
import pytest
from loopback import ASK, KEY
from sdk_server import DOWN, GOOD, Server, ask, steady

from resilient_infe import Kind, errors, wrap
from resilient_infe.testing import run_virtually


class Helper:
    """A part of a client that uses the client."""

    def __init__(self, client):
        """Keep the client, and a method of it."""
        self.client, self.get = client, client.get


class Own(openai.AsyncOpenAI):
    """A client with a constructor of its own."""

    def __init__(self, server):
        """Take no options."""
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(server))
        super().__init__(api_key=KEY, base_url="http://t/v1", http_client=http)
        self._platform = "Linux"
        self.helper, self.fetch, self.note = Helper(self), self.get, ["mine"]

    async def greet(self):
        """Ask through the client's own resources."""
        return await ask(self)


def test_a_subclass_with_a_constructor_of_its_own_survives(backend):
    """Its class, attributes, methods and parts are there, and all of them use the stack."""
    server = Server(DOWN, GOOD)
    stack = steady()

    async def test():
        client = Own(server)
        assert client.chat.completions  # a resource that the original has made already
        wrapped = wrap(client, stack)
        assert type(wrapped) is Own
        assert wrapped.note is client.note
        assert (await wrapped.greet()).id == "c"
        for get in (wrapped.helper.client.get, wrapped.helper.get, wrapped.fetch):
            assert await get("/x", cast_to=object)
        assert client.helper.client is client

    run_virtually(test, backend)
    assert stack.statistics().outcomes == {Kind.OK: 4}
    assert len(server.asked) == 5


def test_the_original_is_left_as_it_was():
    """The client that was wrapped still goes around the stack, with its own retries."""
    server = Server(DOWN, GOOD)
    stack = steady()

    async def test():
        client = server.client(max_retries=0)
        wrap(client, stack)
        with pytest.raises(openai.InternalServerError):
            await ask(client)

    run_virtually(test)
    assert stack.statistics().calls == 0


def test_a_client_without_credentials_is_wrapped(monkeypatch):
    """Wrapping constructs no client, so it asks for no credentials."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    server = Server(GOOD)

    async def test():
        client = server.client(api_key=None, _enforce_credentials=False)
        headers = {"Authorization": "Bearer mine"}
        assert (await ask(wrap(client, steady()), extra_headers=headers)).id == "c"

    run_virtually(test)
    assert server.sent("authorization") == ["Bearer mine"]


def test_signatures_are_kept():
    """What is replaced on a wrapped client can be inspected as before."""
    client = openai.AsyncOpenAI(api_key=KEY)
    wrapped = wrap(client, steady())
    for name in ("request", "copy", "with_options", "_build_request", "_process_response"):
        before = inspect.signature(getattr(client, name))
        assert inspect.signature(getattr(wrapped, name)) == before
    assert inspect.iscoroutinefunction(wrapped.request)


def test_a_version_that_cannot_be_wrapped_is_told():
    """Without a private name that is needed, the error says what to do instead."""

    class Other:
        """A client of another make with the same base class."""

        _client = with_options = None

    other = type("AsyncAPIClient", (Other,), {})()
    with pytest.raises(errors.ConfigurationError, match="ResilientTransport"):
        wrap(other, steady())


def test_a_client_that_is_wrapped_twice_goes_through_both(backend):
    """The second stack is around the first, and each attempt of it is a call of the first."""
    server = Server(DOWN, GOOD)
    inner, outer = steady(attempts=1), steady(attempts=2)

    async def test():
        assert (await ask(wrap(wrap(server.client(), inner), outer))).id == "c"

    with pytest.warns(errors.NestedStackWarning):
        run_virtually(test, backend)
    assert inner.statistics().calls == 2
    assert outer.statistics().calls == 1


def test_a_request_of_the_http_client_goes_through_the_stack():
    """Code that uses the SDK's http client directly is still limited and retried."""
    server = Server(DOWN, GOOD)
    stack = steady()

    async def test():
        wrapped = wrap(server.client(), stack)
        assert (await wrapped._client.get("http://t/v1/x")).status_code == 200

    run_virtually(test)
    assert stack.statistics().outcomes == {Kind.OK: 1}


class Leaving(Own):
    """Starts a task in each attempt, which uses the http client when the attempt is over."""

    group = None

    async def _prepare_request(self, request):
        self.group.start_soon(self._later)

    async def _later(self):
        await anyio.sleep(5.0)
        await self._client.get("http://t/v1/later")


def test_a_task_that_outlives_its_attempt_goes_through_the_stack(backend):
    """It inherits the call that is under way, which then has ended."""
    server, stack = Server(GOOD), steady()

    async def test():
        client = wrap(Leaving(server), stack)
        async with anyio.create_task_group() as client.group:
            await ask(client)

    run_virtually(test, backend)
    assert len(server.asked) == stack.statistics().calls == 2


def test_a_redirect_is_a_part_of_its_attempt(backend):
    """A request that is redirected is one attempt, and its last response counts."""
    moved = (307, {}, {"location": "http://t/v2/chat/completions"})
    server = Server(moved, DOWN, moved, GOOD)
    stack = steady()

    async def test():
        client = server.client()
        client._client.follow_redirects = True
        assert (await ask(wrap(client, stack))).id == "c"

    run_virtually(test, backend)
    assert len(server.asked) == 4
    assert stack.statistics().attempts == 2


@pytest.mark.parametrize("where", ["http://t/v1/chat/completions", "ftp://t/"])
def test_a_redirect_that_leads_nowhere_is_no_success(where, backend):
    """In a circle, or to what is not HTTP: the call is INVALID, and is not tried again."""
    server = Server((307, {}, {"location": where}))
    stack = steady()

    async def test():
        client = server.client()
        client._client.follow_redirects = True
        with pytest.raises(openai.APIConnectionError):
            await ask(wrap(client, stack))

    run_virtually(test, backend)
    assert stack.statistics().outcomes == {Kind.INVALID: 1}
    assert stack.statistics().attempts == 1


EVENTS = b'data: {"choices": [{"index": 0, "delta": {"content": "w"}}]}\n\n' * 2


class Unending(httpx2.AsyncByteStream):
    """A stream that begins, and never ends."""

    async def __aiter__(self):
        """Yield two events, one after the other."""
        yield EVENTS
        await anyio.sleep_forever()


async def begun(request):
    """Answer with a stream that does not end."""
    headers = {"content-type": "text/event-stream"}
    return httpx2.Response(200, stream=Unending(), headers=headers)


async def plain(client):
    """Return a stream."""
    return await ask(client, stream=True)


async def raw(client):
    """Return a stream, parsed from the raw response."""
    return (await client.chat.completions.with_raw_response.create(**ASK, stream=True)).parse()


async def raw_twice(client):
    """Return the stream that a second parse gives."""
    response = await client.chat.completions.with_raw_response.create(**ASK, stream=True)
    stream = response.parse()
    await anext(stream)
    assert response.parse() is stream
    return stream


@pytest.mark.parametrize("way", [plain, raw, raw_twice])
def test_a_stream_that_is_dropped_half_read_frees_its_call_at_once(way):
    """Without a garbage collection, however the stream was made."""
    stack = steady()

    async def test():
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(begun))
        client = openai.AsyncOpenAI(api_key=KEY, base_url="http://t/v1", http_client=http)
        client._platform = "Linux"
        stream = await way(wrap(client, stack))
        async for _ in stream:
            break
        assert stack.statistics().in_flight == 1
        dropped = weakref.ref(stream)
        del stream
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert dropped() is None
        assert stack.statistics().in_flight == 0

    gc.disable()
    try:
        run_virtually(test)
    finally:
        gc.enable()
