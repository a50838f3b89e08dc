"""Streams of an SDK that give their slot back as soon as the caller drops them, half read.

A stream of the SDK refers to its async generator, and the generator refers to the stream. Only the
garbage collector frees such a cycle, perhaps after minutes, and until then the call would keep its
slot while others wait. So the generator gets a copy of the stream, and the stream owns the
generator: when the caller drops the stream, Python closes the generator, which closes the response.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

FREED = "_resilient_infe"
"""The attribute that marks a stream whose cycle was removed."""


def freed_when_dropped(result: Any) -> Any:
    """Return what a request for a stream returned, without the cycle.

    Args:
        result: a stream; or a raw response, whose ``parse`` makes one.
    """
    if getattr(result, FREED, False):
        return result  # a second `parse` returns the stream of the first
    if inspect.isasyncgen(getattr(result, "_iterator", None)) and hasattr(result, "__stream__"):
        setattr(result, FREED, True)
        inner = copy.copy(result)
        inner._iterator = None  # noqa: SLF001
        result._iterator = inner.__stream__()  # noqa: SLF001
    elif hasattr(result, "_parsed_by_type"):
        _free_when_parsed(result)
    return result


def _free_when_parsed(response: Any) -> None:
    """Let ``parse`` return freed streams. A copy parses, since a reference back is a cycle too."""
    inner = copy.copy(response)

    def parse(*args: Any, **kwargs: Any) -> Any:
        return freed_when_dropped(inner.parse(*args, **kwargs))

    async def parse_async(*args: Any, **kwargs: Any) -> Any:
        return freed_when_dropped(await inner.parse(*args, **kwargs))

    response.parse = parse_async if inspect.iscoroutinefunction(inner.parse) else parse
