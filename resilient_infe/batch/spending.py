"""What a batch has spent, in all of its runs, and how much it may spend.

The journal keeps it as a number of its own, written with each group of results: a row that is sent
again after its result was lost, or after a hook failed, was paid for twice, and counts twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..adapters.http.masking import printable
from ..core import bounds
from ..core.verdict import Kind, Usage
from ..errors import BatchPaused, ConfigurationError
from .prices import Price

MOST_MODELS = 1_000
"""Models that are told apart; further ones count as one, so that memory is bounded."""


@dataclass(slots=True)
class Spent:
    """What the calls of one model, or of all, have cost.

    Attributes:
        calls: that are counted.
        prompt, completion: tokens, as the server charged them.
        cached: the part of the input that was read from the provider's cache.
        estimated: tokens of answers without a usage, as they were estimated, where a bound has to
            be kept.
        dollars: their price; None if that of a part is not known.
    """

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    estimated: int = 0
    dollars: float | None = None

    @property
    def tokens(self) -> int:
        """All tokens, those estimated included."""
        return self.prompt + self.completion + self.estimated

    def add(self, other: Spent) -> None:
        """Add what others have cost."""
        if not self.calls:
            self.dollars = other.dollars
        elif other.calls and self.dollars is not None:
            self.dollars = None if other.dollars is None else self.dollars + other.dollars
        self.calls += other.calls
        self.prompt += other.prompt
        self.completion += other.completion
        self.cached += other.cached
        self.estimated += other.estimated


def total_of(each: Iterable[Spent]) -> Spent:
    """Return the sum of several."""
    total = Spent()
    for spent in each:
        total.add(spent)
    return total


def read_spent(told: Mapping[str, Any]) -> dict[str, Spent]:
    """Return what a journal tells of each model."""
    return {
        model: Spent(**{name: each[name] for name in each if name in Spent.__slots__})
        for model, each in told.items()
    }


class Spending:
    """Counts what the calls of a batch cost, and says when it has spent what it may.

    Args:
        price: of a call, or None.
        max_cost: dollars in all runs, or None for any number.
        max_tokens: the same for tokens of input and output together.

    Raises:
        ConfigurationError: a bound cannot be kept.

    Attributes:
        bounded: whether there is a bound.
        models: what was spent on each model in all runs.
        now, before: what this run, and all runs before it, have spent.

    State: both of these.
    """

    def __init__(
        self,
        price: Price | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
    ) -> None:
        if max_cost is not None:
            bounds.positive(max_cost, "max_cost, in dollars,")
            if price is None:
                raise ConfigurationError(
                    "max_cost needs the price of a call: price=per_million(...) or price=listed()"
                )
        if max_tokens is not None:
            bounds.whole(max_tokens, 1, "max_tokens")
        self.bounded = max_cost is not None or max_tokens is not None
        self._price = price
        self._max_cost = max_cost
        self._max_tokens = max_tokens
        self.models: dict[str, Spent] = {}
        self.now = Spent()
        self.before = Spent()
        self._news = False

    def resume(self, models: Mapping[str, Spent]) -> None:
        """Start from what earlier runs have spent; what had no price then gets that of now."""
        self.models = {name: replace(each) for name, each in models.items()}
        for model, spent in self.models.items():
            if spent.dollars is None and spent.calls:
                spent.dollars = self._priced(model, spent)
        self.before = total_of(self.models.values())

    @property
    def total(self) -> Spent:
        """What this run and those before it have spent together."""
        return total_of((self.before, self.now))

    def count(self, model: str | None, usage: Usage | None, estimate: float | None) -> None:
        """Count a call that has ended.

        Args:
            model: that it asked for, or None.
            usage: as the server states it, or None.
            estimate: its tokens, where it was answered without a usage.
        """
        if usage is None and not estimate:
            return
        if usage is None:
            estimated = round(estimate or 0)
            price = self._price_of(model, Usage(estimated, 0, estimated))
            call = Spent(1, estimated=estimated, dollars=price)
        else:
            prompt, completion = usage.prompt_tokens, usage.completion_tokens
            price = self._price_of(model, usage)
            call = Spent(1, prompt, completion, usage.cached_tokens, 0, price)
        spent = self.models.get(model or "")
        if spent is None:
            name = "" if len(self.models) >= MOST_MODELS else model or ""
            spent = self.models.setdefault(name, Spent())
        spent.add(call)
        self.now.add(call)
        self._news = True

    def take_news(self) -> dict[str, Any] | None:
        """Return what the journal is to keep, or None if nothing was spent since the last time."""
        news, self._news = self._news, False
        return {name: asdict(each) for name, each in self.models.items()} if news else None

    def used_up(self) -> BatchPaused | None:
        """Return why no more may be sent, or None."""
        if not self.bounded:
            return None
        total = self.total
        if self._max_tokens is not None and total.tokens >= self._max_tokens:
            return _pause(f"{total.tokens:,} tokens", f"{self._max_tokens:,}")
        if self._max_cost is None or not total.calls:
            return None
        if total.dollars is None:
            unknown = next(name for name, each in self.models.items() if each.dollars is None)
            return BatchPaused(
                f"the cost cannot be bounded: no price is known for {unknown or 'some calls'}",
                Kind.REFUSED,
            )
        if total.dollars < self._max_cost:
            return None
        return _pause(dollars(total.dollars), dollars(self._max_cost))

    def _priced(self, model: str, spent: Spent) -> float | None:
        """Return the price of calls that are known in sum, as if all were alike."""
        prompt = round((spent.prompt + spent.estimated) / spent.calls)
        completion, cached = round(spent.completion / spent.calls), spent.cached // spent.calls
        usage = Usage(prompt, completion, prompt + completion, cached)
        price = self._price_of(model, usage)
        return None if price is None else price * spent.calls

    def _price_of(self, model: str | None, usage: Usage) -> float | None:
        try:
            price = None if self._price is None else self._price(model, usage)
            return price if price is not None and 0.0 <= price < math.inf else None
        except Exception:  # a user's function may raise anything: then there is no price
            return None


def check_prices(price: Price | None, models: Iterable[str]) -> None:
    """Refuse models of which no price is known.

    Raises:
        ConfigurationError: the cost of one of them cannot be bounded.
    """
    for model in models:
        if price is None or price(model, Usage(1, 1, 2)) is None:
            raise ConfigurationError(
                f"the cost cannot be bounded: no price is known for {printable(model)}: give "
                f"--price-in and --price-out, in dollars for a million tokens"
            )


def _pause(spent: str, most: str) -> BatchPaused:
    return BatchPaused(
        f"{spent} are spent, of {most} that all runs together may: with a larger bound it goes on",
        Kind.REFUSED,
    )


def dollars(amount: float) -> str:
    """Return an amount of money: ``$1,234.50``, ``$0.0042``."""
    if 0 < amount < 1e-4:
        return "under $0.0001"
    return f"${amount:,.4f}" if 0 < amount < 0.1 else f"${amount:,.2f}"
