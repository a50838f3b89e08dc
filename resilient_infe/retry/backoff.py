"""How long to wait before the next attempt: exponential backoff with jitter.

Jitter is what keeps a crowd that failed together from coming back together. The three classic
forms are those of Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015); the
fourth, *additive*, keeps the exponential value as a floor, for a server that says "wait 1 s, then
2 s, then 4 s".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..core import bounds
from ..errors import ConfigurationError

Jitter = Literal["full", "equal", "decorrelated", "additive", "none"]

ADDITIVE_SPREAD = 0.25
"""Additive jitter adds up to this share of the delay."""

DECORRELATED_GROWTH = 3.0
"""Decorrelated jitter draws from [initial, this times the previous delay] (Brooker 2015)."""


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """Delays that grow by a factor up to a maximum, spread by jitter.

    With ``c = min(maximum, initial * factor ** (retry - 1))`` and ``u`` uniform in [0, 1), the
    delay is ``u * c`` (full), ``c / 2 + u * c / 2`` (equal), ``c * (1 + u / 4)`` (additive), ``c``
    (none), or ``min(maximum, initial + u * (3 * previous - initial))`` (decorrelated).

    Args:
        initial: seconds before the first retry, above 0; 1 s as the API's reference asks.
        factor: growth per retry, at least 1; 2 as the reference asks.
        maximum: seconds that no delay's exponential part exceeds, at least `initial`; 60 s, the
            period of most limits.
        jitter: how the delay is spread; ``"full"`` has the least contention for the same work.

    Raises:
        ConfigurationError: a value is out of its range.

    State: none; one object serves any number of calls.
    """

    initial: float = 1.0
    factor: float = 2.0
    maximum: float = 60.0
    jitter: Jitter = "full"

    def __post_init__(self) -> None:
        """Check the ranges."""
        bounds.positive(self.initial, "backoff's initial, in seconds,")
        bounds.at_least(
            self.maximum, self.initial, "backoff's maximum, in seconds, not below initial,"
        )
        bounds.at_least(self.factor, 1, "backoff's factor")
        if self.jitter not in ("full", "equal", "decorrelated", "additive", "none"):
            raise ConfigurationError(
                f"unknown jitter {self.jitter!r}: use full, equal, decorrelated, additive or none"
            )

    def ceiling(self, retry: int) -> float:
        """Return the delay before jitter for the `retry`-th retry (from 1); finite for any."""
        if self.factor == 1.0:
            return self.initial
        # In logarithms, because factor ** 2000 overflows a float.
        grown = math.log(self.initial) + (retry - 1) * math.log(self.factor)
        if grown >= math.log(self.maximum):
            return self.maximum
        try:
            return min(self.maximum, self.initial * self.factor ** (retry - 1))
        except OverflowError:  # the power alone; with so small an initial the product is finite
            return min(self.maximum, math.exp(grown))

    def delay(self, retry: int, u: float, previous: float | None = None) -> float:
        """Return the seconds to wait before the `retry`-th retry.

        Args:
            retry: which retry it is, from 1.
            u: a random number in [0, 1).
            previous: the last delay of this call; only decorrelated jitter looks at it.
        """
        ceiling = self.ceiling(retry)
        match self.jitter:
            case "full":
                return u * ceiling
            case "equal":
                return ceiling / 2 + u * ceiling / 2
            case "additive":
                return ceiling * (1 + u * ADDITIVE_SPREAD)
            case "none":
                return ceiling
        span = DECORRELATED_GROWTH * (previous or self.initial) - self.initial
        return min(self.maximum, self.initial + u * max(0.0, span))

    def longest(self, retry: int) -> float:
        """Return the longest delay that the `retry`-th retry can draw."""
        # Decorrelated jitter follows the previous delay, whatever kind of failure that was for.
        return self.maximum if self.jitter == "decorrelated" else self.delay(retry, 1.0)

    def __str__(self) -> str:
        """Say it in the order one would."""
        spread = "no jitter" if self.jitter == "none" else f"{self.jitter} jitter"
        return f"{self.initial:g} s x{self.factor:g} up to {self.maximum:g} s, {spread}"
