"""What a response says that it cost, in tokens.

Providers disagree on what a count includes. Here the input includes what was read from a cache and
written into it, and the output includes reasoning. There are three cases in which they are added:

1. Cached tokens stand beside ``input_tokens``, and not in it, if they are called
   ``cache_read_input_tokens`` and ``cache_creation_input_tokens``. What was read from the cache is
   not added to the total: such providers do not charge it.
2. Reasoning tokens are called thoughts, and stand beside the candidates' tokens.
3. Reasoning tokens are needed to add up to the total.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

from ..core.verdict import Usage

LARGEST_COUNT = 2**32 - 1
"""A larger number in a body is not taken for a count."""

PROMPT = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count")
COMPLETION = (
    "completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count",
)  # fmt: skip
TOTAL = ("total_tokens", "totalTokenCount", "total_token_count")
"""The names of the counts, in the forms of chat completions, of responses and messages, and of
generated content.
"""

CACHED = ("cachedContentTokenCount", "cached_content_token_count", "prompt_cache_hit_tokens")
THOUGHTS = ("thoughtsTokenCount", "thoughts_token_count")
"""Counts that stand beside the others."""

INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
"""The objects with the parts of a count."""

PLACES = ("usage", "usageMetadata", "usage_metadata")
"""The fields of a response that may hold the usage."""

Field = Callable[[str, None], Any]

_new = object.__new__

_three = itemgetter(PROMPT[0], COMPLETION[0], TOTAL[0])

_counted = struct.Struct("<3I").pack
"""Raises unless all three are counts (`True` passes as 1): one check in C instead of three in
Python.
"""


def usage_of(content: Any) -> Usage | None:
    """Return the usage that a decoded response (or an SDK's object) states, or None.

    Chat completions have ``prompt_tokens``, ``completion_tokens`` and ``total_tokens``; responses
    and messages have ``input_tokens`` and ``output_tokens``; generated content has
    ``promptTokenCount``, ``candidatesTokenCount`` and ``totalTokenCount``.
    """
    stated = content.get("usage") if type(content) is dict else None
    if type(stated) is dict and len(stated) == 3:  # not a subclass: a `Counter`, for one, invents
        try:  # the usual case: a chat completion that names all three, and no parts of them
            counts = _three(stated)
            _counted(*counts)
        except (KeyError, struct.error):
            return _unusual(content)
        usage: Any = _new(Usage)  # the constructor would set the parts too
        usage.prompt_tokens, usage.completion_tokens, usage.total_tokens = counts
        made: Usage = usage
        return made
    return _unusual(content)


def _unusual(content: Any) -> Usage | None:
    try:
        for place in PLACES:
            usage = _field(content)(place, None)
            if usage is not None:
                return _read(_field(usage))
    except Exception:  # a foreign object's properties may raise anything
        return None
    return None


def _read(field: Field) -> Usage | None:
    prompt, completion = _first(field, PROMPT), _first(field, COMPLETION)
    total = _first(field, TOTAL)
    if total is None and prompt is None and completion is None:
        return None
    prompt, completion = prompt or 0, completion or 0
    charged = prompt + completion
    read, written = _first(field, CACHED) or _part(field, INPUT_DETAILS, "cached_tokens"), 0
    reasoning = _part(field, OUTPUT_DETAILS, "reasoning_tokens")
    if not read and field("input_tokens", None) is not None:
        read = count(field("cache_read_input_tokens", None)) or 0
        written = count(field("cache_creation_input_tokens", None)) or 0
        prompt += read + written
        charged += written
    thoughts = _first(field, THOUGHTS) or 0
    if thoughts or (reasoning and total == charged + reasoning):
        reasoning = thoughts or reasoning
        completion += reasoning
        charged += reasoning
    total = charged if total is None else total
    return Usage(prompt, completion, total, min(read, prompt), written, min(reasoning, completion))


def _field(content: Any) -> Field:
    return content.get if isinstance(content, dict) else partial(getattr, content)


def _first(field: Field, names: tuple[str, ...]) -> int | None:
    """Return the first of several counts that is stated, or None."""
    for name in names:
        value = field(name, None)
        if value is not None:
            return count(value)
    return None


def _part(field: Field, names: tuple[str, ...], part: str) -> int:
    """Return a part of a count; 0 if it is not stated."""
    for name in names:
        details = field(name, None)
        if details is not None:
            return count(_field(details)(part, None)) or 0
    return 0


def count(value: Any) -> int | None:
    """Return a whole number that can be a count, else None."""
    return value if type(value) is int and 0 <= value <= LARGEST_COUNT else None  # not a bool
