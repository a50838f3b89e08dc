"""What a request will probably cost in tokens, before the server has told.

Infe's tokenizer is not public, so this counts characters; the reservation is settled by the real
``usage`` afterwards, so an error here costs evenness, not correctness. A better counter can be
given to `RateLimiter(estimate=...)`.
"""

from __future__ import annotations

from typing import Any

CHARACTERS_PER_TOKEN = 4.0
"""The usual rule of thumb for English text."""

EXPECTED_OUTPUT = 256.0
"""Tokens of output assumed where the request sets no bound."""

IMAGE_CHARACTERS = 4_000
"""A ``data:`` URL counts as this many, whatever its size: about what one image is charged."""

LARGEST_BOUND = 10**9
"""A larger bound on the output is none."""

DEEPEST = 8
"""Levels of a payload that are looked at."""


def estimate_tokens(payload: Any) -> float:
    """Return the estimated tokens of an OpenAI-style body; 0 for a payload of another shape."""
    if not isinstance(payload, dict):
        return 0.0
    characters = sum(
        _characters(payload.get(name), DEEPEST) for name in ("messages", "prompt", "input")
    )
    if not characters:
        return 0.0
    expected = EXPECTED_OUTPUT
    if "input" in payload:  # embeddings have no output
        expected = 0.0
    for name in ("max_completion_tokens", "max_tokens"):
        bound = payload.get(name)
        if isinstance(bound, int) and 0 < bound < LARGEST_BOUND:
            expected = float(bound)
    return characters / CHARACTERS_PER_TOKEN + expected


def _characters(value: Any, depth: int) -> int:
    if isinstance(value, str):
        return IMAGE_CHARACTERS if value.startswith("data:") else len(value)
    if depth == 0:
        return 0
    if isinstance(value, dict):
        return sum(_characters(item, depth - 1) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(_characters(item, depth - 1) for item in value)
    return 0
