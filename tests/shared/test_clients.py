"""RedisShares with real clients and a real Redis; skipped where one of them is not installed."""

from __future__ import annotations

import asyncio

import pytest

from resilient_infe import ErrorClassifier, RateLimiter, Stack
from resilient_infe.shared import RedisShares

pytestmark = pytest.mark.network


def client_of(name, server):
    """Return what connects to a server with one of the clients."""
    if name == "url":
        return server.url
    module = pytest.importorskip(name if name == "coredis" else f"{name}.asyncio")
    if name == "coredis":
        return lambda: module.Redis(host="127.0.0.1", port=server.port)
    return lambda: module.from_url(server.url)


async def answer(payload):
    """Answer at once."""
    return payload


@pytest.mark.parametrize("client", ["url", "redis", "valkey"])
def test_every_client_gets_a_share(client, redis_server):
    """One limit, two processes of one loop: both send, and what they hold is at most 1."""
    made = client_of(client, redis_server)

    async def main():
        async with (
            RedisShares(made, f"t-{client}") as first,
            RedisShares(made, f"t-{client}") as second,
        ):
            for shares in (first, second):
                limiter = RateLimiter(requests_per_minute=6_000, shared=shares)
                send = Stack(limiter, ErrorClassifier()).around(answer)
                await asyncio.gather(*[send(number) for number in range(5)])
            return [each.statistics() for each in (first, second)]

    found = asyncio.run(main())
    held = [each.shares["all"] for each in found]
    assert all(share > 0.0 for share in held)
    assert sum(held) <= 1.0
    assert [each.failures for each in found] == [0, 0]
