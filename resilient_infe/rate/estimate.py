"""Estimates the tokens of a request before it is sent.

Infe's tokenizer is not public, so the estimate counts characters. A wrong estimate makes the sends
less even, but does not break the limit: the reservation is corrected to the ``usage`` of the
response. Pass a better counter to `RateLimiter` or a preset as ``estimate=``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from ..core import bounds

CHARACTERS_PER_TOKEN = 4.0
"""A common rule of thumb for English text."""

EXPECTED_OUTPUT = 256.0
"""Tokens of output that are assumed if the request does not bound its output."""

IMAGE_CHARACTERS = 4_000
"""Characters that a ``data:`` URL counts as at most: about the charge for one image."""

LARGEST_BOUND = 10**9
"""Tokens; a bound on the output from this number on is ignored."""

MOST_VALUES = 500_000
"""The most values of a payload that are read: a payload may contain itself."""

INPUTS = ("messages", "prompt", "input", "system", "instructions", "tools")
"""The fields of chat, completion, embedding, response and message requests that cost tokens."""

BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""The fields that bound the tokens of the output."""

_COUNTED_FIELDS, _BOUND_FIELDS = frozenset((*INPUTS, *BOUNDS)), frozenset(BOUNDS)
_TEXTLESS = frozenset((int, float, bool, type(None)))


def estimate_tokens(payload: Any) -> float:
    """Return the estimated tokens of an OpenAI-style body; 0 for a payload of another form.

    The estimate is the characters of the input divided by `CHARACTERS_PER_TOKEN`, plus the bound on
    the output.

    Args:
        payload: the body as a dict; or a dict that has a body among its values, such as the
            arguments of a function by name.
    """
    if not isinstance(payload, dict):
        return 0.0
    characters, bound = 0, 0.0
    for name in payload:
        if name not in _COUNTED_FIELDS:
            continue
        if name in _BOUND_FIELDS:
            bound = _bound(payload[name]) or bound
        else:
            characters += _characters(payload[name])
    if not characters:
        return max(map(estimate_tokens, bodies_in(payload)), default=0.0)
    # An `input` of plain text is an embedding request, which has no output.
    if not bound and not ("input" in payload and _is_embedding(payload)):
        bound = EXPECTED_OUTPUT
    return characters / CHARACTERS_PER_TOKEN + bound


def _bound(value: object) -> float:
    return float(value) if isinstance(value, int) and 0 < value < LARGEST_BOUND else 0.0


def _valid_count(value: object) -> float | None:
    """Return the result of a user's counter as a float; None if it is not a number of tokens."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable and 0 <= value < math.inf else None  # type: ignore[operator, arg-type]


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


def _characters(value: Any) -> int:
    """Return the characters of all texts in a value; a list of plain messages is counted fast."""
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
    # A longer list may contain the data of an image, which is not counted in full.
    return total if total <= IMAGE_CHARACTERS else _characters_within(value)


def _characters_within(value: Any) -> int:
    total, found = 0, [value]
    for item in islice(found, MOST_VALUES):  # the loop appends the contents of each item
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
    """Handle tuples and subclasses: append an item's contents to `found`, or count its text."""
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
            counted = _valid_count(self._estimate(body))
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
