"""What others do about an unknown limit, written anew from their published descriptions.

Each is given what it needs to do well: as many calls in flight as twice the limit would keep there,
where it bounds them at all, so that nothing but the way of finding the limit is compared.
"""

from __future__ import annotations

import heapq
import math
import random
from typing import Any

from resilient_infe.rate.gate import FIRST_QUESTION, Gate

from .servers import Answer

JITTER = 0.03
"""Seconds by which the network squeezes two requests together."""


class Paced:
    """Sends at a rate that a subclass moves.

    Args:
        rate: requests per second to begin with.
    """

    def __init__(self, rate: float) -> None:
        """Begin at once."""
        self.rate = rate
        self._next = -math.inf

    def ready_at(self, now: float, cost: float) -> float:
        """Return when the rate lets the next one go."""
        return self._next

    def sent(self, now: float, cost: float) -> float:
        """Wait for the next turn."""
        self._next = max(self._next, now) + 1.0 / self.rate
        return now

    def answered(self, now: float, ticket: float, answer: Answer) -> None:
        """Learn nothing."""


class Oracle(Paced):
    """Knows the limit, and sends evenly just below it: what could be had.

    Args:
        limit_at: the limit of requests per minute at an instant.
        tokens_per_minute: the limit of tokens; None for none.
        polite: whether it keeps the gate that three hints in a row shut.
    """

    def __init__(
        self, limit_at: Any, tokens_per_minute: float | None = None, *, polite: bool = False
    ) -> None:
        """Remember whom to ask."""
        super().__init__(1.0)
        self._limit_at, self._tokens = limit_at, tokens_per_minute
        self._gate = Gate() if polite else None

    def ready_at(self, now: float, cost: float) -> float:
        """Return when the limit and the gate let the next one go."""
        return self._next if self._gate is None else max(self._next, self._gate.until)

    def sent(self, now: float, cost: float) -> float:
        """Send at the limit, less two in a thousand; a bucket of one allows for no jitter."""
        if self._gate is not None and self._gate.watches:
            self._gate.sent(now)
        limit = self._limit_at(now) / 60.0
        self.rate = 0.998 / (1.0 / limit + (JITTER if limit < 2.0 else 0.0))
        if self._tokens is not None and cost > 0:
            self.rate = min(self.rate, 0.998 * self._tokens / 60.0 / cost)
        return super().sent(now, cost)

    def answered(self, now: float, ticket: float, answer: Answer) -> None:
        """Do as the server asks."""
        if self._gate is None:
            return
        if answer.accepted:
            self._gate.let_in(ticket, now)
            return
        self._gate.not_let_in(ticket)
        hint = answer.retry_after or (FIRST_QUESTION if self._gate.asked(ticket) else 0.0)
        if hint:
            self._gate.refused(ticket, now + min(hint, 300.0), now, "told to wait")


class AimdRate(Paced):
    """Additive increase, multiplicative decrease, of the rate (Chiu and Jain, 1989).

    Faster by 0.05/s each second; slower by a tenth, once for all that was sent before.
    """

    def __init__(self) -> None:
        """Begin at one per second, doubling each second until the first 429."""
        super().__init__(1.0)
        self._started = False
        self._since = self._grown = 0.0

    def sent(self, now: float, cost: float) -> float:
        """Grow by the time that passed."""
        passed, self._grown = min(now - self._grown, 1.0), now
        self.rate += 0.05 * passed if self._started else self.rate * passed * math.log(2)
        return super().sent(now, cost)

    def answered(self, now: float, ticket: float, answer: Answer) -> None:
        """Slow down once per episode."""
        if answer.accepted or ticket < self._since:
            return
        self.rate *= 0.9 if self._started else 0.5
        self._started, self._since = True, now


class AwsAdaptive(Paced):
    """The client rate limiter of the AWS SDKs' adaptive retry mode: CUBIC on the rate.

    The constants are theirs: scale 0.4, beta 0.7, smoothing 0.8 over half seconds, at least 0.5/s
    and at most twice the measured rate. It is off until the first 429.
    """

    SCALE, BETA, SMOOTHING, SLOT, LEAST = 0.4, 0.7, 0.8, 0.5, 0.5

    def __init__(self, in_flight: int) -> None:
        """Begin unbounded, but for the calls in flight."""
        super().__init__(math.inf)
        self._slots = in_flight
        self._flying = 0
        self._on = False
        self._measured = 0.0
        self._slot, self._count = 0.0, 0
        self._most, self._throttled_at, self._window = 0.0, 0.0, 0.0

    def ready_at(self, now: float, cost: float) -> float:
        """Return when the rate, or an answer, lets the next one go."""
        return self._next if self._flying < self._slots else math.inf

    def sent(self, now: float, cost: float) -> float:
        """Count it in."""
        self._flying += 1
        if self._on:
            self._next = max(self._next, now) + 1.0 / self.rate
        return now

    def answered(self, now: float, ticket: float, answer: Answer) -> None:
        """Measure, and follow the cubic."""
        self._flying -= 1
        self._count += 1
        if (slot := math.floor(now / self.SLOT) * self.SLOT) > self._slot:
            current = self._count / (slot - self._slot)
            self._measured += self.SMOOTHING * (current - self._measured)
            self._slot, self._count = slot, 0
        if not answer.accepted:
            used = min(self._measured, self.rate) if self._on else self._measured
            self._most, self._throttled_at = used, now
            self._window = (self._most * (1 - self.BETA) / self.SCALE) ** (1 / 3)
            wanted, self._on = used * self.BETA, True
        else:
            passed = now - self._throttled_at - self._window
            wanted = self.SCALE * passed**3 + self._most
        if self._on:
            self.rate = max(self.LEAST, min(wanted, 2 * self._measured))


