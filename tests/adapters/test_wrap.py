"""`wrap` itself: what it recognises, what it refuses, and what it says."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import AsyncMock

import aiohttp
import httpx
import httpx2
import openai
import pytest
from fakes import FakeServer
from loopback import KEY, quick

from resilient_infe import (
    InfeTransport,
    Kind,
    ResilientTransport,
    Stack,
    errors,
    presets,
    stack_middleware,
    wrap,
)


async def generator():
    """Yield what a retry would yield twice."""
    yield 1


class Generating:
    """An object with a method that is an async generator."""

    async def stream(self):
        """Yield one."""
        yield 1

    async def __call__(self):
        """Yield two."""
        yield 2


@functools.wraps(generator)
def decorated():
    """Return the generator."""
    return generator()


@pytest.mark.parametrize("target", [generator, Generating().stream, Generating(), decorated])
def test_an_async_generator_is_told_what_to_do(target):
    """An async generator function, a method or a decorated one too, gets an error that helps."""
    with pytest.raises(errors.ConfigurationError, match="the client that opens the stream"):
        wrap(target, presets.service())


@pytest.mark.parametrize("target", [5, None, object(), "text"])
def test_what_cannot_be_wrapped_is_told(target):
    """A thing of another kind gets an error that lists what can be wrapped."""
    with pytest.raises(
        errors.ConfigurationError, match=r"pass an OpenAI, AsyncOpenAI .* aiohttp Client"
    ):
        wrap(target, presets.service())


def test_a_function_that_returns_a_coroutine_is_told():
    """A plain function whose result must be awaited would leave the stack before it is done."""
    method = wrap(openai.AsyncOpenAI(api_key=KEY).models.list, presets.service())
    with pytest.raises(errors.ConfigurationError, match="wrap an async def"):
        method()


def test_a_transport_goes_elsewhere():
    """A transport of ours belongs into `stack.around`, and one of httpx's into another."""
    for transport in (FakeServer(), InfeTransport(KEY), InfeTransport(KEY).stream):
        with pytest.raises(errors.ConfigurationError, match=r"use stack\.around"):
            wrap(transport, presets.service())
    for library in (httpx, httpx2):
        with pytest.raises(errors.ConfigurationError, match=r"use ResilientTransport\("):
            wrap(library.AsyncHTTPTransport(), presets.service())


INNERS = [None, 5, httpx.HTTPTransport(), httpx.AsyncClient(), httpx.AsyncHTTPTransport]


@pytest.mark.parametrize("inner", INNERS)
def test_what_is_no_async_transport_is_told(inner):
    """Anything else in a transport's place is told when it is given."""
    with pytest.raises(errors.ConfigurationError, match=r"around an async transport"):
        ResilientTransport(inner, presets.service())


class Answering:
    """An object with an async call."""

    async def __call__(self):
        """Answer."""


CLASSES = [openai.AsyncOpenAI, httpx.AsyncClient, aiohttp.ClientSession, Answering, InfeTransport]


@pytest.mark.parametrize("target", CLASSES)
def test_a_class_is_no_client(target):
    """A class instead of what is made from it is told what to do."""
    with pytest.raises(errors.ConfigurationError, match=rf"wrap\({target.__name__}\(\.\.\.\), st"):
        wrap(target, presets.service())


def test_a_test_double_is_wrapped(run):
    """An `AsyncMock`, which has whatever it is asked for, is no transport."""
    double = AsyncMock(return_value="ok")
    assert run(wrap(double, quick())) == "ok"


@pytest.mark.parametrize("stack", [None, "stack", Stack, presets.service])
def test_a_stack_is_needed(stack):
    """Anything but a stack as the second argument is told."""
    with pytest.raises(errors.ConfigurationError, match="Stack"):
        wrap(httpx.AsyncClient(), stack)
    with pytest.raises(errors.ConfigurationError, match="Stack"):
        ResilientTransport(httpx.AsyncHTTPTransport(), stack)
    with pytest.raises(errors.ConfigurationError, match="Stack"):
        stack_middleware(stack)


def clients():
    """Return one of each kind of client."""
    return [openai.AsyncOpenAI(api_key=KEY), httpx.AsyncClient(), httpx2.AsyncClient()]


def test_classify_is_for_functions():
    """A rule given along with a client is refused, and the error says where it goes."""
    for client in clients():
        with pytest.raises(errors.ConfigurationError, match=r"ErrorClassifier\(\.\.\.\)"):
            wrap(client, presets.service(), classify=lambda *_: Kind.OK)


def test_a_client_comes_back_as_its_own_type():
    """The type is kept, that of a user's own subclass too."""

    class Mine(httpx.AsyncClient):
        pass

    for client in (*clients(), Mine()):
        assert isinstance(wrap(client, presets.service()), type(client))

    async def main():
        async with aiohttp.ClientSession() as session:
            assert isinstance(wrap(session, presets.service()), aiohttp.ClientSession)

    asyncio.run(main())


def test_a_session_of_another_make_is_told():
    """A session without what is needed of it, as an older aiohttp has it, is told of."""
    old = type("ClientSession", (), {"__module__": "aiohttp.client"})
    with pytest.raises(errors.ConfigurationError, match=r"3\.13 or newer"):
        wrap(old(), presets.service())


def test_a_transport_of_another_make_is_told():
    """A transport whose responses are of neither library cannot be wrapped, and says so."""

    class Foreign:
        async def handle_async_request(self, request):
            headers = httpx.Headers()
            return SimpleNamespace(
                status_code=200, headers=headers, is_closed=False, is_stream_consumed=False
            )

    async def main():
        transport = ResilientTransport(Foreign(), quick())
        with pytest.raises(TypeError, match="neither httpx nor httpx2"):
            await transport.handle_async_request(httpx.Request("GET", "http://x/"))

    asyncio.run(main())


def test_nothing_is_imported_for_it():
    """`wrap` of a function imports neither aiohttp nor httpx nor an SDK."""
    code = """
import sys
from resilient_infe import wrap, presets
async def ask(): ...
wrap(ask, presets.service())
print(sorted({"aiohttp", "httpx", "httpx2", "openai"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
