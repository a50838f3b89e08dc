"""A world in virtual time: senders with endless work, a network, and one server with a limit.

Everything is an event in one heap, so an hour takes a second, and the same seed gives the same hour
again. A sender never sees the server: only what comes back, when it comes back.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field
from typing import Any, Protocol

from .servers import Answer, Server


class Sender(Protocol):
    """A way of deciding when to send: ours, a rival, or the oracle."""

    def ready_at(self, now: float, cost: float) -> float:
        """Return the instant from which the next call may go; infinity for after an answer."""
        ...

    def sent(self, now: float, cost: float) -> Any:
        """Take note that it went, and return what `answered` is to be told."""
        ...

    def answered(self, now: float, ticket: Any, answer: Answer) -> None:
        """Take note of what came back."""
        ...


@dataclass(frozen=True, slots=True)
class Network:
    """How long things take, in seconds.

    Attributes:
        least, most: one way, drawn evenly.
        median: of an answer's latency; it follows the output's length, lognormally.
        spread: sigma of that: 1.4 puts a factor of 100 between the 5th and the 95th percentile.
        longest: no answer takes longer.
        refusal: what a 429 takes beside the way.
    """

    least: float = 0.02
    most: float = 0.05
    median: float = 1.0
    spread: float = 1.4
    longest: float = 60.0
    refusal: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to send.

    Attributes:
        tokens: the mean of a call.
        spread: None to draw evenly between half and one and a half of it; else sigma of a
            lognormal: 1.5 is a heavy tail.
        wrong_by: sigma of the factor, lognormal, by which an estimate misses the real tokens.
        idle: ``(from, to)``: when there is nothing to send.
        rows: how many calls have to be accepted in all; None for endless work.
        slots: calls in flight at once, by each sender; None for no bound.
        apart: seconds between the starts of two senders.
    """

    tokens: float = 0.0
    spread: float | None = None
    wrong_by: float = 0.0
    idle: tuple[tuple[float, float], ...] = ()
    rows: int | None = None
    slots: int | None = None
    apart: float = 0.0


@dataclass(slots=True)
class Books:
    """What one sender had accepted and rejected, by the second; at random, by the server."""

    accepted: list[int]
    rejected: list[int]
    tokens: list[float]
    random: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Hour:
    """What came of a run: the books of every sender, by the second of virtual time.

    Attributes:
        done_at: when the last row of the work was answered; None for endless work.
    """

    seconds: int
    books: list[Books] = field(default_factory=list)
    done_at: float | None = None


_ARRIVE, _ANSWER, _WAKE = range(3)


class World:
    """Runs senders against a server.

    Args:
        server: with its limit.
        senders: each with work of its own.
        network: how long things take.
        tokens: the mean tokens of a call; short for a `Work` of nothing else.
        seed: of all that is drawn.
        work: what each of them has to send.
    """

    def __init__(
        self,
        server: Server,
        senders: list[Sender],
        network: Network = Network(),
        tokens: float = 0.0,
        seed: int = 0,
        work: Work | None = None,
    ) -> None:
        """Start at 0 with nothing under way."""
        self.server, self.senders, self.network = server, senders, network
        self.work = Work(tokens) if work is None else work
        self._random = random.Random(seed)
        self._heap: list[tuple[float, int, int, int, Any, Any]] = []
        self._serial = 0
        self._wakes = [math.inf] * len(senders)
        self._in_flight = [0] * len(senders)
        self._left = math.inf if self.work.rows is None else self.work.rows
        self._next_cost = [self._cost() for _ in senders]

    def run(self, seconds: int) -> Hour:
        """Run for this many seconds, or until all of the work is done."""
        hour = Hour(seconds)
        for number in range(len(self.senders)):
            blank = [0] * seconds
            hour.books.append(Books(blank[:], blank[:], [0.0] * seconds, blank[:]))
            start = self._random.uniform(0.0, 0.5) + number * self.work.apart
            self._push(start, _WAKE, number, None, None)
            self._wakes[number] = start
        while self._heap:
            now, _, what, number, ticket, content = heapq.heappop(self._heap)
            if now >= seconds:
                break
            if what == _ARRIVE:
                self._arrive(hour.books[number], number, now, ticket, content)
                continue
            sender = self.senders[number]
            if what == _ANSWER:
                self._in_flight[number] -= 1
                self._left += not content.accepted
                sender.answered(now, ticket, content)
                if self._left <= 0 and not any(self._in_flight):
                    hour.done_at = now
                    break
            elif now >= self._wakes[number]:
                self._wakes[number] = math.inf
            if now >= number * self.work.apart:
                self._send(sender, number, now)
        return hour

    def _arrive(self, books: Books, number: int, now: float, ticket: Any, cost: float) -> None:
        network, second = self.network, int(now)
        answer = self.server.handle(cost, now)
        back = self._random.uniform(network.least, network.most)
        if answer.accepted:
            books.accepted[second] += 1
            books.tokens[second] += cost
            back += self._latency()
        else:
            books.rejected[second] += 1
            books.random[second] += answer.random
            back += network.refusal
        self._push(now + back, _ANSWER, number, ticket, answer)

    def _send(self, sender: Sender, number: int, now: float) -> None:
        network, slots = self.network, self.work.slots or math.inf
        while self._left > 0 and self._in_flight[number] < slots:
            cost = self._next_cost[number]
            ready = self._when_busy(sender.ready_at(now, self._estimate(cost)))
            if ready > now:
                if ready < self._wakes[number]:
                    self._wakes[number] = ready
                    self._push(ready, _WAKE, number, None, None)
                return
            ticket = sender.sent(now, self._estimate(cost))
            there = now + self._random.uniform(network.least, network.most)
            self._push(there, _ARRIVE, number, ticket, cost)
            self._in_flight[number] += 1
            self._left -= 1
            self._next_cost[number] = self._cost()

    def _when_busy(self, ready: float) -> float:
        for start, end in self.work.idle:
            if start <= ready < end:
                return end
        return ready

    def _push(self, when: float, what: int, number: int, ticket: Any, content: Any) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, what, number, ticket, content))

    def _cost(self) -> float:
        work = self.work
        if not work.tokens:
            return 0.0
        if work.spread is None:
            return self._random.uniform(0.5, 1.5) * work.tokens
        sigma = work.spread
        return work.tokens * math.exp(self._random.gauss(-sigma * sigma / 2.0, sigma))

    def _estimate(self, cost: float) -> float:
        """Return what the sender takes a call to cost: always the same for the same call."""
        if not self.work.wrong_by:
            return cost
        drawn = random.Random(cost).gauss(0.0, self.work.wrong_by)
        return cost * math.exp(drawn)

    def _latency(self) -> float:
        network = self.network
        drawn = network.median * math.exp(self._random.gauss(0.0, network.spread))
        return min(drawn, network.longest)
