"""The server of a gym world: limits as real ones keep them, noise, hints, headers and changes."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from resilient_infe.testing.limits import ServerLimit, Style, make_limit

Hint = Literal["none", "exact", "rounded", "lying", "milliseconds", "clock"] | float
"""What a 429 states: nothing, the wait, the wait in whole seconds, a tenth of it, the wait in
milliseconds, the wait by a clock that is 30 s off; or always the same number of seconds."""

CLOCK_OFF = 30.0
"""Seconds by which the clock of a `clock` hint is wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back.

    Attributes:
        accepted: whether it is no 429.
        retry_after: seconds, where the server says.
        random: whether it was refused for no reason, so that no sender could have avoided it.
        tokens: what it really cost.
        limit, remaining, reset: the headers, where the server sends them.
    """

    accepted: bool
    retry_after: float | None = None
    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    random: bool = False
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which everything is answered 429, with the same hint or none."""

    start: float
    end: float
    hint: float | None = None


@dataclass(frozen=True, slots=True)
class Shedding:
    """Half of the requests refused in short bursts: `share` of them, `lasts` seconds in `every`."""

    every: float
    lasts: float
    share: float


@dataclass(frozen=True, slots=True)
class Waves:
    """Other tenants, who use `share` of the limit in the second half of each `every` seconds."""

    every: float
    share: float

    def at(self, second: float) -> float:
        """Return the share that they use now."""
        return self.share if second % self.every > self.every / 2 else 0.0


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
        period: the seconds of the limit; `per_minute` stays its rate.
        second: a second limit of requests that is kept beside it, or None.
        noise_hint: what a random 429 states, in seconds; None for nothing.
        outages, shedding, waves: when more than the limit is refused.
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
        period: float = 60.0,
        second: ServerLimit | None = None,
        noise_hint: float | None = None,
        outages: Sequence[Outage] = (),
        shedding: Shedding | None = None,
        waves: Waves | None = None,
    ) -> None:
        """Start with nothing used."""
        self.per_minute = per_minute
        self._units = per_minute * period / 60.0
        self._noise_hint, self._outages, self._shedding = noise_hint, tuple(outages), shedding
        self._waves, self._others, self._others_at = waves, 0.0, 0.0
        self._second = second
        self._hint, self._headers, self._noise = hint, headers, noise
        self._charge_rejected = charge_rejected
        self._history = tuple(changes)
        self._changes = list(changes)
        self._phase = phase
        self._random = random.Random(seed)
        self._requests = make_limit(style, self._units, period, burst)
        self._tokens: ServerLimit | None = None
        if tokens_per_minute is not None:
            self._tokens = make_limit(style, tokens_per_minute, 60.0, burst)

    def limit_at(self, second: float) -> float:
        """Return the limit of requests per minute at an instant, less what others use."""
        factor = 1.0
        for since, each in self._history:
            if second >= since:
                factor = each
        if self._waves is not None:
            factor *= 1.0 - self._waves.at(second)
        return self.per_minute * factor

    def handle(self, tokens: float, now: float) -> Answer:
        """Answer a request that arrives now."""
        at = now + self._phase
        while self._changes and now >= self._changes[0][0]:
            self._requests.resize(self._units * self._changes.pop(0)[1], at)
        if self._waves is not None:
            self._let_others_in(self._waves, now)
        for outage in self._outages:
            if outage.start <= now < outage.end:
                return Answer(False, outage.hint)
        return self._judge(tokens, now, at)

    def _judge(self, tokens: float, now: float, at: float) -> Answer:
        limits = [(self._requests, 1.0)]
        if self._tokens is not None:
            limits.append((self._tokens, tokens))
        if self._second is not None:
            limits.append((self._second, 1.0))
        fits = all(limit.fits(cost, at) for limit, cost in limits)
        noise = self._is_random(now)
        if (fits and not noise) or (self._charge_rejected and not noise):
            for limit, cost in limits:
                limit.take(cost, at)
        if fits and noise:
            return Answer(False, self._noise_hint, random=True)
        hint = None
        if not fits:
            hint = self._told(max(limit.wait(cost, at) for limit, cost in limits))
        if not self._headers:
            return Answer(fits, hint, tokens=tokens)
        requests = self._requests
        left, reset = math.floor(requests.remaining(at)), requests.reset(at)
        return Answer(fits, hint, requests.limit, left, reset, tokens=tokens)

    def _is_random(self, now: float) -> bool:
        shedding, share = self._shedding, self._noise
        if shedding is not None and now % shedding.every < shedding.lasts:
            share = shedding.share
        return share > 0 and self._random.random() < share

    def _let_others_in(self, waves: Waves, now: float) -> None:
        """Take what the other tenants sent since the last request, as far as it fits."""
        rate = self.per_minute / 60.0 * waves.at(now)
        self._others = min(self._others + rate * (now - self._others_at), 1.0 + rate)
        self._others_at = now
        while self._others >= 1.0:
            self._others -= 1.0
            if self._requests.fits(1.0, now + self._phase):
                self._requests.take(1.0, now + self._phase)

    def _told(self, wait: float) -> float | None:
        if not isinstance(self._hint, str):
            return self._hint
        if wait <= 0:
            return None
        stated: dict[str, float | None] = {
            "none": None,
            "exact": wait,
            "rounded": float(math.ceil(wait)),
            "lying": wait / 10,
            "milliseconds": wait * 1_000,
            "clock": wait + CLOCK_OFF,
        }
        return stated[self._hint]
