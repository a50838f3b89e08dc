"""The ways of keeping one limit in many processes that are compared, each as a layer of a stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from resilient_infe import RateLimiter
from resilient_infe.shared import RedisShares

MINUTE = 60.0


@asynccontextmanager
async def shares(limit: float, members: int, url: str) -> AsyncIterator[Any]:  # noqa: ARG001
    """`RedisShares`: by need."""
    async with RedisShares(url) as made:
        yield RateLimiter(requests_per_minute=limit, shared=made)


@asynccontextmanager
async def unknown(limit: float, members: int, url: str) -> AsyncIterator[Any]:  # noqa: ARG001
    """`RedisShares`, and nobody knows the limit."""
    async with RedisShares(url) as made:
        yield RateLimiter(shared=made)


@asynccontextmanager
async def alone(limit: float, members: int, url: str) -> AsyncIterator[Any]:  # noqa: ARG001
    """A process that knows of no other, and not the limit."""
    yield RateLimiter()


@asynccontextmanager
async def fixed(limit: float, members: int, url: str) -> AsyncIterator[Any]:  # noqa: ARG001
    """An equal part for each process."""
    yield RateLimiter(requests_per_minute=limit, processes=members)


def _before(acquire: Callable[[], Awaitable[Any]]) -> Any:
    async def limited(call: Any, call_next: Any) -> Any:
        await acquire()
        return await call_next(call)

    return limited


@asynccontextmanager
async def token_throttle(limit: float, members: int, url: str) -> AsyncIterator[Any]:  # noqa: ARG001
    """token-throttle: a bucket in Redis, with a lock; those that wait poll."""
    import redis.asyncio
    import token_throttle as package

    client = redis.asyncio.from_url(url)
    quotas = package.UsageQuotas([package.Quota(metric="requests", limit=limit, per_seconds=60)])
    limiter = package.RateLimiter(
        package.PerModelConfig(quotas=quotas, model_family="all"),
        backend=package.RedisBackendBuilder(client, key_prefix="bench"),
    )

    async def acquire() -> None:
        await limiter.acquire_capacity(model="infe-pulse", usage={"requests": 1})

    try:
        yield _before(acquire)
    finally:
        await limiter.aclose()
        await client.aclose()


@asynccontextmanager
async def limits(limit: float, members: int, url: str) -> AsyncIterator[Any]:  # noqa: ARG001
    """limits: a moving window in Redis; it only says no, so those that wait ask each 50 ms."""
    from limits import parse
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    storage = RedisStorage(f"async+{url}", implementation="redispy")
    limiter, item = MovingWindowRateLimiter(storage), parse(f"{limit:.0f}/minute")

    async def acquire() -> None:
        while not await limiter.hit(item, "bench"):  # noqa: ASYNC110  # as its users do
            await asyncio.sleep(0.05)

    yield _before(acquire)


@asynccontextmanager
async def throttled(limit: float, members: int, url: str) -> AsyncIterator[Any]:  # noqa: ARG001
    """throttled-py: GCRA in Redis, with a burst of 1 s; its own wait."""
    from throttled.asyncio import RateLimiterType, Throttled, rate_limiter, store

    limiter = Throttled(
        using=RateLimiterType.GCRA.value,
        quota=rate_limiter.per_min(int(limit), burst=int(limit / MINUTE)),
        store=store.RedisStore(server=url),
        timeout=3_600,
    )

    async def acquire() -> None:
        await limiter.limit("bench", cost=1)

    yield _before(acquire)


WAYS = {
    "RedisShares": shares,
    "fixed shares": fixed,
    "token-throttle": token_throttle,
    "limits": limits,
    "throttled-py": throttled,
    "unknown": unknown,
    "alone": alone,
}
"""The ways, by the name that the page has."""
