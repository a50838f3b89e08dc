"""A fake endpoint that keeps a real limit, and a batch and a service that send rows to it."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from resilient_infe import Stack
from resilient_infe.aio import current
from resilient_infe.errors import RateLimitError
from resilient_infe.testing import run_virtually
from resilient_infe.testing.limits import Style, make_limit

ANSWER = {"choices": [{"message": {"content": "yes"}}]}

WAY = 0.03
"""Seconds that a request takes to the server, and a refusal takes back."""

Refuse = Callable[[int, float], bool]
"""Whether a row is refused at an instant, whatever the limit says."""


def never(_: int, __: float) -> bool:
    """Refuse nothing but what is above the limit."""
    return False


def rows_of(*numbers: int) -> Refuse:
    """Refuse these rows, whenever they come."""
    poison = frozenset(numbers)
    return lambda row, _: row in poison


@dataclass
class Endpoint:
    """A transport that takes rows, each a pair of its number and its tokens.

    Attributes:
        per_minute: the limit of requests.
        tokens_per_minute: the limit of tokens, or None.
        style: how the limits are applied.
        burst: seconds of the limit that may come at once, for a bucket.
        hint: the Retry-After of each 429, or None.
        answer: seconds that an answer takes, in the median.
        refuse: what is refused whatever the limit says.
        sends: the attempts of each row.
        accepted: the instants at which a row was let in.
    """

    per_minute: float = 600.0
    tokens_per_minute: float | None = None
    style: Style = "bucket"
    burst: float = 1.0
    hint: float | None = None
    answer: float = 0.5
    refuse: Refuse = never
    sends: Counter[int] = field(default_factory=Counter)
    accepted: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the limits."""
        self.random = random.Random(1)
        self.requests = make_limit(self.style, self.per_minute, 60.0, self.burst)
        tokens = self.tokens_per_minute
        self.tokens = None if tokens is None else make_limit(self.style, tokens, 60.0, self.burst)

    async def __call__(self, row: tuple[int, float]) -> dict[str, Any]:
        """Answer one row, or refuse it."""
        runtime, (number, tokens) = current(), row
        self.sends[number] += 1
        await runtime.sleep_until(runtime.now() + WAY)
        now = runtime.now()
        fits = self.requests.fits(1.0, now) and (
            self.tokens is None or self.tokens.fits(tokens, now)
        )
        if not fits or self.refuse(number, now):
            await runtime.sleep_until(now + WAY)
            raise RateLimitError("no", status=429, retry_after=self.hint)
        self.requests.take(1.0, now)
        if self.tokens is not None:
            self.tokens.take(tokens, now)
        self.accepted.append(now)
        takes = self.answer * math.exp(self.random.gauss(0.0, 0.8))
        await runtime.sleep_until(now + min(60.0, takes))
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": int(tokens)}
        return ANSWER | {"usage": usage}


@dataclass
class Outcome:
    """When each row ended, in seconds from the start, and how.

    Attributes:
        done: the rows that were answered.
        failed: the rows that failed.
        errors: what they failed with.
    """

    done: dict[int, float] = field(default_factory=dict)
    failed: dict[int, float] = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)

    @property
    def last(self) -> float:
        """When the last row was answered."""
        return max(self.done.values())


def played(
    stack: Stack,
    endpoint: Endpoint,
    tokens: Sequence[float],
    *,
    arrive: float = 0.0,
    backend: Any = "asyncio",
    longest: float = 6 * 3_600.0,
) -> Outcome:
    """Send a row for each number of tokens, all at once or `arrive` seconds apart."""
    send, outcome = stack.around(endpoint), Outcome()

    async def one(number: int, start: float) -> None:
        if arrive:
            await current().sleep_until(start + number * arrive)
        try:
            await send((number, tokens[number]), tokens=tokens[number])
        except Exception as error:
            outcome.failed[number] = current().now() - start
            outcome.errors[number] = error
        else:
            outcome.done[number] = current().now() - start

    async def main() -> None:
        start = current().now()
        with anyio.move_on_after(longest):
            async with anyio.create_task_group() as group:
                for number in range(len(tokens)):
                    group.start_soon(one, number, start)

    run_virtually(main, backend)
    return outcome


def tries(endpoint: Endpoint, rows: Collection[int]) -> int:
    """Return the most attempts of any of these rows."""
    return max(endpoint.sends[row] for row in rows)
