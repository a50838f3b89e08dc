"""What a response says that it cost."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..verdict import Usage

LARGEST_COUNT = 10**9
"""What a body counts beyond this it does not count."""


def usage_of(content: Any) -> Usage | None:
    """Return the usage that a decoded response (or an SDK's object) states, or None.

    Chat completions name it prompt, completion and total; responses and messages, input and output.
    """
    if type(content) is dict:
        usage = content.get("usage")
        if usage is None:
            return None
        if type(usage) is dict:
            try:
                prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
                total = usage["total_tokens"]
            except KeyError:
                return _unusual(content)
            # The usual case: a chat completion that names all three counts; a bool is none.
            if (
                type(prompt) is int
                and type(completion) is int
                and type(total) is int
                and 0 <= prompt <= total < LARGEST_COUNT
                and 0 <= completion <= total
            ):
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
    """Return a whole number that makes sense as a count, else None."""
    return value if type(value) is int and 0 <= value < LARGEST_COUNT else None  # a bool is none
