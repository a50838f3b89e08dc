"""How long to wait before the next attempt: exponential backoff with jitter.

Jitter keeps calls that failed at the same time from coming back at the same time. *Full*, *equal*
and *decorrelated* jitter are those of Marc Brooker, "Exponential Backoff And Jitter" (AWS
Architecture Blog, 2015). *Additive* jitter has the exponential value as a floor, for a server that
asks to "wait 1 s, then 2 s, then 4 s".
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
"""Decorrelated jitter draws from [initial, this factor times the previous delay] (Brooker 2015)."""


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """Delays that grow by a factor up to a maximum, spread by jitter.

    With ``c = min(maximum, initial * factor ** (retry - 1))`` and ``u`` uniform in [0, 1), the
    delay is ``u * c`` (full), ``c / 2 + u * c / 2`` (equal), ``c * (1 + u / 4)`` (additive), ``c``
    (none), or ``min(maximum, initial + u * (3 * previous - initial))`` (decorrelated). Without
    jitter and with the defaults that is 1, 2, 4, 8, 16, 32, 60, 60, ... s.

    Args:
        initial: seconds before the first retry, above 0; 1, as the API's reference asks.
        factor: growth per retry, at least 1; 2, as the reference asks.
        maximum: seconds that the exponential part of a delay never exceeds, at least `initial`; 60,
            the period of most rate limits.
        jitter: how the delay is spread; ``"full"``, which has the least contention for the same
            work.

    Raises:
        ConfigurationError: a value is out of its range.

    State: none; one object serves any number of calls.
    """

    initial: float = 1.0
    factor: float = 2.0
    maximum: float = 60.0
    jitter: Jitter = "full"

    def __post_init__(self) -> None:
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
        """Return the delay before jitter for the `retry`-th retry (from 1); always finite."""
        if self.factor == 1.0:
            return self.initial
        # Compare logarithms first, because factor ** 2000 overflows a float.
        grown = math.log(self.initial) + (retry - 1) * math.log(self.factor)
        if grown >= math.log(self.maximum):
            return self.maximum
        try:
            return min(self.maximum, self.initial * self.factor ** (retry - 1))
        except OverflowError:  # only the power overflows: a tiny `initial` makes the product finite
            return min(self.maximum, math.exp(grown))

    def delay(self, retry: int, u: float, previous: float | None = None) -> float:
        """Return the seconds to wait before the `retry`-th retry.

        Args:
            retry: the number of the retry, from 1.
            u: a random number in [0, 1).
            previous: the previous delay of this call, or None; only decorrelated jitter uses it.
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
        # Decorrelated jitter depends on the previous delay, which may be of another kind's backoff.
        return self.maximum if self.jitter == "decorrelated" else self.delay(retry, 1.0)

    def __str__(self) -> str:
        spread = "no jitter" if self.jitter == "none" else f"{self.jitter} jitter"
        return f"{self.initial:g} s x{self.factor:g} up to {self.maximum:g} s, {spread}"
