"""The floor: the least that five behaviours can cost in Python, written by hand.

Nested closures, once with nothing else and once as one would have to write it to see what is going
on: with a request object, an id, a context variable and two clock reads.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

Send = Callable[[Any], Awaitable[Any]]


async def transport(payload: Any) -> Any:
    """Answer at once."""
    return payload


@dataclass(slots=True)
class Request:
    """The floor's request object."""

    payload: Any
    request_id: str
    started: float


def floor(inner: Send = transport) -> Send:
    """Return id, deadline check, retry, slots and circuit as closures around a request object."""
    ids, current = itertools.count(), ContextVar[Any]("current", default=None)
    held, failures, clock = 0, 0, time.monotonic

    async def circuit(request: Request) -> Any:
        nonlocal failures
        try:
            return await inner(request.payload)
        except Exception:
            failures += 1
            raise

    async def slots(request: Request) -> Any:
        nonlocal held
        held += 1
        try:
            return await circuit(request)
        finally:
            held -= 1

    async def retry(request: Request) -> Any:
        for _ in range(5):
            try:
                return await slots(request)
            except ConnectionError:
                continue
        return await slots(request)

    async def deadline(request: Request) -> Any:
        result = await retry(request)
        if clock() - request.started > 120:
            raise TimeoutError
        return result

    async def send(payload: Any) -> Any:
        request = Request(payload, f"id-{next(ids)}", clock())
        token = current.set(request)
        try:
            return await deadline(request)
        finally:
            current.reset(token)

    return send


def bare_floor(inner: Send = transport) -> Send:
    """Return five empty behaviours as closures: nothing is known of the call but its payload."""
    held = failures = calls = 0

    async def circuit(payload: Any) -> Any:
        nonlocal failures
        try:
            return await inner(payload)
        except Exception:
            failures += 1
            raise

    async def slots(payload: Any) -> Any:
        nonlocal held
        held += 1
        try:
            return await circuit(payload)
        finally:
            held -= 1

    async def retry(payload: Any) -> Any:
        for _ in range(5):
            try:
                return await slots(payload)
            except ConnectionError:
                continue
        return await slots(payload)

    async def count(payload: Any) -> Any:
        nonlocal calls
        calls += 1
        return await retry(payload)

    async def send(payload: Any) -> Any:
        return await count(payload)

    return send
