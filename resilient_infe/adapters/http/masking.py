"""Masks an API key in what a server sends, however the server quotes it.

A server can quote the key with escapes of JSON, of a URL or of HTML, in several layers, in base64,
in capitals, or cut. A list of such forms is never complete. So all escapes of a text are undone at
once, whatever their order. If `RUN` characters in a row are then part of the key, of its base64 or
of its hexadecimal digits, there are three cases:

1. The text has no escapes: all such runs are masked where they stand.
2. It has escapes: all of the text is masked.
3. The key is cut apart: over several lines, or by blanks or colons between its characters or its
   bytes. Then `SURE_RUN` letters and digits in a row are found once all else is left out, and all
   of the text is masked.

In base64 three characters become four, so the key looks different at each of three offsets. The
characters at both ends also depend on the neighbours of the key, and are left out.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...classify.body import decoded
from ...classify.headers import Lowered

MASK = "***"
"""Replaces what quotes the key."""

SHORTEST_MASKED = 8
"""Characters. A shorter key is a test's, and could be an ordinary word of the text."""

RUN = 8
"""Characters of the key in a row that are masked, unless all are small letters."""

SURE_RUN = 12
"""Characters of the key in a row that are masked whatever they are, and that `KeyMask.is_in` finds.

Eight small letters in a row are rare in a key that was drawn at random. In one that a person made
up they are a word (``synthetic``), which a message may contain.
"""

LONGEST_PART = 64 * 1024
"""Characters of a long text that are searched at a time, or kept of one that is cut."""

LONGEST_SEARCHED = 1024 * 1024
"""Characters of a text that are searched for the key. A longer one is cut."""

OVERLAP = 1024
"""Characters that are searched twice, so that a key with escapes is not cut apart."""

MOST_LINKS = 100
"""Exceptions that led to another one, of which the text is masked."""

LONGEST_MESSAGE = 500
"""Characters of a server's message that `printable` keeps."""

_KEY_LIKE = re.compile(r"(?i)\b(bearer\s+|sk-|key[-_])[A-Za-z0-9._~+/*-]{4,}")
"""A text that looks like an API key."""

_PERCENT = re.compile(r"%(?:25)*(?:u00)?([0-9a-f]{2})")
_ESCAPE = re.compile(
    r"(?<!\\)\\++"
    r"(?:u(?:0000)?([0-9a-f]{4})|u\{0*([0-9a-f]{1,4})\}|x([0-9a-f]{2})|([0-3][0-7]{2})|[nrt])"
)
"""Escapes of JSON, JavaScript, Rust, Python and C: a number, the last octal, or a blank.

Each run of backslashes is looked at once: a text of backslashes alone took minutes.
"""

_BETWEEN = re.compile(r"0x|[^a-z0-9]+")
"""What may stand between the characters or the bytes of a key that is cut apart."""


