"""What the stand-in saw: a test should judge by the server's books, not by the client's."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass
class Books:
    """Everything that the server counted.

    Attributes:
        sends: requests for completions that arrived.
        answered: requests answered with 200 whose reply was not broken on the way.
        by_status: replies by status; a reply that was broken or never sent is under 0.
        tokens: tokens charged for answers.
        peak_per_second: the most arrivals in any second of the clock.
        peak_per_minute: the most requests *admitted* in any 60 s.
        peak_arrivals_per_minute: the most requests that arrived in any 60 s, admitted or not.
        peak_in_flight: the most requests in progress at once.
        answers: the number of answers to each `x-client-request-id`.
        first: the instant at which the first request arrived, in seconds, or None.
        last: the instant at which the last request arrived, in seconds.
        admitted: requests that the limits let in.
    """

    sends: int = 0
    answered: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    tokens: int = 0
    peak_per_second: int = 0
    peak_per_minute: int = 0
    peak_arrivals_per_minute: int = 0
    peak_in_flight: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    first: float | None = None
    last: float = 0.0
    admitted: int = 0
    _second: tuple[float, int] = (0.0, 0)
    _minute: deque[float] = field(default_factory=deque, repr=False)
    _arrivals: deque[float] = field(default_factory=deque, repr=False)

    @property
    def rejected(self) -> int:
        """The number of requests answered with 429."""
        return self.by_status[429]

    def arrived(self, now: float, in_flight: int) -> None:
        """Count a request that arrived.

        Args:
            now: the current time.
            in_flight: the requests in progress, including this one.
        """
        self.sends += 1
        self.first = now if self.first is None else self.first
        self.last = now
        self.peak_in_flight = max(self.peak_in_flight, in_flight)
        arrived = _in_last_minute(self._arrivals, now)
        self.peak_arrivals_per_minute = max(self.peak_arrivals_per_minute, arrived)
        second, count = self._second
        self._second = (second, count + 1) if second == now // 1 else (now // 1, 1)
        self.peak_per_second = max(self.peak_per_second, self._second[1])

    def admit(self, now: float) -> None:
        """Count a request that the limits let in."""
        self.admitted += 1
        self.peak_per_minute = max(self.peak_per_minute, _in_last_minute(self._minute, now))

    def replied(self, status: int, tokens: int, client_id: str | None) -> None:
        """Count a reply.

        Args:
            status: its status, or 0 if it was broken or never sent.
            tokens: the tokens charged for it.
            client_id: the request's `x-client-request-id`, or None.
        """
        self.by_status[status] += 1
        if status == 200:
            self.answered += 1
            self.tokens += tokens
            if client_id is not None:
                self.answers[client_id] += 1

    def summary(self) -> dict[str, object]:
        """Return the books as plain values, for JSON."""
        return {
            "sends": self.sends,
            "answered": self.answered,
            "rejected": self.rejected,
            "by_status": {str(status): n for status, n in sorted(self.by_status.items())},
            "tokens": self.tokens,
            "peak_per_second": self.peak_per_second,
            "peak_per_minute": self.peak_per_minute,
            "peak_arrivals_per_minute": self.peak_arrivals_per_minute,
            "peak_in_flight": self.peak_in_flight,
            "answered_twice": sum(1 for n in self.answers.values() if n > 1),
            "admitted": self.admitted,
            "seconds": 0.0 if self.first is None else self.last - self.first,
        }


def _in_last_minute(log: deque[float], now: float) -> int:
    """Add an instant to the log, and return the number of instants in the 60 s that end with it."""
    log.append(now)
    while log[0] <= now - 60.0:
        log.popleft()
    return len(log)
