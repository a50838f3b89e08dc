"""Every client can be wrapped for a class and a tenant: all of its calls are labelled."""

from __future__ import annotations

import aiohttp
import httpx
import httpx2
import openai
import pytest
from loopback import ANSWER, ASK, KEY, MESSAGES, against

from resilient_infe import ErrorClassifier, Stack, call_options, wrap
from resilient_infe.errors import ConfigurationError


async def ask_sdk(client, _):
    """Ask by the OpenAI SDK."""
    await client.chat.completions.create(model="infe-pulse", messages=MESSAGES)


async def ask_http(client, url):
    """Ask by httpx or aiohttp."""
    await client.post(f"{url}/chat/completions", json=ASK)


CLIENTS = {
    "sdk": (lambda url: openai.AsyncOpenAI(api_key=KEY, base_url=url), ask_sdk),
    "httpx": (lambda _: httpx.AsyncClient(), ask_http),
    "httpx2": (lambda _: httpx2.AsyncClient(), ask_http),
    "aiohttp": (lambda _: aiohttp.ClientSession(), ask_http),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_is_labelled(name):
    """With the class and the tenant that it was wrapped for, unless a block says otherwise."""
    make, ask = CLIENTS[name]
    seen = []

    async def watch(call, call_next):
        seen.append((call.priority, call.tenant))
        return await call_next(call)

    stack = Stack(watch, ErrorClassifier())

    async def main(url):
        async with make(url) as client:
            wrapped = wrap(client, stack, priority="interactive", tenant="a")
            await ask(wrapped, url)
            with call_options(priority="batch", tenant="b"):
                await ask(wrapped, url)
            await ask(wrap(client, stack), url)

    against(ANSWER, main)
    assert seen == [("interactive", "a"), ("batch", "b"), (None, None)]
    assert stack.statistics().calls == 3


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_labelled_client_cannot_be_wrapped_twice(library):
    """Whichever of the two is labelled: each call would hold one slot and wait for another."""
    stack = Stack(ErrorClassifier())
    for first, second in (({"tenant": "a"}, {}), ({}, {"tenant": "a"})):
        once = wrap(library.AsyncClient(), stack, **first)
        with pytest.raises(ConfigurationError, match="already sends through this stack"):
            wrap(once, stack, **second)
