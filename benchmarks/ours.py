"""The library's own stacks, as they are measured."""

from __future__ import annotations

import logging
from typing import Any

from resilient_infe import (
    AttemptTimeout,
    Batched,
    Call,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    ExponentialBackoff,
    Fallback,
    Handler,
    Hedge,
    RateLimiter,
    RequestIdLogger,
    Retry,
    Stack,
)

from .floor import Send, transport

LIMITS: dict[str, Any] = {"requests_per_minute": 6e8, "tokens_per_minute": 6e10}
"""Limits that never bind, so that what is measured is keeping them."""


class Empty:
    """A layer that does nothing."""

    async def __call__(self, call: Call[Any], call_next: Handler[Any, Any]) -> Any:
        """Call on."""
        return await call_next(call)


def full(
    *, slots: int = 64, log: bool = False, logger: Any = None, retry: Retry | None = None
) -> Stack:
    """Return the design's default stack of eight layers."""
    return Stack(
        RequestIdLogger(logger, log=log),
        Deadline(120.0),
        Retry() if retry is None else retry,
        ConcurrencyLimiter(slots),
        RateLimiter(**LIMITS),
        CircuitBreaker(),
        ErrorClassifier(),
        AttemptTimeout(60.0),
    )


def at_once() -> Retry:
    """Return a retry whose delays are as good as none."""
    return Retry(backoff=ExponentialBackoff(1e-9, 1.0, 1e-9, "none"))


def alone() -> dict[str, Send]:
    """Return a stack of each layer alone, with the classifier that every stack needs."""
    inner = ErrorClassifier()
    made = {
        "no layers": Stack(strict=False),
        "8 empty layers": Stack(*(Empty() for _ in range(8)), strict=False),
        "ErrorClassifier": Stack(inner),
        "ErrorClassifier, check": Stack(ErrorClassifier(check=lambda _: None)),
        "RequestIdLogger": Stack(RequestIdLogger(log=False), inner),
        "Deadline": Stack(Deadline(120.0), inner),
        "Retry": Stack(Retry(), inner),
        "Fallback": Stack(Fallback("other"), inner),
        "Hedge": Stack(Hedge(2.0), inner),
        "ConcurrencyLimiter": Stack(ConcurrencyLimiter(64), inner),
        "RateLimiter, requests": Stack(RateLimiter(requests_per_minute=6e8), inner),
        "RateLimiter, both": Stack(RateLimiter(**LIMITS), inner),
        "CircuitBreaker": Stack(CircuitBreaker(), inner),
        "AttemptTimeout": Stack(inner, AttemptTimeout(60.0)),
    }
    # One item is a whole request, so that no call waits for another one.
    batched = Batched(transport, list, list, max_items=1, count=lambda _: 1.0)
    sends = {name: stack.around(transport) for name, stack in made.items()}
    return {**sends, "Batched, one item a request": batched}


class Nowhere:
    """A structlog logger that takes every line and writes none."""

    def is_enabled_for(self, _: int) -> bool:
        """Want them all."""
        return True

    def log(self, level: int, event: str, **fields: Any) -> None:
        """Drop one line, made up to the last field."""


def whole() -> dict[str, Send]:
    """Return the full stack with its logging off, silent and on."""
    logging.getLogger("resilient_infe").setLevel(logging.WARNING)
    made = {
        "all 8 layers, logging off": full(),
        "all 8 layers, of a configuration": Stack.from_config(full().to_config()),
        "all 8 layers, logging at WARNING": full(log=True),
        "all 8 layers, every event to a logger": full(log=True, logger=Nowhere()),
    }
    return {name: stack.around(transport) for name, stack in made.items()}
