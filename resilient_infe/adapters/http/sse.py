"""Server-sent events: from bytes to the data of each event.

The WHATWG HTML standard, section 9.2. Lines end at CR, LF or CRLF and nowhere else: a splitter that
also knows U+2028 (``str.splitlines``) cuts JSON apart. The decoder is pure and takes chunks cut
anywhere.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from ...errors import StreamBroken

LONGEST_EVENT = 8 * 1024 * 1024
"""Characters; a longer event is none of this API's."""


class SSEDecoder:
    """Turns chunks of bytes into the ``data`` of events. State: per stream."""

    __slots__ = ("_after_cr", "_data", "_line", "_size", "_text")

    def __init__(self) -> None:
        """Start at the beginning of a stream."""
        self._text = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._line: list[str] = []
        self._data: list[str] = []
        self._after_cr = False
        self._size = 0  # characters kept for an event that is not complete

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the data of every event that `chunk` completes.

        Raises:
            StreamBroken: an event is longer than any can be.
        """
        text = self._text.decode(chunk)
        if self._after_cr and text.startswith("\n"):
            text = text[1:]  # the second half of a CRLF that was cut apart
        if text:
            self._after_cr = text.endswith("\r")
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            self._keep(line)
            whole = "".join(self._line)
            self._line = []
            data = self._take(whole)
            if data is not None:
                yield data
        if rest:
            self._keep(rest)

    def _keep(self, text: str) -> None:
        self._size += len(text)
        if self._size > LONGEST_EVENT:
            raise StreamBroken(f"an event of the stream is over {LONGEST_EVENT} characters")
        self._line.append(text)

    def _take(self, line: str) -> str | None:
        if not line:
            data, self._data = "\n".join(self._data), []
            self._size = 0
            return data or None
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        return None
