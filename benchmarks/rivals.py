"""What users would pick instead, each configured for what our stack does, as far as it can.

Six attempts, exponential backoff, 64 at once, a rate that never binds, a circuit. What a rival
cannot do, or what is left out of its name, it is spared: only two of them bound the time of an
attempt, and none counts tokens, reads hints, shares a gate, or tells a late result from one that
counts.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import aiobreaker
import backoff
import hyx.bulkhead
import hyx.circuitbreaker
import hyx.retry
import purgatory
import pyresilience
import redress
import stamina
import tenacity
from aiolimiter import AsyncLimiter

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


def backoff_made() -> Send:
    """Return backoff + aiobreaker + Semaphore + aiolimiter."""
    breaker = aiobreaker.CircuitBreaker(fail_max=20, timeout_duration=timedelta(seconds=10))
    slots, rate = asyncio.Semaphore(64), AsyncLimiter(RATE, 1.0)

    @backoff.on_exception(backoff.expo, ConnectionError, max_tries=6)
    async def attempt(payload: Any) -> Any:
        async with slots, rate:
            return await breaker.call_async(transport, payload)

    return attempt


def stamina_made() -> Send:
    """Return stamina + hyx's circuit breaker + Semaphore + aiolimiter."""
    breaker = hyx.circuitbreaker.consecutive_breaker(
        exceptions=ConnectionError, failure_threshold=20, recovery_time_secs=10
    )
    slots, rate = asyncio.Semaphore(64), AsyncLimiter(RATE, 1.0)

    @stamina.retry(on=ConnectionError, attempts=6, timeout=None)
    async def attempt(payload: Any) -> Any:
        async with slots, rate, breaker:
            return await transport(payload)

    return attempt


def hyx_made() -> Send:
    """Return hyx's retry, bulkhead and circuit breaker."""
    breaker = hyx.circuitbreaker.consecutive_breaker(
        exceptions=ConnectionError, failure_threshold=20, recovery_time_secs=10
    )
    bulkhead = hyx.bulkhead.bulkhead(max_concurrency=64, max_capacity=100_000)

    @hyx.retry.retry(on=ConnectionError, attempts=6)
    @bulkhead
    @breaker
    async def attempt(payload: Any) -> Any:
        return await transport(payload)

    return attempt


def redress_made() -> Send:
    """Return redress's retry and circuit breaker."""
    policy = redress.AsyncPolicy(
        retry=redress.AsyncRetry(
            classifier=redress.default_classifier,
            strategy=redress.decorrelated_jitter(max_s=60.0),
            deadline_s=120.0,
            max_attempts=6,
        ),
        circuit_breaker=redress.CircuitBreaker(failure_threshold=20, recovery_timeout_s=10.0),
    )

    async def send(payload: Any) -> Any:
        return await policy.call(lambda: transport(payload))

    return send


def purgatory_made() -> Send:
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
            return await transport(payload)

    return attempt


def pyresilience_basic() -> Send:
    """Return pyresilience's retry, breaker, bulkhead and rate, as its examples have them."""
    return pyresilience.resilient(
        retry=pyresilience.RetryConfig(max_attempts=6, retry_on=(ConnectionError,)),
        circuit_breaker=pyresilience.CircuitBreakerConfig(failure_threshold=20),
        bulkhead=pyresilience.BulkheadConfig(max_concurrent=64),
        rate_limiter=pyresilience.RateLimiterConfig(max_calls=int(RATE), period=1.0),
    )(transport)


def pyresilience_whole() -> Send:
    """Return the same with ours' features: waits, a window, a timeout per attempt, a budget."""
    return pyresilience.resilient(
        retry=pyresilience.RetryConfig(max_attempts=6, retry_on=(ConnectionError,)),
        timeout=pyresilience.TimeoutConfig(seconds=60.0, per_attempt=True),
        circuit_breaker=pyresilience.CircuitBreakerConfig(
            sliding_window_size=100, failure_rate_threshold=0.5, minimum_calls=20
        ),
        bulkhead=pyresilience.BulkheadConfig(max_concurrent=64, max_wait=3_600.0),
        rate_limiter=pyresilience.RateLimiterConfig(
            max_calls=int(RATE), period=1.0, max_wait=3_600.0
        ),
        retry_budget=pyresilience.RetryBudgetConfig(max_retries=100, refill_rate=10.0),
    )(transport)


HAND_MADE = "tenacity + aiobreaker + Semaphore + aiolimiter"
PYRESILIENCE = "pyresilience, the same features"


def combinations() -> dict[str, Send]:
    """Return every rival, by what it is made of."""
    return {
        "hyx: retry, bulkhead, breaker": hyx_made(),
        "redress: retry, breaker": redress_made(),
        "pyresilience: retry, breaker, bulkhead, rate": pyresilience_basic(),
        "backoff + aiobreaker + Semaphore + aiolimiter": backoff_made(),
        PYRESILIENCE: pyresilience_whole(),
        "stamina + hyx + Semaphore + aiolimiter": stamina_made(),
        HAND_MADE: hand_made(),
        f"{HAND_MADE} + asyncio.timeout": hand_made(timeout=True),
        "tenacity + purgatory + Semaphore + aiolimiter": purgatory_made(),
    }
