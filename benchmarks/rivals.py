"""What users would pick instead, each configured for what our stack does, as far as it goes.

Six attempts, a backoff with jitter from 1 s to 60 s, 64 at once, a rate that never binds, a circuit
that opens after 20 failures in a row and rests for 10 s. What a rival lacks is said with it; it is
spared that. None counts tokens, shares a gate, or tells a late result from one that counts. Hints
are read by ours alone: pyresilience and redress can be given a function that does so, which is left
out, since the transport here has none to give.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiobreaker
import backoff
import hyx.bulkhead
import hyx.circuitbreaker
import hyx.retry
import hyx.retry.backoffs
import hyx.retry.jitters
import purgatory
import pyresilience
import redress
import stamina
import stamina.instrumentation
import tenacity
from aiolimiter import AsyncLimiter

from resilient_infe.testing import run_virtually

from .floor import Send, transport

RATE = 1e7
"""Calls per second that never bind."""


def tenacity_alone(inner: Send = transport) -> Send:
    """Return tenacity's retry and nothing else."""
    return tenacity.retry(
        stop=tenacity.stop_after_attempt(6),
        wait=tenacity.wait_none(),
        retry=tenacity.retry_if_exception_type(ConnectionError),
        reraise=True,
    )(inner)


def hand_made(inner: Send = transport, *, timeout: bool = False, wait: Any = None) -> Send:
    """Return the usual hand-made stack: tenacity + aiobreaker + Semaphore + aiolimiter."""
    breaker = aiobreaker.CircuitBreaker(fail_max=20, timeout_duration=timedelta(seconds=10))
    slots, rate = asyncio.Semaphore(64), AsyncLimiter(RATE, 1.0)

    @tenacity.retry(
        stop=tenacity.stop_after_attempt(6),
        wait=tenacity.wait_random_exponential(1, 60) if wait is None else wait,
        retry=tenacity.retry_if_exception_type(ConnectionError),
        reraise=True,
    )
    async def attempt(payload: Any) -> Any:
        async with slots, rate:
            if timeout:
                async with asyncio.timeout(60):
                    return await breaker.call_async(inner, payload)
            return await breaker.call_async(inner, payload)

    return attempt


def backoff_made(inner: Send = transport) -> Send:
    """Return backoff + aiobreaker + Semaphore + aiolimiter."""
    breaker = aiobreaker.CircuitBreaker(fail_max=20, timeout_duration=timedelta(seconds=10))
    slots, rate = asyncio.Semaphore(64), AsyncLimiter(RATE, 1.0)

    @backoff.on_exception(backoff.expo, ConnectionError, max_tries=6, max_value=60)
    async def attempt(payload: Any) -> Any:
        async with slots, rate:
            return await breaker.call_async(inner, payload)

    return attempt


def stamina_made(inner: Send = transport) -> Send:
    """Return stamina + hyx's circuit breaker + Semaphore + aiolimiter."""
    breaker = hyx.circuitbreaker.consecutive_breaker(
        exceptions=ConnectionError, failure_threshold=20, recovery_time_secs=10
    )
    slots, rate = asyncio.Semaphore(64), AsyncLimiter(RATE, 1.0)

    @stamina.retry(on=ConnectionError, attempts=6, timeout=None, wait_initial=1.0, wait_max=60.0)
    async def attempt(payload: Any) -> Any:
        async with slots, rate, breaker:
            return await inner(payload)

    return attempt


def hyx_made(inner: Send = transport) -> Send:
    """Return hyx's retry, bulkhead and circuit breaker."""
    breaker = hyx.circuitbreaker.consecutive_breaker(
        exceptions=ConnectionError, failure_threshold=20, recovery_time_secs=10
    )
    bulkhead = hyx.bulkhead.bulkhead(max_concurrency=64, max_capacity=100_000)

    waits = hyx.retry.backoffs.expo(max_delay_secs=60, jitter=hyx.retry.jitters.full)

    @hyx.retry.retry(on=ConnectionError, attempts=5, backoff=waits)  # counted after the first
    @bulkhead
    @breaker
    async def attempt(payload: Any) -> Any:
        return await inner(payload)

    return attempt


def redress_made(inner: Send = transport) -> Send:
    """Return redress's retry, with its bounds and its budget, and circuit breaker."""
    policy = redress.AsyncPolicy(
        retry=redress.AsyncRetry(
            classifier=redress.default_classifier,
            strategy=redress.decorrelated_jitter(base_s=1.0, max_s=60.0),
            budget=redress.Budget(max_retries=100, window_s=10.0),
            deadline_s=120.0,
            attempt_timeout_s=60.0,
            max_attempts=6,
        ),
        circuit_breaker=redress.CircuitBreaker(failure_threshold=20, recovery_timeout_s=10.0),
    )

    async def send(payload: Any) -> Any:
        return await policy.call(lambda: inner(payload))

    return send


