"""What a response says that it cost."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..verdict import Usage

LARGEST_COUNT = 10**12
"""What a body counts beyond this it does not count."""


def usage_of(content: Any) -> Usage | None:
    """Return the usage that a decoded response (or an SDK's object) states, or None.

    Chat completions name it prompt, completion and total; responses and messages, input and output.
    """
    try:
        usage = (
            content.get("usage") if isinstance(content, dict) else getattr(content, "usage", None)
        )
        if usage is None:
            return None
        if type(usage) is dict and (usual := _usual(usage)) is not None:
            return usual
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


def _usual(usage: dict[str, Any]) -> Usage | None:
    """Return the usage of a chat completion that names all three counts, or None for any other."""
    prompt: Any = usage.get("prompt_tokens")
    completion: Any = usage.get("completion_tokens")
    total: Any = usage.get("total_tokens")
    if type(prompt) is type(completion) is type(total) is int:
        most = prompt if prompt > completion else completion
        sound = prompt >= 0 and completion >= 0 and most <= total < LARGEST_COUNT
        return Usage(prompt, completion, total) if sound else None
    return None


def count(value: Any) -> int | None:
    """Return a whole number that makes sense as a count, else None."""
    return value if type(value) is int and 0 <= value < LARGEST_COUNT else None  # a bool is none
