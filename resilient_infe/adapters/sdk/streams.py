"""Streams of an SDK that give their slot back as soon as the caller drops them, half read.

A stream of the SDK refers to its async generator, and the generator refers to the stream. Only the
garbage collector frees such a cycle, perhaps after minutes, and until then the call would keep its
slot while others wait. So the generator gets a copy of the stream, and the stream owns the
generator: when the caller drops the stream, Python closes the generator, which closes the response.

An error event of an open stream is raised by the SDK with the server's words. So what the generator
raises has the API key masked.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from ..http.masking import KeyMask

FREED = "_resilient_infe"
"""The attribute that marks a stream whose cycle was removed."""


def freed_when_dropped(result: Any, mask: KeyMask | None) -> Any:
    """Return what a request for a stream returned, without the cycle.

    Args:
        result: a stream; or a raw response, whose ``parse`` makes one.
        mask: of the API key; None without a key.
    """
    if getattr(result, FREED, False):
        return result  # a second `parse` returns the stream of the first
    iterator = getattr(result, "_iterator", None)
    is_async = inspect.isasyncgen(iterator)
    if hasattr(result, "__stream__") and (is_async or inspect.isgenerator(iterator)):
        setattr(result, FREED, True)
        inner = copy.copy(result)
        inner._iterator = None  # noqa: SLF001
        events = inner.__stream__()
        masked: Any = _masked if is_async else _masked_blocking
        result._iterator = events if mask is None else masked(events, mask)  # noqa: SLF001
    elif hasattr(result, "_parsed_by_type"):
        _free_when_parsed(result, mask)
    return result


async def _masked(events: Any, mask: KeyMask) -> AsyncGenerator[Any, None]:
    async with contextlib.aclosing(events):
        try:
            async for event in events:
                yield event
        except Exception as error:
            mask.error(error)
            raise


def _masked_blocking(events: Any, mask: KeyMask) -> Iterator[Any]:
    with contextlib.closing(events):
        try:
            yield from events
        except Exception as error:
            mask.error(error)
            raise


def _free_when_parsed(response: Any, mask: KeyMask | None) -> None:
    """Let ``parse`` return freed streams. A copy parses, since a reference back is a cycle too."""
    inner = copy.copy(response)

    def parse(*args: Any, **kwargs: Any) -> Any:
        return freed_when_dropped(inner.parse(*args, **kwargs), mask)

    async def parse_async(*args: Any, **kwargs: Any) -> Any:
        return freed_when_dropped(await inner.parse(*args, **kwargs), mask)

    response.parse = parse_async if inspect.iscoroutinefunction(inner.parse) else parse
