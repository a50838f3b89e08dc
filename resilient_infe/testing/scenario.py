"""What a simulated server does, as short values: its limits, its speed, and what happens when.

Times are seconds from the start of the simulation. All of it is pure: `Weather` brings a model up
to date at each request, so nothing has to wake up in between.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from ..core import bounds
from ..errors import ConfigurationError
from .latency import Stuck
from .limits import Style
from .model import Break, Faults, InfeModel, RetryAfter


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happens to the server for a while.

    Args:
        start: seconds from the start of the simulation, from 0; 0.
        end: the same, after `start`; by default it does not end.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    start: float = 0.0
    end: float = math.inf

    def __post_init__(self) -> None:
        """Check what would fail in the middle of a simulation."""
        bounds.at_least(self.start, 0.0, "start")
        if not self.end > self.start:
            raise ConfigurationError(f"{self} must end after its start")
        for field in fields(self)[2:]:
            value = getattr(self, field.name)
            if isinstance(value, (int, float)):
                check = bounds.share if field.name == "share" else bounds.positive
                check(value, f"{field.name} of {type(self).__name__}")

    def apply(self, model: InfeModel, now: float, /) -> None:
        """Change a model in which nothing else goes wrong; by default, nothing changes."""


@dataclass(frozen=True, slots=True)
class Errors(Happening):
    """An outage, or a storm of errors.

    Args:
        start: see `Happening`, as for `end`.
        end: see `start`.
        status: the HTTP status of the errors; 503. 429 is an outage that looks like a limit.
        share: the share of requests that get it, above 0, at most 1; 1, an outage.
        retry_after: the hint of each, in seconds; None, the default, for what the scenario says.
    """

    status: int = 503
    share: float = 1.0
    retry_after: float | None = None

    def apply(self, model: InfeModel, _: float, /) -> None:
        """Draw this status for that share of the requests."""
        faults = model.faults
        faults.rates = {**faults.rates, self.status: self.share}
        if self.retry_after is not None:
            faults.hints = {**faults.hints, self.status: self.retry_after}


@dataclass(frozen=True, slots=True)
class Broken(Happening):
    """Replies and streams that break on their way.

    Args:
        start: see `Happening`, as for `end`.
        end: see `start`.
        how: ``"silent"``, the default: a reply never comes, and a stream stops half-way and stays
            open; ``"cut"``, ``"reset"``, ``"garbage"`` or ``"html"``.
        share: the share of replies, above 0, at most 1; 1.
    """

    how: Break = "silent"
    share: float = 1.0

    def apply(self, model: InfeModel, _: float, /) -> None:
        """Break that share of the replies."""
        model.faults.breaks = {**model.faults.breaks, self.how: self.share}


@dataclass(frozen=True, slots=True)
class Slow(Happening):
    """A server that answers late.

    Args:
        start: see `Happening`, as for `end`.
        end: see `start`.
        factor: how many times its usual latency a reply takes, above 0; 10.
    """

    factor: float = 10.0

    def apply(self, model: InfeModel, _: float, /) -> None:
        """Multiply the latency."""
        model.latency *= self.factor


@dataclass(frozen=True, slots=True)
class Stalls(Happening):
    """A part of the answers begins very late, as where one machine of many is stuck.

    Args:
        start: see `Happening`, as for `end`.
        end: see `start`.
        share: the share of answers, above 0, at most 1; 0.02.
        shortest: seconds before such an answer, above 0; 20.
        longest: the same; the seconds are drawn evenly between the two; 60.
    """

    share: float = 0.02
    shortest: float = 20.0
    longest: float = 60.0

    def apply(self, model: InfeModel, _: float, /) -> None:
        """Let that share of the answers be stuck."""
        model.stuck = Stuck(self.share, self.shortest, self.longest)


@dataclass(frozen=True, slots=True)
class Limit(Happening):
    """Other limits; the scenario must have those that change.

    Args:
        start: see `Happening`, as for `end`.
        end: see `start`.
        requests_per_minute: the limit of requests, above 0; None, the default, to leave it.
        tokens_per_minute: the same for tokens.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def apply(self, model: InfeModel, now: float, /) -> None:
        """Keep these limits."""
        if self.requests_per_minute is not None:
            model.resize("requests", self.requests_per_minute, now)
        if self.tokens_per_minute is not None:
            model.resize("tokens", self.tokens_per_minute, now)


@dataclass(frozen=True, slots=True)
class OtherUsers(Happening):
    """Other users of the same account, who use up a part of its limits.

    Args:
        start: see `Happening`, as for `end`.
        end: see `start`.
        requests_per_minute: what they send, above 0, at random instants (a Poisson process); 60.
        tokens: the tokens of each of their requests, above 0; 500.
    """

    requests_per_minute: float = 60.0
    tokens: float = 500.0

    def requests(self, drawn: random.Random) -> Iterator[tuple[float, float]]:
        """Yield when each of their requests arrives, and its tokens."""
        at = self.start
        while (at := at + drawn.expovariate(self.requests_per_minute / 60.0)) < self.end:
            yield at, self.tokens


