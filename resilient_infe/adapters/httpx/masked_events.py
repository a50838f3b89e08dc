"""Masks the API key in the error events of a stream that an SDK reads by itself.

An SDK over a resilient http client raises an error event of an open stream with the server's words.
So its parts are cut anew, after whole events, and the data of each error event is masked. The other
events are handed on as they came, at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from ...classify.error_body import error_in_event
from ...core.call import Call
from ..http.masking import KeyMask
from ..http.request import mask_of
from .synthetic import library_of

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
"""The end of an event: an empty line, in each form (WHATWG HTML section 9.2.6)."""

_NAMED = re.compile(rb"^event: ?error\s*$", re.MULTILINE)
"""The name of an event that is an error whatever its data is."""

_LINES = re.compile(rb"(\r\n|\n|\r)")


class MaskedEvents:
    """The stream of a response, with the key masked in its error events.

    Args:
        inner: the stream.
        mask: of the key.

    State: what was read of an event that is not whole.
    """

    def __init__(self, inner: Any, mask: KeyMask) -> None:
        self._inner, self._mask = inner, mask

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield whole events."""
        rest = bytearray()
        async with contextlib.aclosing(aiter(self._inner)) as parts:
            async for part in parts:
                before = max(0, len(rest) - 3)  # the end of an event may be cut too
                rest += part
                end = _last_end(rest, before)
                if end:
                    yield self._masked(bytes(rest[:end]))
                    del rest[:end]
        if rest:
            yield self._masked(bytes(rest))

    async def aclose(self) -> None:
        """Close the stream."""
        await self._inner.aclose()

    def _masked(self, events: bytes) -> bytes:
        if b"error" not in events and b"base_resp" not in events:
            return events
        named = _NAMED.search(events) is not None
        return b"".join(self._masked_line(line, named=named) for line in _LINES.split(events))

    def _masked_line(self, line: bytes, *, named: bool) -> bytes:
        field, colon, value = line.partition(b":")
        if field != b"data":
            return line
        try:
            content = json.loads(value)
        except (ValueError, RecursionError):  # an error may be cut into several lines
            content = None
        if content is not None and error_in_event(content) is None and not named:
            return line
        return field + colon + self._mask.body(value)


def _last_end(events: bytearray, start: int) -> int:
    """Return where the last event ends that ends after `start`; 0 if none does."""
    return max((found.end() for found in _END.finditer(events, start)), default=0)


def mask_events(call: Call[Any], response: Any) -> None:
    """Mask the key in the error events of a response's stream, if it is one that can be read."""
    mask, headers = mask_of(call), response.headers
    is_stream = headers.get("content-type", "").lower().startswith("text/event-stream")
    packed = headers.get("content-encoding", "identity") != "identity"
    if mask is not None and is_stream and not packed:
        cls = _masked_events_class(library_of(response.__class__))
        response.stream = cls(response.stream, mask)


@functools.cache
def _masked_events_class(library: Any) -> Any:
    """Return `MaskedEvents` as a subclass of the library's ``AsyncByteStream``."""
    return type("MaskedEvents", (MaskedEvents, library.AsyncByteStream), {})