def purgatory_made(inner: Send = transport) -> Send:
    """Return tenacity + purgatory + Semaphore + aiolimiter."""
    breakers = purgatory.AsyncCircuitBreakerFactory(default_threshold=20, default_ttl=10)
    slots, rate = asyncio.Semaphore(64), AsyncLimiter(RATE, 1.0)

    @tenacity.retry(
        stop=tenacity.stop_after_attempt(6),
        wait=tenacity.wait_random_exponential(1, 60),
        retry=tenacity.retry_if_exception_type(ConnectionError),
        reraise=True,
    )
    async def attempt(payload: Any) -> Any:
        async with slots, rate, await breakers.get_breaker("infe"):
            return await inner(payload)

    return attempt


def pyresilience_basic(inner: Send = transport) -> Send:
    """Return pyresilience's retry, breaker, bulkhead and rate, as its examples have them."""
    return pyresilience.resilient(
        retry=pyresilience.RetryConfig(max_attempts=6, retry_on=(ConnectionError,)),
        circuit_breaker=pyresilience.CircuitBreakerConfig(
            failure_threshold=20, recovery_timeout=10.0
        ),
        bulkhead=pyresilience.BulkheadConfig(max_concurrent=64),
        rate_limiter=pyresilience.RateLimiterConfig(max_calls=int(RATE), period=1.0),
    )(inner)


def pyresilience_whole(inner: Send = transport) -> Send:
    """Return the same with ours' features: waits, a window, a timeout per attempt, a budget."""
    return pyresilience.resilient(
        retry=pyresilience.RetryConfig(max_attempts=6, retry_on=(ConnectionError,)),
        timeout=pyresilience.TimeoutConfig(seconds=60.0, per_attempt=True),
        circuit_breaker=pyresilience.CircuitBreakerConfig(
            sliding_window_size=100,
            failure_rate_threshold=0.5,
            minimum_calls=20,
            recovery_timeout=10.0,
        ),
        bulkhead=pyresilience.BulkheadConfig(max_concurrent=64, max_wait=3_600.0),
        rate_limiter=pyresilience.RateLimiterConfig(
            max_calls=int(RATE), period=1.0, max_wait=3_600.0
        ),
        retry_budget=pyresilience.RetryBudgetConfig(max_retries=100, refill_rate=10.0),
    )(inner)


HAND_MADE = "tenacity + aiobreaker + Semaphore + aiolimiter"
PYRESILIENCE = "pyresilience, the same features"


@dataclass(frozen=True, slots=True)
class Rival:
    """How a rival is made, and what it does not do of what the full stack does.

    Attributes:
        make: puts it around a transport.
        lacks: what there is no way to, or what is left out of its name.
    """

    make: Callable[[Send], Send]
    lacks: str


RIVALS = {
    "hyx: retry, bulkhead, breaker": Rival(hyx_made, "rate, timeouts, budget"),
    "redress: retry, breaker, timeouts, budget": Rival(redress_made, "slots, rate"),
    "pyresilience: retry, breaker, bulkhead, rate": Rival(pyresilience_basic, "timeouts, budget"),
    "backoff + aiobreaker + Semaphore + aiolimiter": Rival(backoff_made, "timeouts, budget"),
    PYRESILIENCE: Rival(pyresilience_whole, "a deadline of the whole call"),
    "stamina + hyx + Semaphore + aiolimiter": Rival(stamina_made, "timeouts, budget"),
    HAND_MADE: Rival(hand_made, "timeouts, budget"),
    f"{HAND_MADE} + asyncio.timeout": Rival(
        lambda inner: hand_made(inner, timeout=True), "a deadline of the whole call, budget"
    ),
    "tenacity + purgatory + Semaphore + aiolimiter": Rival(purgatory_made, "timeouts, budget"),
}
"""Every rival, by what it is made of."""


def combinations() -> dict[str, Send]:
    """Return every rival around the transport that answers at once."""
    return {name: rival.make(transport) for name, rival in RIVALS.items()}


DRAWS = 51
"""Calls that always fail, of which the median is told: the waits are drawn."""


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a call that always fails is tried, and the virtual seconds from first to last."""

    attempts: int
    seconds: float


def tries(make: Callable[[Send], Send]) -> Tries:
    """Return the median of so many calls that always fail, each through a rival of its own."""
    stamina.instrumentation.set_on_retry_hooks([])  # it would log each
    found = [_instants(make) for _ in range(DRAWS)]
    attempts = statistics.median_low(len(each) for each in found)
    return Tries(attempts, statistics.median(each[-1] for each in found))


def _instants(make: Callable[[Send], Send]) -> list[float]:
    """Return the instants at which a call that always fails is tried, in virtual seconds."""
    tried: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()

        async def refuse(_: object) -> object:
            tried.append(loop.time() - start)
            raise ConnectionError

        with contextlib.suppress(Exception):  # each library raises another
            await make(refuse)("x")

    run_virtually(main)
    return tried
