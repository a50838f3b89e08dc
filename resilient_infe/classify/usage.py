"""What a response says that it cost, in tokens."""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

from ..core.verdict import Usage

LARGEST_COUNT = 2**32 - 1
"""A larger number in a body is not taken for a count."""

_counted = struct.Struct("<3I").pack
"""Raises unless all three are counts (`True` passes as 1): one check in C instead of three in
Python.
"""


def usage_of(content: Any) -> Usage | None:
    """Return the usage that a decoded response (or an SDK's object) states, or None.

    Chat completions have ``prompt_tokens``, ``completion_tokens`` and ``total_tokens``; responses
    and messages have ``input_tokens`` and ``output_tokens``.
    """
    stated = content.get("usage") if type(content) is dict else None
    if type(stated) is dict:  # not a subclass: a `Counter`, for one, invents missing keys
        try:  # the usual case: a chat completion that names all three
            prompt, completion = stated["prompt_tokens"], stated["completion_tokens"]
            total = stated["total_tokens"]
            _counted(prompt, completion, total)
        except (KeyError, struct.error):
            return _unusual(content)
        return Usage(prompt, completion, total)
    return _unusual(content)


def _unusual(content: Any) -> Usage | None:
    try:
        usage = (
            content.get("usage") if isinstance(content, dict) else getattr(content, "usage", None)
        )
        if usage is None:
            return None
        field = usage.get if isinstance(usage, dict) else partial(getattr, usage)
        prompt, completion = field("prompt_tokens", None), field("completion_tokens", None)
        prompt = count(field("input_tokens", None) if prompt is None else prompt)
        completion = count(field("output_tokens", None) if completion is None else completion)
        total = count(field("total_tokens", None))
    except Exception:  # a foreign object's properties may raise anything
        return None
    if total is None and prompt is None and completion is None:
        return None
    prompt, completion = prompt or 0, completion or 0
    return Usage(prompt, completion, prompt + completion if total is None else total)


def count(value: Any) -> int | None:
    """Return a whole number that can be a count, else None."""
    return value if type(value) is int and 0 <= value <= LARGEST_COUNT else None  # not a bool
