"""Retries that would multiply are noticed: once, with what to set."""

from __future__ import annotations

import asyncio
import functools
import warnings

import aiohttp
import httpx
import httpx2
import openai
import pytest
from loopback import ASK, ERROR, KEY, MESSAGES, against, quick

from resilient_infe import (
    ErrorClassifier,
    ResilientTransport,
    Stack,
    presets,
    stack_middleware,
    wrap,
)
from resilient_infe.errors import ConfigurationError, NestedRetriesWarning, NestedStackWarning


async def ask_twice(client):
    """Ask two times and let each fail."""
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="infe-pulse", messages=MESSAGES)


@pytest.fixture
def no_sleep(monkeypatch):
    """Take the SDK's own backoff away."""

    async def instant(*args, **kwargs):
        pass

    monkeypatch.setattr(openai.AsyncOpenAI, "_sleep_for_retry", instant)


@pytest.mark.network
@pytest.mark.usefixtures("no_sleep")
def test_an_sdk_that_retries_above_a_wrapped_client_is_told_once():
    """An SDK with its retries on, over a wrapped http client: one warning, with what to set."""

    async def test(url):
        async with httpx2.AsyncClient() as http:
            client = openai.AsyncOpenAI(
                api_key=KEY, base_url=url, http_client=wrap(http, quick(max_attempts=1))
            )
            with pytest.warns(NestedRetriesWarning, match="max_retries=0") as told:
                await ask_twice(client)
            assert len(told) == 1

    assert len(against(ERROR, test).asked) == 6


@pytest.mark.network
def test_an_sdk_that_retries_above_a_session_is_told_once():
    """So is one over a wrapped aiohttp session: SDKs number their tries in a header."""

    async def test(url):
        async with aiohttp.ClientSession() as session:
            wrapped = wrap(session, quick(max_attempts=1))
            await wrapped.post(url, headers={"x-stainless-retry-count": "0"})
            posts = [
                wrapped.post(url, headers={"x-stainless-retry-count": number}) for number in "12"
            ]
            with pytest.warns(NestedRetriesWarning, match="max_retries=0") as told:
                await asyncio.gather(*posts)
            assert len(told) == 1

    against(ERROR, test)


