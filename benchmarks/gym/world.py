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
    """

    least: float = 0.02
    most: float = 0.05
    median: float = 1.0
    spread: float = 1.4
    longest: float = 60.0


@dataclass(slots=True)
class Books:
    """What one sender sent and had accepted and rejected, by the second."""

    accepted: list[int]
    rejected: list[int]
    tokens: list[float]


@dataclass(slots=True)
class Hour:
    """What came of a run: the books of every sender, by the second of virtual time."""

    seconds: int
    books: list[Books] = field(default_factory=list)


_ARRIVE, _ANSWER, _WAKE = range(3)


class World:
    """Runs senders against a server.

    Args:
        server: with its limit.
        senders: each with endless work.
        network: how long things take.
        tokens: the mean tokens of a call; drawn evenly between half and one and a half of it.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        server: Server,
        senders: list[Sender],
        network: Network = Network(),
        tokens: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Start at 0 with nothing under way."""
        self.server, self.senders, self.network = server, senders, network
        self._tokens = tokens
        self._random = random.Random(seed)
        self._heap: list[tuple[float, int, int, int, Any, Any]] = []
        self._serial = 0
        self._wakes = [math.inf] * len(senders)
        self._next_cost = [self._cost() for _ in senders]

    def run(self, seconds: int) -> Hour:
        """Run for so many seconds."""
        hour = Hour(seconds)
        for number in range(len(self.senders)):
            hour.books.append(Books([0] * seconds, [0] * seconds, [0.0] * seconds))
            self._push(self._random.uniform(0.0, 0.5), _WAKE, number, None, None)
        heap, uniform, network = self._heap, self._random.uniform, self.network
        while heap:
            now, _, what, number, ticket, content = heapq.heappop(heap)
            if now >= seconds:
                break
            if what == _ARRIVE:
                answer = self.server.handle(content, now)
                books, second = hour.books[number], int(now)
                back = uniform(network.least, network.most)
                if answer.accepted:
                    books.accepted[second] += 1
                    books.tokens[second] += content
                    back += self._latency()
                else:
                    books.rejected[second] += 1
                self._push(now + back, _ANSWER, number, ticket, answer)
                continue
            sender = self.senders[number]
            if what == _ANSWER:
                sender.answered(now, ticket, content)
            elif now >= self._wakes[number]:
                self._wakes[number] = math.inf
            self._send(sender, number, now)
        return hour

    def _send(self, sender: Sender, number: int, now: float) -> None:
        network = self.network
        while True:
            cost = self._next_cost[number]
            ready = sender.ready_at(now, cost)
            if ready > now:
                if ready < self._wakes[number]:
                    self._wakes[number] = ready
                    self._push(ready, _WAKE, number, None, None)
                return
            ticket = sender.sent(now, cost)
            there = now + self._random.uniform(network.least, network.most)
            self._push(there, _ARRIVE, number, ticket, cost)
            self._next_cost[number] = self._cost()

    def _push(self, when: float, what: int, number: int, ticket: Any, content: Any) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, what, number, ticket, content))

    def _cost(self) -> float:
        return self._random.uniform(0.5, 1.5) * self._tokens if self._tokens else 0.0

    def _latency(self) -> float:
        network = self.network
        drawn = network.median * math.exp(self._random.gauss(0.0, network.spread))
        return min(drawn, network.longest)