@dataclass(frozen=True, slots=True)
class Scenario:
    """A server, and what happens to it.

    Args:
        requests_per_minute: its limit, above 0; None, the default, for no limit.
        tokens_per_minute: the same for tokens.
        style: how it keeps its limits; ``"sliding"``, over any 60 s; ``"fixed"`` or ``"bucket"``.
        burst: seconds of the rate that a bucket holds; 1.
        concurrency: the most requests in progress, from 1; None, the default, for no limit.
        capacity: the requests in progress that it can answer at full speed, from 1; with more of
            them each takes longer in proportion; None, the default, for any number.
        headers: whether it states its limits in ``x-ratelimit-*``; False.
        retry_after: the hint of its 429s and 503s; ``"none"``.
        charge_rejected: whether a rejected request uses up the limit of requests too; False.
        latency: seconds before each reply, from 0; 0.5.
        spread: how much the latency of answers varies, from 0: the standard deviation of its
            logarithm, of a lognormal distribution whose median is `latency`; 0.
        seconds_per_token: seconds more for each token of output; 0.02, so that an answer usually
            takes a second, and a long one some.
        output_tokens: the usual length of an answer; 20.
        happenings: `Errors`, `Broken`, `Slow`, `Stalls`, `Limit` and `OtherUsers`, in any order; of
            two of a kind at the same time, the later one in the list holds.

    Raises:
        ConfigurationError: a value is out of its range, or a `Limit` changes what the server does
            not have.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    style: Style = "sliding"
    burst: float = 1.0
    concurrency: int | None = None
    capacity: int | None = None
    headers: bool = False
    retry_after: RetryAfter = "none"
    charge_rejected: bool = False
    latency: float = 0.5
    spread: float = 0.0
    seconds_per_token: float = 0.02
    output_tokens: int = 20
    happenings: Sequence[Happening] = ()

    def __post_init__(self) -> None:
        """Check the numbers, and try each of the happenings on a model."""
        for name in ("requests_per_minute", "tokens_per_minute"):
            if getattr(self, name) is not None:
                bounds.positive(getattr(self, name), name)
        for name in ("burst", "latency", "spread", "seconds_per_token"):
            bounds.at_least(getattr(self, name), 0.0, name)
        bounds.whole(self.output_tokens, 1, "output_tokens")
        for name in ("concurrency", "capacity"):
            if getattr(self, name) is not None:
                bounds.whole(getattr(self, name), 1, name)
        for each in self.happenings:
            bounds.instance(each, Happening, "happenings", "Errors(...), Slow(...) or another")
            each.apply(self.model(), 0.0)

    def model(self, seed: int = 0) -> InfeModel:
        """Return a new server, to which nothing has happened."""
        usual = {each.name: getattr(self, each.name) for each in fields(self)[:-1]}
        return InfeModel(**usual, seed=seed)


class Weather:
    """Applies a scenario to a model.

    Args:
        scenario: what happens.
        model: the model, as the scenario made it.
        seed: the seed of the instants at which other users send; 0.

    State: per simulation.
    """

    def __init__(self, scenario: Scenario, model: InfeModel, seed: int = 0) -> None:
        self._scenario, self._model = scenario, model
        happenings = scenario.happenings
        turns = {at for each in happenings for at in (each.start, each.end) if at < math.inf}
        others = [
            each.requests(random.Random(f"{seed} {number}"))
            for number, each in enumerate(happenings)
            if isinstance(each, OtherUsers)
        ]
        # None turns the weather; a number is the tokens of another user's request. Each is drawn
        # when it is due, since other users may send without end.
        self._coming: Iterator[tuple[float, float | None]]
        self._coming = heapq.merge(
            ((at, None) for at in sorted(turns)), *others, key=lambda each: each[0]
        )
        self._next = next(self._coming, None)

    def advance(self, now: float) -> None:
        """Apply, in order, all that has happened up to `now`."""
        while self._next is not None and self._next[0] <= now:
            at, tokens = self._next
            if tokens is None:
                self._turn(at)
            else:
                self._model.charge(tokens, at)
            self._next = next(self._coming, None)

    def _turn(self, now: float) -> None:
        """Set the model to what is usual, and apply what is going on at `now`."""
        usual, model = self._scenario, self._model
        model.faults, model.latency, model.stuck = Faults(), usual.latency, None
        limits = Limit(0.0, math.inf, usual.requests_per_minute, usual.tokens_per_minute)
        for each in (limits, *usual.happenings):
            if each.start <= now < each.end:
                each.apply(model, now)
