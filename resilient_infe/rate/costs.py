"""What a request costs in each of the dimensions that limits count."""

from __future__ import annotations

import math
from typing import TypeAlias

from ..core.verdict import Dimension, Usage

DIMENSIONS: tuple[Dimension, ...] = ("requests", "tokens", "input_tokens", "output_tokens")
"""What windows count, in the order of `Costs`."""

ALL_TOKENS = DIMENSIONS.index("tokens")
"""The place of input and output together."""

Costs: TypeAlias = tuple[float, float, float, float]
"""What a request costs in each of `DIMENSIONS`."""

NOTHING: Costs = (0.0, 0.0, 0.0, 0.0)

LARGEST_COST = 1e12
"""The largest cost that is charged: sums of larger ones can become NaN, which never limits."""


def costs_of(tokens: float, output: float | None) -> Costs:
    """Return the costs of a request: odd numbers cost nothing, and huge ones `LARGEST_COST`.

    Args:
        tokens: what input and output cost together.
        output: the part of the output; None if it is not known. Then each may be all of it.
    """
    if not 0.0 <= tokens <= LARGEST_COST:
        tokens = _sane_cost(tokens)
    if output is None:
        return 1.0, tokens, tokens, tokens
    output = min(_sane_cost(output), tokens)
    return 1.0, tokens, tokens - output, output


def _sane_cost(cost: float) -> float:
    return min(cost, LARGEST_COST) if 0.0 < cost < math.inf else 0.0


def costs_of_usage(usage: Usage, cached_weight: float | None) -> Costs:
    """Return what a request cost by the usage of its response.

    Args:
        usage: the usage.
        cached_weight: what a token that was read from a cache counts, from 0 to 1; None to count as
            the total does: some providers have cached tokens in it, and others have not.
    """
    prompt, output, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    if cached_weight is None:
        charged, own = total - output, prompt or total
        if own > charged:
            own = charged if charged > 0 else 0
        return 1.0, total, own, output
    free = min(usage.cached_tokens, prompt) * (1.0 - cached_weight)
    return 1.0, max(total, prompt + output) - free, prompt - free, output
