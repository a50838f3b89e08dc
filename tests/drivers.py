"""Run a test with a wrapped client against a raw server: aiohttp's sessions, and the SDK."""

from __future__ import annotations

import aiohttp
import openai
import pytest
from loopback import ANSWER, ASK, KEY, against, quick

from resilient_infe import stack_middleware, wrap

REFUSAL = {"error": {"message": "no, you", "type": "a_type", "code": "a_code", "param": None}}


def with_session(answer, test, stack=None, **options):
    """Run an async test with a wrapped session and a raw server's URL; returns the server."""

    async def main(url):
        async with aiohttp.ClientSession(**options) as session:
            await test(wrap(session, quick() if stack is None else stack), url)

    return against(answer, main)


def wrapped(stack, **options):
    """Return `wrap(ClientSession(...))`; the original is closed with it."""
    return wrap(aiohttp.ClientSession(**options), stack)


def given(stack, **options):
    """Return a session that is given the stack as a middleware."""
    return aiohttp.ClientSession(middlewares=(stack_middleware(stack),), **options)


both = pytest.mark.parametrize("session_of", [wrapped, given], ids=["wrapped", "middleware"])


def with_either(session_of, answer, test, stack=None, **options):
    """Run an async test with a session made either way; returns the server."""

    async def main(url):
        async with session_of(quick() if stack is None else stack, **options) as session:
            await test(session, url)

    return against(answer, main)


def with_sdk(test, answer=None, stack=None, **options):
    """Run an async test with a wrapped SDK client against a raw server, which is returned."""

    async def main(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url, **options) as client:
            await test(wrap(client, quick() if stack is None else stack))

    return against(ANSWER if answer is None else answer, main)


async def complete(client, **more):
    """Ask for a completion."""
    return await client.chat.completions.create(**ASK | more)