class KeyMask:
    """Finds and masks one key.

    Args:
        key: the key. One that is shorter than `SHORTEST_MASKED` is not looked for.

    State: none.
    """

    __slots__ = ("_apart", "_grams", "_long", "_step", "_words")

    def __init__(self, key: str) -> None:
        forms = _forms(key) if len(key) >= SHORTEST_MASKED else []
        windows = {window for form in forms for window in _windows(form, RUN)}
        words = set(filter(_is_word, windows))
        self._grams = set(map(_plain, windows - words))
        self._long = min(SURE_RUN, len(key))
        longer = {window for form in forms for window in _windows(form, self._long)}
        self._words = set(filter(_is_word, longer))
        joined = [*map(_joined, forms), _joined(" ".join(map(str, key.encode("utf-8", "replace"))))]
        self._apart = {window for form in joined for window in _windows(form, SURE_RUN)}
        # Every run of `SURE_RUN` has all of the window that begins at a multiple of the step.
        self._step = 1 if words else SURE_RUN - RUN + 1

    def is_in(self, text: str) -> bool:
        """Whether a text without escapes contains `SURE_RUN` characters of the key in a row."""
        return self._finds(_plain(text), self._step)

    def __call__(self, text: str) -> str:
        """Return an id masked, as `id` does."""
        return self.id(text)

    def id(self, text: str) -> str:
        """Return an id, which has no escapes, masked if it quotes the key."""
        return MASK if self.is_in(text) else text

    def text(self, text: str) -> str:
        """Return a text with the key masked."""
        unescaped = shown = _unescaped(text)
        if self._finds(unescaped, 1):
            # A few letters have a longer form in lower case.
            if unescaped != _plain(text) or len(unescaped) != len(text):
                return MASK
            text = self._without_runs(text, unescaped)
            shown = text.lower()
        joined = _joined(shown)
        apart = len(joined) < len(shown) and not self._apart.isdisjoint(_windows(joined, SURE_RUN))
        return MASK if apart else text

    def long(self, text: str) -> str:
        """Return a text of any length with the key masked; cut if it is too long to be searched.

        A text that does not quote the key, and is not cut, is returned as the same object.
        """
        if len(text) > LONGEST_PART:
            starts = range(0, min(len(text), LONGEST_SEARCHED), LONGEST_PART)
            parts = (text[at : at + LONGEST_PART + OVERLAP] for at in starts)
            if len(text) <= LONGEST_SEARCHED and all(self.text(part) is part for part in parts):
                return text
            text = text[:LONGEST_PART]
        return self.text(text)

    def json(self, content: Any) -> Any:
        """Return a decoded JSON value with the key masked; None if it is nested too deeply."""
        try:
            # The common case first: it is nowhere, with JSON's own escapes undone too.
            written = json.dumps(content, ensure_ascii=False)
            if self.long(written) is written:
                return content
            masked = self._masked(content)
            # It may be cut apart over several values, such as a list of its bytes.
            written = json.dumps(masked, ensure_ascii=False)
            return masked if self.long(written) is written else MASK
        except (RecursionError, ValueError):
            return None

    def error(self, error: BaseException) -> None:
        """Mask the key in what an exception tells, and in the exceptions that it came from.

        They are changed in place: the caller gets the exception that was raised.
        """
        for each in links(error):
            with contextlib.suppress(Exception):  # a foreign exception's attributes may raise
                self._hide_in(each)

    def _hide_in(self, error: BaseException) -> None:
        fields = vars(error)
        shown = {name: self._shown(value) for name, value in fields.items()}
        fields.update((name, new) for name, new in shown.items() if new is not fields[name])
        told = tuple(map(self._shown, error.args))
        if any(new is not old for new, old in zip(told, error.args, strict=True)):
            error.args = told

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return pairs of a header's name and its value with the key masked."""
        return [(self.text(name), self.text(value)) for name, value in pairs]

    def headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return a response's headers with the key masked, in their names too."""
        return Lowered.of(self.pairs(headers.items()))

    def __reduce__(self) -> str:
        """Refuse to be pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError("an API key is not pickled: pass it to each process separately")

    def _without_runs(self, text: str, plain: str) -> str:
        """Return `text` with each run of `RUN` characters or more that are part of the key masked.

        Args:
            text: the text.
            plain: the same, in the form in which it is compared, and as long.
        """
        kept, end = list[str](), 0  # the last run that was found ends at text[end]
        for at in range(len(plain) - RUN + 1):
            word = plain[at : at + self._long] in self._words
            if word or plain[at : at + RUN] in self._grams:
                if at > end or not kept:
                    kept += text[end:at], MASK
                end = max(end, at + (self._long if word else RUN))
        return "".join(kept) + text[end:]

    def _finds(self, plain: str, step: int) -> bool:
        """Whether a text, in the form in which it is compared, has a part of the key in it."""
        if not self._grams.isdisjoint(_windows(plain, RUN, step)):
            return True
        return bool(self._words) and not self._words.isdisjoint(_windows(plain, self._long))

    def body(self, body: bytes) -> bytes:
        """Return a body with the key masked: JSON stays JSON."""
        content, text = decoded(body), body.decode("utf-8", "replace")
        shown = self.text(text)
        if not isinstance(content, dict | list):
            return body if shown == text else shown.encode()
        masked = self.json(content)
        # The text too: of two equal names, the decoded content has only the last.
        return body if masked == content and shown == text else json.dumps(masked).encode()

    def _shown(self, value: Any) -> Any:
        """Return a value of an exception masked; the same object if it does not quote the key."""
        if isinstance(value, str):
            return self.long(value)
        if isinstance(value, bytes):
            text = value.decode("latin-1")
            shown = self.long(text)
            return value if shown is text else shown.encode("latin-1", "replace")
        if type(value) not in (dict, list, tuple):
            return value
        try:
            masked = self._masked(value)
            return value if masked == value else masked
        except RecursionError:
            return None

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.long(value)
        if isinstance(value, dict):
            return {self._masked(name): self._masked(each) for name, each in value.items()}
        if type(value) in (list, tuple):
            return type(value)(map(self._masked, value))
        if not isinstance(value, int | float) or isinstance(value, bool):
            return value
        return value if self.text(str(value)) == str(value) else MASK


def printable(text: str) -> str:
    """Return untrusted text, shortened, in one line, with everything like an API key masked."""
    bounded = _KEY_LIKE.sub(r"\1***", text[:LONGEST_MESSAGE])
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in bounded)


def links(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its causes and contexts, and the members of groups among them."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < MOST_LINKS:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [link for link in (each.__cause__, each.__context__) if link is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


@functools.lru_cache(maxsize=64)
def mask_for(header: str) -> KeyMask:
    """Return the mask for the key in a header, with or without a scheme; one is made once."""
    scheme, _, key = header.strip().rpartition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            key = base64.b64decode(key, validate=True).decode()  # base64 of it is masked too
    return KeyMask(key)


def _forms(key: str) -> list[str]:
    """Return the key, the key backwards, its hexadecimal digits, and its base64.

    In base64 there is the key in UTF-8 and in UTF-16, and its base64 again.
    """
    raw = key.encode("utf-8", "surrogatepass")
    packed = (raw, key.encode("utf-16-le", "surrogatepass"), base64.b64encode(raw))
    return [key, key[::-1], raw.hex(), *(form for each in packed for form in _base64_of(each))]


def _base64_of(raw: bytes) -> Iterator[str]:
    """Yield the base64 of bytes at each offset, without what their neighbours can change."""
    for offset in range(3):
        written = base64.b64encode(bytes(offset) + raw).decode("ascii")
        yield written[(0, 2, 3)[offset] : (offset + len(raw)) // 3 * 4]


def _plain(text: str) -> str:
    """Return a text in the form in which it is compared: one alphabet of base64, small letters."""
    return text.lower().replace("+", "-").replace("/", "_")


def _windows(text: str, size: int, step: int = 1) -> Iterable[str]:
    """Return the parts of `size` characters of a text, from every `step`th character on."""
    return [text[at : at + size] for at in range(0, len(text) - size + 1, step)]


def _is_word(text: str) -> bool:
    return text.isalpha() and text.islower()


def _joined(text: str) -> str:
    """Return the letters and digits of a text, in small letters, and nothing else."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _BETWEEN.sub("", text.lower())


def _unescaped(text: str) -> str:
    """Return a text in the form in which it is compared, all escapes undone."""
    text = html.unescape(html.unescape(text)).lower()
    text = _PERCENT.sub(lambda found: chr(int(found[1], 16)), text)
    text = _ESCAPE.sub(_character, text)
    return _plain(html.unescape(text.replace("\\", "")))


def _character(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    return chr(int(code, 16) if code else int(found[4] or "40", 8))
