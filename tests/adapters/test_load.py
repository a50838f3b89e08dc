"""Two thousand completions at once through the wrapped SDK, against the stand-in's own limit."""

from __future__ import annotations

import asyncio

import httpx2
import openai
import pytest
from loopback import ASK, KEY, at_rest, over_http

from resilient_infe import Kind, presets, wrap

CALLS = 2_000
LIMIT = 18_000
"""Requests per minute: below what client and server manage together, so that it is felt."""


@pytest.mark.network
def test_two_thousand_completions_at_once():
    """All are answered, with a pool no larger than the concurrency, and next to no 429."""
    stack = presets.batch(requests_per_minute=LIMIT, concurrency=50)
    pool = openai.DefaultAsyncHttpxClient(limits=httpx2.Limits(max_connections=50))

    async def test(url):
        async with openai.AsyncOpenAI(
            api_key=KEY, base_url=url, http_client=pool, timeout=2.0
        ) as client:
            wrapped = wrap(client, stack)
            calls = [wrapped.chat.completions.create(**ASK) for _ in range(CALLS)]
            answers = await asyncio.gather(*calls)
            assert all(answer.choices[0].message.content for answer in answers)

    books = over_http(test, requests_per_minute=LIMIT).books
    assert (books.answered, stack.statistics().outcomes) == (CALLS, {Kind.OK: CALLS})
    assert books.rejected < 0.01 * CALLS
    assert books.peak_in_flight <= 50
    assert at_rest(stack)
