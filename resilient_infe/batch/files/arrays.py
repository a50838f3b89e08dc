"""Elements of a JSON array, one in memory at a time, with the standard library's decoder.

The decoder needs the whole text of an element. What was read so far is tried; where that is not
enough, as much again is read as is held, so an element is begun anew a few times at most.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from ...errors import BatchError, RowError
from ..forms import TO_UTF8
from ..request import Defaults
from .decode import check_depth, decoder, too_long, unreadable
from .lines import broken_off

PIECE = 64 * 1024
"""Bytes that are read at once."""

LONGEST_WORD = len("-Infinity")
"""Characters of the longest part of JSON, other than texts and numbers, that may be read in part.
"""

NUMBER_TAIL = len("e+")
"""Characters at the end of what was read that may belong to the number before them."""

_BLANK = re.compile(r"[ \t\n\r]*")

_LISTS = "if each line is a list of messages, jq -c '{messages: .}' FILE > converted.jsonl"


def array_rows(file: io.BufferedReader, name: str, defaults: Defaults) -> Iterator[tuple[int, Any]]:
    """Yield each element's number, from 1, and the element.

    Args:
        file: opened in binary mode, at an array.
        name: the file's name.
        defaults: bounds the length of an element.

    Raises:
        BatchError: there is an error in the array; what follows it cannot be read.
    """
    text = _Text(file, name, defaults.longest)
    text.take("[")
    number = 0
    if text.next() == "]":
        text.take("]")
    else:
        while text.taken != "]":
            number += 1
            text.place = f"row {number}"
            yield number, text.value()
            text.take(",]")
    if text.next():
        raise BatchError(f"{name} goes on after its array, at line {text.line}: {_LISTS}")


class _Text:
    """The text of a file from where it is read on. State: what was read and not taken."""

    def __init__(self, file: io.BufferedReader, name: str, longest: int) -> None:
        self._file = file
        self._name = name
        self._longest = longest
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._lines = 1
        self._is_over = False
        self.place = "its beginning"
        self.taken = ""

    @property
    def line(self) -> int:
        """The number of the line, from 1."""
        return self._lines + self._text.count("\n", 0, self._at)

    def next(self) -> str:
        """Return the next character that is not blank; empty at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._is_over:
                return ""
            self._read()

    def take(self, expected: str) -> None:
        """Take one of some characters."""
        self.taken = self.next()
        if not self.taken:
            raise self._cut()
        if self.taken not in expected:
            raise self._error(f"there is {self.taken!r} where {' or '.join(expected)} should be")
        self._at += 1

    def value(self) -> Any:
        """Take a value."""
        self.next()
        while True:
            taken = self._tried()
            if taken is not None:
                return taken[0]
            self._read()

    def _tried(self) -> tuple[Any] | None:
        """Take a value, if all of it was read."""
        held = len(self._text) - self._at
        try:
            found, end = decoder.raw_decode(self._text, self._at)
            brackets = sum(self._text.count(each, self._at, end) for each in "[{")
            check_depth(found, brackets)
        except RowError as error:
            raise self._error(str(error)) from None
        except json.JSONDecodeError as error:
            if not self._may_go_on(error):
                raise self._bad(error) from None
            if self._is_over:
                raise self._cut() from None
            end = self._at + held
            found = None
        except (ValueError, RecursionError) as error:
            raise self._error(unreadable(error)) from None
        if end - self._at > self._longest:
            raise self._error(too_long(self._longest))
        if not self._is_over and end + NUMBER_TAIL >= len(self._text):  # a number may go on
            return None
        self._at = end
        return (found,)

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether an error may be nothing but the end of what was read so far."""
        left = len(self._text) - error.pos
        return error.msg.startswith("Unterminated") or left < (1 if self._is_over else LONGEST_WORD)

    def _bad(self, error: json.JSONDecodeError) -> BatchError:
        self._at = error.pos
        return self._error(f"it is not JSON: {error.msg}")

    def _cut(self) -> BatchError:
        return BatchError(
            f"{self._name} breaks off at {self.place}: get the whole file and run the same again"
        )

    def _error(self, told: str) -> BatchError:
        return BatchError(f"{self._name}: {self.place} (line {self.line}): {told}")

    def _read(self) -> None:
        held = len(self._text) - self._at
        try:
            raw = self._file.read(max(PIECE, held))
            more = self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError:
            raise BatchError(f"{self._name} is not UTF-8 after {self.place}: {TO_UTF8}") from None
        except Exception as error:
            raise broken_off(error, self._name, self.place) from None
        self._lines = self.line
        self._is_over = not raw
        self._text = self._text[self._at :] + more
        self._at = 0
