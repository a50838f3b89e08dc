"""Watches a streamed body while the caller reads it: usage, errors, and whether it is complete.

To an SDK, a stream that is cut off between two events looks like one that has ended. So the watch
looks for the end that each API sends:

1. Chat completions: ``[DONE]``, or a ``finish_reason`` for each choice that has begun.
2. Anthropic's messages: ``message_stop``.
3. OpenAI's responses: ``response.completed``, ``response.failed`` or ``response.incomplete``.

A stream of another API is reported only if it ends without any event although the request asked for
a stream.

Sources: OpenAI's "Streaming" for chat completions and responses; Anthropic's "Streaming messages".
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Any

from ...aio import is_cancellation
from ...classify.error_body import error_in_event, stated_in
from ...classify.table import classify_exception, classify_reply
from ...classify.usage import usage_of
from ...core.call import Call, Headers
from ...core.verdict import Kind, Usage, Verdict, without_key
from ...errors import StreamBroken
from .sse import EventTooLong, SSEDecoder

LONGEST_PART = 8 * 1024 * 1024
"""Bytes. If one part decompresses to more, the watch stops, so a bomb cannot fill the memory."""

_GZIP_OR_ZLIB = 47
"""The ``wbits`` value with which zlib detects gzip or zlib by itself."""

_BEGUN = re.compile(r'"choices"\s*:|"type"\s*:\s*"(message_start|response\.created)"')
_ENDED = re.compile(r'"type"\s*:\s*"(message_stop|response\.(completed|failed|incomplete))"')
_FINISHED = re.compile(r'"finish_reason"\s*:\s*"[^"]')
_USAGE = re.compile(r'"usage"\s*:\s*\{')
_ERROR = re.compile(
    r'"error"\s*:\s*[{"]|"(object|type|finish_reason)"\s*:\s*"error"'
    r'|"error_code"\s*:|"base_resp"\s*:'
)


class StreamWatch:
    """Watches one body without changing it.

    Args:
        content_type: the response's content type. Only ``text/event-stream`` is watched.
        encoding: its content encoding. Only identity, gzip and deflate are watched.
        expected: whether the request asked for a stream. Then a stream without events is an error.
        several: whether the request asked for several choices. Then every chunk is decoded, because
            each choice that has begun must finish.
        headers: the response's headers, for the verdict on an error; None for no headers.

    Attributes:
        usage: the tokens that the stream reports, or None.
        verdict: the verdict for an error inside the stream, or None.
        awaits_event: whether the first event has not come yet of a stream that the request asked
            for. If the stream cannot be watched, its first part counts as one.
        too_long: why the stream must not be read on, or None: the caller would collect an event
            that never ends.
        mask: masks an id that quotes the request's API key; None without a key.
        began_with_error: whether that first event was an error, so that the caller has got nothing.

    State: per response.
    """

    def __init__(
        self,
        content_type: str,
        encoding: str = "identity",
        *,
        expected: bool,
        several: bool = False,
        headers: Headers | None = None,
    ) -> None:
        self.usage: Usage | None = None
        self.verdict: Verdict | None = None
        known = encoding in ("", "identity", "gzip", "deflate")
        is_stream = content_type.lower().startswith("text/event-stream")
        watched = known and is_stream
        self._events = SSEDecoder() if watched else None
        compressed = watched and encoding in ("gzip", "deflate")
        self._decompressor = zlib.decompressobj(_GZIP_OR_ZLIB) if compressed else None
        self._begun = self._ended = self._unread = False
        self.awaits_event = expected and is_stream
        self.began_with_error = False
        self._expected = expected
        self._headers = {} if headers is None else headers
        self._several = several
        self.too_long: str | None = None
        self.mask: Callable[[str], str] | None = None
        self._choices = ChoiceTracker()

    def feed(self, part: bytes) -> None:
        """Look at the next part of the body; stop watching if it cannot be decoded."""
        if self._events is None:
            self.awaits_event = False
            return
        try:
            if self._decompressor is not None:
                if self._decompressor.eof:  # a further gzip member, which httpx does not read
                    self._unread = self._unread or bool(part)
                    return
                part = self._decompressor.decompress(part, LONGEST_PART)
                self._unread = bool(self._decompressor.unused_data)
                if self._decompressor.unconsumed_tail:
                    raise StreamBroken(f"a part decompresses to over {LONGEST_PART} bytes")
            for data in self._events.feed(part):
                self._inspect(data)
        except (StreamBroken, zlib.error) as error:
            if isinstance(error, EventTooLong):
                self.too_long = str(error)
            self._events = None  # the caller gets the same bytes, and reads them as it likes
            self.awaits_event = False

    def cut_short(self) -> str | None:
        """Return a message if the body ended too early; None if it is complete or not watched."""
        if self._events is None or self.complete or self.verdict is not None:
            return None
        if self._unread:
            return "the stream has several gzip members, and this client reads only the first"
        if self.awaits_event:
            return "the request asked for a stream, which ended before its first event"
        return "the stream ended before it was complete" if self._begun else None

    @property
    def complete(self) -> bool:
        """Whether the last event has come. If the connection breaks after it, nothing is lost."""
        return self._ended or self._choices.complete

    def _inspect(self, data: str) -> None:
        first, self.awaits_event = self.awaits_event, False
        if data == "[DONE]" or _ENDED.search(data):
            self._ended = True
        elif not self._begun:
            self._begun = _BEGUN.search(data) is not None
        if (self._several and '"choices"' in data) or _FINISHED.search(data):
            self._update_choices(data)
        if _USAGE.search(data):
            self._note_usage(_decoded(data))
        if _ERROR.search(data):
            self._note_error(_decoded(data))
            self.began_with_error |= first and self.verdict is not None

    def _update_choices(self, data: str) -> None:
        content = _decoded(data)
        if isinstance(content, dict) and "choices" in content:
            self._choices.update(content["choices"])
        elif _FINISHED.search(data):  # another shape of completion: `choices` is nested deeper
            self._ended = True

    def _note_usage(self, content: Any) -> None:
        if isinstance(content, dict):
            for each in (content, content.get("response"), content.get("message")):
                self.usage = _merged(self.usage, usage_of(each))

    def _note_error(self, content: Any) -> None:
        error = error_in_event(content)
        # A stream that was not asked for may be of any API: there an error needs a code or a type.
        if error is not None and (self._expected or _is_named(error)):
            self.verdict = without_key(classify_reply(200, self._headers, error), self.mask)


class ChoiceTracker:
    """Tracks the choices of a streamed completion, which is complete when all of them have ended.

    State: per response.
    """

    def __init__(self) -> None:
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    @property
    def complete(self) -> bool:
        """Whether at least one choice has ended, and each one that has begun has ended."""
        return bool(self._ended) and self._begun <= self._ended

    def update(self, choices: Any) -> None:
        """Record which choices a chunk begins and ends; `choices` may be any JSON value."""
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                place = index if isinstance(index, int) else 0
                self._begun.add(place)
                if choice.get("finish_reason"):
                    self._ended.add(place)


def mark_broken(call: Call[Any], watch: StreamWatch, error: BaseException) -> None:
    """Set the call's verdict after `error` broke a body that the caller was reading.

    The caller has part of the body already, so there is no retry. But the call is not a success.
    If the body was complete, its verdict stays.
    """
    if watch.complete:
        return
    cancelled = is_cancellation(error)
    verdict = Verdict(Kind.CANCELLED) if cancelled else classify_exception(error)
    call.verdict = replace(verdict, advice=None)  # it is about another attempt, and there is none


def _merged(known: Usage | None, reported: Usage | None) -> Usage | None:
    """Merge the usage of several events: take the larger of each count, since counts only grow."""
    if known is None or reported is None:
        return known or reported
    largest = Usage(*map(max, astuple(known), astuple(reported)))
    added = largest.prompt_tokens + largest.completion_tokens
    # Cached tokens that are not charged stand in the input, and not in the total.
    free = max(0, *(each.prompt_tokens + each.completion_tokens - each.total_tokens
                    for each in (known, reported)))  # fmt: skip
    return replace(largest, total_tokens=max(largest.total_tokens, added - free))


def _is_named(error: dict[str, Any]) -> bool:
    stated = stated_in(error)
    return bool(stated.names or stated.status)


def _decoded(data: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
