"""Estimates the tokens of a request before it is sent.

Infe's tokenizer is not public, so the estimate counts characters, and for text outside of ASCII
nearly its bytes in UTF-8. For the same text, divided by what two public tokenizers of OpenAI count:

| text | o200k_base | cl100k_base |
|---|---|---|
| English | 1.2 | 1.1 |
| Chinese, Japanese, Korean | 0.7 to 1.1 | 0.55 to 0.7 |
| Cyrillic | 1.2 to 1.9 | 0.7 to 1.0 |
| Arabic, Hebrew | 1.1 to 1.5 | 0.4 to 0.6 |
| Thai | 1.6 | 0.7 |
| emoji | 0.8 to 0.9 | 0.5 to 0.65 |

A wrong estimate makes the sends less even, but does not break the limit: the reservation is
corrected to the ``usage`` of the response. Pass a better counter to `RateLimiter` or a preset as
``estimate=``.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from itertools import chain, islice
from typing import Any

from ..core import bounds
from .media import CARRIERS, SHORTEST_MEDIA, label_of, media_characters

CHARACTERS_PER_TOKEN = 4.0
"""A common rule of thumb for English text."""

BYTE_SHARE = 0.85
"""Of a character for each byte in UTF-8 after a character's first."""

ASTRAL_CHARACTERS = 2
"""Added for each character outside of the basic plane: an emoji is one or two tokens."""

EXPECTED_OUTPUT = 256.0
"""Tokens of output that are assumed if the request does not bound its output."""

LARGEST_BOUND = 10**9
"""Tokens; a bound on the output from this number on is ignored."""

MOST_VALUES = 500_000
"""The most values of a payload that are read: a payload may contain itself."""

INPUTS = ("messages", "prompt", "input", "system", "instructions", "contents", "tools")
"""The fields of chat, completion, embedding, response and message requests that cost tokens."""

SCHEMAS = ("tools", "functions", "response_format", "text", "output_config", "output_format")
"""The fields with JSON schemas, of which names and punctuation cost tokens too."""

BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""The fields that bound the tokens of the output."""

_COUNTED = frozenset((*INPUTS, *SCHEMAS, *BOUNDS))
_BOUNDS, _SCHEMAS = frozenset(BOUNDS), frozenset(SCHEMAS)
_TEXTLESS = frozenset((int, float, bool, type(None)))

_values_of = dict.values

_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def estimate_tokens(payload: Any) -> float:
    """Return the estimated tokens of an OpenAI-style body; 0 for a payload of another form.

    The estimate is the characters of the input divided by `CHARACTERS_PER_TOKEN`, plus the bound on
    the output. Text outside of ASCII counts by its bytes (`BYTE_SHARE`), a list of token ids by its
    length, and media by `media_characters`.

    Args:
        payload: the body as a dict; or a dict that has a body among its values, such as the
            arguments of a function by name.
    """
    if not isinstance(payload, dict):
        return 0.0
    characters: float = 0
    bound: float = 0
    for name in payload:  # items() would cost more: most fields are not counted
        if name not in _COUNTED:
            continue
        if name in _BOUNDS:
            value = payload[name]
            if type(value) is int and 0 < value < LARGEST_BOUND:
                bound = value
        elif name in _SCHEMAS:
            characters += _characters_of_schema(payload[name], name)
        else:
            characters += _characters(payload[name], name)
    if not characters:
        return max(map(estimate_tokens, bodies_in(payload)), default=0.0)
    # An `input` of plain text is an embedding request, which has no output.
    if not bound and not ("input" in payload and _is_embedding(payload)):
        bound = EXPECTED_OUTPUT
    return characters / CHARACTERS_PER_TOKEN + bound


def expected_output(payload: Any) -> float | None:
    """Return the tokens of output that an OpenAI-style body asks for; None for another payload."""
    if not isinstance(payload, dict):
        return None
    if not any(name in payload for name in INPUTS):
        return max(map(_bound_of, bodies_in(payload)), default=None)
    return _bound_of(payload)


def _bound_of(body: dict[str, Any]) -> float:
    asked = [each for name in BOUNDS if type(each := body.get(name)) is int]
    bound = next((each for each in asked if 0 < each < LARGEST_BOUND), None)
    if bound is None:
        return 0.0 if "input" in body and _is_embedding(body) else EXPECTED_OUTPUT
    return float(bound)


def valid_count(value: object) -> float | None:
    """Return the result of a user's counter as a float; None if it is not a number of tokens."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable and 0 <= value <= sys.float_info.max else None  # type: ignore[operator, arg-type]


