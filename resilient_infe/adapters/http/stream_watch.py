"""What a streamed body tells while it passes by: its usage, an error, and whether it is whole.

A stream that is cut off at the end of an event looks to an SDK like one that has ended. So the end
is looked for: ``[DONE]`` or a ``finish_reason`` of a chat completion, ``message_stop`` of
Anthropic's messages, the last event of a response. Other streams are not judged.

Sources: OpenAI's "Streaming" for chat completions and responses; Anthropic's "Streaming messages".
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

from ...aio import is_cancellation
from ...classify.error_body import error_fields
from ...classify.table import classify_exception, classify_reply
from ...classify.usage import usage_of
from ...core.call import Call
from ...core.verdict import Kind, Usage, Verdict
from ...errors import StreamBroken
from .sse import SSEDecoder

LONGEST_PART = 8 * 1024 * 1024
"""Decoded bytes of one part; a part that unpacks to more is not watched any further."""

_GZIP_OR_ZLIB = 47
"""The window bits with which zlib finds the format out by itself."""

_BEGUN = re.compile(r'"choices"\s*:|"type"\s*:\s*"(message_start|response\.created)"')
_ENDED = re.compile(r'"type"\s*:\s*"(message_stop|response\.(completed|failed|incomplete))"')
_FINISHED = re.compile(r'"finish_reason"\s*:\s*"[^"]')
_USAGE = re.compile(r'"usage"\s*:\s*\{')
_ERROR = re.compile(r'"error"\s*:\s*[{"]')


class StreamWatch:
    """Watches one body. State: per response.

    Args:
        content_type: the response's; only ``text/event-stream`` is watched.
        encoding: its content encoding; gzip and deflate are seen through, others are not.
        expected: whether a stream was asked for, so that an empty one is none.
        several: whether several choices of a completion were asked for: each that has begun has
            to finish.

    Attributes:
        usage: what the stream says that the call cost, or None.
        verdict: what an error inside the stream means, or None.
    """

    def __init__(
        self,
        content_type: str,
        encoding: str = "identity",
        *,
        expected: bool,
        several: bool = False,
    ) -> None:
        """Begin at the start of a body."""
        self.usage: Usage | None = None
        self.verdict: Verdict | None = None
        known = encoding in ("", "identity", "gzip", "deflate")
        watched = known and content_type.lower().startswith("text/event-stream")
        self._events = SSEDecoder() if watched else None
        packed = watched and encoding in ("gzip", "deflate")
        self._unpack = zlib.decompressobj(_GZIP_OR_ZLIB) if packed else None
        self._begun = self._ended = False
        self._empty = expected
        self._several = several
        self._choices = ChoiceTracker()

    def feed(self, part: bytes) -> None:
        """Look at a part of the body; what cannot be read is not watched any further."""
        if self._events is None:
            return
        try:
            if self._unpack is not None:
                part = self._unpack.decompress(part, LONGEST_PART)
                if self._unpack.unconsumed_tail:
                    raise StreamBroken("a part unpacks to more than a stream's part can be")
            for data in self._events.feed(part):
                self._look(data)
        except (StreamBroken, zlib.error):  # not ours to judge: the caller reads it
            self._events = None

    def cut_short(self) -> str | None:
        """Return what is missing at the end of the body, or None if it is whole or not judged."""
        if self._events is None or self.complete or self.verdict is not None:
            return None
        if self._empty:
            return "the stream that was asked for ended before its first event"
        return "the stream ended before it was whole" if self._begun else None

    @property
    def complete(self) -> bool:
        """Whether the end has come by: what breaks afterwards is no loss."""
        return self._ended or self._choices.complete

    def _look(self, data: str) -> None:
        self._empty = False
        if data == "[DONE]" or _ENDED.search(data):
            self._ended = True
        elif not self._begun:
            self._begun = _BEGUN.search(data) is not None
        if (self._several and '"choices"' in data) or _FINISHED.search(data):
            self._follow(data)
        if _USAGE.search(data):
            self._note_usage(_decoded(data))
        if _ERROR.search(data):
            self._note_error(_decoded(data))

    def _follow(self, data: str) -> None:
        content = _decoded(data)
        if isinstance(content, dict) and "choices" in content:
            self._choices.update(content["choices"])
        elif _FINISHED.search(data):  # a completion of another shape, that has them further inside
            self._ended = True

    def _note_usage(self, content: Any) -> None:
        if isinstance(content, dict):
            for each in (content, content.get("response"), content.get("message")):
                self.usage = _larger(self.usage, usage_of(each))

    def _note_error(self, content: Any) -> None:
        if any(error_fields(content)):  # also beside choices: SDKs raise for it all the same
            self.verdict = classify_reply(200, {}, {"error": content["error"]})


class ChoiceTracker:
    """Follows the choices of a streamed completion: it is whole when each that began has ended.

    State: per response.
    """

    def __init__(self) -> None:
        """Begin before the first chunk."""
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    @property
    def complete(self) -> bool:
        """Whether there were any, and none of them is open."""
        return bool(self._ended) and self._begun <= self._ended

    def update(self, choices: Any) -> None:
        """Note what a chunk's ``choices`` begin and end; anything may stand there."""
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                place = index if isinstance(index, int) else 0
                self._begun.add(place)
                if choice.get("finish_reason"):
                    self._ended.add(place)


def mark_broken(call: Call[Any], watch: StreamWatch, error: BaseException) -> None:
    """Note that a body broke: too late for another attempt, but the outcome is no success."""
    if watch.complete:
        return
    gone = is_cancellation(error)
    call.verdict = Verdict(Kind.CANCELLED) if gone else classify_exception(error)


def _larger(known: Usage | None, told: Usage | None) -> Usage | None:
    """Put together what several events say: each count only ever grows."""
    if known is None or told is None:
        return known or told
    prompt = max(known.prompt_tokens, told.prompt_tokens)
    completion = max(known.completion_tokens, told.completion_tokens)
    return Usage(
        prompt, completion, max(prompt + completion, known.total_tokens, told.total_tokens)
    )


def _decoded(data: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