@pytest.mark.network
@pytest.mark.usefixtures("no_sleep")
def test_retries_that_are_switched_on_again_are_told_once():
    """`with_options(max_retries=2)` of a wrapped client warns, and the retries stay off."""

    async def test(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            again = wrap(client, quick(max_attempts=1)).with_options(max_retries=2)
            with pytest.warns(NestedRetriesWarning, match="stay off") as told:
                await ask_twice(again)
            assert len(told) == 1

    assert len(against(ERROR, test).asked) == 2


@pytest.mark.network
@pytest.mark.usefixtures("no_sleep")
def test_retries_that_one_request_asks_for_stay_off():
    """`max_retries` among the options of a single request is told of, and is off too."""

    async def test(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            wrapped = wrap(client, quick(max_attempts=1))
            with (
                pytest.warns(NestedRetriesWarning, match="stay off"),
                pytest.raises(openai.InternalServerError),
            ):
                await wrapped.post("/x", cast_to=object, body={}, options={"max_retries": 2})

    assert len(against(ERROR, test).asked) == 1


@pytest.mark.network
def test_retries_that_are_off_are_not_told_of():
    """A wrapped SDK, or one with max_retries=0 over a resilient transport, warns of nothing."""

    async def test(url):
        transport = ResilientTransport(httpx2.AsyncHTTPTransport(), quick())
        http = httpx2.AsyncClient(transport=transport)
        options = {"api_key": KEY, "base_url": url}
        async with openai.AsyncOpenAI(**options, max_retries=0, http_client=http) as client:
            await ask_twice(client)
        async with openai.AsyncOpenAI(**options) as client:
            await ask_twice(wrap(client, quick()).with_options(timeout=5))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(against(ERROR, test).asked) == 12


@pytest.mark.parametrize("method", ["chat.completions", "embeddings", "responses"])
def test_a_bound_method_of_an_sdk_with_retries_on_is_told(method):
    """The client behind a wrapped method would retry by itself: that is told when it is wrapped."""

    def create(client):
        return functools.reduce(getattr, method.split("."), client).create

    with pytest.warns(NestedRetriesWarning, match="max_retries=0") as told:
        wrap(create(openai.AsyncOpenAI(api_key=KEY)), quick())
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrap(create(openai.AsyncOpenAI(api_key=KEY, max_retries=0)), quick())


@pytest.mark.network
def test_a_stack_under_a_stack_is_told_once():
    """A function of one's own around a wrapped client, wrapped again: one warning."""

    async def test(url):
        async with httpx.AsyncClient() as client:
            inner = wrap(client, quick())

            async def ask():
                return await inner.post(f"{url}/chat/completions", json=ASK)

            outer = wrap(ask, quick())
            with pytest.warns(NestedStackWarning, match="attempts multiply") as told:
                await asyncio.gather(outer(), outer())
            assert len(told) == 1

    assert len(against(ERROR, test).asked) == 18


@pytest.mark.network
def test_a_client_that_is_wrapped_twice_is_told():
    """Wrapping what is wrapped already multiplies attempts: it warns, and both stacks work."""

    async def test(url):
        async with httpx.AsyncClient() as client:
            twice = wrap(wrap(client, quick()), quick())
            with pytest.warns(NestedStackWarning):
                await twice.post(f"{url}/chat/completions", json=ASK)

    assert len(against(ERROR, test).asked) == 9


@pytest.mark.network
def test_a_stack_that_does_not_retry_may_stand_under_another():
    """Limits around one client and retries around another do not multiply, and nothing is told."""

    async def test(url):
        async with httpx.AsyncClient() as client:
            limited = wrap(wrap(client, Stack(ErrorClassifier())), quick())
            await limited.post(f"{url}/chat/completions", json=ASK)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(against(ERROR, test).asked) == 3


@pytest.mark.network
@pytest.mark.usefixtures("no_sleep")
def test_a_stack_without_retry_leaves_the_retries_of_others_alone():
    """Limits alone multiply nothing, so nothing is told, however the stack is put below an SDK."""
    limits = Stack(ErrorClassifier())

    async def test(url):
        options = {"api_key": KEY, "base_url": url}
        transport = ResilientTransport(httpx2.AsyncHTTPTransport(), limits)
        for http in httpx2.AsyncClient(transport=transport), wrap(httpx2.AsyncClient(), limits):
            async with openai.AsyncOpenAI(**options, http_client=http) as client:
                await ask_twice(client)
        async with openai.AsyncOpenAI(**options) as client:
            create = wrap(client.chat.completions.create, limits)
            with pytest.raises(openai.InternalServerError):
                await create(model="infe-pulse", messages=MESSAGES)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(against(ERROR, test).asked) == 15


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_client_goes_through_a_stack_once(library):
    """Each call would hold a slot and wait for another: told at once, for an SDK above too."""
    stack = quick()
    once = wrap(library.AsyncClient(), stack)
    with pytest.raises(ConfigurationError, match="already sends through this stack"):
        wrap(once, stack)
    assert wrap(once, quick()) is not once
    if library is httpx:
        sdk = wrap(openai.AsyncOpenAI(api_key=KEY, base_url="http://127.0.0.1:9/v1"), stack)
        with pytest.raises(ConfigurationError, match="already sends through this stack"):
            wrap(sdk, stack)


def test_a_session_is_not_sent_twice_through_one_stack():
    """Nor is one of aiohttp, wrapped or with the stack as its middleware."""
    stack = presets.service()

    async def main():
        for own in ((), (stack_middleware(stack),)):
            async with aiohttp.ClientSession(middlewares=own) as session:
                once = session if own else wrap(session, stack)
                with pytest.raises(ConfigurationError, match="already sends through this stack"):
                    wrap(once, stack)
                wrap(once, presets.service())

    asyncio.run(main())