class Crowd:
    """So many workers, each with one call in flight; one that is rejected backs off.

    Args:
        workers: how many.
        seed: of the jitter.
    """

    def __init__(self, workers: float, seed: int = 0) -> None:
        """Let them all begin."""
        self.limit = float(workers)
        self.flying = 0
        self._sleeping: list[tuple[float, int, int]] = []
        self._serial = 0
        self.random = random.Random(seed)

    def ready_at(self, now: float, cost: float) -> float:
        """Return when a worker is free, or the first of the sleeping wakes."""
        if self._sleeping and self._sleeping[0][0] <= now:
            return now
        if self.flying + len(self._sleeping) < int(self.limit):
            return now
        return self._sleeping[0][0] if self._sleeping else math.inf

    def sent(self, now: float, cost: float) -> tuple[float, int]:
        """Send the one that wakes, or a new one."""
        self.flying += 1
        tries = 0
        if self._sleeping and self._sleeping[0][0] <= now:
            tries = heapq.heappop(self._sleeping)[2]
        return now, tries

    def answered(self, now: float, ticket: tuple[float, int], answer: Answer) -> None:
        """Let the worker go on, or sleep."""
        self.flying -= 1
        if answer.accepted:
            return
        delay = self.backoff(ticket[1], answer)
        if delay is not None:
            self._serial += 1
            heapq.heappush(self._sleeping, (now + delay, self._serial, ticket[1] + 1))

    def backoff(self, tries: int, answer: Answer) -> float | None:
        """Return the SDK's delay: 0.5 s doubled up to 8 s, less up to a quarter; two retries."""
        if tries >= 2:
            return None
        if answer.retry_after is not None and answer.retry_after <= 60:
            return answer.retry_after
        return float(min(0.5 * 2.0**tries, 8.0) * (1 - 0.25 * self.random.random()))


class AimdConcurrency(Crowd):
    """Inspect's adaptive connections: AIMD on the calls in flight.

    It begins with 20, doubles per round of answers until the first 429, grows by one per round
    from there, and loses a fifth per episode of 429s.
    """

    def __init__(self, most: float, seed: int = 0) -> None:
        """Begin with twenty."""
        super().__init__(20.0, seed)
        self._most = most
        self._slow_start, self._since = True, 0.0

    def answered(self, now: float, ticket: tuple[float, int], answer: Answer) -> None:
        """Move the limit."""
        super().answered(now, ticket, answer)
        if answer.accepted:
            grown = self.limit + (1.0 if self._slow_start else 1.0 / self.limit)
            self.limit = min(grown, self._most)
        elif ticket[0] >= self._since:
            self._slow_start, self._since = False, now
            self.limit = max(1.0, self.limit * 0.8)


class VectorArc(Crowd):
    """Vector's adaptive request concurrency: one more while answers are as fast as ever.

    From 1 in flight; once per round trip one more, or a tenth less after a 429 or where the mean
    latency is over the past mean by 2.5 deviations (smoothed by 0.4).
    """

    def __init__(self, most: float, seed: int = 0) -> None:
        """Begin with one."""
        super().__init__(1.0, seed)
        self._most = most
        self._mean: float | None = None
        self._variance = 0.0
        self._round: list[float] = []
        self._pushed_back = self._reached = False
        self._next_round = 0.0

    def sent(self, now: float, cost: float) -> tuple[float, int]:
        """See whether the limit is reached."""
        ticket = super().sent(now, cost)
        self._reached = self._reached or self.flying >= int(self.limit)
        return ticket

    def answered(self, now: float, ticket: tuple[float, int], answer: Answer) -> None:
        """Gather a round, and judge it at its end."""
        super().answered(now, ticket, answer)
        self._pushed_back = self._pushed_back or not answer.accepted
        if answer.accepted:
            self._round.append(now - ticket[0])
        if now < self._next_round or not (self._round or self._pushed_back):
            return
        latency = sum(self._round) / len(self._round) if self._round else None
        past = self._mean
        if latency is not None and past is not None:
            slow = latency > past + 2.5 * math.sqrt(self._variance)
            self._variance += 0.4 * ((latency - past) ** 2 - self._variance)
            self._mean = past + 0.4 * (latency - past)
        else:
            slow, self._mean = False, latency if past is None else past
        if self._pushed_back or slow:
            self.limit = max(1.0, self.limit * 0.9)
        elif self._reached:
            self.limit = min(self.limit + 1.0, self._most)
        self._round, self._pushed_back, self._reached = [], False, False
        self._next_round = now + (self._mean or 1.0)
