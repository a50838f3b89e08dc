"""What is sent in a simulation, as short values: the calls of a service, or the rows of a job."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core import bounds

Request = Callable[[int, random.Random], Mapping[str, Any]]
"""Makes the request of a call from its number, from 0, and a random source."""

Options = Callable[[int, random.Random], Mapping[str, Any]]
"""Makes the options of a call, as `Send` takes them: ``priority``, ``tenant``, ``partition``..."""


def chat(_: int, __: random.Random) -> dict[str, Any]:
    """Return a request for a short answer of ``infe-pulse``."""
    return {"model": "infe-pulse", "messages": [{"role": "user", "content": "hello"}]}


def plain(_: int, __: random.Random) -> dict[str, Any]:
    """Return no options."""
    return {}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls that come whether or not earlier ones have ended, as the users of a service do.

    Args:
        per_second: the calls that come in a second on average, above 0.
        seconds: for how long they come, above 0; 120.
        evenly: whether they come at equal intervals; False: at random instants (a Poisson process).
        request: makes each request; a short chat.
        options: makes the options of each call; none.
        streams: whether the answers are streamed; they are read to their ends; False.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    per_second: float
    seconds: float = 120.0
    evenly: bool = False
    request: Request = chat
    options: Options = plain
    streams: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        bounds.positive(self.per_second, "per_second")
        bounds.positive(self.seconds, "seconds")

    def arrivals(self, drawn: random.Random) -> Iterator[float]:
        """Yield the seconds from the start at which each call comes."""
        at = 0.0
        while True:
            at += 1.0 / self.per_second if self.evenly else drawn.expovariate(self.per_second)
            if at > self.seconds:
                return
            yield at


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a job: a number of workers, each of which sends the next row when one has ended.

    Args:
        number: how many rows there are, from 1.
        workers: how many are under way at once, from 1; 256, as in the presets' batches.
        request: makes each request; a short chat.
        options: makes the options of each call; none.
        streams: whether the answers are streamed; they are read to their ends; False.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    number: int
    workers: int = 256
    request: Request = chat
    options: Options = plain
    streams: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        bounds.whole(self.number, 1, "number")
        bounds.whole(self.workers, 1, "workers")


Workload = Traffic | Rows
