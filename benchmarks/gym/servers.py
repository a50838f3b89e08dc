"""The server of a gym world: limits as real ones keep them, noise, hints, headers and changes."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from resilient_infe.testing.limits import ServerLimit, Style, make_limit

Hint = Literal["none", "exact", "rounded", "lying"]
"""What a 429 tells: nothing, the wait, the wait in whole seconds, or a tenth of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back.

    Attributes:
        accepted: whether it is no 429.
        retry_after: seconds, where the server says.
        limit, remaining, reset: the headers, where the server sends them.
    """

    accepted: bool
    retry_after: float | None = None
    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None


class Server:
    """A limit of requests, and perhaps one of tokens.

    Args:
        per_minute: requests.
        tokens_per_minute: tokens, or None.
        style: how the limit is kept.
        burst: seconds of the rate that a bucket holds.
        hint: what a 429 tells.
        headers: whether limit, remaining and reset are sent.
        noise: the share of requests answered 429 for no reason.
        charge_rejected: whether a rejected request uses up the limit too.
        changes: ``(second, factor)``: from then on the limit is so many times the first one.
        phase: seconds by which a fixed window is shifted.
        seed: of the noise.
    """

    def __init__(
        self,
        per_minute: float,
        *,
        tokens_per_minute: float | None = None,
        style: Style = "bucket",
        burst: float = 1.0,
        hint: Hint = "none",
        headers: bool = False,
        noise: float = 0.0,
        charge_rejected: bool = False,
        changes: Sequence[tuple[float, float]] = (),
        phase: float = 17.0,
        seed: int = 0,
    ) -> None:
        """Start with nothing used."""
        self.per_minute = per_minute
        self._hint, self._headers, self._noise = hint, headers, noise
        self._charge_rejected = charge_rejected
        self._history = tuple(changes)
        self._changes = list(changes)
        self._phase = phase
        self._random = random.Random(seed)
        self._requests = make_limit(style, per_minute, 60.0, burst)
        self._tokens: ServerLimit | None = None
        if tokens_per_minute is not None:
            self._tokens = make_limit(style, tokens_per_minute, 60.0, burst)

    def limit_at(self, second: float) -> float:
        """Return the limit of requests per minute at an instant."""
        factor = 1.0
        for since, each in self._history:
            if second >= since:
                factor = each
        return self.per_minute * factor

    def handle(self, tokens: float, now: float) -> Answer:
        """Answer a request that arrives now."""
        at = now + self._phase
        while self._changes and now >= self._changes[0][0]:
            self._requests.resize(self.per_minute * self._changes.pop(0)[1], at)
        requests, spent = self._requests, self._tokens
        fits = requests.fits(1.0, at) and (spent is None or spent.fits(tokens, at))
        noise = self._noise > 0 and self._random.random() < self._noise
        accepted = fits and not noise
        wait = 0.0
        if not fits:
            wait = requests.wait(1.0, at)
            wait = wait if spent is None else max(wait, spent.wait(tokens, at))
        if accepted or (self._charge_rejected and not noise):
            requests.take(1.0, at)
            if spent is not None:
                spent.take(tokens, at)
        hint = None if accepted else self._told(wait)
        if not self._headers:
            return Answer(accepted, hint)
        return Answer(
            accepted, hint, requests.limit, math.floor(requests.remaining(at)), requests.reset(at)
        )

    def _told(self, wait: float) -> float | None:
        if self._hint == "none" or wait <= 0:
            return None
        if self._hint == "exact":
            return wait
        return float(math.ceil(wait)) if self._hint == "rounded" else wait / 10
