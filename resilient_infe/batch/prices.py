"""What a call costs in dollars: by prices that are given, or by a public list of them."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

from ..core import bounds
from ..core.verdict import Usage
from ..errors import ConfigurationError

Price: TypeAlias = Callable[[str | None, Usage], float | None]
"""Returns what a call of a model with a usage costs, in dollars; None if no price is known."""

MILLION = 1e6
"""Tokens that a price is for."""

LONG = 16_000
"""Tokens of input from which on the list is asked for the very call, which may cost more a token;
below, the price of a token is asked for once. To ask takes 0.2 ms."""

PROBE = 1_000
"""Tokens with which the price of a token is asked for."""


def per_million(prompt: float, completion: float, cached: float | None = None) -> Price:
    """Return the price of any model.

    Args:
        prompt: dollars for a million tokens of input, 0 or more.
        completion: the same for the output.
        cached: the same for input that was read from the provider's cache; None for that of input.

    Raises:
        ConfigurationError: one of them is not such a number.
    """
    for name, value in (("prompt", prompt), ("completion", completion), ("cached", cached)):
        if value is not None:
            bounds.at_least(value, 0, f"{name}, in dollars for a million tokens,")
    read = prompt if cached is None else cached

    def price(_: str | None, usage: Usage) -> float:
        whole = (usage.prompt_tokens - usage.cached_tokens) * prompt + usage.cached_tokens * read
        return (whole + usage.completion_tokens * completion) / MILLION

    return price


def has_list() -> bool:
    """Return whether the list is installed."""
    return importlib.util.find_spec("genai_prices") is not None


def listed(base_url: str | None = None) -> Price:
    """Return the prices of ``genai-prices``, a list that is part of that package: no network.

    A model that the provider at the base URL is not known to have is looked for at all of them.

    Args:
        base_url: of the API, or None.

    Raises:
        ConfigurationError: the package is not installed.

    State: the price of a token of each model that was asked for.
    """
    if not has_list():
        raise ConfigurationError("the list of prices needs genai-prices: it is the extra [prices]")
    import_module("genai_prices")  # it takes a third of a second, which the first row would wait
    rates: dict[str | None, tuple[float, float, float, float] | None] = {}

    def price(model: str | None, usage: Usage) -> float | None:
        if usage.prompt_tokens >= LONG:
            return _listed(model, base_url, _fields(usage))
        if model not in rates:
            rates[model] = _rates(model, base_url)
        found = rates[model]
        if found is None:
            return None
        read, written = usage.cached_tokens, usage.cache_write_tokens
        plain = max(0, usage.prompt_tokens - read - written)
        amounts = (plain, usage.completion_tokens, read, written)
        return sum(rate * tokens for rate, tokens in zip(found, amounts, strict=True))

    return price


def _rates(model: str | None, base_url: str | None) -> tuple[float, float, float, float] | None:
    """Return the dollars for a token of input, of output, read from the cache and written to it."""
    kinds: list[dict[str, int]] = [
        {"input_tokens": PROBE},
        {"output_tokens": PROBE},
        {"input_tokens": PROBE, "cache_read_tokens": PROBE},
        {"input_tokens": PROBE, "cache_write_tokens": PROBE},
    ]
    found = [_listed(model, base_url, kind) for kind in kinds]
    known = [each / PROBE for each in found if each is not None]
    return (known[0], known[1], known[2], known[3]) if len(known) == len(kinds) else None


def _fields(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }


def _listed(model: str | None, base_url: str | None, fields: dict[str, int]) -> float | None:
    from genai_prices import Usage as Amounts  # an optional package, slow to import
    from genai_prices import calc_price

    places: list[dict[str, Any]] = [{"provider_api_url": base_url}] if base_url else []
    if not model:
        return None
    for place in [*places, {}]:
        with contextlib.suppress(Exception):  # not in the list; or usage that it does not believe
            return float(calc_price(Amounts(**fields), model, **place).total_price)
    return None