def bodies_in(payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the values of `payload` that are bodies, such as an argument of a function."""
    return [
        each
        for each in payload.values()
        if isinstance(each, dict) and any(name in each for name in INPUTS)
    ]


def _is_embedding(payload: Mapping[str, Any]) -> bool:
    value = payload.get("input")
    if isinstance(value, list):
        return not any(isinstance(each, dict) for each in value)
    return value is not None


def _characters(value: Any, name: str) -> float:
    """Return the characters of all texts in a field; a list of plain messages is counted fast."""
    if type(value) is not list:
        return _characters_within(value, name)
    try:
        text = "".join(chain.from_iterable(map(_values_of, value)))
    except TypeError:  # other than plain messages
        return _characters_within(value, name)
    # A longer list may contain media, which are not counted in full.
    return _size_of(text) if len(text) < SHORTEST_MEDIA else _characters_within(value, name)


def _characters_of_schema(value: Any, name: str) -> float:
    """Return the characters of a field as JSON. A text that is not a schema costs nothing."""
    if not isinstance(value, dict | list):
        return 0.0
    try:
        return _size_of(_as_json(value))
    except (TypeError, ValueError, RecursionError):  # it is not JSON
        return _characters_within(value, name)


def _characters_within(value: Any, name: str) -> float:
    """Return the characters of all texts in a value that has no media, which is the usual case."""
    total: float = 0
    found = [value]
    for item in islice(found, MOST_VALUES):  # the loop appends the contents of each item
        kind = type(item)
        if kind is str:
            if len(item) >= SHORTEST_MEDIA:
                return _characters_with_media(value, name)
            total += len(item) if item.isascii() else _size_of(item)
        elif kind is dict:
            if not CARRIERS.isdisjoint(item):
                return _characters_with_media(value, name)
            found += item.values()
        elif kind is list:
            if item and type(item[0]) is int:
                return _characters_with_media(value, name)
            found += item
        elif kind not in _TEXTLESS:
            return _characters_with_media(value, name)
    return total


def _characters_with_media(value: Any, name: str) -> float:
    """Return the characters of all texts, and of media, which are judged by the field's name."""
    total = 0.0
    found: list[tuple[object, Any]] = [(name, value)]
    for label, item in islice(found, MOST_VALUES):
        kind = type(item)
        if kind is str:
            media = media_characters(label, item)
            total += _size_of(item) if media is None else media
        elif kind is dict:
            named = label_of(label, item)
            found += item.items() if named is None else [(named, each) for each in item.values()]
        elif kind is list:
            if item and type(item[0]) is int and set(map(type, item)) == {int}:  # token ids
                total += CHARACTERS_PER_TOKEN * len(item)
            else:
                found += [(label, each) for each in item]
        elif kind not in _TEXTLESS:
            plain = _plain(item)
            if plain is not None:
                found.append((label, plain))
    return total


def _plain(item: Any) -> Any:
    """Return a tuple or an object of a subclass as the plain type; None for another type."""
    if isinstance(item, dict):
        return dict(item)
    if isinstance(item, list | tuple):
        return list(item)
    return str.__str__(item) if isinstance(item, str) else None


def _size_of(text: str) -> float:
    """Return the number of characters of English that cost as much as a text."""
    size = len(text)
    if text.isascii():
        return size
    bytes_after_first = len(text.encode("utf-8", "surrogatepass")) - size
    astral = len(text.encode("utf-16-le", "surrogatepass")) // 2 - size
    return size + BYTE_SHARE * bytes_after_first + ASTRAL_CHARACTERS * astral


class TokenCount:
    """Calls a user's token counter, and uses `estimate_tokens` if that fails.

    The first failure is logged: an exception, or a result that is not a number of 0 or more.

    Args:
        estimate: a function that takes the body of a request and returns its tokens, 0 or more.

    Raises:
        ConfigurationError: `estimate` is not a function of one argument, or is async.

    State: whether a failure was logged.
    """

    def __init__(self, estimate: Callable[[Any], float]) -> None:
        bounds.function(estimate, 1, "estimate must be a function of the body")
        self._estimate = estimate
        self._reported = False

    def __call__(self, body: Any) -> float:
        """Return the tokens of `body`."""
        failure: Exception | None = None
        try:
            counted = valid_count(self._estimate(body))
        except Exception as error:  # a wrong counter must not fail the call
            counted, failure = None, error
        if counted is not None:
            return counted
        if not self._reported:
            self._reported = True
            logging.getLogger("resilient_infe").error(
                "the estimate function must return a number of tokens; the built-in estimate is "
                "used instead (logged once)",
                exc_info=failure,
            )
        return estimate_tokens(body)
