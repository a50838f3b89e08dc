"""Server-sent events: turns bytes into the ``data`` of each event.

Source: the WHATWG HTML standard, section 9.2. A line ends at CR, LF or CRLF and nowhere else.
``str.splitlines`` also splits at U+2028, which would cut JSON apart. The decoder does no I/O and
takes chunks that are cut anywhere, even inside of a character.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from ...classify.error_body import error_in_event
from ...errors import StreamBroken

LONGEST_EVENT = 8 * 1024 * 1024
"""Characters. A longer event is an error, because no API sends one."""


_PING = re.compile(r'\s*\{\s*"type"\s*:\s*"ping"\s*\}\s*')
"""The data of Anthropic's ``event: ping``, which says only that the server is alive."""


class EventTooLong(StreamBroken):
    """An event of a stream is longer than `LONGEST_EVENT`."""


class SSEDecoder:
    """Turns chunks of bytes into the ``data`` of events; a ping is not one. State: per stream.

    The name of an event is left out, but for ``event: error``: if its data names no error, it is
    returned as one, ``{"error": ...}``.
    """

    __slots__ = ("_after_cr", "_data", "_line", "_name", "_size", "_text")

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._line: list[str] = []  # pieces of a line whose end has not come yet
        self._data: list[str] = []  # the data lines of the current event
        self._name = ""  # of the current event
        self._after_cr = False
        self._size = 0  # characters buffered for the current event

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the data of every event that `chunk` completes.

        Raises:
            StreamBroken: an event is longer than `LONGEST_EVENT`.
        """
        text = self._text.decode(chunk)
        after_cr = self._after_cr
        if text:
            self._after_cr = text.endswith("\r")
        if after_cr and text.startswith("\n"):
            text = text[1:]  # the second half of a CRLF that was cut apart
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            self._buffer(line)
            complete = "".join(self._line)
            self._line = []
            data = self._process_line(complete)
            if data is not None:
                yield data
        if rest:
            self._buffer(rest)

    def _buffer(self, text: str) -> None:
        """Append a piece to the current line, if the event stays within its limit."""
        self._size += len(text)
        if self._size > LONGEST_EVENT:
            raise EventTooLong(f"an event of the stream is over {LONGEST_EVENT} characters")
        self._line.append(text)

    def _process_line(self, line: str) -> str | None:
        """Process a complete line; return the event's data if an empty line ends the event."""
        if not line:
            data, self._data = "\n".join(self._data), []
            event, self._name = self._name, ""
            self._size = 0
            if event == "error":
                return _as_error(data)
            return None if not data or _PING.fullmatch(data) else data
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        elif name == "event":
            self._name = value.removeprefix(" ")
        return None


def _as_error(data: str) -> str:
    """Return the data of an ``event: error``, as an error if it names none by itself."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = data
    if error_in_event(content) is not None:
        return data
    error = content if isinstance(content, dict) and content else {"message": str(content)}
    return json.dumps({"error": error})
