"""What a request will probably cost in tokens, before the server has told.

Infe's tokenizer is not public, so this counts characters; the reservation is settled by the real
``usage`` afterwards, so an error here costs evenness, not correctness. A better counter can be
given to `RateLimiter` or a preset as ``estimate=``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from ..core import bounds

CHARACTERS_PER_TOKEN = 4.0
"""The usual rule of thumb for English text."""

EXPECTED_OUTPUT = 256.0
"""Tokens of output assumed where the request sets no bound."""

IMAGE_CHARACTERS = 4_000
"""A ``data:`` URL counts as this many at most: about what one image is charged."""

LARGEST_BOUND = 10**9
"""A larger bound on the output is none."""

MOST_VALUES = 500_000
"""Values of a payload that are looked at, at most: a payload may hold itself."""

INPUTS = ("messages", "prompt", "input", "system", "instructions", "tools")
"""The fields of chat, completion, embedding, response and message requests that cost tokens."""

BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""The fields that bound the output."""

_TELLING, _BOUNDING = frozenset((*INPUTS, *BOUNDS)), frozenset(BOUNDS)
_TEXTLESS = frozenset((int, float, bool, type(None)))


def estimate_tokens(payload: Any) -> float:
    """Return the estimated tokens of an OpenAI-style body; 0 for a payload of another shape.

    Args:
        payload: the body as a dict, or a dict with one among its values (the arguments of a
            function by their names).
    """
    if not isinstance(payload, dict):
        return 0.0
    characters, bound = 0, 0.0
    for name in payload:
        if name not in _TELLING:
            continue
        if name in _BOUNDING:
            bound = _bound(payload[name]) or bound
        else:
            characters += _characters(payload[name])
    if not characters:
        return max(map(estimate_tokens, bodies_in(payload)), default=0.0)
    # A bare text as the input is embedded, which has no output; a conversation is answered.
    if not bound and not ("input" in payload and _is_embedding(payload)):
        bound = EXPECTED_OUTPUT
    return characters / CHARACTERS_PER_TOKEN + bound


def _bound(value: object) -> float:
    return float(value) if isinstance(value, int) and 0 < value < LARGEST_BOUND else 0.0


def honest_count(value: object) -> float | None:
    """Return what a user's own counter gave if it is a number of tokens, else None."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable and 0 <= value < math.inf else None  # type: ignore[operator, arg-type]


def bodies_in(payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the bodies among the arguments of a function, one level down."""
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


def _characters(value: Any) -> int:
    """Return the characters of all texts in a value, in short order where it is plain messages."""
    if type(value) is not list:
        return _characters_within(value)
    total = 0
    for message in value:
        if type(message) is not dict:
            return _characters_within(value)
        for text in message.values():
            if type(text) is not str:
                return _characters_within(value)
            total += len(text)
    # Where there is much, some of it may be an image.
    return total if total <= IMAGE_CHARACTERS else _characters_within(value)


def _characters_within(value: Any) -> int:
    total, found = 0, [value]
    for item in islice(found, MOST_VALUES):  # it grows under way, by what an item holds
        kind = type(item)
        if kind is str:
            total += _size_of(item)
        elif kind is dict:
            found += item.values()
        elif kind is list:
            found += item
        elif kind not in _TEXTLESS:
            total += _characters_of_other(item, found)
    return total


def _characters_of_other(item: Any, found: list[Any]) -> int:
    """Return the characters of a text of the caller's own class; find what a tuple holds."""
    if isinstance(item, dict):
        found += item.values()
    elif isinstance(item, list | tuple):
        found += item
    elif isinstance(item, str):
        return _size_of(item)
    return 0


def _size_of(text: str) -> int:
    size = len(text)
    return size if size <= IMAGE_CHARACTERS or text[:5] != "data:" else IMAGE_CHARACTERS


class TokenCount:
    """Asks the user's token counter; one that raises or gives no number is told about once.

    Args:
        estimate: called with a request's body; returns its tokens, from 0.

    Raises:
        ConfigurationError: it cannot be called.

    State: whether a failure was told.
    """

    def __init__(self, estimate: Callable[[Any], float]) -> None:
        """Check that it can be called."""
        bounds.function(estimate, 1, "estimate is a function of the body")
        self._estimate = estimate
        self._reported = False

    def __call__(self, body: Any) -> float:
        """Return the tokens by the user's count, or else by the usual estimate."""
        failure: Exception | None = None
        try:
            counted = honest_count(self._estimate(body))
        except Exception as error:  # a counter must not lose a call
            counted, failure = None, error
        if counted is not None:
            return counted
        if not self._reported:
            self._reported = True
            logging.getLogger("resilient_infe").error(
                "the estimate function gave no number of tokens (told once)", exc_info=failure
            )
        return estimate_tokens(body)
